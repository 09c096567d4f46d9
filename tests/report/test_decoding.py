"""Speed of the language models from made-up records: rates, crossings, ratios, and what shows without a record."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.report import benchmarks, decoding
from seqrec_lib.report.rankers import LLAMA_7B


def row(architecture: str, context: int, read: float, step: float, kept: int) -> dict[str, Any]:
    return {
        "architecture": architecture, "context": context, "kept_bytes": kept * 2**20,
        "read_seconds": [read, 9 * read, read], "step_seconds": [step] * 3, "total_seconds": [read + 8 * step] * 3,
    }  # fmt: skip


ENVIRONMENT = {"cpu": "Some CPU", "cores": 2, "threads": 1, "load_average": [0.1, 0.2]}
PEER = {
    "prompt": 128, "read_seconds": [1.0, 1.0], "their_read_seconds": [2.0, 2.0], "search_seconds": [3.0, 3.0],
    "their_search_seconds": [9.0, 9.0], "read_times_as_fast": 2.0, "search_times_as_fast": 3.0,
}  # fmt: skip
DECODING: dict[str, Any] = {
    "date": "2026-11-24",
    "environment": ENVIRONMENT,
    "versions": {"torch": "2.13.0"},
    "setting": {"beams": 10, "steps": 8, "rounds": 3, "clock": "cpu"},
    "models": {"gpt2": {"parameters": 124_439_808}, "mamba2": {"parameters": 128_989_632}},
    "contexts": [
        row("gpt2", 100, 0.5, 0.20, 20), row("mamba2", 100, 0.8, 0.25, 190),
        row("gpt2", 1000, 5.0, 0.25, 200), row("mamba2", 1000, 8.0, 0.25, 190),
        row("gpt2", 4000, 40.0, 0.50, 460), row("mamba2", 4000, 32.0, 0.25, 190),
    ],
    "peers": {"gpt2": PEER, "mamba2": PEER},
}  # fmt: skip


def contestant(model: str, path: str, values: list[float], **more: Any) -> dict[str, Any]:
    return {
        "model": model, "path": path, "weights": "random", "parameters": 297_536, "users": 4,
        "block_milliseconds": values, "tokens_per_second": None if path == "served" else 2000.0, **more,
    }  # fmt: skip


LATENCY: dict[str, Any] = {
    "date": "2026-11-24",
    "environment": ENVIRONMENT,
    "setting": {"clock": "wall", "blocks": 6, "users": 4},
    "datasets": {
        "ml-1m": {
            "items": 3416, "beams": 20, "steps": 24, "queries": 20, "prompt_tokens": 180,
            "contestants": [
                contestant("sasrec", "served", [1.0, 1.1, 2.0, 1.0, 1.2, 1.0]),
                contestant("mamba4rec", "served", [2.0, 2.2, 4.0, 2.0, 2.4, 2.0]),
                contestant("gpt4rec", "free", [100.0, 110.0, 200.0, 102.0, 118.0, 100.0]),
                contestant("gpt4rec", "held", [80.0] * 6, weights="tuned"),
                contestant("gpt4rec", "paper", [3000.0, 3300.0, 6000.0], parameters=124_439_808),
            ],
        }
    },
}  # fmt: skip


def test_rates_are_those_of_the_median_and_the_gpu_is_not_run_until_it_is() -> None:
    text = decoding.speed_table(DECODING).text
    # 100 / 0.5 and 10 / 0.2
    assert re.search(r"^GPT-2\s+100\s+200\s+50\s+2\.10\s+20$", text, re.M) and "On a GPU: not run." in text
    assert "124 M weights" in text and "random weights" in text and "CPU seconds" in text
    gpu = copy.deepcopy(DECODING)
    gpu["contexts"] = [row("gpt2", 100, 0.005, 0.002, 20)]
    both = decoding.speed_table(DECODING, gpu).text
    assert re.search(r"^GPT-2\s+100\s.*\s20,000\s+5,000\s+0\.021$", both, re.M)
    assert sum("not run" in line for line in both.splitlines()) == 5


def test_the_crossing_is_the_first_length_from_which_all_longer_ones_agree() -> None:
    text = decoding.crossing_sentence(DECODING).text
    assert "reads faster from 4,000" in text and "writes faster from 4,000" in text and "keeps less from 1,000" in text
    never = copy.deepcopy(DECODING)
    for one in never["contexts"]:
        if one["architecture"] == "mamba2":
            one["read_seconds"], one["kept_bytes"] = [1e3], 1
    words = decoding.crossing_sentence(never).text
    assert "reads faster at none" in words and "keeps less at every length measured" in words
    back = copy.deepcopy(DECODING)
    back["contexts"][1]["step_seconds"], back["contexts"][5]["step_seconds"] = [0.01], [9.0]
    assert "writes faster at some lengths, but not at the longest" in decoding.crossing_sentence(back).text


def test_figure_numbers_and_peers_hold_what_was_measured() -> None:
    assert decoding.context_figure(DECODING) is not None
    numbers = decoding.context_numbers(DECODING)
    assert numbers["read, tokens/s"].tolist() == pytest.approx([200, 125, 200, 125, 100, 125])
    assert "GPT-2 at 4000 tokens reads 100 and writes 20" in decoding.context_alt(DECODING)
    assert re.search(
        r"GPT-2\s+128\s+1\.00\s+2\.00\s+2\.0\s+3\.00\s+9\.00\s+3\.0$", decoding.peer_table(DECODING).text, re.M
    )


def test_what_has_to_be_kept_by_hand() -> None:
    geometry = {"d_model": 4, "gpt2_layers": 3, "mamba2_layers": 5, "d_state": 7}
    shared, copied, state = decoding.state_bytes(geometry, tokens=10, beams=2, written=1)
    token = 2 * 3 * 4 * 4  # keys and values, layers, width, bytes
    assert shared == 10 * token + 2 * token and copied == 2 * 11 * token
    assert state == 2 * 5 * (8 * 7 + 3 * (8 + 14)) * 4  # beams, layers, channels x state and inputs of the convolution
    one = decoding.crossover(1, shared=True)
    for tokens, wins in ((one, True), (one - 1, False)):  # the first length, and no longer one
        shared, _, state = decoding.state_bytes(decoding.PAPER_GEOMETRY, tokens, 1)
        assert (shared > state) == wins
    assert decoding.memory_figure(20) is not None and f"{one:,}" in decoding.memory_sentence(20).text


def test_time_and_tokens_have_columns_of_their_own_and_ratios_are_paired() -> None:
    text = decoding.users_table(LATENCY, "ml-1m").text
    free, held, paper, mamrec = text.splitlines()[2:6]
    assert "random, 0.3 M weights" in free and "2,000" in free and free.rstrip().endswith("25.2")  # 3.23 / 0.128
    assert "from scratch, 0.3 M weights" in held and "held to titles" in held
    assert "124 M weights" in paper and "3,300" in paper and "3,000" in paper
    assert mamrec.startswith("MamRec") and mamrec.count("not run") == 4 and "LlamaRec" not in text  # no number anywhere
    assert "upper bound" in text
    ratio = decoding.in_units_of_sasrec(LATENCY, "ml-1m")
    assert set(ratio) == {"sasrec", "mamba4rec", "gpt4rec"} and ratio["gpt4rec"].estimate == pytest.approx(
        100, rel=0.01
    )
    assert ratio["sasrec"] == Interval(1.0) and ratio["mamba4rec"] == Interval(pytest.approx(2.0))
    assert ratio["gpt4rec"].low is not None and ratio["gpt4rec"].low > 95
    at_size = decoding.latency_ratio(LATENCY, "ml-1m", ("gpt4rec", "paper"), ("sasrec", "served"))
    assert at_size == Interval(pytest.approx(3000.0))  # of three equal ratios there is no interval


def test_a_gpus_record_is_in_units_of_its_own_sasrec() -> None:
    gpu = copy.deepcopy(LATENCY)
    gpu["environment"] = {"device": "a GPU", "device_type": "cuda", "cpu": "a CPU"}
    part = gpu["datasets"]["ml-1m"]
    for own in part["contestants"]:
        own["path"] = {"served": "graph"}.get(own["path"], own["path"])
    part["contestants"].append(
        {"model": "llamarec", "path": "paper-ranker", "weights": "random", "parameters": LLAMA_7B,
         "block_milliseconds": [40.0, 44.0], "users": 2, "tokens_per_second": None}
    )  # fmt: skip
    part["errors"] = {"mamrec, held": "RuntimeError: no kernel"}
    text = decoding.users_table(gpu, "ml-1m").text
    assert text.splitlines()[0].endswith("on MovieLens 1M, on a GPU") and "Measured on a GPU, a CPU" in text
    llama = next(line for line in text.splitlines() if line.startswith("LlamaRec"))
    assert "random, 6,738 M weights" in llama and "one pass, Llama-2 7B's size, bfloat16" in llama and "42.0" in llama
    assert "SASRec as a CUDA graph, which took" in text and "Failed: mamrec, held (RuntimeError: no kernel)." in text
    assert "on a GPU" not in decoding.users_table(LATENCY, "ml-1m").text


def test_without_a_record_everything_says_so() -> None:
    for piece in (decoding.speed_table(None), decoding.peer_table(None), decoding.crossing_sentence(None)):
        assert piece.text.startswith("Not measured: there is no decoding_speed.json")
    assert decoding.context_figure(None) is None and decoding.context_numbers(None).empty
    for record, dataset in ((None, "ml-1m"), (LATENCY, "demo")):
        assert decoding.users_table(record, dataset).text.endswith("not run.")
        assert decoding.in_units_of_sasrec(record, dataset) == {}


def test_every_record_of_the_checkout_is_shown() -> None:
    decoded, waits = (benchmarks.read(benchmarks.FOLDER, name) for name in ("decoding_speed", "query_latency"))
    pieces = [decoding.speed_table(decoded), decoding.peer_table(decoded), decoding.crossing_sentence(decoded)]
    pieces += [decoding.users_table(waits, name) for name in (waits or {"datasets": {}})["datasets"]]
    for piece in pieces:
        assert "nan" not in piece.html and "None" not in piece.html

"""The frames of the speed page: from records alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.report import benchmarks

ROW = {
    "name": "ours",
    "label": "Ours",
    "batch": "8 rows of 200",
    "goal": None,
    "length": 200,
    "padding": 0.012,
    "positions_per_target": 1.25,
    "targets_per_second": 20_000.0,
    "targets_per_epoch": 981_491,
    "epoch_seconds": 49.0,
    "share_of_epoch": 1.5,
    "peak_memory_bytes": 2**30,
    "versions": {"torch": "2.13.0"},
    "ours_times_as_fast": 1.0,
    "ours_fp32_times_as_fast": 0.7,
}
PEER = ROW | {
    "name": "rectools",
    "label": "RecTools",
    "goal": 3.0,
    "epoch_seconds": 1234.0,
    "share_of_epoch": 0.0123,
    "ours_times_as_fast": 3.9,
    "versions": {"torch": "2.13.0", "RecTools": "0.19.0"},
}
TRAINING = {
    "date": "2026-11-23",
    "environment": {"cpu": "Some CPU", "cores": 2, "threads": 1, "load_average": [0.5, 1.2]},
    "setting": {
        "dataset": "ml-1m",
        "clock": "wall",
        "rounds": 5,
        "turn_seconds": 10.0,
        "d_model": 64,
        "n_layers": 2,
        "n_heads": 2,
        "d_inner": 256,
    },
    "rows": [ROW, PEER],
}
RANKING = {
    "date": "2026-11-23",
    "environment": {"cpu": "Some CPU", "cores": 2, "threads": 2, "load_average": [0.1, 0.2]},
    "setting": {"clock": "wall"},
    "sets": [
        {
            "dataset": "ml-1m",
            "all_users": 6040,
            "items": 3416,
            "encode_seconds": 9.0,
            "goal_seconds": 2.0,
            "peak_memory_bytes": 40 * 2**20,
            "rows": [
                {
                    "name": "counting",
                    "label": "Counting",
                    "users": 302,
                    "seconds": 0.05,
                    "ours_times_as_fast": 1.0,
                    "agreement": 1.0,
                }
            ],
        }
    ],
}


def test_training_has_factors_for_others_and_extrapolates_what_was_not_run() -> None:
    ours, theirs = benchmarks.training(TRAINING).to_dict("records")
    assert ours["run"] == 1.0 and theirs["run"] == 0.0123 and ours["windows"] == "Windows of 200 items"
    assert (theirs["factor"], theirs["goal"]) == (3.9, 3.0) and ours["factor"] != ours["factor"]


def test_conditions_name_machine_load_clock_and_every_version() -> None:
    (row,) = benchmarks.conditions({"train_speed": TRAINING, "other": None}).to_dict("records")
    assert (row["machine"], row["load"], row["clock"]) == ("Some CPU", "0.5 to 1.2", "wall")
    assert row["versions"] == "RecTools 0.19.0, torch 2.13.0"
    (bare,) = benchmarks.conditions({"data_load": {"machine": "x86_64", "cores": 2}}).to_dict("records")
    assert (bare["machine"], bare["cores"], bare["load"]) == ("x86_64", 2, None)


def test_ranking_extrapolates_to_all_users() -> None:
    (row,) = benchmarks.ranking(RANKING).to_dict("records")
    assert row["ms"] == pytest.approx(1e3 * 0.05 / 302) and row["all"] == pytest.approx(0.05 / 302 * 6040)
    assert row["goal"] == 2.0


def test_models_are_judged_at_the_lengths_that_have_goals() -> None:
    one = {"milliseconds": 2.0, "ratio": 0.8, "product_gflop": 1.0, "attained": 0.5}
    shapes = [{"length": n, "batch": 16, "models": {"2mamba4rec": one, "2mamba4rec, bf16": one}} for n in (200, 7)]
    rows = benchmarks.models({"shapes": shapes})
    assert rows["model"].tolist() == ["2Mamba4Rec", "2Mamba4Rec, bf16"] * 2
    assert rows["goal"].dropna().tolist() == [benchmarks.SSM_GOALS[200]["2mamba4rec"]]


def way(name: str, package: str | None, length: int, single: float, rates: dict[str, float]) -> dict:
    return {
        "name": name,
        "label": f"label of {name}",
        "package": package,
        "length": length,
        "items": 3416 if package is None else 3391,
        "parameters": 331_584,
        "versions": {"torch": "2.13.0"},
        "milliseconds": single,
        "p95_milliseconds": 2 * single,
        "calls": 300,
        "users_per_second": rates,
        "peak_memory_bytes": 2**30,
    }


def test_ways_to_recommend_have_their_best_batch_and_pairs_one_length() -> None:
    rows = [
        way("ours", None, 200, 0.5, {"1": 2000.0, "16": 4000.0}),
        way("theirs", "recbole", 200, 5.0, {"1": 200.0, "16": 100.0}),
    ]
    pair = {"ours": "ours", "theirs": "theirs", "times_as_fast": 10.0, "times_as_fast_in_batches": 20.0, "goal": 5.0}
    record = {"rows": rows, "pairs": [pair]}
    first, second = benchmarks.recommending(record).to_dict("records")
    assert (first["batch"], first["users_per_second"], second["batch"]) == (16, 4000.0, 1)
    (factor,) = benchmarks.recommending_factors(record).to_dict("records")
    assert (factor["package"], factor["ours"], factor["length"]) == ("label of theirs", "label of ours", 200)
    assert (factor["times_as_fast"], factor["times_as_fast_in_batches"], factor["goal"]) == (10.0, 20.0, 5.0)


def test_a_gpus_record_has_frames_and_what_failed_has_one_of_its_own() -> None:
    loop = {"model": "2mamba4rec", "steps": 9, "bytes_floor_seconds": 1.0, "operations_floor_seconds": 2.0}
    mixer = {"histories": 8, "length": 200, "precision": "bf16", "milliseconds": {"ours": 3.0, "ours, graph": 0.5}}
    goal = {"model": "2mamba4rec", "reached": False, "goal": 0.17, "best": 0.15, "epochs": 3, "seconds": 9.0}
    record = {
        "loops": [loop | {"ordinary_epoch_seconds": 4.0, "times_the_floor": 2.0}],
        "goals": [goal],
        "mixers": [
            mixer | {"ours_times_as_fast": {"theirs, fused": 4.0}},
            {"failed": "mixer 8 x 1000", "error": "out of memory"},
        ],
    }
    (row,) = benchmarks.rows(record, "loops").to_dict("records")
    assert (row["model"], row["ordinary_epoch_seconds"]) == ("2Mamba4Rec", 4.0)
    (row,) = benchmarks.gpu_mixers(record).to_dict("records")
    assert (row["ours graph"], row["theirs"], row["factor"], row["factor graph"]) == (0.5, None, 4.0, None)
    assert benchmarks.failures(record).to_dict("records") == [{"failed": "mixer 8 x 1000", "error": "out of memory"}]


def test_rows_say_what_the_levels_above_them_say() -> None:
    shape = {"length": 7, "rounds": {"Mamba": 3}, "mixers": {"Mamba": {"ours": {"ms": 1.0}, "theirs": {"ms": 2.0}}}}
    table = benchmarks.rows({"date": "today", "shapes": [shape]}, "shapes", "mixers:mixer", ":whose")
    assert table[["mixer", "whose", "ms"]].to_numpy().tolist() == [["Mamba", "ours", 1.0], ["Mamba", "theirs", 2.0]]
    assert set(table["length"]) == {7} and set(table["rounds.Mamba"]) == {3} and set(table["date"]) == {"today"}
    named = benchmarks.rows({"results": {"ml-1m": {"read": 1.0}}}, "results:dataset")
    assert named.to_dict("records") == [{"dataset": "MovieLens 1M", "read": 1.0}]
    assert benchmarks.rows(None, "results:dataset").empty


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("train_speed", benchmarks.training), ("ranking_speed", benchmarks.ranking), ("ssm_speed", benchmarks.models),
        ("mixer_speed", benchmarks.mixers),
        ("optimizer_speed", benchmarks.optimizers),
        ("recommend_speed", benchmarks.recommending), ("recommend_speed", benchmarks.recommending_factors),
        ("gpu_agreement", benchmarks.kernels),
        ("decoding_speed", benchmarks.contexts), ("decoding_speed", benchmarks.peers),
    ],
)  # fmt: skip
def test_every_record_of_the_checkout_gives_rows_and_a_missing_one_none(name, frame) -> None:
    assert frame(None).empty
    record = benchmarks.read("benchmarks/results", name)
    assert record is None or len(frame(record))


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    assert benchmarks.read(str(tmp_path), "train_speed") is None
    for text in ("{", "[]"):
        (tmp_path / "train_speed.json").write_text(text)
        with pytest.raises(SeqRecError, match=r"train_speed\.json.*run python -m benchmarks\.train_speed --save again"):
            benchmarks.read(str(tmp_path), "train_speed")


def test_the_page_types_no_number_by_hand() -> None:
    cells = json.loads((project_root() / "notebooks/speed.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    prose = prose.replace("GPT-2", "").replace("Mamba-2", "")  # names, as bfloat16 is
    assert not re.search(r"\b\d", prose)

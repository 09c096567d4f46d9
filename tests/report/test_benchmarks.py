"""The tables of the speed page: from records alone, with goals judged and conditions named."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.report import benchmarks, recommending

ROW = {
    "name": "ours",
    "label": "Ours",
    "batch": "8 rows of 200",
    "goal": None,
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
        "length": 200,
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


def test_training_shows_factors_versions_and_the_machine() -> None:
    text = repr(benchmarks.training_table(TRAINING))
    ours, peer = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("Ours", "RecTools"))
    assert re.search(r"1\.2%\s+1\.2\s+20,000\s+49\s+all\s+1\.0\s+–\s+–$", ours)
    assert re.search(r"≈ 1,234\s+1\.23%\s+1\.0\s+3\.9\s+0\.7$", peer)
    assert "Some CPU, 2 cores, 1 thread used, 2026-11-23" in text
    assert "RecTools 0.19.0, torch 2.13.0" in text
    assert "Other jobs" not in text and "CPU seconds" not in text


def test_a_busy_machine_and_the_cpu_clock_are_told() -> None:
    record = copy.deepcopy(TRAINING)
    record["environment"]["load_average"] = [7.0, 3.5]
    record["setting"]["clock"] = "cpu"
    text = repr(benchmarks.training_table(record))
    assert "Other jobs ran too (load 3.5 to 7)" in text
    assert "CPU seconds" in text


@pytest.mark.parametrize(("factor", "word"), [(3.0, "reached"), (2.99, "missed")])
def test_a_goal_is_reached_or_missed(factor: float, word: str) -> None:
    record = TRAINING | {"rows": [ROW, PEER | {"ours_times_as_fast": factor}]}
    (line,) = repr(benchmarks.training_goals(record)).splitlines()
    assert line.startswith("- RecTools: at least 3 times")
    assert line.endswith(f": {word}.")


def test_ranking_extrapolates_to_all_users() -> None:
    text = repr(benchmarks.ranking_table(RANKING))
    assert re.search(r"Counting\s+0\.166\s+302\s+≈ 1\.0\s+–\s+100\.00%", text)  # 0.05 s x 6040 / 302
    assert "under 2 s on two cores: reached" in text
    assert "40 MiB beyond data and model" in text
    assert "extrapolated" in text


def test_an_optimizers_cost_is_in_units_of_both_adams_with_goals_judged() -> None:
    row = {"milliseconds": 1.0, "to_fused": 1.0, "to_foreach": 0.4}
    record = {
        "environment": {"cpu": "Some CPU", "cores": 2, "threads": 1},
        "setting": {"weights": 1_000_000, "rounds": 60, "clock": "cpu"},
        "versions": {"torch": "2.13.0"},
        "goals": {"fused": 1.2, "foreach": 0.5},
        "bytes_per_weight": {"fused": 28, "usgm": 32},
        "rows": {"fused": row, "usgm": {"milliseconds": 1.25, "to_fused": 1.25, "to_foreach": 0.5}},
    }
    text = repr(benchmarks.optimizer_table(record))
    assert re.search(r"Adam, fused\s+28\s+1\.00\s+–\s+0\.40", text)
    assert re.search(r"USGM\s+32\s+1\.25\s+1\.25\s+0\.50", text)
    assert "at most 1.2 times fused Adam is the goal; it is 1.25: missed" in text
    assert "at most 0.5 times foreach Adam is the goal; it is 0.50: reached" in text


def test_goals_of_the_state_space_layers_are_judged_for_each_shape() -> None:
    row = {"milliseconds": 1.0, "product_gflop": 1.0, "attained": 0.5}
    models = {"mamba4rec": row | {"ratio": 1.5}, "2mamba4rec": row | {"ratio": 0.95}, "hydra4rec": row | {"ratio": 1.1}}
    shape = {"length": 200, "batch": 16, "models": models}
    record = {"environment": {"cpu": "Some CPU"}, "versions": {"torch": "2.13.0"}, "shapes": [shape]}
    text = repr(benchmarks.models_tables(record))
    assert "Mamba4Rec: at most 1.5 times SASRec's time is the goal; it is 1.50: reached." in text
    assert "2Mamba4Rec: at most 0.9 times SASRec's time is the goal; it is 0.95: missed." in text
    assert "Hydra4Rec: at most 1.2 times SASRec's time is the goal; it is 1.10: reached." in text
    assert "goal" not in repr(benchmarks.models_tables(record | {"shapes": [shape | {"length": 7}]}))


def test_mixers_are_judged_beside_each_release_of_transformers() -> None:
    mixers = {
        "ours": {"milliseconds": 30.0, "ours_times_as_fast": 1.0, "product_gflop": 1.5, "floor_milliseconds": 16.0},
        "transformers 5.17.0": {"milliseconds": 1500.0, "ours_times_as_fast": 50.04},
        "transformers 5.23.0": {"milliseconds": 120.0, "ours_times_as_fast": 4.0},
    }
    shape = {"length": 200, "batch": 16, "rounds": {"Mamba-2": 15}, "mixers": {"Mamba-2": mixers}}
    record = {
        "product_gflops": 94.0,
        "environment": {"cpu": "Some CPU"},
        "versions": {"torch": "2.13.0"},
        "shapes": [shape],
    }
    text = repr(benchmarks.mixer_tables(record))
    assert re.search(r"Mamba-2\s+ours\s+30\.0\s+1\.50\s+16\.0\s+–", text)
    assert re.search(r"Mamba-2\s+transformers 5\.17\.0\s+1,500\.0\s+–\s+–\s+50\.0", text)
    assert (
        "Mamba-2: at least 5 times as fast as transformers' is the goal; beside transformers 5.17.0 it is 50.0: r"
        in text
    )
    assert "beside transformers 5.23.0 it is 4.0: missed." in text
    assert "Medians over rounds: Mamba-2 15." in text and "at 94 GFLOP/s" in text


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


def test_factors_of_recommending_name_both_ways_and_judge_the_goal() -> None:
    record = {
        "date": "2026-11-24",
        "environment": {"cpu": "Some CPU", "cores": 2, "threads": 1, "load_average": [0.1, 0.2]},
        "setting": {"dataset": "ml-1m", "items": 3416, "k": 10, "clock": "cpu", "rounds": 30},
        "rows": [
            way("ours/a", None, 200, 1.0, {"1": 1000.0, "64": 1200.0}),
            way("peer/b", "RecTools", 200, 6.0, {"1": 160.0, "64": 300.0}),
            way("ours/c", None, 50, 0.5, {"1": 2000.0, "64": 2000.0}),
        ],
        "pairs": [
            {"ours": "ours/a", "theirs": "peer/b", "times_as_fast": 6.0, "times_as_fast_in_batches": 4.0, "goal": 5.0}
        ],
    }
    text = repr(recommending.factors_table(record))
    assert re.search(r"label of peer/b\s+label of ours/a\s+200\s+6\.0\s+5\s+reached\s+4\.0", text)
    text = repr(recommending.requests_table(record))
    assert text.count("The 10 best of 3,416 items") == 2  # a table for each length
    assert re.search(r"label of peer/b\s+331,584\s+6\.00\s+12\.00\s+300\s+1\.0", text)
    assert "CPU seconds" in text and "torch 2.13.0" in text
    assert text.count("Of the items, label of peer/b knows 3,391.") == 1


@pytest.mark.parametrize(
    ("name", "show"),
    [
        ("train_speed", benchmarks.training_table),
        ("train_speed", benchmarks.training_goals),
        ("ranking_speed", benchmarks.ranking_table),
        ("ssm_speed", benchmarks.models_tables),
        ("mixer_speed", benchmarks.mixer_tables),
        ("data_load", benchmarks.loading_table),
        ("optimizer_speed", benchmarks.optimizer_table),
        ("recommend_speed", recommending.requests_table),
        ("recommend_speed", recommending.factors_table),
    ],
)
def test_every_record_of_the_checkout_is_shown_and_a_missing_one_is_told(name, show) -> None:
    assert repr(show(None)).startswith(f"Not measured: there is no {name}.json")
    record = benchmarks.read("benchmarks/results", name)
    if record is not None:
        html = show(record).html
        assert "<t" in html or "<li>" in html
        assert "None" not in html and "nan" not in html


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    assert benchmarks.read(str(tmp_path), "train_speed") is None
    for text in ("{", "[]"):
        (tmp_path / "train_speed.json").write_text(text)
        with pytest.raises(
            SeqRecError, match=r"train_speed\.json.*run python -m benchmarks\.train_speed --save again"
        ) as caught:
            benchmarks.read(str(tmp_path), "train_speed")
        assert "\n" not in str(caught.value)


def test_the_page_types_no_number_by_hand() -> None:
    cells = json.loads((project_root() / "notebooks/speed.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    prose = prose.replace("GPT-2", "").replace("Mamba-2", "")  # names, as bfloat16 is
    assert not re.search(r"\b\d", prose)

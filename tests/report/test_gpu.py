"""The speed page's part on training on a GPU, from a made-up record."""

from __future__ import annotations

from typing import Any

from seqrec_lib.report import gpu
from seqrec_lib.report.benchmarks import conditions

WHERE = {"device": "NVIDIA X", "device_type": "cuda", "cpu": "a CPU", "cores": 16, "threads": 16}
MIXER = {
    "histories": 8,
    "length": 200,
    "precision": "bf16",
    "errors": {"theirs, fused, graph": "RuntimeError: no"},
    "milliseconds": {"ours": 3.0, "ours, graph": 0.5, "theirs, fused": 2.0},
    "ours_times_as_fast": {"ours": 6.0, "theirs, fused": 4.0, "ours, graph": 1.0},
}
LOOP = {
    "model": "2mamba4rec",
    "steps": 1000,
    "ordinary_epoch_seconds": 4.0,
    "resident_epoch_seconds": 3.0,
    "graphs_epoch_seconds": 0.5,
    "bytes_floor_seconds": 0.05,
    "operations_floor_seconds": 0.02,
    "loss_bytes_seconds": 0.1,
    "times_the_floor": 10.0,
}
GOAL = {"model": "2mamba4rec+repeats", "goal": 0.17, "epochs": 3, "seconds": 9.0, "training_seconds": 2.0}
RECORD: dict[str, Any] = {
    "date": "2026-01-01",
    "environment": WHERE,
    "versions": {"torch": "2.11.0"},
    "dataset": "ml-1m",
    "kernels_tuned": False,
    "ceilings": {"bytes": 4.2e12, "fp32_flops": 5e13, "bf16_flops": 7.8e14},
    "mixers": [MIXER, {"failed": "mixer 8 x 1000 fp32", "error": "RuntimeError: out of memory"}],
    "loops": [LOOP],
    "goals": [GOAL | {"reached": True, "best": 0.18}, GOAL | {"reached": False, "best": 0.156, "epochs": 20}],
}


def test_an_epoch_stands_beside_its_floors() -> None:
    text = gpu.loops_table(RECORD).text
    row = next(line for line in text.splitlines() if line.startswith("2Mamba4Rec"))
    assert row.split()[1:] == ["1,000", "4", "3", "0.5", "8.0", "0.05", "0.02", "0.1", "10"]
    assert "4.20 TB/s" in text and "780 TFLOP/s" in text and "Measured on NVIDIA X, a CPU, 16 cores" in text
    late = {name: value for name, value in LOOP.items() if name != "graphs_epoch_seconds"}
    assert "not run" in gpu.loops_table(RECORD | {"loops": [late]}).text


def test_layers_are_compared_and_what_failed_is_said() -> None:
    text = gpu.mixers_table(RECORD).text
    row = next(line for line in text.splitlines() if line.startswith("8 x 200"))
    assert row.split()[3:] == ["bf16", "3.00", "0.50", "2.00", "–", "4.0", "–"]
    assert "Not timed: theirs, fused, graph: RuntimeError: no." in text
    assert "Failed: mixer 8 x 1000 fp32 (RuntimeError: out of memory)." in text
    assert "untuned" in text and "untuned" not in gpu.mixers_table(RECORD | {"kernels_tuned": True}).text


def test_goals_say_when_or_how_far() -> None:
    first, second = gpu.goals_list(RECORD).text.splitlines()
    assert "reached after 9.0 s and 3 epochs, 2.0 s of them training" in first
    assert "not reached: 0.156 is its best, in 20 epochs" in second


def test_without_a_record_it_says_what_makes_one() -> None:
    for piece in (gpu.training_tables(None), gpu.loops_table(None), gpu.mixers_table(None), gpu.goals_list(None)):
        assert "no gpu_training.json" in piece.text
    assert (
        conditions({"environment": {"cpu": "a CPU", "device_type": "cpu", "device": "a CPU"}}) == "Measured on a CPU."
    )

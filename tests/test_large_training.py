"""The benchmark of training at the size of the paper's largest data set: what each part reports."""

from __future__ import annotations

from benchmarks import large_training


def test_an_epoch_is_evaluated_and_some_steps_are_not() -> None:
    epoch = large_training.train_once("sasrec", 400, 64, None)
    some = large_training.train_once("sasrec", 400, 64, 1)
    assert epoch["epoch_seconds"] > 0 and epoch["evaluation_seconds"] > 0 and epoch["steps"] >= 2
    assert "epoch_seconds" not in some and some["seconds_per_step"] > 0 and some["steps"] == 1
    assert epoch["interactions"] == some["interactions"] >= 5 * 400

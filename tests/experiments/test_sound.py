"""Values that no run can mean are refused before anything runs, and every planned run passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import EXPERIMENTS, accuracy, get, llamarec
from seqrec_lib.experiments.base import execute
from seqrec_lib.experiments.sound import check_config
from seqrec_lib.results import RunStore
from seqrec_lib.study import load_study
from seqrec_lib.study.plans import values_of

QUICK: dict[str, Any] = {"dataset": "demo", "models": ["sasrec"], "seeds": [0]}


def test_every_planned_run_passes() -> None:
    checked = 0
    for page in load_study().pages():
        if page.notebook in EXPERIMENTS:
            for config in get(page.notebook).plan(values_of(page)):
                check_config(config)
                checked += 1
    assert checked > 300


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"objective": "last"}, "objective is 'last'; known are all-positions, prefixes"),
        ({"objective": "prefix"}, "did you mean 'prefixes'"),
        ({"schedule": "linear"}, "schedule is 'linear'; known are constant, cosine"),
        ({"precision": "fp16"}, "precision is 'fp16'; did you mean 'bf16'"),
        ({"average": 1.0}, "average is 1.0; expected at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout is -0.1; expected at least 0 and below 1"),
        ({"clip": 0.0}, "clip is 0.0; expected more than 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected more than 0"),
        ({"d_model": 0}, "d_model is 0; expected at least 1"),
        ({"epochs": 0}, "epochs is 0; expected at least 1"),
        ({"validate_every": 0}, "validate_every is 0; expected at least 1"),
        ({"max_length": -5}, "max_length is -5; expected at least 1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    store = RunStore(tmp_path / "new", tmp_path / "published")
    plan = accuracy.plan(QUICK | {"overrides": overrides})
    with pytest.raises(SeqRecError, match=message) as caught:
        execute(accuracy, plan, store=store, progress=False)
    assert "\n" not in str(caught.value)
    assert not store.records()


def test_seeds_and_nested_configurations_are_checked_too() -> None:
    with pytest.raises(SeqRecError, match="seed is -1; expected at least 0"):
        check_config(accuracy.plan(QUICK | {"seeds": [-1]})[0])
    parameters = {"dataset": "demo", "retrievers": ["sasrec"], "seeds": [0], "negatives": ["foo"]}
    (config,) = llamarec.plan(values_of_llamarec() | parameters)
    with pytest.raises(SeqRecError, match="negatives is 'foo'; known are random, retriever, mixed"):
        check_config(config)


@pytest.mark.parametrize("name", ["orders", "lessons"])
def test_none_is_a_number_where_the_setting_says_so(name: str) -> None:
    def planned(number: int) -> Any:
        parameters = {"dataset": "demo", "retrievers": ["sasrec"], "seeds": [0], "overrides": {name: number}}
        (config,) = llamarec.plan(values_of_llamarec() | parameters)
        return config

    check_config(planned(0))
    with pytest.raises(SeqRecError, match=f"{name} is -1; expected at least 0"):
        check_config(planned(-1))


def values_of_llamarec() -> dict[str, Any]:
    (page,) = (page for page in load_study().select("demo") if page.notebook == "llamarec")
    return values_of(page)

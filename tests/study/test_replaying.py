"""Replaying: equal numbers clear older code, unequal ones are named, a long run is compared by its first epochs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import Outcome, execute, fingerprint_of, is_older
from seqrec_lib.results import RunRecord, RunStore
from seqrec_lib.results import replays as kept
from seqrec_lib.results.replays import read_replays
from seqrec_lib.study import replaying
from tests.fakes import Config, FakeExperiment, make_record

OLD = "0" * 16


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setattr(kept, "replays_file", lambda: tmp_path / "replays.json")
    return RunStore(tmp_path / "new", tmp_path / "published")


def made_by_older_code(store: RunStore, record: RunRecord | None) -> RunRecord:
    assert record is not None
    path = store.path(record)
    path.write_text(replace(record, fingerprint=OLD).to_json())
    found = store.find(record.run_id)
    assert found is not None
    return found


def case_of(experiment: Any, config: Any, record: RunRecord) -> replaying.Case:
    return replaying.Case(experiment, config, record, 0)


def test_equal_numbers_clear_older_code(store: RunStore) -> None:
    devices: list[str] = []
    experiment = FakeExperiment(lambda config, context: devices.append(context.device))
    config = Config("demo", 3)
    record = made_by_older_code(store, execute(experiment, [config], store=store)[0])
    assert is_older(record, experiment)
    verdict = replaying.replay(case_of(experiment, config, record), store)
    assert verdict.difference == "" and verdict.then == OLD and experiment.calls == [3, 3]
    assert devices == ["auto", record.environment["device_type"]]  # a replay keeps to the kind of device of its record
    assert verdict.today == fingerprint_of(experiment, record.config)
    assert read_replays() == (verdict,)
    assert not is_older(record, experiment)
    experiment.SOURCES = ("seqrec_lib.places",)
    assert is_older(record, experiment)
    assert not [path for path in (store.new / ".work").glob("*") if path.is_dir()]


def test_a_difference_is_kept_and_the_code_stays_older(store: RunStore) -> None:
    experiment = FakeExperiment()
    config = Config("demo", 3)
    record = made_by_older_code(store, execute(experiment, [config], store=store)[0])
    changed = replace(record, metrics={"ht@10": 0.5000000000000001})
    store.path(record).write_text(changed.to_json())
    verdict = replaying.replay(case_of(experiment, config, changed), store)
    assert verdict.difference == "ht@10 0.5000000000000001 became 0.5"
    assert is_older(changed, experiment)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome({"split_sha256": "cd"}, {"ht@10": 0.5}), "data set: split_sha256 ab became cd"),
        (Outcome({"split_sha256": "ab"}, {"ht@10": 0.5, "mrr@10": 0.1}), "mrr@10 None became 0.1"),
        (Outcome({"split_sha256": "ab"}, {"ht@10": 0.5}), "tables ranks became "),
        (
            Outcome({"split_sha256": "ab"}, {"ht@10": 0.5}, tables={"ranks": pa.table({"rank": [1, 2, 4]})}),
            "table ranks: 1 of 3 values of rank differ",
        ),
        (
            Outcome({"split_sha256": "ab"}, {"ht@10": 0.5}, tables={"ranks": pa.table({"rank": [1, 2]})}),
            "table ranks: 3 rows of ['rank'] became 2 of ['rank']",
        ),
        (Outcome({"split_sha256": "ab"}, {"ht@10": 0.5}, tables={"ranks": pa.table({"rank": [1, 2, 3]})}), ""),
    ],
)
def test_the_first_difference_is_said_in_words(store: RunStore, outcome: Outcome, words: str) -> None:
    record = make_record(metrics={"ht@10": 0.5}, tables=("ranks",))
    store.save(record, {"ranks": pa.table({"rank": [1, 2, 3]})})
    assert replaying.differences(record, store, outcome) == words


def test_a_long_run_is_compared_by_its_first_epochs(store: RunStore) -> None:
    parameters = {"dataset": "demo", "models": ["2mamba4rec"], "seeds": [0], "overrides": {"epochs": 2, "d_state": 8}}
    (config,) = accuracy.plan(parameters)
    record = made_by_older_code(store, execute(accuracy, [config], store=store, progress=False)[0])
    lines: list[str] = []
    verdict = replaying.replay(case_of(accuracy, config, record), store, epochs=1, report=lines.append)
    assert verdict.difference == "" and verdict.epochs == 1 and len(lines) == 1
    assert not is_older(record, accuracy)

    wrong = json.loads(record.to_json())
    wrong["history"][0]["loss"] += 1e-4
    changed = RunRecord(**{**wrong, "parents": (), "tables": tuple(wrong["tables"])})
    verdict = replaying.replay(case_of(accuracy, config, changed), store, epochs=1)
    assert verdict.difference.startswith("epoch 1: loss ")
    assert is_older(record, accuracy)  # the last word on this run and this code


def test_the_cheapest_run_of_each_group_is_chosen(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"dataset": "demo", "models": ["popularity", "markov"], "seeds": [0]}
    configs = accuracy.plan(parameters)
    for record in execute(accuracy, configs, store=store, progress=False):
        made_by_older_code(store, record)
    found = replaying.cases(store)
    assert sorted(case.record.config["model"] for case in found) == ["markov", "popularity"]
    assert [case.seconds for case in found] == sorted(case.seconds for case in found)
    assert str(found[0]).startswith("accuracy: demo ")
    assert replaying.cases(store, dataset="ml-1m") == []
    one = found[1].record.run_id
    assert [case.record.run_id for case in replaying.cases(store, runs=[one])] == [one]
    assert replaying.replay(found[0], store, epochs=1).epochs == 0  # a floor has none: all of it was compared
    with pytest.raises(SeqRecError, match="run ffffffffffffffff is no planned run of older code"):
        replaying.cases(store, runs=["f" * 16])

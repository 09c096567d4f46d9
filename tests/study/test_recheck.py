"""Published runs carried out again: one of each kind, old and new numbers side by side, on the same data alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute
from seqrec_lib.results import RunStore, rechecks
from seqrec_lib.study.recheck import carry_out, kinds
from tests.golden.harness import made_up_data


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A store with published runs of the two counting models, on the made-up data."""
    monkeypatch.setattr(rechecks, "rechecks_file", lambda: tmp_path / "rechecks.json")
    store = RunStore(tmp_path / "new", tmp_path / "published")
    with made_up_data("first", tmp_path):
        configs = accuracy.plan(accuracy.tiny("popularity", "markov") | {"overrides": {}})
        execute(accuracy, configs, store=store, progress=False)
    shutil.copytree(store.new, store.published, ignore=shutil.ignore_patterns(".*"))
    return store


def test_old_and_new_numbers_stand_side_by_side(store: RunStore, tmp_path: Path) -> None:
    chosen = kinds(store)
    assert sorted(record.config["model"] for record in chosen) == ["markov", "popularity"]
    assert [record.config["model"] for record in kinds(store, runs=[chosen[0].run_id])] == [chosen[0].config["model"]]
    with pytest.raises(SeqRecError, match="no published run"):
        kinds(store, runs=["0" * 16])
    with made_up_data("first", tmp_path):
        verdict = carry_out(chosen[0], store)
    assert verdict.metrics["ndcg@10"] == (chosen[0].metrics["ndcg@10"],) * 2
    assert [one.run_id for one in rechecks.rechecks_of([chosen[0].run_id])] == [chosen[0].run_id]
    assert rechecks.rechecks_of([chosen[1].run_id]) == []
    assert not any(path.name != ".gitignore" for path in (store.new / ".work").glob("[!.]*"))


def test_other_data_of_that_name_are_refused(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = kinds(store, runs=[kinds(store)[0].run_id])
    monkeypatch.setattr("seqrec_lib.experiments.dependencies.installed_split", lambda name: "b" * 64)
    with pytest.raises(SeqRecError, match=r"b{64}"), made_up_data("first", tmp_path):
        carry_out(record, store)
    assert rechecks.read_rechecks() == ()


@pytest.mark.parametrize("text", ["{", "[1]", '[{"run_id": "x"}]', "[" * 100_000, "{}\0"])
def test_a_damaged_file_of_rechecks_is_one_line(store: RunStore, text: str) -> None:
    rechecks.rechecks_file().write_text(text)
    with pytest.raises(SeqRecError, match="restore the file or delete it"):
        rechecks.read_rechecks()

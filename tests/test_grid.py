"""A profile's runs as jobs: which there are, what each builds on, and one of them carried out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import key
from seqrec_lib.results import RunStore, hardware
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study.plans import configs_of
from seqrec_lib.study.runner import load_study
from workflow import grid

STUDY = """
profiles:
  demo:
    - notebook: orpo  # before the ranker that it tunes
      datasets: [demo]
      parameters: {arms: [orpo], seeds: [0]}
    - notebook: llamarec
      datasets: [demo]
      parameters: {seeds: [0]}
    - notebook: accuracy
      datasets: [demo]
      parameters: {models: [popularity, sasrec], seeds: [0, 1]}
    - notebook: latency
      datasets: [demo]
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("accuracy", "latency", "llamarec", "orpo"):
        shutil.copy(ROOT / f"notebooks/{name}.ipynb", "notebooks")
    (tmp_path / "study.yml").write_text(STUDY, encoding="utf-8")
    return RunStore()


def test_each_run_is_one_job_and_comes_after_those_that_it_builds_on(store: RunStore) -> None:
    jobs = grid.list_jobs("demo", store)
    by_name = {job.name: job for job in jobs}
    assert len(by_name) == len(jobs) == len({job.id for job in jobs})
    (ranker,) = [job for job in jobs if job.name.startswith("llamarec")]
    (tuned,) = [job for job in jobs if job.name.startswith("orpo")]
    assert tuned.after == (ranker.id,)
    assert ranker.after == (), "its retriever's run is not in the profile"
    assert {job.timed for job in jobs if job.name.startswith("latency")} == {True}
    assert not any(job.timed or job.after for job in jobs if job.name.startswith("accuracy"))


def test_a_jobs_id_is_its_runs_and_a_timings_names_no_machine(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy, latency = (
        next(p for p in load_study().select("demo") if p.notebook == n) for n in ("accuracy", "latency")
    )
    ids = {job.id for job in grid.list_jobs("demo", store)}
    assert {key(get("accuracy"), config) for config in configs_of(accuracy)} <= ids
    assert not {key(get("latency"), config) for config in configs_of(latency)} & ids
    monkeypatch.setattr("seqrec_lib.experiments.base.hardware", lambda: f"not {hardware()}")
    assert {job.id for job in grid.list_jobs("demo", store)} == ids


def test_a_job_is_carried_out_once_and_is_done_then(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def popularity() -> grid.GridJob:
        return next(job for job in grid.list_jobs("demo", store) if job.name.startswith("accuracy: demo popularity"))

    job = popularity()
    assert not job.done
    assert grid.main(["--profile", "demo", "--run", job.id]) == 0
    assert popularity().done
    record = store.find(job.id)
    assert record is not None and record.complete

    monkeypatch.setattr(get("accuracy"), "run", lambda config, context: pytest.fail("carried out again"))
    assert grid.main(["--profile", "demo", "--run", job.id]) == 0
    capsys.readouterr()
    assert grid.main(["--profile", "demo"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["id"] for one in listed if one["done"]] == [job.id]


def test_a_run_that_fails_and_one_that_is_not_planned_end_differently(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(get("accuracy"), "run", Mock(side_effect=SeqRecError("no luck")))
    job = next(job.id for job in grid.list_jobs("demo", store) if job.name.startswith("accuracy"))
    assert grid.main(["--profile", "demo", "--run", job]) == 1
    assert grid.main(["--profile", "demo", "--run", "0" * 16]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: profile 'demo' plans no run")
    assert grid.main(["--profile", "none"]) == 2

"""Runs within a time: the most valuable first, none that cannot end, nothing that ended lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import Context, execute, key
from seqrec_lib.results import RunStore, hardware
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.results.transfer import import_runs
from seqrec_lib.study import budget, load_study
from seqrec_lib.study.budget import estimate, missing_tasks, parse_duration, run_missing, run_within
from seqrec_lib.study.plans import Page, Task
from tests.fakes import Config, FakeExperiment, make_record


def tasks_of(experiment: FakeExperiment, *seeds: int) -> list[Task]:
    configs = [Config("ml-1m", seed) for seed in seeds]
    return [Task(experiment, config, key(experiment, config)) for config in configs]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1h30m", 5400), ("0.5m", 30)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "nine", "9x", "m9", "0", "-5m", "1h 30m", "99999999999h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SeqRecError, match=r"time budget .* is no duration; write 90s, 9m or 1h30m"):
        parse_duration(text)


def record_of(seconds: float, device: str, **config: object):
    kind = "cuda" if "GPU" in device else "cpu"
    values = {"dataset": "ml-1m", "model": "sasrec", "seed": 0, "training": {"epochs": 3, "seed": 0}} | config
    return make_record(
        config=values, cost={"wall_seconds": seconds}, environment={"device": device, "device_type": kind}
    )


def test_estimates_come_from_the_records_most_alike() -> None:
    records = [
        record_of(500.0, "a CPU"),
        record_of(20.0, "a GPU", training={"epochs": 9, "seed": 0}),
        record_of(7.0, "a GPU"),
        record_of(8.0, "a GPU", seed=2, training={"epochs": 3, "seed": 2}),
        record_of(9.0, "a GPU", model="mamba4rec"),
    ]

    def seconds(device: str, **config: object) -> float | None:
        task = Task(FakeExperiment(NAME="accuracy"), record_of(0, "", **config).config, "0" * 16)
        return estimate(task, records, device, on_gpu="GPU" in device)

    assert seconds("a GPU", seed=1, training={"epochs": 3, "seed": 1}) == 8.0  # the same but for the seed
    assert seconds("a GPU", training={"epochs": 4}) == 20.0  # the same model with other settings
    assert seconds("another GPU") == 25.0  # whatever device; a CPU is slower
    assert seconds("another CPU") == 500.0
    assert seconds("a GPU", dataset="ml-100k") is None


def test_what_fits_is_run_in_order_and_what_does_not_is_not_started(store: RunStore) -> None:
    experiment = FakeExperiment()
    (known,) = execute(experiment, [Config("ml-1m", 0)], store=store)
    assert known is not None and known.environment["device"] == hardware()
    lines: list[str] = []
    slow = FakeExperiment(NAME="slow")
    published = make_record(
        experiment="slow",
        config={"dataset": "ml-1m", "seed": 7},
        cost={"wall_seconds": 1000.0},
        environment={"device": hardware()},
    )
    store.save(published)
    report = run_within(60, tasks_of(slow, 1) + tasks_of(experiment, 2, 1), store, say=lines.append)
    assert report.done == ["fake: ml-1m seed 2", "fake: ml-1m seed 1"] and experiment.calls == [0, 2, 1]
    assert report.too_long == ["slow: ml-1m seed 1"] and slow.calls == []
    assert str(report) == "2 run, 1 left, too long for the rest of the time"
    assert "no estimate" not in lines[0] and "left" in lines[0]


def test_without_an_estimate_a_run_starts_only_early(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 40.0, 60.0])  # the beginning, then each task
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    report = run_within(
        100, tasks_of(FakeExperiment(NAME="a"), 0) + tasks_of(FakeExperiment(NAME="b"), 0), store, say=lambda line: None
    )
    assert report.done == ["a: ml-1m seed 0"] and report.too_long == ["b: ml-1m seed 0"]


def test_the_end_of_the_time_stops_a_run_and_a_later_call_goes_on(store: RunStore) -> None:
    def act(config: Config, context: Context) -> None:
        mark = context.workdir / "checkpoint"
        if config.seed == 1 and not mark.exists():
            mark.write_text("half way")
            time.sleep(30)

    experiment = FakeExperiment(act)
    began = time.monotonic()
    report = run_within(1.5, tasks_of(experiment, 0, 1, 2), store, say=lambda line: None)
    assert time.monotonic() - began < 20
    assert (report.done, report.stopped, report.failed) == (["fake: ml-1m seed 0"], ["fake: ml-1m seed 1"], [])
    assert len(store.records()) == 1, "a run that was stopped has no record"
    again = run_within(60, tasks_of(experiment, 1, 2), store, say=lambda line: None)
    assert again.done == ["fake: ml-1m seed 1", "fake: ml-1m seed 2"]


def test_an_alarm_that_is_swallowed_rings_again(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "AGAIN", 0.3)
    swallowed: list[str] = []

    def act(config: Config, context: Context) -> None:
        for _ in range(2):
            try:
                time.sleep(4)
            except BaseException as error:  # as a library's callback does
                if swallowed:
                    raise
                swallowed.append(type(error).__name__)

    report = run_within(1.0, tasks_of(FakeExperiment(act), 0), store, say=lambda line: None)
    assert swallowed == ["OutOfTime"] and report.stopped == ["fake: ml-1m seed 0"] and not store.records()
    time.sleep(0.7)  # no alarm outlives its run: it would end this test


def test_a_failed_run_is_named_and_the_next_goes_on(store: RunStore) -> None:
    def act(config: Config, context: Context) -> None:
        if config.seed == 0:
            raise SeqRecError("no luck; try again")

    report = run_within(60, tasks_of(FakeExperiment(act), 0, 1), store, say=lambda line: None)
    assert report.failed == ["fake: ml-1m seed 0: no luck; try again"] and report.done == ["fake: ml-1m seed 1"]


def test_what_another_process_is_at_or_has_done_is_left_to_it(store: RunStore) -> None:
    experiment = FakeExperiment()
    held, done, free = tasks_of(experiment, 0, 1, 2)
    execute(experiment, [done.config], store=store)
    code = "import sys; from seqrec_lib.results import RunStore as S; lock = S(*sys.argv[1:3]).lock(sys.argv[3])\n"
    code += "with lock: print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(store.new), str(store.published), held.run_id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        report = run_within(60, [held, done, free], store, say=lambda line: None)
    finally:
        other.communicate("")
    assert report.elsewhere == [held.name, done.name] and report.done == [free.name] and experiment.calls == [1, 2]
    assert str(report) == "1 run, 2 left to another process"


def test_missing_runs_in_the_order_of_their_value(store: RunStore) -> None:
    def page(dataset: str) -> Page:
        return Page("accuracy", dataset, {"dataset": dataset, "models": ["popularity", "sasrec", "mamba4rec"]})

    tasks = missing_tasks([page("ml-1m"), page("demo"), page("ml-1m"), Page("audit", None, {})], store)
    names = [task.name.removeprefix("accuracy: ") for task in tasks]
    first = ["popularity seed 0", "sasrec seed 0", "mamba4rec seed 0", "sasrec seed 1", "mamba4rec seed 1"]
    assert names == [f"{dataset} {run}" for dataset in ("ml-1m", "demo") for run in first]


def test_pages_are_planned_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Any] = []
    monkeypatch.setattr(budget, "missing_tasks", lambda pages, store: planned.extend(pages) or [])
    pages = load_study(ROOT).select("paper", ["ml-1m"], ["latency", "audit"])
    run_missing(pages, 60, device="cuda", say=lambda line: None)
    assert [page.name for page in planned] == ["latency-ml-1m", "audit"]
    assert planned[0].parameters["device"] == "cuda" and "device" not in planned[1].parameters


def test_what_a_stopped_run_left_is_no_run_to_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQREC_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(budget, "missing_tasks", lambda pages, store: [])
    left = RunStore().workdir("0" * 16) / "process-0.json"
    left.write_text("{}")
    lines: list[str] = []
    run_missing([], 60, out=tmp_path / "new.tar", say=lines.append)
    assert lines[-1].endswith("not written, there is no new run")


def test_packs_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQREC_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(budget, "missing_tasks", lambda pages, store: tasks_of(FakeExperiment(), 0, 1))
    lines: list[str] = []
    out = tmp_path / "new.tar"
    report = run_missing([], 60, out=out, say=lines.append)
    assert len(report.done) == 2 and lines[-1] == f"{out}: 2 runs"
    other = RunStore(tmp_path / "elsewhere", tmp_path / "published")
    assert len(import_runs(other, out).added) == 2

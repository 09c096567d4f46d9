"""execute: reads what is there, runs what is not, keeps what ended, whatever happens to the rest."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import EXPERIMENTS, base, dependencies, get
from seqrec_lib.experiments.base import Context, Outcome, execute, key, raise_for_failures
from seqrec_lib.results import RunStore, plain
from seqrec_lib.results.provenance import ROOT
from tests.fakes import Config, FakeExperiment, make_record


def configs(*seeds: int) -> list[Config]:
    return [Config("demo", seed) for seed in seeds]


def test_runs_are_carried_out_once_and_read_afterwards(store: RunStore) -> None:
    experiment = FakeExperiment()
    first = execute(experiment, configs(0, 1, 1), store=store)
    again = execute(experiment, configs(1, 0, 2), store=store)
    assert experiment.calls == [0, 1, 2]
    assert [r.config["seed"] for r in first if r] == [0, 1, 1]
    assert again[:2] == [first[1], first[0]]
    assert first[0].status == "complete"
    assert first[0].cost["wall_seconds"] >= 0
    assert store.table(first[0], "ranks")["rank"].to_pylist() == [1, 1]


def test_rerun_makes_every_run_again_and_keeps_the_former_one_until_the_new_one_is_complete(store: RunStore) -> None:
    experiment = FakeExperiment()
    first = execute(experiment, configs(0, 1), store=store)
    assert execute(experiment, configs(0, 1), store=store, missing="skip", rerun=True) == first
    again = execute(experiment, configs(0, 1), store=store, rerun=True)
    assert experiment.calls == [0, 1, 0, 1]
    for before, after in zip(first, again, strict=True):
        assert (before.run_id, before.metrics) == (after.run_id, after.metrics)
        assert after.finished >= before.finished and store.find(after.run_id) == after
    experiment.act = Mock(side_effect=SeqRecError("no luck"))
    (failed,) = execute(experiment, configs(0), store=store, rerun=True)
    assert failed is not None and failed.error == "no luck"
    assert store.find(failed.run_id) == again[0]


def test_rerun_refuses_published_runs_before_it_begins_any(store: RunStore) -> None:
    experiment = FakeExperiment()
    execute(experiment, configs(1), store=RunStore(store.published, store.published))
    with pytest.raises(SeqRecError, match=r"demo seed 1 is a published run.*results recheck --run"):
        execute(experiment, configs(0, 1), store=store, rerun=True)
    assert experiment.calls == [1]


def test_failures_are_raised_for_unless_they_are_published_or_asked_to_be_passed_over(store: RunStore) -> None:
    def act(config: Config, context: Context) -> None:
        if config.seed:
            raise SeqRecError("no luck")

    records = execute(FakeExperiment(act), configs(0, 1, 2), store=store)
    with pytest.raises(SeqRecError, match=r"2 of 3 runs failed; demo seed 1: no luck; .* keep_going"):
        raise_for_failures(records, store)
    raise_for_failures(records, store, keep_going=True)
    raise_for_failures([records[0], None], store)
    raise_for_failures(records, RunStore(store.published, store.new))  # there they are published


def test_a_raised_revision_is_another_run(store: RunStore) -> None:
    experiment = FakeExperiment()
    execute(experiment, configs(0), store=store)
    experiment.number = 2
    execute(experiment, configs(0), store=store)
    assert experiment.calls == [0, 0]
    assert [r.revision for r in store.records()] == [1, 2]


def test_skip_runs_nothing_and_says_what_is_not_run(store: RunStore) -> None:
    experiment = FakeExperiment()
    execute(experiment, configs(0), store=store)
    records = execute(experiment, configs(0, 1), store=store, missing="skip")
    assert records[0] is not None
    assert records[1] is None
    assert experiment.calls == [0]
    with pytest.raises(SeqRecError, match="missing is 'no'; use run"):
        execute(experiment, configs(0), store=store, missing="no")


def test_a_failed_run_is_recorded_passed_over_and_tried_again(store: RunStore, capsys) -> None:
    def act(config: Config, context: Context) -> None:
        if config.seed == 1:
            raise RuntimeError("out of\nmemory")

    experiment = FakeExperiment(act)
    records = execute(experiment, configs(0, 1, 2), store=store)
    assert [r.status for r in records if r] == ["complete", "failed", "complete"]
    assert records[1].error == "RuntimeError: out of memory"
    assert "FAILED" in capsys.readouterr().err
    assert "in act" in (store.workdir(records[1].run_id) / "traceback.txt").read_text()
    assert execute(experiment, configs(1), store=store, missing="skip") == [records[1]]
    experiment.act = Mock(side_effect=ValueError("half \ud83d, bell \x1b]0;x\x07, é"))
    (record,) = execute(experiment, configs(1), store=store)
    assert record is not None and record.error == r"ValueError: half \ud83d, bell \x1b]0;x\x07, é"
    experiment.act = lambda config, context: None
    (record,) = execute(experiment, configs(1), store=store)
    assert record.complete
    assert store.find(record.run_id) == record


def test_an_expected_error_is_recorded_in_its_own_words(store: RunStore) -> None:
    act = Mock(side_effect=SeqRecError("no such data; fetch it"))
    (record,) = execute(FakeExperiment(act), configs(0), store=store)
    assert record.error == "no such data; fetch it"


def test_numbers_that_are_not_finite_make_a_failed_run(store: RunStore, monkeypatch) -> None:
    experiment = FakeExperiment()
    run = experiment.run

    def diverged(config: Config, context: Context):
        outcome = run(config, context)
        outcome.metrics["ht@10"] = float("nan")
        return outcome

    monkeypatch.setattr(experiment, "run", diverged)
    (record,) = execute(experiment, configs(0), store=store)
    assert record.status == "failed"
    assert "metrics['ht@10'] is nan" in (record.error or "")


def test_an_interruption_keeps_finished_runs_and_the_checkpoints(store: RunStore) -> None:
    def act(config: Config, context: Context) -> None:
        checkpoint = context.workdir / "checkpoint"
        if config.seed == 1 and not checkpoint.exists():
            checkpoint.write_text("half way")
            raise KeyboardInterrupt

    experiment = FakeExperiment(act)
    with pytest.raises(KeyboardInterrupt):
        execute(experiment, configs(0, 1, 2), store=store)
    assert [r.config["seed"] for r in store.records()] == [0]
    records = execute(experiment, configs(0, 1, 2), store=store)
    assert [r is not None and r.complete for r in records] == [True] * 3
    assert experiment.calls == [0, 1, 1, 2]


def test_a_run_that_another_one_is_at_is_waited_for_then_read(store: RunStore, monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("seqrec_lib.progress.Reporter.line", lambda self, line: lines.append(line))
    began, go_on = threading.Event(), threading.Event()

    def slow(config: Config, context: Context) -> None:
        began.set()
        assert go_on.wait(20)

    first, second = FakeExperiment(slow), FakeExperiment()
    found: list = []
    one = threading.Thread(target=lambda: execute(first, configs(0), store=store, progress=False))
    two = threading.Thread(target=lambda: found.extend(execute(second, configs(0), store=store)))
    one.start()
    assert began.wait(20)
    two.start()
    while not any("waiting" in line for line in lines):
        assert two.is_alive()
        time.sleep(0.01)
    go_on.set()
    one.join(20)
    two.join(20)
    assert second.calls == []
    assert found == [store.find(key(first, Config("demo", 0)))]


def test_two_processes_carry_out_each_run_once(store: RunStore, tmp_path: Path) -> None:
    code = """
import sys, time
from seqrec_lib.experiments.base import execute
from seqrec_lib.results import RunStore
from tests.fakes import Config, FakeExperiment
experiment = FakeExperiment(lambda config, context: time.sleep(0.05))
execute(experiment, [Config("demo", seed) for seed in range(8)], store=RunStore(sys.argv[1], sys.argv[2]))
print(*experiment.calls)
"""
    command = [sys.executable, "-c", code, str(store.new), str(store.published)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    calls = [call for process in processes for call in process.communicate()[0].split()]
    assert sorted(calls) == [str(seed) for seed in range(8)]
    assert all(record.complete for record in store.records())


def test_an_unpublished_run_is_made_again_by_other_code(store: RunStore, monkeypatch) -> None:
    experiment = FakeExperiment()
    (first,) = execute(experiment, configs(0), store=store)
    assert execute(experiment, configs(0), store=store) == [first] and experiment.calls == [0]
    monkeypatch.setattr(base, "code_of", lambda modules: "feedfeedfeedfeed")
    assert execute(experiment, configs(0), store=store, missing="skip") == [None]
    (second,) = execute(experiment, configs(0), store=store)
    assert experiment.calls == [0, 0]
    assert second is not None and second.code == "feedfeedfeedfeed"
    assert store.find(second.run_id) == second


def test_a_published_run_stays_and_edited_code_has_a_run_of_its_own(store: RunStore, monkeypatch) -> None:
    experiment = FakeExperiment()
    (first,) = execute(experiment, configs(0), store=store)
    shutil.copytree(store.new, store.published, ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(base, "code_of", lambda modules: "feedfeedfeedfeed")
    assert execute(experiment, configs(0), store=store) == [first]  # the goldens hold: it is no edited code
    monkeypatch.setattr(base, "edited", lambda modules: ("seqrec_lib.train.losses",))
    assert execute(experiment, configs(0), store=store, missing="skip") == [first]
    (second,) = execute(experiment, configs(0), store=store)
    assert (second.edited, first.edited) == ("feedfeedfeedfeed", None)
    assert second.run_id != first.run_id and store.find(first.run_id) == first
    assert execute(experiment, configs(0), store=store, missing="skip") == [second]


def test_what_other_code_left_half_done_is_not_gone_on_with(store: RunStore, monkeypatch) -> None:
    def break_off(config: Config, context: Context) -> None:
        (context.workdir / "checkpoint.pt").write_text("half")
        raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        execute(FakeExperiment(break_off), configs(0), store=store)
    look = FakeExperiment(lambda config, context: seen.append((context.workdir / "checkpoint.pt").exists()))
    execute(look, configs(0), store=store)
    with pytest.raises(KeyboardInterrupt):
        execute(FakeExperiment(break_off), configs(1), store=store)
    monkeypatch.setattr(base, "code_of", lambda modules: "feedfeedfeedfeed")
    execute(look, configs(1), store=store)
    assert seen == [True, False]


def test_a_run_on_other_data_is_made_again_and_a_published_one_refused(store: RunStore, monkeypatch) -> None:
    experiment = FakeExperiment()
    monkeypatch.setattr(
        experiment, "run", lambda config, context: Outcome({"name": "ml-1m", "split_sha256": "a" * 64}, {"x": 1.0})
    )
    monkeypatch.setattr(dependencies, "installed_split", lambda name: "a" * 64)
    (first,) = execute(experiment, configs(0), store=store)
    assert execute(experiment, configs(0), store=store) == [first]
    monkeypatch.setattr(dependencies, "installed_split", lambda name: "b" * 64)
    monkeypatch.setattr(
        experiment, "run", lambda config, context: Outcome({"name": "ml-1m", "split_sha256": "b" * 64}, {"x": 2.0})
    )
    (second,) = execute(experiment, configs(0), store=store)
    assert second is not None and second.metrics == {"x": 2.0}
    shutil.copytree(store.new, store.published, ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(dependencies, "installed_split", lambda name: "c" * 64)
    with pytest.raises(SeqRecError, match=r"c{64}.*b{64}"):
        execute(experiment, configs(0), store=store)
    assert execute(experiment, configs(0), store=store, missing="skip") == [second]  # pages show records alone


def test_the_installed_split_follows_the_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEQREC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    assert dependencies.installed_split("ml-latest-small") is None and dependencies.installed_split("nothing") is None
    shutil.copytree(ROOT / "tests/golden/raw/first", tmp_path / "data")
    first = dependencies.installed_split("ml-latest-small")
    ratings = tmp_path / "data/ml-latest-small/ratings.csv"
    lines = ratings.read_text().splitlines()
    ratings.write_text("\n".join([lines[0], *lines[200:]]) + "\n")
    assert first is not None and dependencies.installed_split("ml-latest-small") not in {None, first}
    assert dependencies.installed_split("demo") == dependencies.installed_split("demo") is not None


def test_a_timing_under_other_limits_is_a_run_of_its_own(store: RunStore, monkeypatch) -> None:
    experiment = FakeExperiment()
    experiment.TIMED = True  # type: ignore[attr-defined]
    limits = {"cores": 2, "core_quota": None}
    monkeypatch.setattr("seqrec_lib.results.limits.timing_limits", lambda: limits)
    outcome = Outcome({"name": "ml-1m"}, {"x": 1.0}, environment=dict(limits))
    monkeypatch.setattr(experiment, "run", lambda config, context: outcome)
    (wide,) = execute(experiment, configs(0), store=store)
    limits["cores"] = 1
    outcome.environment["cores"] = 1
    (narrow,) = execute(experiment, configs(0), store=store)
    assert wide.run_id != narrow.run_id and narrow.hardware == f"{wide.hardware}, 1 usable core"
    assert execute(experiment, configs(0), store=store, missing="skip") == [narrow]
    limits["cores"] = 2
    assert execute(experiment, configs(0), store=store, missing="skip") == [wide]


def test_a_run_kept_off_the_gpu_is_none_of_it(store: RunStore, monkeypatch) -> None:
    monkeypatch.setattr(base, "environment", lambda: {"device": "a GPU", "device_type": "cuda", "cpu": "a CPU"})
    cases: list[tuple[int, base.Device, tuple[str, str]]] = [
        (0, "cpu", ("a CPU", "cpu")),
        (1, "auto", ("a GPU", "cuda")),
    ]
    for seed, device, expected in cases:
        (record,) = execute(FakeExperiment(), configs(seed), store=store, device=device)
        assert (record.environment["device"], record.environment["device_type"]) == expected


def test_progress_is_plain_lines_where_there_is_no_terminal(store: RunStore, capsys) -> None:
    def act(config: Config, context: Context) -> None:
        context.report("epoch 1/2")
        context.report_share(0.5, "never shown in plain lines")

    execute(FakeExperiment(act), configs(0), store=store)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["[1/1] fake: demo seed 0", "[1/1] fake: demo seed 0: epoch 1/2"]
    assert lines[2].startswith("[1/1] fake: demo seed 0: done in ")
    assert lines[3:] == ["1 run: 1 run"]
    execute(FakeExperiment(act), configs(1), store=store, progress=False)
    assert capsys.readouterr().err == ""


def test_unknown_experiment_names_a_close_one() -> None:
    with pytest.raises(SeqRecError, match="did you mean 'accuracy'"):
        get("acuracy")


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from seqrec_lib.experiments import EXPERIMENTS, get;"
        "[get(name) for name in EXPERIMENTS];"
        "print(get('accuracy').plan({'dataset': 'demo', 'models': ['sasrec'], 'seeds': [0]}));"
        "assert not {'torch', 'pandas', 'papermill'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert EXPERIMENTS


CONFIG = plain(get("accuracy").plan({"dataset": "ml-1m", "models": ["sasrec"], "seeds": [0]})[0])


def test_a_records_configuration_is_its_experiments() -> None:
    config = base.config_of(make_record(config=CONFIG))
    assert isinstance(config, get("accuracy").Config) and plain(config) == CONFIG


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seed": "0"}, r"seed is '0'; it should be a valid integer"),
        ({"mood": 1}, r"mood is 1; there is no such field"),
        (
            {"training": {**CONFIG["training"], "epochs": 0}},
            r"training.epochs is 0; it should be greater than or equal",
        ),
        ({"training": {**CONFIG["training"], "precision": "fp8"}}, r"training.precision is 'fp8'; known are fp32"),
    ],
)
def test_a_configuration_of_another_version_is_refused_with_its_value_and_a_remedy(change, complaint) -> None:
    record = make_record(config=CONFIG | change)
    with pytest.raises(SeqRecError, match=rf"run {record.run_id} .*: {complaint}.*; use the version .*c0ffee"):
        base.config_of(record)


def test_a_configuration_that_lacks_a_field_names_it() -> None:
    record = make_record(config={name: value for name, value in CONFIG.items() if name != "model"})
    with pytest.raises(SeqRecError, match=r"model is missing; use the version"):
        base.config_of(record)

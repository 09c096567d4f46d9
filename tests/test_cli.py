"""The command line: one line and status 2 for what is expected, 130 for Ctrl-C, an answer at once to
--help."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from seqrec_lib import cli
from seqrec_lib.data import clean, get, load, orders, read
from seqrec_lib.errors import SeqRecError
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import Page, Result
from seqrec_lib.study.execution import Failure
from tests.fakes import make_project, make_record

COMMANDS = ["study", "book", "status", "doctor", "recommend", "data", "results"]


def seqrec(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the study's own accuracy parameters, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEQREC_RUNS", raising=False)
    cell = (
        'dataset: str = "demo"\nmodels: list[str] = ["sasrec"]\nseeds: list[int] = [0, 1]\n'
        'overrides: dict = {}\nmissing: str = "run"  # run | skip\n'
    )
    study = "profiles:\n  demo:\n    - notebook: accuracy\n      datasets: [demo]\n"
    return make_project(tmp_path, {"accuracy": [cell]}, study)


def test_help_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "seqrec_lib", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "numpy", "pandas", "pyarrow", "papermill", "transformers", "matplotlib"}
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "--profile", "dmo"], "unknown profile 'dmo'; did you mean 'demo'?"),
        (["study", "--missing", "no"], "--missing is 'no'; use run or skip"),
        (["study", "--device", "tpu"], "--device is 'tpu'; use auto or cpu or cuda"),
        (["study", "--time-budget", "soon"], "time budget 'soon' is no duration; write 90s, 9m or 1h30m"),
        (["study", "--out", "new.tar"], "--out goes with --time-budget"),
        (["study", "--time-budget", "9m", "--missing", "skip"], "--missing skip carries out nothing"),
        (["study", "--time-budget", "9m", "--out", "."], "cannot write .: it is a folder"),
        (["study", "--time-budget", "9m", "--out", "/dev/null/x.tar"], "/dev/null is no folder that can be written to"),
        (["study", "--dataset", "ml-1m"], "profile 'demo': unknown page of data set 'ml-1m'"),
        (["data", "stats", "ml-1n"], "unknown data set 'ml-1n'; did you mean ml-1m"),
        (["data", "fetch", "nothing"], "unknown data set 'nothing'"),
        (["results", "import", "none.tar"], "none.tar: cannot be read as a tar"),
        (["results", "export", "out.tar"], "no run to export"),
        (["results", "export", "."], "it is a folder; name a file"),
        (["results", "list", "-e", "acuracy"], "unknown experiment 'acuracy'; did you mean 'accuracy'"),
        (["results", "list", "-e", "**a"], "unknown experiment '**a'"),
        (["results", "publish", "-e", "typo"], "unknown experiment 'typo'"),
        (["results", "recheck", "-d", "ml1m", "--dry-run"], "unknown data set 'ml1m'; did you mean 'ml-1m'"),
        (["status", "-d", "ml1m"], "unknown data set 'ml1m'"),
        (["results", "publish"], "is in no git checkout"),
    ],
)
def test_expected_errors_are_one_line_and_status_2(project: Path, arguments: list[str], message: str) -> None:
    done = seqrec(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (SeqRecError("a\nb"), 2, "error: a b\n"),
        (KeyboardInterrupt(), 130, "finished runs are kept; the same command goes on from here"),
        (OSError(errno.ENOSPC, "No space left", "x"), 2, "error: the disk is full (x); free space"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "error: x: Permission denied; permit it"),
    ],
)
def test_what_is_raised_ends_as_documented(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, message: str
) -> None:
    monkeypatch.setattr("seqrec_lib.study.build_book", Mock(side_effect=error))
    done = seqrec("book")
    assert done.exit_code == status
    assert message in done.stderr


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrec_lib.study.build_book", lambda **options: 1 / 0)
    assert isinstance(seqrec("book").exception, ZeroDivisionError)


def test_study_passes_its_options_and_lists_what_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    def run_pages(study: object, pages: list[Page], missing: str, **options: object) -> Result:
        asked.extend([{page.dataset for page in pages}, missing, options["build"]])
        failure = Failure(Page("accuracy", "demo", {}), "no luck; try again", tmp_path / "copy.ipynb")
        return Result([failure], ["accuracy-demo: demo sasrec seed 0: boo"], tmp_path / "index.html")

    monkeypatch.setattr("seqrec_lib.study.run_pages", run_pages)
    done = seqrec("study", "-p", "paper", "-d", "ml-1m", "-d", "ml-100k")
    assert asked == [{"ml-1m", "ml-100k", None}, "run", True]
    assert done.exit_code == 1
    assert f"The book: file://{tmp_path}/index.html" in done.stdout
    assert "accuracy-demo: no luck; try again" in done.stderr
    assert f"executed copy: {tmp_path}/copy.ipynb" in done.stderr
    assert "run accuracy-demo: demo sasrec seed 0: boo" in done.stderr


def test_status_counts_what_the_study_plans(project: Path) -> None:
    from seqrec_lib.experiments import accuracy
    from seqrec_lib.experiments.base import key, look_up
    from seqrec_lib.results.record import plain

    configs = accuracy.plan({"dataset": "demo", "models": ["sasrec"], "seeds": [0, 1]})
    common = {
        "dataset": {"name": "demo"},
        "revision": accuracy.revision(configs[0]),
        "code": look_up(accuracy, configs[0], RunStore()).code,
        "environment": {"device": "a CPU"},
    }
    done, failed = (make_record(config=plain(config), **common) for config in configs)
    assert done.run_id == key(accuracy, configs[0])
    store = RunStore()
    store.save(done)
    store.save(make_record(config=plain(configs[1]), **common, status="failed", error="out of memory"))
    store.save(make_record())
    text = seqrec("status").stdout
    row = next(line for line in text.splitlines() if "accuracy-demo" in line)
    assert row.split() == ["demo", "accuracy-demo", "2", "1", "0", "1", "0", "a", "CPU"]
    assert "failed: accuracy-demo: demo sasrec seed 1: out of memory" in text
    assert "1 further runs are in no profile" in text
    assert failed.run_id in seqrec("results", "list").stdout


def test_export_and_import_by_command(project: Path) -> None:
    RunStore().save(make_record())
    assert "out.tar: 1 runs" in seqrec("results", "export", "out.tar").stdout
    assert "0 added, 1 known, 0 refused" in seqrec("results", "import", "out.tar").stdout
    (project / "other.tar").write_bytes(b"\0" * 10240)
    assert "0 added, 0 known, 0 refused" in seqrec("results", "import", "other.tar").stdout


def test_recommend_prints_titles_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def recommend(titles: list[str], dataset: str, model: str, k: int, **how: object) -> list[tuple[str, float]]:
        assert (titles, dataset, model, k, how["train"]) == (["A", "B"], "demo", "sasrec", 2, False)
        return [("Alien [bold]", 1.5), ("Brazil", 0.25)]

    monkeypatch.setattr("seqrec_lib.recommend.recommend", recommend)
    text = seqrec("recommend", "A", "B", "-k", "2").stdout
    assert "Alien [bold]" in text
    assert text.index("Alien") < text.index("Brazil")


def test_doctor_and_data_list_answer_without_data(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQREC_DATA", str(project / "nowhere"))
    text = seqrec("doctor").stdout
    for word in ("torch", "mamba-ssm", "device", "ml-1m", "not found", "pip install '.[gpu]'", "GB free"):
        assert word in text
    assert "ml-1m" in seqrec("data", "list").stdout


def test_the_orders_of_a_data_set_and_whose_order_a_split_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path))
    text = seqrec("data", "orders", "demo").stdout
    found, sequences = orders.in_every_order("demo", clean(get("demo"), read("demo"))), load("demo")
    for order, own in found.items():
        if order != "true":
            apart = orders.difference(found["true"], own)
            assert re.search(rf"true +{order} +{apart.test:,} \({apart.test / 1000:.1%}\)", text)
    split = tmp_path / "split.csv"
    labels, targets = sorted(set(read("demo").users.tolist())), sequences.split("test").targets
    pairs = [(user, sequences.item_labels[item]) for user, item in zip(labels, targets, strict=True)]
    split.write_text("".join(f"{user},{item}\n" for user, item in pairs))
    answer = seqrec("data", "whose-order", str(split), "--dataset", "demo")
    assert answer.exit_code == 0
    assert "demo, 1,000 users" in answer.stdout and re.search(r"true +0 +0.0%", answer.stdout)
    split.write_text("1,2,3\n")
    bad = seqrec("data", "whose-order", str(split), "--dataset", "demo")
    assert bad.exit_code == 2 and len(bad.stderr.splitlines()) == 1 and "3 fields on line 1" in bad.stderr


def test_stats_of_the_demo_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path))
    text = seqrec("data", "stats", "demo").stdout
    assert "interactions" in text
    assert "split hash" in text

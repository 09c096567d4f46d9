"""study.yml is checked before anything starts; pages are executed one by one, and a failed one stops no
other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from filelock import FileLock

from seqrec_lib.errors import SeqRecError
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import Result, load_study, read_yaml, run_pages
from seqrec_lib.study.execution import execute_page
from tests.fakes import make_project

PARAMETERS = 'dataset: str = "demo"  # a data set\nlevel: int = 1\nmissing: str = "run"  # run | skip\n'
GOOD = """
profiles:
  demo:
    - notebook: bad
      datasets: [demo]
    - notebook: good
      datasets: [demo]
      parameters: {level: 2}
  paper:
    - notebook: good
      datasets: {ml-1m: {level: 3}, ml-100k: }
    - notebook: plain
"""
WAY = """
import json, pathlib
from ipykernel.connect import get_connection_info
connection = json.loads(get_connection_info())
print(connection["transport"], pathlib.Path(connection["ip"]).parent)
"""
NOTEBOOKS = {
    "good": [PARAMETERS, "print(dataset, level, missing)", WAY],
    "bad": [PARAMETERS, WAY, "from seqrec_lib.errors import SeqRecError\nraise SeqRecError('no luck; try again')"],
    "plain": ["size: float = 1.0\n"],
}


def _nested_aliases(depth: int) -> str:
    """Ten values, ten times ten, ...: a few lines that stand for 10^depth values."""
    lines = ["a0: &a0 [" + "x, " * 10 + "]"]
    lines += [f"a{n}: &a{n} [" + f"*a{n - 1}, " * 10 + "]" for n in range(1, depth)]
    return "\n".join(lines)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return make_project(tmp_path, NOTEBOOKS, GOOD)


def run_demo(**how: Any) -> Result:
    study = load_study()
    return run_pages(study, study.select("demo"), **how)


def printed(copy: Path) -> str:
    cells = nbformat.read(copy, as_version=4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


def test_pages_have_names_and_parameters(project: Path) -> None:
    study = load_study()
    assert [page.name for page in study.pages()] == ["bad-demo", "good-demo", "good-ml-1m", "good-ml-100k", "plain"]
    assert dict(study.pages()[2].parameters) == {"dataset": "ml-1m", "level": 3}
    assert [p.name for p in study.select("paper", ["ml-100k"])] == ["good-ml-100k", "plain"]
    with pytest.raises(SeqRecError, match="unknown profile 'papr'; did you mean 'paper'"):
        study.select("papr")
    with pytest.raises(SeqRecError, match=r"profile 'paper': unknown page of data set 'ml-1k'; did you mean .*'ml-1m'"):
        study.select("paper", ["ml-1k"])
    assert [p.name for p in study.select("paper", notebooks=["good"])] == ["good-ml-1m", "good-ml-100k"]
    assert [p.name for p in study.select("paper", ["ml-1m"], ["good"])] == ["good-ml-1m"]
    with pytest.raises(SeqRecError, match=r"profile 'paper': unknown page of notebook 'goood'; did you mean 'good'"):
        study.select("paper", notebooks=["goood"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profiles: {demo: [{notebook: goood, datasets: [demo]}]}", "unknown notebook 'goood'"),
        (
            "profiles: {demo: [{notebook: good, datasets: [demmo]}]}",
            "unknown value of dataset 'demmo'; did you mean 'demo'",
        ),
        ("profiles: {demo: [{notebook: good}]}", "no data set is given"),
        ("profiles: {demo: [{notebook: plain, datasets: [demo]}]}", "no parameter 'dataset'"),
        (
            "profiles: {demo: [{notebook: plain, parameters: {sise: 1}}]}",
            "unknown parameter 'sise'; did you mean 'size'",
        ),
        ("profiles: {demo: [{notebook: plain, parameters: {size: a}}]}", "size is 'a'; it should be a valid number"),
        ("profiles: {demo: [{notebook: plain, datsets: []}]}", "unknown key 'datsets'"),
        ("profiles: {demo: [{notebook: plain}, {notebook: plain}]}", "the page 'plain' twice"),
        ("profiles: {demo: [{notebook: plain}], demo: []}", "key 'demo' occurs twice"),
        (
            "profiles: {demo: [{notebook: good, datasets: [demo], parameters: {level: 1, level: 2}}]}",
            "'level' occurs twice",
        ),
        ("profiles: {demo: [{notebook: good, datasets: [[demo]]}]}", "datasets a list of names"),
        ("profiles: {demo: [{notebook: good, datasets: {demo: [1]}}]}", "data set 'demo' has .1.; expected a mapping"),
        ("profiles: {demo: [{notebook: good, datasets: [demo], parameters: {1: 2}}]}", "parameters is a mapping"),
        ("profiles: {demo: [plain]}", "names no notebook"),
        ("profiles: {demo: plain}", "expected a list"),
        ("profile: {}", "expected one key 'profiles'"),
        ("profiles: [", "no valid YAML"),
        ("profiles: 2024-13-01", "no valid YAML"),
        ("[" * 5000, "no valid YAML"),
        ("profiles: {demo: [{notebook: plain, parameters: &p {size: *p}}]}", "the alias of line 1 is a part of itself"),
        ("profiles: &p [*p]", "the alias of line 1 is a part of itself"),
        (_nested_aliases(7), "aliases stand for more than 100,000 values"),
        ("", "expected one key 'profiles'"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_starts(project: Path, text: str, message: str) -> None:
    (project / "study.yml").write_text(text)
    with pytest.raises(SeqRecError, match=message):
        run_demo(say=lambda line: pytest.fail(f"started: {line}"))
    assert not (project / "_build" / "executed").exists()


def test_a_failed_notebook_does_not_stop_the_others(project: Path) -> None:
    said: list[str] = []
    result = run_demo(build=False, say=said.append)
    (failure,) = result.failures
    assert (failure.page.name, failure.reason) == ("bad-demo", "no luck; try again")
    assert failure.copy == project / "_build/executed/bad-demo.failed.ipynb"
    assert failure.copy.is_file()
    assert not (project / "_build/executed/bad-demo.ipynb").exists()  # no book can take it for a page
    assert not result.ok
    said_by_good, way_of_good = printed(project / "_build/executed/good-demo.ipynb").splitlines()
    assert said_by_good == "demo 2 run"
    assert not (project / "_build/executed/good-ml-1m.ipynb").exists()  # build=False leaves other pages alone
    assert "bad-demo: FAILED: no luck; try again" in said
    if not hasattr(socket, "AF_UNIX"):
        return
    # A port that another kernel took first would leave this one alive and silent until papermill's limit: none is used.
    ways = [way.split() for way in (way_of_good, *printed(failure.copy).splitlines())]
    assert [transport for transport, _ in ways] == ["ipc", "ipc"] and len({folder for _, folder in ways}) == 2
    assert not any(Path(folder).exists() for _, folder in ways)  # gone with the kernels


def test_a_page_waits_for_another_process_and_its_progress_is_passed_on_as_it_comes(project: Path) -> None:
    code = """
from seqrec_lib.experiments.base import execute
from seqrec_lib.results import RunStore
from tests.fakes import Config, FakeExperiment
run = FakeExperiment(lambda config, context: context.report("epoch 1/1"))
_ = execute(run, [Config("demo")], store=RunStore("new", "published"), missing=missing)
"""
    make_project(project, {"good": [PARAMETERS.replace('"run"', '"skip"'), code]}, GOOD)  # asked for below: to run
    said: list[str] = []
    (project / "_build/executed").mkdir(parents=True)
    lock = FileLock(project / "_build/executed/.good-demo.lock", thread_local=False)
    lock.acquire()

    def say(line: str) -> None:
        said.append(line)
        lock.release()

    page = load_study().select("demo")[1]
    assert execute_page(project, page, "run", {}, say) is None
    assert said[0] == "good-demo: another process is at it; waiting"
    assert said[1:3] == ["  [1/1] fake: demo seed 0", "  [1/1] fake: demo seed 0: epoch 1/1"]
    copy = nbformat.read(project / "_build/executed/good-demo.ipynb", as_version=4)
    outputs = copy.cells[-1].outputs
    assert len(outputs) == 1  # one display, updated in place, without a widget
    assert list(outputs[0].data) == ["text/plain"]
    assert outputs[0].data["text/plain"].endswith("1 run: 1 run")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_an_interruption_ends_the_kernel_too(project: Path, sign: signal.Signals) -> None:
    """A signal to the study alone, as a scheduler sends it: papermill and its kernel must not go on."""
    wait = f"""
import os, pathlib, time
pathlib.Path({str(project / "pid")!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    make_project(project, {"good": [PARAMETERS, wait], "bad": [PARAMETERS]}, GOOD)
    # a shell's background job ignores SIGINT, and so would its children
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from seqrec_lib.cli import main; main()"
    command = [sys.executable, "-c", code, "study", "--no-book"]
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True)
    pid = project / "pid"
    deadline = time.monotonic() + 120
    while not (pid.is_file() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(sign)
    error = process.communicate(timeout=120)[1]
    if sign != signal.SIGKILL:
        assert process.returncode == 130, error
        assert "finished runs are kept; the same command goes on from here" in error
    kernel = int(pid.read_text())
    while _alive(kernel) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(kernel)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_studys_own_file_is_valid() -> None:
    study = load_study(ROOT)
    assert set(study.profiles) == {"demo", "paper", "gpu"}
    paper = {page.name: page for page in study.profiles["paper"]}
    for page in study.profiles["gpu"]:  # what the book shows of such a page is the paper's, with the GPU's beside it
        assert page.parameters["device"] == "cuda" and page.name in paper
    assert {page.dataset for page in study.profiles["demo"]} <= {"demo", None}


def test_yaml_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SeqRecError, match="cannot be read"):
        read_yaml(tmp_path / "none.yml")


def test_parameters_that_do_not_go_together_are_said_before_any_page_starts(project: Path) -> None:
    cell = 'dataset: str = "demo"\nmodels: list[str] = ["sasrec"]\nseeds: list[int] = [0]\noverrides: dict = {}\n'
    study = """
profiles:
  demo:
    - {notebook: plain}
    - {notebook: accuracy, datasets: [demo], parameters: {overrides: {n_heads: 3}}}
"""
    make_project(project, {"accuracy": [cell]}, study)
    with pytest.raises(SeqRecError, match="page 'accuracy-demo': n_heads is 3; it should divide d_model"):
        run_demo(say=lambda line: pytest.fail(f"started: {line}"))

"""Why a page failed is said in one line, also where nothing could write it down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import execution
from seqrec_lib.study.execution import execute_page
from seqrec_lib.study.plans import Page
from tests.fakes import make_project


def reason_of(root: Path, cell: str) -> str:
    make_project(root, {"one": ["x: int = 1  # a number", cell]})
    failure = execute_page(root, Page("one", None, {}), "run", {}, lambda line: None)
    assert "\n" not in failure.reason
    return failure.reason


def test_a_killed_kernel_and_a_killed_papermill_are_called_so(tmp_path: Path) -> None:
    assert "kernel was killed" in reason_of(tmp_path / "a", "import os; os.kill(os.getpid(), 9)")
    assert "papermill was killed (SIGKILL" in reason_of(tmp_path / "b", "import os; os.kill(os.getppid(), 9)")


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = reason_of(tmp_path / "a", "raise SystemExit('OSError: [Errno 28] No space left on device')")
    assert "No space left" in said  # of the notebook itself: its own error
    log, copy = tmp_path / "log", tmp_path / "copy"
    log.write_text("Traceback\nOSError: [Errno 28] No space left on device\nsomething later\n")
    assert execution._reason(copy, log, 1).startswith("the disk is full")
    log.write_text("")
    assert execution._reason(copy, log, 3) == "papermill ended with status 3 and without a word"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    assert execution._reason(copy, log, 1).startswith("the disk is full")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{}", '{"cells": 3}', '{"cells": [1]}', "\0"])
def test_a_copy_that_is_no_notebook_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "copy").write_text(text)
    (tmp_path / "log").write_text("the last line\n")
    assert execution._reason(tmp_path / "copy", tmp_path / "log", 1) == "the last line"


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small disk, which takes root")
def test_the_study_on_a_tiny_disk_ends_in_one_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        make_project(disk, {"one": ["x: int = 1  # a number"]}, "profiles: {demo: [{notebook: one}]}\n")
        for name in ("book", "_config.yml"):
            (disk / name).symlink_to(ROOT / name)
        # no room for an executed copy; then for that, but not for the book's sources
        for left, command in ((0, ["study", "-p", "demo", "--no-book"]), (150_000, ["book"])):
            (disk / "filler").write_bytes(b"")
            (disk / "filler").write_bytes(b"\0" * (shutil.disk_usage(disk).free - left))
            done = subprocess.run(
                [sys.executable, "-m", "seqrec_lib", *command],
                cwd=disk, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
            )  # fmt: skip
            assert done.returncode in {1, 2}
            assert "Traceback" not in done.stderr
            assert "disk is full" in done.stderr + done.stdout
    finally:
        subprocess.run(["umount", str(disk)], check=True)

"""Executing one page: papermill in a process of its own, its progress passed on, its failure told in one line.

The executed copy is written to ``_build/executed`` after each cell, so it also shows where a failed one stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from seqrec_lib import parameters
from seqrec_lib.errors import SeqRecError
from seqrec_lib.study.plans import Page
from seqrec_lib.validation import read_json

NEEDED = 1_000_000  # bytes: an executed copy takes about as much


@dataclass(frozen=True)
class Failure:
    """A notebook that failed: its page, why in one line, and its executed copy."""

    page: Page
    reason: str
    copy: Path


class Stopped(BaseException):
    """Another thread wants this page to end; no `Exception`, as it is no failure of the page."""


def execute_page(
    root: Path,
    page: Page,
    missing: str,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    stop: threading.Event | None = None,
) -> Failure | None:
    """Execute one page by papermill in a process of its own; ``stop``, once set, ends it by `Stopped`.

    The copy is ``_build/executed/<page>.running.ipynb`` meanwhile, then ``<page>.ipynb``, or
    ``<page>.failed.ipynb``: a book that is built at the same time never takes up half a page. Another process
    at the same page is waited for.
    """
    folder = root / "_build" / "executed"
    names = (".ipynb", ".running.ipynb", ".failed.ipynb", ".log", ".progress")
    good, copy, bad, log, progress = (folder / f"{page.name}{ending}" for ending in names)
    source = root / "notebooks" / f"{page.notebook}.ipynb"
    values = dict(page.parameters)
    known = parameters.schema(source)
    if "missing" in known:
        values["missing"] = missing
    if "keep_going" in known:  # failed runs are counted when all pages have been rendered
        values.setdefault("keep_going", True)
    command = [sys.executable, "-m", "seqrec_lib.study.papermill_job", str(source), str(copy), str(root)]
    command += [json.dumps(values)]
    variables = {
        **os.environ,
        # a kernel "python3" in the user's home may be another Python; the environment's own comes first
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "SEQREC_PROGRESS": str(progress),
        **environment,
    }
    with _lock(folder / f".{page.name}.lock", page.name, say):
        for path in (copy, bad, log, progress):
            path.unlink(missing_ok=True)
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=root, env=variables)
            try:
                for line in _lines_while(process, progress, stop):
                    say(f"  {line}")
            except BaseException:
                _end(process)
                raise
            finally:
                progress.unlink(missing_ok=True)
        if process.returncode == 0:
            log.unlink()
            copy.replace(good)
            return None
        reason = _reason(copy, log, process.returncode)
        good.unlink(missing_ok=True)
        return Failure(page, reason, copy.replace(bad) if copy.is_file() else log)


def _lock(path: Path, name: str, say: Callable[[str], None]) -> AcquireReturnProxy:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        say(f"{name}: another process is at it; waiting")
        return lock.acquire()


def _lines_while(process: subprocess.Popen[bytes], path: Path, stop: threading.Event | None) -> Iterator[str]:
    """Lines that the kernel appends to ``path``, as they come, until the process ends or ``stop`` is set."""
    position, ended = 0, False
    while not ended:
        if stop is not None and stop.is_set():
            raise Stopped
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
            ended = True
        if path.is_file():
            with path.open("rb") as stream:
                stream.seek(position)
                text = stream.read()
            whole = text[: text.rfind(b"\n") + 1]
            position += len(whole)
            yield from whole.decode("utf-8", "replace").splitlines()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End papermill with its kernel: ask first, so that it takes the kernel along."""
    for sign, patience in ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        if process.poll() is None:
            process.send_signal(sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=patience)


def _reason(copy: Path, log: Path, status: int) -> str:
    """Why a notebook failed, in one line: the error in its executed copy, a signal, a full disk, or the log's last
    line."""
    for output in (output for cell in _cells(copy) for output in cell.get("outputs", [])):
        if output.get("output_type") == "error":
            text = " ".join(str(output["evalue"]).split())
            return text if output["ename"] == "SeqRecError" else f"{output['ename']}: {text}"
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if "Kernel died" in text or "DeadKernelError" in text:
        return "the notebook's kernel was killed (out of memory?); free memory, or use smaller batches"
    if status < 0:
        return f"papermill was killed ({signal.Signals(-status).name}; out of memory?); free memory, then repeat"
    if "No space left on device" in text or shutil.disk_usage(log.parent).free < NEEDED:
        return f"the disk is full ({log.parent}); free space, then repeat the command"
    return text.splitlines()[-1].strip() if text else f"papermill ended with status {status} and without a word"


def _cells(copy: Path) -> list[dict[str, Any]]:
    try:
        cells = read_json(copy, "")["cells"]
        return [cell for cell in cells if isinstance(cell, dict)]
    except (SeqRecError, KeyError, TypeError):
        return []

"""Executing many pages: those that compute one after another, those that only read records a few at a time.

A page that computes has the machine to itself, as its times would mean nothing otherwise. Rendering a page is mostly
the start of a kernel and its imports, so that two cores render two pages in the time of one. What is said comes page
by page in the order of the jobs, whoever is done first: the first unfinished page speaks at once, the others when it
is their turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue

from seqrec_lib.progress import duration
from seqrec_lib.results.limits import usable_cores
from seqrec_lib.study.execution import Failure, Stopped, execute_page
from seqrec_lib.study.plans import Page

Say = Callable[[str], None]
MOST = 4  # pages rendered at a time: each is a process with a kernel, some hundred MB


@dataclass(frozen=True)
class Job:
    """A page to execute: whether it carries out what is missing ("run") or only reads ("skip"), and variables of the
    environment."""

    page: Page
    missing: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def computes(self) -> bool:
        """Whether it needs the machine to itself."""
        return self.missing == "run"


def execute_pages(root: Path, jobs: Sequence[Job], say: Say, at_once: int | None = None) -> list[Failure]:
    """Execute all jobs; a page that fails stops no other. Returns the failures in the order of the jobs.

    Args:
        root: the project's folder.
        at_once: pages rendered at a time; by default as many as there are cores, at most `MOST`.
    """
    failures: list[Failure | None] = []
    for computes, group in groupby(jobs, key=lambda job: job.computes):
        width = 1 if computes else at_once or min(MOST, usable_cores())
        failures += _side_by_side(root, list(group), say, width)
    return [failure for failure in failures if failure is not None]


def _side_by_side(root: Path, jobs: Sequence[Job], say: Say, width: int) -> list[Failure | None]:
    """An interruption, or an error that is no page's, ends the processes of all pages under way before it goes on."""
    stop = threading.Event()
    lines: list[SimpleQueue[str | None]] = [SimpleQueue() for _ in jobs]  # of each page; None ends them

    def work(job: Job, said: SimpleQueue[str | None]) -> Failure | None:
        name, start = job.page.name, time.perf_counter()
        try:
            if stop.is_set():
                raise Stopped
            said.put(f"{name}: {'running' if job.computes else 'rendering from records'}")
            failure = execute_page(root, job.page, job.missing, job.environment, said.put, stop)
            took = duration(time.perf_counter() - start)
            said.put(f"{name}: done in {took}" if failure is None else f"{name}: FAILED: {failure.reason}")
            return failure
        except BaseException:
            stop.set()  # from here, as whoever waits for the lines hears of it later, and another page would begin
            raise
        finally:
            said.put(None)

    failures = []
    with ThreadPoolExecutor(width) as pool:
        pending = [pool.submit(work, job, said) for job, said in zip(jobs, lines, strict=True)]
        try:
            for each, said in zip(pending, lines, strict=True):
                for line in iter(said.get, None):
                    say(line)
                failures.append(each.result())
        except Stopped:  # by the error of another page's thread, which is the one to raise
            errors = [each.exception() for each in pending]
            raise next(error for error in errors if not isinstance(error, Stopped | None)) from None
        except BaseException:
            stop.set()
            for each in pending:
                each.cancel()
            raise
    return failures

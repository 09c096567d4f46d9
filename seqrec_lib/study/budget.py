"""Runs within a time budget, for a machine that is at hand for minutes: the missing runs of a profile in the order of
their value, in one process, none started that is unlikely to end in time, each stored as it ends.

Value is the order of study.yml, and within a page the order of seeds: a second seed of one model comes after the first
of all. How long a run takes is estimated from the records there are. When the time is up, the run under way stops where
it is; its checkpoint stays, and a later call on this machine goes on from it.

Several such processes share the work: a run that another one is at is left to it. That is worth while on a GPU, most of
which a small model leaves idle.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import execute
from seqrec_lib.progress import duration
from seqrec_lib.results import RunRecord, RunStore, hardware, plain, without_seed
from seqrec_lib.results.provenance import gpu_name
from seqrec_lib.results.transfer import check_target, export_runs
from seqrec_lib.study.plans import Page, Task, on_device, run_states

MARGIN = 1.2  # a run is started where this many times its estimate is left
FASTER = 20.0  # a GPU against a CPU's core, while no record says; a guess on the low side
UNKNOWN_SHARE = 0.5  # and one without an estimate where this share of the budget is left
LONGEST = 366 * 86400.0  # seconds of a budget
AGAIN = 5.0  # seconds between one alarm and the next
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass
class BudgetReport:
    """What became of the tasks, by name: ``done``, ``failed``, ``stopped`` when the time was up, ``too_long`` for what
    was left of it, ``elsewhere``: another process was at them."""

    done: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = {
            "run": self.done,
            "left to another process": self.elsewhere,
            "failed": self.failed,
            "stopped": self.stopped,
            "left, too long for the rest of the time": self.too_long,
        }
        return ", ".join(f"{len(names)} {word}" for word, names in counts.items() if names) or "nothing was missing"


class OutOfTime(BaseException):
    """The budget is spent; no `Exception`, so that a run does not record it as its failure."""


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "9m" or "1h30m".

    Raises:
        SeqRecError: anything else, no time at all, or more than a year.

    >>> parse_duration("1h30m")
    5400.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text)
    seconds = float(sum(float(number) * _UNITS[unit or "s"] for number, unit in parts))
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds <= LONGEST:
        raise SeqRecError(f"time budget {text!r} is no duration; write 90s, 9m or 1h30m")
    return seconds


def missing_tasks(pages: Sequence[Page], store: RunStore) -> list[Task]:
    """The runs of the pages that have no record, or a failed one that is no result; most valuable first, each once."""
    tasks: dict[str, Task] = {}
    for page in pages:
        states = [s for s in run_states(page, store) if s.record is None or not store.settled(s.record)]
        for state in sorted(states, key=lambda state: plain(state.config).get("seed", 0)):
            tasks.setdefault(state.run_id, Task(get(page.notebook), state.config, state.run_id))
    return list(tasks.values())


def estimate(task: Task, records: Sequence[RunRecord], device: str, on_gpu: bool = False) -> float | None:
    """Seconds that ``task`` will take on ``device``, a GPU or not: the longest of the records most like it, or None.

    Most alike is the same configuration but for the seed on the same device, then the same data set and model on it,
    then those on another device, where a GPU is taken to be `FASTER` times as fast as a CPU until it has records.
    """
    config = plain(task.config)
    kin = [
        record
        for record in records
        if record.complete
        and record.experiment == task.experiment.NAME
        and all(record.config.get(name) == config.get(name) for name in ("dataset", "model"))
    ]
    here = [record for record in kin if record.environment.get("device") == device]
    twins = [record for record in here if without_seed(record.config) == without_seed(config)]
    chosen = [record for record in twins or here or kin if "wall_seconds" in record.cost]
    slower = {"cpu": FASTER} if on_gpu else {}
    return max(
        (float(r.cost["wall_seconds"]) / slower.get(r.environment.get("device_type", ""), 1.0) for r in chosen),
        default=None,
    )


def run_missing(
    pages: Sequence[Page],
    seconds: float,
    *,
    out: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    say: Callable[[str], None] = print,
) -> BudgetReport:
    """Carry out the pages' missing runs within ``seconds``, without notebooks or book, and pack every run that is not
    published into the tar ``out``, whatever happens.

    Raises:
        SeqRecError: ``out`` cannot be written, which is asked first, or a page's parameters do not go together.
    """
    if out is not None:
        check_target(out)
    store = RunStore()
    tasks = missing_tasks([on_device(page, device) for page in pages], store)
    say(f"{len(tasks)} runs are missing; {duration(seconds)} for them")
    try:
        return run_within(seconds, tasks, store, device=device, say=say)
    finally:
        if out is not None:
            packed = export_runs(store, out).added if any(store.new.glob("[!.]*/*/*.json")) else []
            say(f"{out}: {len(packed)} runs" if packed else f"{out}: not written, there is no new run")


def run_within(
    seconds: float,
    tasks: Sequence[Task],
    store: RunStore,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    say: Callable[[str], None] = print,
) -> BudgetReport:
    """Carry out ``tasks`` in their order until ``seconds`` have passed; see the module's text.

    Must be called from the main thread, which the end of the time interrupts.
    """
    began, name, report = time.monotonic(), hardware(), BudgetReport()
    on_gpu = device != "cpu" and gpu_name() is not None
    for task in tasks:
        left = seconds - (time.monotonic() - began)
        known = store.records(task.experiment.NAME, plain(task.config).get("dataset"))  # another process adds to them
        if any(record.run_id == task.run_id and store.settled(record) for record in known):
            report.elsewhere.append(task.name)
            continue
        needed = estimate(task, known, name, on_gpu)
        if left <= 0 or (left < UNKNOWN_SHARE * seconds if needed is None else MARGIN * needed > left):
            report.too_long.append(task.name)
            continue
        expected = "no estimate" if needed is None else f"about {duration(needed)}"
        say(f"{task.name} ({expected}; {duration(left)} left)")
        try:
            with _alarm(left):
                (record,) = execute(task.experiment, [task.config], store=store, device=device, wait=False)
        except OutOfTime:
            report.stopped.append(task.name)
            continue
        if record is None:
            report.elsewhere.append(task.name)
        elif record.complete:
            report.done.append(task.name)
        else:
            report.failed.append(f"{task.name}: {record.error}")
    return report


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after ``seconds``, and again every few seconds until the block is left.

    Once is not enough: what is raised in a callback of compiled code or in a destructor is printed and dropped, and a
    library may catch everything.
    """
    within = True

    def ring(number: int, frame: FrameType | None) -> None:
        if within:
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), AGAIN)
        yield
    finally:
        try:
            within = False  # an alarm just before still raises, and the clock is stopped all the same
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

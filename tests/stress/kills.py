"""Runs that are killed at random moments and started again, and two processes that carry out the same runs.

Held: a run that was killed any number of times ends with the metrics, the losses, the tables and the kept weights of
one that was not, bit for bit; and of two processes with the same runs at once, each run is carried out by one.

Every attempt is a fork of this process, which has imported everything and computed nothing: a second kill of a tiny
run costs no second import. Every optimizer step saves a checkpoint.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqrec_lib.experiments.base import execute, key
from seqrec_lib.results import RunRecord, RunStore
from seqrec_lib.train import checkpoint
from seqrec_lib.train.loop import train
from tests.golden.harness import CLOCK, Case, cases, made_up_data

KINDS = {  # the kind's name -> its golden
    "sasrec": "sasrec: ml-latest-small sasrec",
    "sasrec without averaging": "sasrec-prefixes: ml-latest-small sasrec",
    "sasrec+repeats": "repeats: ml-latest-small sasrec+repeats",
    "USGM, the paper's rule of batches": "optimizers: ml-latest-small sasrec train usgm paper",
    "USGM, the noise rule of batches": "optimizers: ml-latest-small sasrec train usgm noise",
    "probing USGM": "optimizers: ml-latest-small sasrec train probing",
    "llamarec": "letter-rankers: ml-latest-small llamarec sasrec random",
    "llamarec with ORPO": "objectives-and-pairs: ml-latest-small llamarec+orpo",
    "gpt4rec": "queries: ml-latest-small gpt4rec",
}
LONGEST = 1800.0  # seconds until an attempt counts as hanging


def prepare() -> None:
    """Import what runs need, before the first fork, and let every step save."""
    import transformers  # noqa: F401  (the others come with the modules above)

    for function, name in ((train, "checkpoint_seconds"), (checkpoint.Checkpoint.__init__, "seconds")):
        defaults = function.__kwdefaults__ or {}
        assert name in defaults, f"{function.__qualname__} has no default of {name}"
        defaults[name] = 0.0


def chosen() -> dict[str, Case]:
    """The case of each kind."""
    known = {case.name: case for case in cases()}
    return {kind: known[name] for kind, name in KINDS.items()}


def begin(work: Callable[[], None], log: Path) -> int:
    """Carry out ``work`` in a process of its own, whose output goes to a file: its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_of(pid: int, seconds: float) -> int | None:
    """The exit status of a process; None where it was killed after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (ended := os.waitpid(pid, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status == -signal.SIGKILL else status


def carry_out(case: Case, folder: Path) -> None:
    """A case's run, with its record, in the store of ``folder``."""
    with made_up_data(case.root, folder.parent):
        (record,) = execute(case.experiment, [case.config], store=store_in(folder), device="cpu", progress=False)
    if record is None or not record.complete:
        raise AssertionError(f"no complete record: {record and record.error}")


def store_in(folder: Path) -> RunStore:
    """The store that the runs of ``folder`` go to."""
    return RunStore(folder / "runs", folder / "published")


def differences(run_id: str, one: RunStore, other: RunStore) -> list[str]:
    """In what the run of two stores differs, clocks aside."""
    records = [store.find(run_id) for store in (one, other)]
    if records[0] is None or records[1] is None:
        return ["a record is missing"]
    found = [name for name in ("metrics", "dataset", "config") if _of(records[0], name) != _of(records[1], name)]
    histories = [
        [{k: v for k, v in row.items() if k not in CLOCK} for row in record.history] for record in records if record
    ]
    found += ["history"] if histories[0] != histories[1] else []
    for name in records[0].tables:
        if not one.table(records[0], name).equals(other.table(records[1], name)):
            found.append(f"table {name}")
    kept = [_kept(store, run_id) for store in (one, other)]
    return found + (["what was kept"] if kept[0] != kept[1] else [])


def _of(record: RunRecord, name: str) -> Any:
    return getattr(record, name)


def _kept(store: RunStore, run_id: str) -> bytes:
    folder = store.kept(run_id)
    return (folder / "SHA256SUMS").read_bytes() if folder is not None else b""


def kill_runs(rng: random.Random, amount: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """Each kind of run ``amount.kills`` times, at moments of equal chance over an undisturbed run's duration."""
    for number, (kind, case) in enumerate(chosen().items()):
        place = folder / str(number)
        place.mkdir()
        yield _kill(kind, case, rng, amount.kills, place)


def _kill(kind: str, case: Case, rng: random.Random, kills: int, folder: Path) -> dict[str, Any]:
    log, run_id = folder / "log", key(case.experiment, case.config)
    count: dict[str, Any] = {"kind": kind, "tried": 0, "held": 0, "runs": 0, "broken": []}
    began = time.monotonic()
    whole = folder / "whole"
    if end_of(begin(lambda: carry_out(case, whole), log), LONGEST) != 0:
        return count | {"tried": 1, "broken": [f"undisturbed: {_tail(log)}"]}
    duration = time.monotonic() - began
    while count["tried"] < kills:
        place, since = folder / f"killed {count['runs']}", 0
        while True:
            delay = rng.uniform(0, duration) if count["tried"] + since < kills else LONGEST
            status = end_of(begin(lambda place=place: carry_out(case, place), log), delay)  # type: ignore[misc]
            if status is not None:
                break
            if delay == LONGEST:
                return count | {"broken": [*count["broken"], f"after {since} kills: it hangs"]}
            since += 1
        if not since:  # ended before its kill
            duration *= 0.8
        count["tried"] += since
        count["runs"] += bool(since)
        wrong = [_tail(log)] if status else differences(run_id, store_in(whole), store_in(place))
        if wrong:
            count["broken"].append(f"after {since} kills: {', '.join(wrong)}")
        else:
            count["held"] += since
    return count


def run_twice_at_once(rng: random.Random, amount: Any, folder: Path) -> list[dict[str, Any]]:
    """Two processes with the same list of runs, one in its order and one in another, and one store."""
    names = ("sasrec", "sasrec+repeats", "probing USGM")
    picked = [chosen()[name] for name in names]
    single, shared, began = folder / "single", folder / "shared", folder / "began"
    began.mkdir()
    orders = [picked, rng.sample(picked, len(picked))]

    def work(order: Sequence[Case], place: Path, process: int) -> None:
        for case in order:
            inner = case.experiment.run

            def noted(config: Any, context: Any, inner: Any = inner, case: Case = case) -> Any:
                (began / f"{key(case.experiment, config)} {process}").touch()
                return inner(config, context)

            case.experiment.run = noted  # type: ignore[method-assign]
            try:
                carry_out(case, place)
            finally:
                case.experiment.run = inner  # type: ignore[method-assign]

    log = folder / "log"
    first = end_of(begin(lambda: work(picked, single, 0), log), LONGEST)
    for path in began.iterdir():
        path.unlink()
    processes = [
        begin(lambda order=order, n=n: work(order, shared, n), log)  # type: ignore[misc]
        for n, order in enumerate(orders)
    ]
    statuses = [end_of(pid, LONGEST) for pid in processes]
    broken = [] if [first, *statuses] == [0, 0, 0] else [f"exit status {[first, *statuses]}: {_tail(log)}"]
    held = 0
    for case in picked if not broken else []:
        run_id = key(case.experiment, case.config)
        wrong = differences(run_id, store_in(single), store_in(shared))
        times = len(list(began.glob(f"{run_id} *")))
        wrong += [f"carried out {times} times"] if times != 1 else []
        broken += [f"{case.name}: {', '.join(wrong)}"] if wrong else []
        held += not wrong
    return [{"kind": "runs that two processes share", "tried": len(picked), "held": held, "broken": broken}]


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]) if log.is_file() else ""

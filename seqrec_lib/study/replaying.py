"""Which runs of older code to replay, and replaying them (`seqrec_lib.results.replays` says what that is good for)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import Context, Experiment, Outcome, describe, fingerprint_today
from seqrec_lib.results import RunRecord, RunStore, now, plain, run_key
from seqrec_lib.results.provenance import git_state
from seqrec_lib.results.replays import Replay, add_replay, alike

CLOCK = ("seconds", "samples_per_second", "matmul_fraction")  # of a history: no two runs agree on them
DIGITS = 6  # of a history's numbers in a record


@dataclass(frozen=True)
class Case:
    """A run of older code that can be replayed; ``others``: how many runs of the same code are alike."""

    experiment: Experiment
    config: Any
    record: RunRecord
    others: int

    @property
    def seconds(self) -> float:
        """What the run took when it was made."""
        return float(self.record.cost.get("wall_seconds", math.inf))

    def __str__(self) -> str:
        others = f", and {self.others} alike" if self.others else ""
        return f"{self.record.experiment}: {describe(self.config)} ({self.record.run_id}{others})"


def cases(
    store: RunStore, experiment: str | None = None, dataset: str | None = None, runs: Sequence[str] = ()
) -> list[Case]:
    """The cheapest run of each group of runs that are alike and of the same older code; or the ``runs`` named.

    Runs that measure time are left out: their numbers never repeat.

    Raises:
        SeqRecError: one of ``runs`` is no planned run of older code.
    """
    from seqrec_lib.study.plans import run_states
    from seqrec_lib.study.runner import load_study

    groups: dict[tuple[str, str, str], list[Case]] = {}
    seen: set[str] = set()
    for pages in load_study().profiles.values():
        for page in pages:
            for state in run_states(page, store):
                if state.record is None or not state.older or state.run_id in seen or state.record.hardware:
                    continue
                seen.add(state.run_id)
                group = (state.record.experiment, alike(state.record.config), state.record.fingerprint)
                groups.setdefault(group, []).append(Case(get(page.notebook), state.config, state.record, 0))
    unknown = sorted(set(runs) - seen)
    if unknown:
        raise SeqRecError(
            f"run {unknown[0]} is no planned run of older code; `seqrec results replay --dry-run` lists them"
        )
    chosen = []
    for members in groups.values():
        for case in sorted(members, key=lambda case: case.seconds):
            record = case.record
            if experiment not in {None, record.experiment} or dataset not in {None, record.dataset["name"]}:
                continue
            if not runs or record.run_id in runs:
                chosen.append(Case(case.experiment, case.config, record, len(members) - 1))
                if not runs:
                    break
    return sorted(chosen, key=lambda case: case.seconds)


def replay(case: Case, store: RunStore, epochs: int = 0, report: Callable[[str], None] = lambda line: None) -> Replay:
    """Carry out the run again, or its first ``epochs``, compare, and add the verdict to the file of replays.

    A kill loses nothing: the same call goes on from the working folder. A second process at the same run waits.

    Raises:
        SeqRecError: it keeps no checkpoint of its epochs to compare, or it ran on a GPU and there is none here.
    """
    experiment, record = case.experiment, case.record
    today = fingerprint_today(record, experiment)
    commit, dirty = git_state()
    own = run_key("replay", {"run": record.run_id, "epochs": epochs}, 1, (), today)
    stop = _Stop(epochs, report)
    device = record.environment.get("device_type", "cpu")
    with store.lock(own):
        workdir = store.workdir(own)
        try:
            outcome = experiment.run(case.config, Context(workdir, report=stop, device=device))
            compared, difference = 0, differences(record, store, outcome)  # it has no more epochs than were asked for
        except _EnoughError:
            compared, difference = epochs, _first(_history(record.history[:epochs], _epochs(workdir, epochs)))
        shutil.rmtree(workdir, ignore_errors=True)
    verdict = Replay(
        run_id=record.run_id,
        experiment=record.experiment,
        alike=alike(record.config),
        then=record.fingerprint,
        today=today,
        epochs=compared,
        difference=difference,
        finished=now(),
        git_commit=None if dirty else commit,
    )
    add_replay(verdict)
    return verdict


class _EnoughError(Exception):
    """The epochs that are wanted have been trained."""


class _Stop:
    """A listener that ends a run after so many reports, one of which an epoch makes."""

    def __init__(self, epochs: int, report: Callable[[str], None]) -> None:
        self.left, self.report = epochs, report

    def __call__(self, line: str) -> None:
        self.report(line)
        self.left -= 1
        if self.left == 0:
            raise _EnoughError


def differences(record: RunRecord, store: RunStore, outcome: Outcome) -> str:
    """The first difference between a record and an outcome, in words; empty where all numbers are equal."""
    return _first(_compared(record, store, outcome))


def _compared(record: RunRecord, store: RunStore, outcome: Outcome) -> Iterator[str]:
    split = "split_sha256"
    yield from _values("data set: ", {split: record.dataset.get(split)}, {split: outcome.dataset.get(split)})
    yield from _values("", record.metrics, plain(outcome.metrics))
    if sorted(outcome.tables) != sorted(record.tables):
        yield f"tables {', '.join(record.tables)} became {', '.join(sorted(outcome.tables))}"
        return
    for name in record.tables:
        old, new = store.table(record, name), outcome.tables[name]
        if old.column_names != new.column_names or len(old) != len(new):
            yield f"table {name}: {len(old)} rows of {old.column_names} became {len(new)} of {new.column_names}"
            continue
        for column in old.column_names:
            unequal = sum(
                not _equal(a, b) for a, b in zip(old[column].to_pylist(), new[column].to_pylist(), strict=True)
            )
            if unequal:
                yield f"table {name}: {unequal} of {len(old)} values of {column} differ"


def _history(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(old) != len(new) or not old:
        yield f"{len(old)} epochs became {len(new)}"
    for number, (before, after) in enumerate(zip(old, new, strict=False), 1):
        short = {key: float(f"{value:.{DIGITS}g}") for key, value in after.items() if key not in CLOCK}
        measured = {key: float(value) for key, value in before.items() if key in short}  # counts may be added later
        yield from _values(f"epoch {number}: ", measured, short)


def _values(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if not _equal(old.get(name), new.get(name)):
            yield f"{where}{name} {old.get(name)} became {new.get(name)}"


def _equal(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return bool(a == b) or both_nan


def _first(found: Iterator[str]) -> str:
    return next(found, "")


def _epochs(workdir: Any, epochs: int) -> list[dict[str, Any]]:
    """The history in the checkpoint that training has left."""
    from seqrec_lib import checkpoint
    from seqrec_lib.training import CHECKPOINT

    path = workdir / CHECKPOINT
    if not path.is_file():
        raise SeqRecError(f"{path}: the run keeps no checkpoint of its epochs; replay it as a whole")
    return list(checkpoint.read(path)["place"]["history"][:epochs])

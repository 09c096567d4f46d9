"""Statements: what a sentence of the book rests on, as a function over runs.

A chapter's author writes a sentence and names a statement behind it. The statement judges the published runs; readers
see what it measures and the rule that it judges by. Statements that ask the same of other runs are entries of
``pages/statements.yml`` (see `judges`); one that asks something of its own is a function in `pages`. When the runs no
longer bear the sentence out, the book is not built (`chapters`). Who publishes those runs rewrites the sentence."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from inspect import getdoc
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate import statistics
from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.report.frames import TRUE_ORDER, NotRun, Runs, Scope
from seqrec_lib.results import RunRecord


@dataclass(frozen=True)
class Evidence:
    """What runs say to a statement.

    ``estimate`` with its 95 % interval ``low`` to ``high`` (None where nothing can be resampled), over ``n`` of
    ``unit``."""

    held: bool
    estimate: float
    low: float | None
    high: float | None
    n: int
    run_ids: tuple[str, ...]
    unit: str = "users"

    @classmethod
    def of(cls, held: bool, found: Interval, n: int, run_ids: tuple[str, ...], unit: str = "users") -> Evidence:
        """With the estimate and the ends of ``found``."""
        return cls(held, found.estimate, found.low, found.high, n, run_ids, unit)

    def __str__(self) -> str:
        """The estimate as a reader writes it: "0.0053 (0.0018 to 0.0088), 6,040 users"."""
        interval = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.estimate:.4g}{interval}, {self.n:,} {self.unit}"


Judge = Callable[[Runs], Evidence]


@dataclass(frozen=True)
class Statement:
    """A named judge, the scope that its runs are taken from, and the two parts of the judge's docstring: what the
    estimate is ("NDCG@10, Mamba4Rec minus SASRec"), and the rule that the judge goes by."""

    name: str
    judge: Judge
    scope: Scope
    measures: str
    rule: str

    def ask(self, runs: Runs) -> Evidence | None:
        """What ``runs`` say; None where one of them was not run."""
        try:
            return self.judge(runs.within(self.scope))
        except NotRun:
            return None


STATEMENTS: dict[str, Statement] = {}


def add(
    name: str,
    judge: Judge,
    measures: str,
    rule: str,
    *,
    orders: tuple[str, ...] | None = (TRUE_ORDER,),
    device: str | None = "cpu",
    seeds: tuple[int, ...] | None = None,
    into: dict[str, Statement] = STATEMENTS,
) -> None:
    """Register a statement, limited to these orders of time, this device ("cpu", "cuda") and these seeds; None: any.

    Raises:
        SeqRecError: the name is taken, or there is no rule that a reader could see.
    """
    if name in into:
        raise SeqRecError(f"statement {name!r} is registered twice; give one another name")
    if not rule:
        raise SeqRecError(f"statement {name!r} has no rule; write it below what is measured")
    into[name] = Statement(name, judge, Scope(orders, device, seeds), measures.removesuffix("."), rule)


def statement(name: str, **scope: Any) -> Callable[[Judge], Judge]:
    """`add` a function: its docstring says what it measures and, after an empty line, its rule."""

    def register(judge: Judge) -> Judge:
        measures, _, rule = (" ".join(part.split()) for part in (getdoc(judge) or "").partition("\n\n"))
        add(name, judge, measures, rule, **scope)
        return judge

    return register


# What judges found, as evidence


def over_users(values: np.ndarray, run_ids: tuple[str, ...], held: Callable[[Interval], bool]) -> Evidence:
    """The mean of ``values``, one for each user, shape (n_users,), with its bootstrap interval."""
    found = statistics.bootstrap_interval(values)
    return Evidence.of(held(found), found, len(values), run_ids)


def over_seeds(held: bool, values: Sequence[float], records: Sequence[RunRecord]) -> Evidence:
    """A mean over seeds with Student's 95 % interval: a bootstrap of so few says nothing."""
    ends = statistics.seed_interval(np.array(values))
    return Evidence(held, *ends, len(values), tuple(record.run_id for record in records), "seeds")


def over_runs(held: bool, estimate: float, records: Sequence[RunRecord]) -> Evidence:
    """A number found in some runs, one value in each."""
    return Evidence(held, estimate, None, None, len(records), tuple(record.run_id for record in records), "runs")


def of_several(parts: Sequence[Evidence], show: str) -> Evidence:
    """Held where all parts are; the estimate is the "least" or the "greatest" of theirs, or the "largest": the one
    farthest from 0."""
    sizes: dict[str, Callable[[float], float]] = {"least": operator.neg, "greatest": float, "largest": abs}
    run_ids = tuple(dict.fromkeys(run_id for part in parts for run_id in part.run_ids))
    chosen = max(parts, key=lambda part: sizes[show](part.estimate))
    return replace(chosen, held=all(part.held for part in parts), run_ids=run_ids)


# The estimates that the book's sentences had when somebody last read them

ACCEPTED = Path("book", "evidence.json")


def accepted(root: Path) -> dict[str, Mapping[str, Any]]:
    """Statement -> estimate, low, high and n when ``make evidence`` was last called; empty without such a file."""
    path = root / ACCEPTED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def accept(root: Path, evidence: Mapping[str, Evidence]) -> None:
    """Write what `accepted` reads."""
    lines = {
        name: {key: value for key, value in asdict(own).items() if key in {"estimate", "low", "high", "n"}}
        for name, own in sorted(evidence.items())
    }
    (root / ACCEPTED).write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")

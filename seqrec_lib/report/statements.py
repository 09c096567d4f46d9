"""Statements: what a sentence of the book rests on, as a function over runs.

A chapter's author writes a sentence and names a statement behind it. The statement's function judges the published
runs; its docstring says what is measured and, after an empty line, the rule that it judges by: readers see both. When
the runs no longer bear the sentence out, the book is not built (`chapters`). Who publishes those runs rewrites the
sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from inspect import getdoc
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate import statistics
from seqrec_lib.evaluate.statistics import Interval, average_difference
from seqrec_lib.report.frames import TRUE_ORDER, NotRun, Runs, Scope
from seqrec_lib.results import RunRecord

ALPHA = 0.05  # of tests, after Holm's correction


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


def statement(
    name: str,
    *,
    orders: tuple[str, ...] | None = (TRUE_ORDER,),
    device: str | None = "cpu",
    seeds: tuple[int, ...] | None = None,
    into: dict[str, Statement] = STATEMENTS,
) -> Callable[[Judge], Judge]:
    """Register a judge under ``name``, limited to these orders of time, this device ("cpu", "cuda") and these seeds;
    None: any.

    Raises:
        SeqRecError: the name is taken, or the judge's docstring has no second paragraph: a rule that nobody can read.
    """

    def register(judge: Judge) -> Judge:
        if name in into:
            raise SeqRecError(f"statement {name!r} is registered twice; give one another name")
        measures, _, rule = (" ".join(part.split()) for part in (getdoc(judge) or "").partition("\n\n"))
        if not rule:
            raise SeqRecError(f"the docstring of statement {name!r} has no rule; write it below what is measured")
        into[name] = Statement(name, judge, Scope(orders, device, seeds), measures.removesuffix("."), rule)
        return judge

    return register


# Judges are mostly one of these questions.

Model = tuple[str, str]  # data set and model


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


def difference(runs: Runs, a: Model, b: Model, metric: str, held: Callable[[Interval], bool]) -> Evidence:
    """Mean of a - b, paired by user."""
    return over_users(average_difference(runs.users(*a, metric), runs.users(*b, metric)), runs.ids([a, b]), held)


def ahead(runs: Runs, a: Model, b: Model, metric: str) -> Evidence:
    """Held where the whole interval of a - b lies above 0."""
    return difference(runs, a, b, metric, lambda found: found.low > 0)


def none_told_apart(runs: Runs, models: Sequence[Model], metric: str) -> Evidence:
    """Held where no two models differ after Holm's correction; the estimate is the largest difference of a pair."""
    users = [runs.users(*model, metric) for model in models]
    tests = [statistics.paired_difference(a, b) for i, a in enumerate(users) for b in users[i + 1 :]]
    largest, _ = max(tests, key=lambda test: abs(test[0].estimate))
    apart = min(statistics.holm([p for _, p in tests])) < ALPHA
    return Evidence.of(not apart, largest, len(users[0]), runs.ids(list(dict.fromkeys(models))))


def change_of_lead(runs: Runs, first: tuple[Model, Model], second: tuple[Model, Model], metric: str) -> Evidence:
    """(a - b) of the first pair minus (a - b) of the second, by user; held where the interval lies above 0."""
    leads = [average_difference(*(runs.users(*model, metric) for model in pair)) for pair in (first, second)]
    return over_users(average_difference(*leads), runs.ids([*first, *second]), lambda found: found.low > 0)


def least(parts: Sequence[Evidence]) -> Evidence:
    """Held where all parts are; the estimate is the least of theirs."""
    return _all_held(parts, min(parts, key=lambda part: part.estimate))


def greatest(parts: Sequence[Evidence], size: Callable[[float], float] = float) -> Evidence:
    """Held where all parts are; the estimate is the greatest of theirs, or that of the greatest ``size``."""
    return _all_held(parts, max(parts, key=lambda part: size(part.estimate)))


def _all_held(parts: Sequence[Evidence], shown: Evidence) -> Evidence:
    run_ids = tuple(dict.fromkeys(run_id for part in parts for run_id in part.run_ids))
    return replace(shown, held=all(part.held for part in parts), run_ids=run_ids)


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

"""Statements: what a sentence of the book rests on, as a function over runs.

A chapter's author writes a sentence and names a statement behind it. The statement's function judges the published
runs; its docstring is the rule that it judges by, and readers see it. When the runs no longer bear the sentence out,
the book is not built (`chapters`). Who publishes those runs rewrites the sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import holm, paired_difference
from seqrec_lib.report.frames import NotRun, Runs, Scope

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


Judge = Callable[[Runs], Evidence]


@dataclass(frozen=True)
class Statement:
    """A named judge and the scope that its runs are taken from."""

    name: str
    judge: Judge
    scope: Scope
    measures: str
    """What the estimate is: "NDCG@10, Mamba4Rec minus SASRec"."""

    @property
    def rule(self) -> str:
        """The docstring of the judge, as one paragraph."""
        return " ".join(cleandoc(self.judge.__doc__ or "").split())

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
    measures: str,
    orders: Sequence[str] | None,
    device: str | None,
    seeds: Sequence[int] | None,
    into: dict[str, Statement] = STATEMENTS,
) -> Callable[[Judge], Judge]:
    """Register a judge under ``name``, limited to these orders of time, this device ("cpu", "cuda") and these seeds.

    Raises:
        SeqRecError: the name is taken, or the judge has no docstring: a rule that nobody can read.
    """

    def register(judge: Judge) -> Judge:
        if name in into:
            raise SeqRecError(f"statement {name!r} is registered twice; give one another name")
        if not (judge.__doc__ or "").strip():
            raise SeqRecError(f"statement {name!r} has no docstring; write its rule there")
        scope = Scope(None if orders is None else tuple(orders), device, None if seeds is None else tuple(seeds))
        into[name] = Statement(name, judge, scope, measures)
        return judge

    return register


# Judges are mostly one of these questions.

Model = tuple[str, str]  # data set and model


def difference(runs: Runs, a: Model, b: Model, metric: str, held: Callable[[float, float, float], bool]) -> Evidence:
    """Mean of a - b, paired by user; ``held`` takes estimate, low and high."""
    found, _ = paired_difference(runs.users(*a, metric), runs.users(*b, metric))
    users = len(runs.users(*a, metric))
    return Evidence(
        held(found.estimate, found.low, found.high), found.estimate, found.low, found.high, users, runs.ids([a, b])
    )


def ahead(runs: Runs, a: Model, b: Model, metric: str) -> Evidence:
    """Held where the whole interval of a - b lies above 0."""
    return difference(runs, a, b, metric, lambda _, low, __: low > 0)


def none_told_apart(runs: Runs, models: Sequence[Model], metric: str) -> Evidence:
    """Held where no two models differ after Holm's correction; the estimate is the largest difference of a pair."""
    users = [runs.users(*model, metric) for model in models]
    pairs = [(i, j) for i in range(len(users)) for j in range(i + 1, len(users))]
    tests = [paired_difference(users[i], users[j]) for i, j in pairs]
    largest, _ = max(tests, key=lambda test: abs(test[0].estimate))
    apart = min(holm([p for _, p in tests])) < ALPHA
    return Evidence(
        not apart, largest.estimate, largest.low, largest.high, len(users[0]), runs.ids(list(dict.fromkeys(models)))
    )


def change_of_lead(runs: Runs, first: tuple[Model, Model], second: tuple[Model, Model], metric: str) -> Evidence:
    """(a - b) of the first pair minus (a - b) of the second, by user; held where the interval lies above 0."""
    (a, b), (c, d) = first, second
    leads = [runs.users(*x, metric) - runs.users(*y, metric) for x, y in ((a, b), (c, d))]
    found, _ = paired_difference(*leads)
    return Evidence(found.low > 0, found.estimate, found.low, found.high, len(leads[0]), runs.ids([a, b, c, d]))


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


def describe(estimate: float, low: float | None, high: float | None, n: int | np.integer, unit: str) -> str:
    """An estimate as a reader writes it: "0.0053 (0.0018 to 0.0088), 6,040 users"."""
    interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return f"{estimate:.4g}{interval}, {n:,} {unit}"

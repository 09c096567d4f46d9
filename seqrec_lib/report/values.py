"""Values and exhibits by name: what ``{{ name }}`` and ``:::{exhibit} name`` in a chapter stand for.

Most values need no code, as their name says where they are found::

    ml-1m/sasrec/ht@10          mean over seeds of the run by today's recipe
    ml-1m/sasrec/ht@10/sd       its standard deviation over seeds; also seeds, low, high (95 %, over users)
    paper/ml-1m/sasrec/ht@10    as the paper prints it
    datasets/ml-1m/users        a number that the page of the data set shows
    a-statement.estimate        also low, high and n, of what the published runs say to a statement
    site/repository             where the study is published: authors, repository, release (`site`)

Any other name is that of a function that a module of `pages` has registered.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import bootstrap_interval
from seqrec_lib.report import kit
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import METRICS, paper_number
from seqrec_lib.report.statements import STATEMENTS, Evidence, Statement

Value = float | int | str
Read = Callable[[Runs], pd.DataFrame | Iterable[Mapping[str, Any]]]
Exhibit = Callable[[Runs], Callable[..., Html]]
VALUES: dict[str, Callable[[Runs], Value]] = {}
EXHIBITS: dict[str, Exhibit] = {}


Function = TypeVar("Function")


def _register(functions: dict[str, Function], name: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        functions[name] = function
        return function

    return register


value = partial(_register, VALUES)
"""Registers, under a name, a function over runs that gives a number or a word; it may raise `NotRun`."""
exhibit = partial(_register, EXHIBITS)
"""Registers a function over runs that gives a table or figure which still lacks its caption and alt text:
``partial(kit.table, frame, columns)``."""


def table(name: str, /, *columns: kit.Column, **options: Any) -> Callable[[Read], Read]:
    """Registers a function over runs that gives a frame, or its rows, as a table with these columns."""
    return _piece(name, partial(kit.table, columns=columns, **options))


def figure(name: str, kind: str, /, **options: Any) -> Callable[[Read], Read]:
    """Registers a function over runs that gives a frame, or its rows, as a figure of this kind."""
    return _piece(name, partial(kit.figure, kind=kind, **options))


def _piece(name: str, make: Callable[..., Html]) -> Callable[[Read], Read]:
    def register(read: Read) -> Read:
        EXHIBITS[name] = lambda runs: partial(make, pd.DataFrame(read(runs)))
        return read

    return register


@dataclass
class Names:
    """Looks names up, in these runs; what a statement says is asked once."""

    runs: Runs
    site: Mapping[str, str] = field(default_factory=dict)
    statements: Mapping[str, Statement] = field(default_factory=lambda: STATEMENTS)
    _asked: dict[str, Evidence | None] = field(default_factory=dict)

    def evidence(self, name: str) -> Evidence | None:
        """What the runs say to a statement; None where they were not made."""
        if name not in self.statements:
            raise SeqRecError(f"no statement {name!r}{_hint(name, self.statements)}")
        if name not in self._asked:
            self._asked[name] = self.statements[name].ask(self.runs)
        return self._asked[name]

    def there(self, name: str) -> bool:
        """Whether a statement or value has the runs that it needs."""
        if name in self.statements:
            return self.evidence(name) is not None
        try:
            self.value(name)
        except NotRun:
            return False
        return True

    def value(self, name: str) -> Value:
        """The value of a name.

        Raises:
            NotRun: its runs were not made.
            SeqRecError: no such value.
        """
        if name in VALUES:
            return VALUES[name](self.runs)
        stem, dot, part = name.rpartition(".")
        if dot and stem in self.statements and part in {"estimate", "low", "high", "n"}:
            evidence = self.evidence(stem)
            if evidence is None:
                raise NotRun(stem)
            return _present(getattr(evidence, part), name)
        parts = name.split("/")
        if parts[0] == "site" and len(parts) == 2 and parts[1] in self.site:
            return self.site[parts[1]]
        if parts[0] == "paper" and len(parts) == 4:
            return _printed(*parts[1:])
        if parts[0] == "datasets" and len(parts) == 3:
            return _present(self.runs.newest("datasets", parts[1]).metrics.get(parts[2]), name)
        if len(parts) in {3, 4} and parts[2].removeprefix("masked_") in METRICS:
            return self._metric(*parts)
        raise SeqRecError(f"no value {name!r}{_hint(name, VALUES)}")

    def _metric(self, dataset: str, model: str, metric: str, part: str = "mean") -> Value:
        numbers = [record.metrics[metric] for record in self.runs.seeds(dataset, model)]
        match part:
            case "mean":
                return float(np.mean(numbers))
            case "sd":
                return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
            case "seeds":
                return len(numbers)
            case "low" | "high":
                return float(getattr(bootstrap_interval(self.runs.users(dataset, model, metric)), part))
        raise SeqRecError(f"no part {part!r} of a metric; use sd, seeds, low or high")


def _printed(dataset: str, model: str, column: str) -> str:
    printed = paper_number(dataset, model, column)
    if printed is None:
        raise SeqRecError(f"the paper prints no {column} of {model} on {dataset}")
    return str(printed)


def _present(number: Any, name: str) -> Value:
    if number is None:
        raise SeqRecError(f"{name} has no value; name another")
    return number


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

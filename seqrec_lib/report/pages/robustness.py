"""The chapter on what was tried to break the study (book/robustness.md): figures of `make stress`, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from seqrec_lib.report import benchmarks, kit
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.values import exhibit, value

PARTS = ("kills", "flips", "disk", "two studies", "archives", "fuzz")
TITLES = {
    "kills": "Killed and started again",
    "flips": "A flipped bit",
    "disk": "A full disk",
    "two studies": "Two processes at once",
    "archives": "Hostile archives",
    "fuzz": "Made-up files",
}


def tried() -> dict[str, Any]:
    """The record of `make stress`.

    Raises:
        NotRun: there is none.
    """
    record = benchmarks.read(benchmarks.FOLDER, "stress")
    if record is None:
        raise NotRun("stress")
    return dict(record)


def _register(part: str) -> None:
    name = part.replace(" ", "-")

    @value(f"stress/{name}")
    def number(runs: Runs) -> int:
        return sum(int(count["tried"]) for count in tried()["parts"][part])

    @value(f"stress/{name}/held")
    def held(runs: Runs) -> int:
        return sum(int(count["held"]) for count in tried()["parts"][part])


for _part in PARTS:
    _register(_part)


@value("stress/form")
def _form(runs: Runs) -> str:
    return str(tried()["form"])


@value("stress/date")
def _date(runs: Runs) -> str:
    return str(tried()["date"])


@exhibit("stress")
def _table(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    rows = [
        {"part": TITLES[part], "kind": count["kind"], "tried": count["tried"] or None, "held": count["held"]}
        | ({"held": None} if "skipped" in count else {})
        for part in PARTS
        for count in tried()["parts"][part]
    ]
    titles = {"part": "What was done", "kind": "To what"}
    columns = [kit.Column(key, title) for key, title in titles.items()]
    columns += [
        kit.Column(key, title, ",.0f", missing="not run") for key, title in (("tried", "Times"), ("held", "Held"))
    ]
    return partial(kit.table, pd.DataFrame(rows), columns)

"""The chapter on what was tried to break the study (book/robustness.md): figures of `make stress`, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from seqrec_lib.report import kit
from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.values import exhibit, value

TITLES = {
    "kills": "Killed and started again",
    "flips": "A flipped bit",
    "disk": "A full disk",
    "two studies": "Two processes at once",
    "archives": "Hostile archives",
    "fuzz": "Made-up files",
}


def _count(part: str, key: str, runs: Runs) -> int:
    return sum(int(count[key]) for count in measured("stress", "parts", part))


for _part in TITLES:
    _name = f"stress/{_part.replace(' ', '-')}"
    value(_name)(partial(_count, _part, "tried"))
    value(f"{_name}/held")(partial(_count, _part, "held"))
value("stress/form")(lambda runs: str(measured("stress", "form")))
value("stress/date")(lambda runs: str(measured("stress", "date")))


@exhibit("stress")
def _table(runs: Runs) -> Callable[..., Html]:
    rows = [
        {"part": TITLES[part], "kind": count["kind"], "tried": count["tried"] or None, "held": count["held"]}
        | ({"held": None} if "skipped" in count else {})
        for part in TITLES
        for count in measured("stress", "parts", part)
    ]
    columns = [kit.Column("part", "What was done"), kit.Column("kind", "To what")]
    columns += [kit.Column("tried", "Times", ",.0f"), kit.Column("held", "Held", ",.0f")]
    return partial(kit.table, pd.DataFrame(rows), columns)

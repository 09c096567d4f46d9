"""The chapter on what was tried to break the study (book/robustness.md): figures of `make stress`, by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.kit import Column
from seqrec_lib.report.values import table, value

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


@table(
    "stress",
    Column("part", "What was done"),
    Column("kind", "To what"),
    Column("tried", "Times", ",.0f"),
    Column("held", "Held", ",.0f"),
)
def _table(runs: Runs) -> Iterator[dict[str, Any]]:
    for part, title in TITLES.items():
        for count in measured("stress", "parts", part):
            held = None if "skipped" in count else count["held"]
            yield {"part": title, "kind": count["kind"], "tried": count["tried"] or None, "held": held}

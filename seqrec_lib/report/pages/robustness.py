"""The chapter on what was tried to break the study (book/robustness.md): figures of `make stress`, by name, and what
came out where published runs were carried out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.kit import Column
from seqrec_lib.report.values import table, value
from seqrec_lib.results.rechecks import Recheck, rechecks_of

TITLES = {
    "kills": "Killed and started again",
    "flips": "A flipped bit",
    "disk": "A full disk",
    "two studies": "Two processes at once",
    "archives": "Hostile archives",
    "fuzz": "Made-up files",
}
METRIC_TITLES = {"ndcg@10": "NDCG@10", "test_loss": "Loss on test items", "density": "Density"}
EXPERIMENTS = {
    "accuracy": "Accuracy",
    "datasets": "Data sets",
    "generative": "Writing queries",
    "llamarec": "Ranking with letters",
    "optimizers": "Optimizers",
    "orpo": "Preference tuning",
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


# Published runs, carried out again


def _again(runs: Runs) -> dict[str, list[Recheck]]:
    """Rechecks of each experiment's published runs; `NotRun` where there are none."""
    found: dict[str, list[Recheck]] = {}
    experiments = {record.run_id: record.experiment for record in runs.store.records()}
    for recheck in rechecks_of(experiments):
        found.setdefault(experiments[recheck.run_id], []).append(recheck)
    if not found:
        raise NotRun("seqrec results recheck")
    return found


value("rechecks/runs")(lambda runs: sum(map(len, _again(runs).values())))


@table(
    "rechecks",
    Column("experiment", "Experiment"),
    Column("metric", "Metric"),
    Column("runs", "Runs", "d"),
    Column("equal", "Equal to four decimals", "d"),
    Column("largest", "Largest change", "+.4f"),
    Column("seeded", "With other seeds", "d"),
    Column("within", "Of these, within the seeds' range", ".0f", missing="–"),
)
def _rechecks(runs: Runs) -> Iterator[dict[str, Any]]:
    """A change is the new value minus the published one; the range is that of the published seeds."""
    for experiment, rechecks in sorted(_again(runs).items()):
        for metric, title in METRIC_TITLES.items():
            pairs = [(*one.metrics[metric], one.seeds.get(metric)) for one in rechecks if metric in one.metrics]
            if not pairs:
                continue
            changes = [new - old for old, new, _ in pairs]
            ranges = [(new, *seeds) for _, new, seeds in pairs if seeds]
            yield {
                "experiment": EXPERIMENTS[experiment],
                "metric": title,
                "runs": len(pairs),
                "equal": sum(abs(change) < 5e-5 for change in changes),
                "largest": max(changes, key=abs),
                "seeded": len(ranges),
                "within": sum(low <= new <= high for new, low, high in ranges) if ranges else None,
            }

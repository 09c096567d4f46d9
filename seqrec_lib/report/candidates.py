"""*Which model should I use?* for one data set: candidates with intervals, times, state, and the one that a rule marks.

The rule: of the candidates whose quality is at most a margin behind the best, the fastest is marked. A candidate is
within the margin where the lower end of the 95 % interval of its difference from the best, paired by user, is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import bootstrap_interval, paired_difference
from seqrec_lib.report import kit
from seqrec_lib.report.frames import COMPLETE, interval_columns, users
from seqrec_lib.report.html import Html
from seqrec_lib.report.kit import Column
from seqrec_lib.report.scaling import Scaling
from seqrec_lib.report.timings import Timings
from seqrec_lib.results import RunStore

MARK = "recommended"


def compare(
    runs: pd.DataFrame, store: RunStore, timings: Timings | None, scaling: Scaling | None, metric: str, margin: float
) -> pd.DataFrame:
    """One row for each model of a `frames.frame` that ran, best value first; NaN where something was not run. A faster
    model may lose the share ``margin`` of the best one's value ("masked_ndcg@10": seen items left out).

    Columns: model; value (low, high); behind (behind_low, behind_high), the value minus the best model's, and distance,
    the same but for the best; allowed, how far behind a model may be, within, whether this one is, and judged, the same
    as a word; request and event in milliseconds (_low, _high); state_short and state_long in KiB, at the
    `measured_lengths`; parameters; training in seconds; trained, the epoch whose weights count, of how many; mark;
    run_ids.
    """
    ran = [
        (label, mine[mine["status"] == COMPLETE], values)
        for label, mine in runs.groupby("label", sort=False)
        if (values := users(mine, metric, store)) is not None
    ]
    if not ran:
        return pd.DataFrame()
    best, _, most = max(ran, key=lambda candidate: float(candidate[2].mean()))
    allowed = margin * float(most.mean())
    rows: list[dict[str, Any]] = []
    for label, mine, values in ran:
        interval, (gap, _) = bootstrap_interval(values), paired_difference(values, most)
        first = mine.iloc[0]
        within = label == best or gap.low >= -allowed
        row = {"model": label, "value": interval.estimate, "low": interval.low, "high": interval.high}
        row |= interval_columns("behind", gap) | {
            "distance": np.nan if label == best else gap.estimate,
            "allowed": allowed,
            "within": within,
            "judged": "yes" if within else "no",
            "run_ids": ", ".join(mine["run_id"]),
        }
        row |= {"parameters": first.get("parameters"), "training": first.get("train_seconds")}
        epochs, best_one = (mine[name].mean() if name in mine else np.nan for name in ("epochs", "best_epoch"))
        row["trained"] = None if np.isnan(epochs) else f"{best_one:.0f} of {epochs:.0f}"
        rows.append(row | _times(timings, first["model"]) | _state(scaling, first["model"]))
    frame = pd.DataFrame(rows).rename(columns=lambda name: name.replace(" ", "_"))
    timed = frame.loc[frame["within"], "request"].dropna()
    frame["mark"] = ""
    if len(timed):
        frame.loc[timed.idxmin(), "mark"] = MARK
    return frame.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def _times(timings: Timings | None, model: str) -> dict[str, float]:
    """Milliseconds of a request and of one more event, with intervals."""
    found: dict[str, float] = {}
    for name, path in (("request", "served"), ("event", "step")):
        timed = timings is not None and (model, path) in timings.rows
        found |= interval_columns(name, timings.median(model, path) if timings and timed else None, 1e3)
    return found


def _state(scaling: Scaling | None, model: str) -> dict[str, float]:
    """KiB of a user's state, at the shortest length that was measured and at the longest."""
    states = [np.nan]
    if scaling is not None:
        data = scaling.memory.query("path == 'served' and model == @model and state > 0").sort_values("length")
        states = (data["state"] / 1024).tolist() or states
    return {"state_short": states[0], "state_long": states[-1]}


def measured_lengths(scaling: Scaling | None) -> list[int]:
    """The shortest and the longest history whose state was measured; [] where none was."""
    if scaling is None:
        return []
    lengths = scaling.memory["length"]
    return [int(lengths.min()), int(lengths.max())]


def file_tables(facts: Mapping[str, Any]) -> Html:
    """What was found in a reader's file (`seqrec_lib.data.own.facts`), and the rounds of the 5-core."""
    pairs, last = facts["ties"]
    rows: list[tuple[str, str | int | float, str]] = [
        *((f"column of the {role}", name, "") for role, name in facts["columns"].items()),
        ("form of timestamps", facts["form"], ""),
        ("unit of timestamps", facts["unit"], ""),
        ("first", facts["first"], ""),
        ("last", facts["last"], ""),
        ("each user's rows are in the order of time", "yes" if facts["in_order"] else "no", ""),
        ("consecutive rows of a user with equal times", pairs, ".1%"),
        ("users whose last two rows have equal times", last, ".1%"),
        *((name, facts[key], ",") for name, key in _COUNTS.items()),
        *(
            (f"rows of the {role} {label!r}, kept, which reads like a missing value", number, ",")
            for role, counts in facts["like_missing"].items()
            for label, number in counts.items()
        ),
    ]
    found = pd.DataFrame([(name, kit.show(value, form)) for name, value, form in rows], columns=["what", "found"])
    rounds = pd.DataFrame(facts["rounds"], columns=["interactions", "users", "items"])
    rounds.insert(0, "round", [str(number) for number in rounds.index])
    counts = [Column(name, name.capitalize(), ",") for name in ("interactions", "users", "items")]
    parts = kit.table(found, [Column("what", "What"), Column("found", "Found")], caption="How the file was read")
    parts += kit.table(rounds, [Column("round", "Round"), *counts], caption="The 5-core, round by round; 0 is the file")
    if facts["complaints"]:
        bad = pd.DataFrame({"line": facts["complaints"]})
        parts += kit.table(bad, [Column("line", "Line")], caption="The first bad lines that were skipped")
    return parts


_COUNTS = {
    "rows": "interactions",
    "bad lines, skipped": "skipped",
    "users": "users",
    "items": "items",
    "items with a title": "titled",
    "rows with another title than their item's first": "other_titles",
    "repeated pairs of user and item, kept": "repeated",
    "of these at the same time": "duplicates",
}

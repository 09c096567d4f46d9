"""The frame of the ablation: each model as the study runs it beside the same with one decision changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import compare_pairs
from seqrec_lib.experiments.ablation import Variant, configs_of, questions
from seqrec_lib.report.footer import precision_of
from seqrec_lib.report.frames import frame, users
from seqrec_lib.results import RunRecord, RunStore, canonical_json, plain


def changes(
    parameters: Mapping[str, Any], configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore
) -> pd.DataFrame:
    """One row for each pair of a base and its variant, of the seeds that both have: question, variant, the metric of
    both sides, difference (variant minus base, paired by user), low, high and p (Holm's correction over the pairs of a
    question), the same with seen items left out, epochs, seeds, and each side's precision.

    Args:
        parameters: of the notebook: dataset, questions, seeds, epochs, metric.
        configs, records: the plan and what became of it.
    """
    metric = str(parameters["metric"])
    known = {canonical_json(plain(config)): record for config, record in zip(configs, records, strict=True)}
    rows: list[dict[str, Any]] = []
    for question in questions(parameters["questions"]):
        own: list[dict[str, Any]] = []
        sides = [tuple(_runs(side, parameters, known) for side in pair) for pair in question.pairs]
        for (_, variant), (before, after) in zip(question.pairs, sides, strict=True):
            both = set(before["seed"]) & set(after["seed"])
            if both:
                before, after = (side[side["seed"].isin(both)] for side in (before, after))
            values = {"unchanged": before, "changed": after}
            row: dict[str, Any] = {"question": question.title, "variant": variant.label, "seeds": len(both)}
            for name, side in values.items():
                for title, column in ((name, metric), (f"{name} epochs", "epochs")):
                    row[title] = side[column].mean() if column in side else np.nan
                row[f"{name} precision"] = " and ".join(sorted(set(side["precision"])))
            row["arrays"] = [
                (users(after, name, store), users(before, name, store)) if both else (None, None)
                for name in (metric, f"masked_{metric}")
            ]
            own.append(row)
        for place, prefix in enumerate(("", "masked ")):
            arrays = [row["arrays"][place] for row in own]
            there = [i for i, (a, b) in enumerate(arrays) if a is not None and b is not None]
            tests = compare_pairs([("after", arrays[i][0], "before", arrays[i][1]) for i in there])
            names = [f"{prefix}{name}" for name in ("difference", "low", "high", "p")]
            for row in own:
                row |= dict.fromkeys(names, np.nan)
            for i, test in zip(there, tests, strict=True):
                gap = test.difference
                own[i] |= zip(names, (gap.estimate, gap.low, gap.high, test.p_holm), strict=True)
        rows += own
    return pd.DataFrame(rows).drop(columns="arrays")


def _runs(variant: Variant, parameters: Mapping[str, Any], known: Mapping[str, RunRecord | None]) -> pd.DataFrame:
    """The complete runs of a variant, with the precision that each was computed in."""
    records = [known.get(canonical_json(plain(config))) for config in configs_of(variant, parameters)]
    done = [record for record in records if record is not None and record.complete]
    return frame(done).assign(precision=[precision_of(record) or "not on record" for record in done])

"""The frame of the ablation: each model as the study runs it beside the same with one decision changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.experiments.ablation import Variant, configs_of, questions
from seqrec_lib.report.footer import precision_of
from seqrec_lib.report.frames import differences, frame, users
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
    parts = []
    for question in questions(parameters["questions"]):
        rows: list[dict[str, Any]] = []
        ranks: dict[str, list[Any]] = {"": [], "masked ": []}
        for base, variant in question.pairs:
            before, after = (_runs(side, parameters, known) for side in (base, variant))
            both = set(before["seed"]) & set(after["seed"])
            if both:
                before, after = (side[side["seed"].isin(both)] for side in (before, after))
            values = {"unchanged": before, "changed": after}
            row: dict[str, Any] = {"question": question.title, "variant": variant.label, "seeds": len(both)}
            for name, side in values.items():
                for title, column in ((name, metric), (f"{name} epochs", "epochs")):
                    row[title] = side[column].mean() if column in side else np.nan
                row[f"{name} precision"] = " and ".join(sorted(set(side["precision"])))
            rows.append(row)
            for prefix, own in ranks.items():
                name = prefix.replace(" ", "_") + metric
                own.append(tuple(users(side, name, store) if both else None for side in (after, before)))
        tests = [differences(own).add_prefix(prefix) for prefix, own in ranks.items()]
        parts.append(pd.concat([pd.DataFrame(rows), *tests], axis=1))
    return pd.concat(parts, ignore_index=True)


def _runs(variant: Variant, parameters: Mapping[str, Any], known: Mapping[str, RunRecord | None]) -> pd.DataFrame:
    """The complete runs of a variant, with the precision that each was computed in."""
    records = [known.get(canonical_json(plain(config))) for config in configs_of(variant, parameters)]
    done = [record for record in records if record is not None and record.complete]
    return frame(done).assign(precision=[precision_of(record) or "not on record" for record in done])

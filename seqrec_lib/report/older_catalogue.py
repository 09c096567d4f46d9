"""The paper's Hydra4Rec on Amazon: a row of other data beside those of its table, and what the same data say.

By their parameter counts (`sizes`), Hydra4Rec's rows in Tables 1 and 2 belong to the catalogues of 2014, the rows
beside them to those of 2023. On a data set of 2014 the models can be compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seqrec_lib.evaluate.statistics import bootstrap_interval, compare_models
from seqrec_lib.report import sizes
from seqrec_lib.report.html import NONE, Html, paragraph, stack, stacked, table
from seqrec_lib.report.paper import PAPER, model_name, paper_dataset, paper_name
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.report.tables import format_interval

METRIC = "ht@10"


def older_catalogue(runs: Sequence[ModelRuns], dataset: str) -> Html | None:
    """The rows of the paper's table with the data that their sizes fit, beside ours on ``dataset`` of 2014; None where
    that is none of 2014, or where the paper's rows do not differ."""
    original = paper_dataset(dataset) or ""
    found = {f.row.model: f for f in sizes.implied_ids(tuple(row for row in PAPER if row.dataset == original))}
    if "2014" not in dataset or len({f.explained_by for f in found.values()}) < 2:
        return None
    means = {own.model: values for own in runs if own.model in found and (values := own.user_means(METRIC)) is not None}
    body: list[list[str | Html]] = []
    for model, finding in found.items():
        ours: str | Html = NONE
        if model in means:
            ours = stacked(f"{means[model].mean():.4f}", format_interval(bootstrap_interval(means[model])))
        fits = "2014" if finding.fits_2014 else "2023" if finding.fits else "neither"
        body.append([model_name(model), str(finding.row.ht), str(finding.row.parameters), fits, ours])
    listed = table(
        ["Model", "Paper's HT@10", "Its size", "Fits data of", "HT@10 here"],
        body,
        caption=f"Rows of two data sets in one table: {paper_name(original)}, and the catalogue of 2014",
        notes=["Here: all models on the data of 2014, with 95 % intervals over users."],
    )
    return stack([listed, *([paragraph(text)] if (text := _sentence(found, means)) else [])])


def _sentence(found: Mapping[str, sizes.SizeFinding], means: Mapping[str, np.ndarray]) -> str:
    """Hydra4Rec against Mamba4Rec: as printed, of two catalogues, and here, of one."""
    pair = ("hydra4rec", "mamba4rec")
    printed = [found[model].row.ht for model in pair if model in means]
    if len(printed) < 2 or printed[0] is None or printed[1] is None:
        return ""
    (test,) = compare_models({model: means[model] for model in pair})
    base, gap, there = float(means["mamba4rec"].mean()), test.difference, printed[0].value / printed[1].value - 1
    here = f"{gap.estimate / base:+.1%} ({gap.low / base:+.1%} to {gap.high / base:+.1%})"
    meaning = (
        "The distance in the paper's table is then one of data more than of models."
        if gap.high / base < there
        else "That does not exclude the paper's distance."
    )
    return (
        f"In the paper, Hydra4Rec's HT@10 differs from Mamba4Rec's by {there:+.0%}, but by their sizes the two ran "
        f"on two catalogues. On one, here, it differs by {here}. {meaning}"
    )

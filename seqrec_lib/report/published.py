"""What other code bases report on the study's data sets: how far the paper's rows and ours are from the field's.

Every figure is of a leave-one-out split by time with all items ranked, and as its source prints it. A row's order of
time is that of the code it comes from; ours are held against the rows of the same order. The sources also differ in the
filter of rare items and in tuning, so that no verdict is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from seqrec_lib.data.registry import DATASETS, base_name
from seqrec_lib.report.claims import SSM
from seqrec_lib.report.html import NONE, Html, link, paragraph, stack, table
from seqrec_lib.report.paper import dataset_name

KLENITSKIY = ("Klenitskiy and Vasilev 2023", "https://arxiv.org/abs/2309.07602")
MODULAR = ("eSASRec's benchmark", "https://github.com/blondered/transformer_benchmark")
META = ("HSTU's repository", "https://github.com/facebookresearch/generative-recommenders")
MAMBA4REC = ("Mamba4Rec's paper", "https://arxiv.org/abs/2403.03900")
TIM4REC = ("TiM4Rec, issue 1", "https://github.com/AlwaysFHao/TiM4Rec/issues/1")
DISAM4REC = ("DiSAM4Rec's repository", "https://github.com/HammerLau/DiSAM4Rec")
MAMBA4REC_8 = ("Mamba4Rec, issue 8", "https://github.com/chengkai-liu/Mamba4Rec/issues/8")


@dataclass(frozen=True)
class Reported:
    """One row of somebody else's table.

    masked: seen items are no candidates; ndcg: None where nothing is printed
    order: of time, in the code that the row comes from; "unstable": that of a sort whose ties fall as the processor's
        algorithm has them
    """

    model: str
    masked: bool
    ht: str
    ndcg: str | None
    source: tuple[str, str]
    order: Literal["true", "recbole", "unstable"] = "true"


ORDER_NAMES = {"true": "true", "recbole": "RecBole's", "unstable": "of an unstable sort"}


REPORTED: dict[str, tuple[Reported, ...]] = {
    "ml-1m": (
        Reported("GRU4Rec", False, "0.2990", "0.1716", DISAM4REC, "recbole"),
        Reported("SASRec", False, "0.2990", "0.1693", DISAM4REC, "recbole"),
        Reported("Mamba4Rec", False, "0.3098", "0.1776", DISAM4REC, "recbole"),
        Reported("Mamba4Rec", False, "0.3121", "0.1822", MAMBA4REC, "recbole"),
        Reported("Mamba4Rec, run again", False, "0.3169", None, TIM4REC, "recbole"),
        Reported("Mamba4Rec, two layers", False, "0.3253", None, TIM4REC, "recbole"),
        Reported("SIGMA", False, "0.3283", "0.1911", DISAM4REC, "recbole"),
        Reported("DiSAM4Rec", False, "0.3344", "0.1973", DISAM4REC, "recbole"),
        Reported("SASRec, sampled softmax", True, "0.2853", "0.1603", META, "unstable"),
        Reported("SASRec, sampled softmax", True, "0.2929", "0.1684", MODULAR),
        Reported("HSTU", True, "0.3037", "0.1719", MODULAR),
        Reported("eSASRec", True, "0.3133", "0.1772", MODULAR),
        Reported("SASRec, full softmax", True, "0.3152", "0.1821", KLENITSKIY),
        Reported("FuXi-α", True, "0.3164", "0.1813", MODULAR),
        Reported("HSTU-large", True, "0.3294", "0.1893", META, "unstable"),
    ),
    "amazon-2014-beauty": (
        Reported("Mamba4Rec, run again", False, "0.0734", "0.0431", MAMBA4REC_8),
        Reported("HSTU", True, "0.0788", "0.0439", MODULAR),
        Reported("FuXi-α", True, "0.0809", "0.0451", MODULAR),
        Reported("SASRec, sampled softmax", True, "0.0921", "0.0531", MODULAR),
        Reported("eSASRec", True, "0.0928", "0.0523", MODULAR),
    ),
}
"""By data set; first those that rank seen items too, then those that do not, by HT@10."""


def reported_table(dataset: str, frame: pd.DataFrame) -> Html | None:
    """The rows of others; with a sentence that sets ours beside them, of those that have the data set's order of time.
    None where no rows are known.

    Args:
        frame: of `tables.accuracy_frame`, with HT@10 among its metrics for the sentence.
    """
    base = base_name(dataset)
    rows = REPORTED.get(base)
    if rows is None:
        return None
    body: list[list[str | Html]] = [
        [
            *(row.model, "left out" if row.masked else "ranked", ORDER_NAMES[row.order], row.ht, row.ndcg or NONE),
            link(*row.source),
        ]
        for row in rows
    ]
    listed = table(
        ["Model", "Seen items", "Order of time", "HT@10", "NDCG@10", "Source"],
        body,
        caption=f"What others report on {dataset_name(base)}: leave one out, all items ranked",
        notes=(
            "Order of time: of the published code; whether a printed number comes from that very code is not known.",
            "The sources also differ in the filter of rare items and in tuning.",
        ),
        left=(0, 1, 2, 5),
    )
    order = DATASETS[dataset].order if dataset in DATASETS else "true"
    alike = tuple(row for row in rows if row.order == order)
    sentences = [sentence for masked in (False, True) if (sentence := _beside(alike, frame, masked))]
    return stack([listed, *(paragraph(sentence) for sentence in sentences)])


def _beside(rows: tuple[Reported, ...], frame: pd.DataFrame, masked: bool) -> str:
    """The ranges of others and of SASRec and the state space models here, with seen items ranked or not."""
    others = [float(row.ht) for row in rows if row.masked == masked]
    column = "masked_mean" if masked else "mean"
    trained = frame["model"].str.split("+").str[0].isin(("sasrec", *SSM))
    own = frame[(frame["metric"] == "ht@10") & frame[column].notna() & trained]
    if own.empty or not others:
        return ""
    told = own["model"].str.endswith("+repeats")
    parts = [f"{_range(own[~told][column])} here"] if not told.all() else []
    parts += [f"{_range(own[told][column])} with a repeat bias"] if told.any() else []
    where = "Without seen items" if masked else "Among all items"
    return f"{where} and in the same order of time, HT@10 is {_range(others)} there, {' and '.join(parts)}."


def _range(values: pd.Series | list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4f}" if f"{low:.4f}" == f"{high:.4f}" else f"{low:.4f} to {high:.4f}"

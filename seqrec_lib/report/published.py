"""What other code bases report on the study's data sets: how far the paper's rows and ours are from the field's.

Every figure is of a leave-one-out split by time with all items ranked, and as its source prints it. A row's order of
time is that of the code it comes from; ours are held against the rows of the same order. The sources also differ in the
filter of rare items and in tuning, so that no verdict is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from seqrec_lib.data.registry import base_name
from seqrec_lib.report.html import link

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


def reported(dataset: str) -> pd.DataFrame:
    """What others report on the collection behind ``dataset``: model, seen items, order of time, HT@10, NDCG@10,
    source; empty where none are known."""
    rows = [
        (
            row.model,
            "left out" if row.masked else "ranked",
            ORDER_NAMES[row.order],
            float(row.ht),
            None if row.ndcg is None else float(row.ndcg),
            link(*row.source),
        )
        for row in REPORTED.get(base_name(dataset), ())
    ]
    return pd.DataFrame(rows, columns=["model", "seen", "order", "ht", "ndcg", "source"])

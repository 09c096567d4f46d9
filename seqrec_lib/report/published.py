"""What other code bases report on the study's data sets: how far the paper's rows and ours are from the field's.

Every figure is of a leave-one-out split by time with all items ranked, and as its source prints it. A row's order of
time is that of the code it comes from; ours are held against the rows of the same order. The sources also differ in the
filter of rare items and in tuning, so that no verdict is made of them.
"""

from __future__ import annotations

import pandas as pd

from seqrec_lib.data.registry import base_name
from seqrec_lib.report.html import link

Source = tuple[str, str]
KLENITSKIY = ("Klenitskiy and Vasilev 2023", "https://arxiv.org/abs/2309.07602")
MODULAR = ("eSASRec's benchmark", "https://github.com/blondered/transformer_benchmark")
META = ("HSTU's repository", "https://github.com/facebookresearch/generative-recommenders")
MAMBA4REC = ("Mamba4Rec's paper", "https://arxiv.org/abs/2403.03900")
TIM4REC = ("TiM4Rec, issue 1", "https://github.com/AlwaysFHao/TiM4Rec/issues/1")
DISAM4REC = ("DiSAM4Rec's repository", "https://github.com/HammerLau/DiSAM4Rec")
MAMBA4REC_8 = ("Mamba4Rec, issue 8", "https://github.com/chengkai-liu/Mamba4Rec/issues/8")
TRUE, RECBOLE = "true", "RecBole's"
UNSTABLE = "of an unstable sort"  # whose ties fall as the processor's algorithm has them
COLUMNS = ["model", "seen", "order", "ht", "ndcg", "source"]

REPORTED: dict[str, list[tuple[str, str, str, float, float | None, Source]]] = {
    "ml-1m": [
        ("GRU4Rec", "ranked", RECBOLE, 0.2990, 0.1716, DISAM4REC),
        ("SASRec", "ranked", RECBOLE, 0.2990, 0.1693, DISAM4REC),
        ("Mamba4Rec", "ranked", RECBOLE, 0.3098, 0.1776, DISAM4REC),
        ("Mamba4Rec", "ranked", RECBOLE, 0.3121, 0.1822, MAMBA4REC),
        ("Mamba4Rec, run again", "ranked", RECBOLE, 0.3169, None, TIM4REC),
        ("Mamba4Rec, two layers", "ranked", RECBOLE, 0.3253, None, TIM4REC),
        ("SIGMA", "ranked", RECBOLE, 0.3283, 0.1911, DISAM4REC),
        ("DiSAM4Rec", "ranked", RECBOLE, 0.3344, 0.1973, DISAM4REC),
        ("SASRec, sampled softmax", "left out", UNSTABLE, 0.2853, 0.1603, META),
        ("SASRec, sampled softmax", "left out", TRUE, 0.2929, 0.1684, MODULAR),
        ("HSTU", "left out", TRUE, 0.3037, 0.1719, MODULAR),
        ("eSASRec", "left out", TRUE, 0.3133, 0.1772, MODULAR),
        ("SASRec, full softmax", "left out", TRUE, 0.3152, 0.1821, KLENITSKIY),
        ("FuXi-α", "left out", TRUE, 0.3164, 0.1813, MODULAR),
        ("HSTU-large", "left out", UNSTABLE, 0.3294, 0.1893, META),
    ],
    "amazon-2014-beauty": [
        ("Mamba4Rec, run again", "ranked", TRUE, 0.0734, 0.0431, MAMBA4REC_8),
        ("HSTU", "left out", TRUE, 0.0788, 0.0439, MODULAR),
        ("FuXi-α", "left out", TRUE, 0.0809, 0.0451, MODULAR),
        ("SASRec, sampled softmax", "left out", TRUE, 0.0921, 0.0531, MODULAR),
        ("eSASRec", "left out", TRUE, 0.0928, 0.0523, MODULAR),
    ],
}
"""By data set, in these columns (seen items; order of time in the code that the row comes from; HT@10 and NDCG@10, None
where nothing is printed): first those that rank seen items too, then those that do not, by HT@10."""


def reported(dataset: str) -> pd.DataFrame:
    """What others report on the collection behind ``dataset``, in `COLUMNS`; empty where none are known."""
    frame = pd.DataFrame(REPORTED.get(base_name(dataset), []), columns=COLUMNS)
    return frame.assign(source=[link(*source) for source in frame["source"]])

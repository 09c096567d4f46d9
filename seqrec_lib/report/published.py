"""What other code bases report on the study's data sets: how far the paper's rows and ours are from the field's.

Every figure is of a leave-one-out split by time with all items ranked, and as its source prints it. A row's order of
time is that of the code it comes from; ours are held against the rows of the same order. Ties "of an
unstable sort" fall as the processor's algorithm has them. The sources also differ in the filter of rare items and in
tuning, so that no verdict is made of them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from seqrec_lib.data.registry import base_name
from seqrec_lib.report.html import link

REPORTED = pd.read_csv(Path(__file__).with_name("published.csv"))
"""By data set: seen items ("ranked", "left out"), the order of time in the code that a row comes from, HT@10, NDCG@10
(nothing where none is printed) and source. First those that rank seen items too, then those that do not, by HT@10."""


def reported(dataset: str) -> pd.DataFrame:
    """What others report on the collection behind ``dataset``; empty where nothing is known."""
    rows = REPORTED[REPORTED["dataset"] == base_name(dataset)].reset_index(drop=True)
    sources = [link(*source) for source in zip(rows["source"], rows["address"], strict=True)]
    return rows[["model", "seen", "order", "ht", "ndcg"]].assign(source=sources)

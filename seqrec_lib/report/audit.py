"""Frames of the page "What does not add up": the paper's numbers held against each other.

Nothing here needs data or models: all of it is computed from the printed tables.
"""

from __future__ import annotations

import pandas as pd

from seqrec_lib.report import sizes
from seqrec_lib.report.feasibility import feasible, mrr_range, rounding_needed
from seqrec_lib.report.paper import METRICS, MOVIELENS, PAPER, model_name, paper_name, paper_row


def rows(rounding: float) -> pd.DataFrame:
    """Every row of Tables 1 to 3: table, model, the printed metrics, the MRR@10 that its HT@10 and NDCG@10 allow, the
    rounding needed (units of the last digit), whether ``rounding`` suffices, and whether all metrics are printed."""
    found = []
    for row in PAPER:
        allowed = mrr_range(row.metrics["ht@10"], row.metrics["ndcg@10"], rounding)
        found.append(
            {"table": f"Table {row.table}, {paper_name(row.dataset)}", "model": model_name(row.model)}
            | {name: str(row.metrics[name]) if name in row.metrics else None for name in METRICS}
            | {"allowed": None if allowed is None else f"{allowed[0]:.4f} to {allowed[1]:.4f}"}
            | {"rounding": rounding_needed(row.metrics), "possible": "yes" if feasible(row, rounding) else "no"}
            | {"complete": len(row.metrics) == len(METRICS)}
        )
    return pd.DataFrame(found)


def implied_catalogues() -> pd.DataFrame:
    """For each model with an item embedding: the catalogue that its printed size implies at width 64, and Table 4's."""
    rows = [
        {
            "table": f"Table {row.table}",
            "model": model_name(row.model),
            "size": str(row.parameters),
            "body": str(row.body or f"{sizes.hydra_body():,}"),
            "implied": f"{ids[0]:,} to {ids[-1]:,}",
            "table_4": sizes.table_4_ids(row.dataset),
            "explained": sizes.explained_by(row),
        }
        for row in PAPER
        if (ids := sizes.implied_ids(row))
    ]
    return pd.DataFrame(rows)


def sasrec_lengths() -> pd.DataFrame:
    """SASRec's parameters on MovieLens 1M by maximal length, the printed number, and whether that rounds to it."""
    row = paper_row(MOVIELENS, "sasrec")
    assert row is not None
    low, high = row.parameters.range()
    counts = {length: sizes.sasrec(sizes.table_4_ids(MOVIELENS), length) for length in (50, 100, 200)}
    return pd.DataFrame(
        [
            {"length": n, "parameters": count, "printed": str(row.parameters)}
            | {"fits": "yes" if low <= count <= high else "no"}
            for n, count in counts.items()
        ]
    )

"""Frames of the page "What does not add up": the paper's numbers held against each other.

Nothing here needs data or models: all of it is computed from the printed tables.
"""

from __future__ import annotations

import pandas as pd

from seqrec_lib.report import feasibility, sizes
from seqrec_lib.report.paper import METRICS, MOVIELENS, model_name, paper_name


def rows(rounding: float) -> pd.DataFrame:
    """Every row of Tables 1 to 3 that prints two metrics or more: table, model, the printed metrics, the MRR@10 that
    its HT@10 and NDCG@10 allow, the rounding needed (units of the last digit), and whether ``rounding`` suffices."""
    found = []
    for item in feasibility.audit():
        row = item.row
        both = row.ht is not None and row.ndcg is not None
        allowed = feasibility.mrr_range(row.ht, row.ndcg, rounding) if both else None  # type: ignore[arg-type]
        found.append(
            {
                "table": f"Table {row.table}, {paper_name(row.dataset)}",
                "model": model_name(row.model),
                **{name: None if row.metric(name) is None else str(row.metric(name)) for name in METRICS},
                "allowed": None if allowed is None else f"{allowed[0]:.4f} to {allowed[1]:.4f}",
                "rounding": item.rounding_needed,
                "possible": "yes" if item.feasible(rounding) else "no",
                "complete": row.complete,
            }
        )
    return pd.DataFrame(found)


def implied_catalogues() -> pd.DataFrame:
    """For each model with an item embedding: the catalogue that its printed size implies at width 64, and Table 4's."""
    rows = []
    for found in sizes.implied_ids():
        row, implied = found.row, f"{found.ids_low:,} to {found.ids_high:,}"
        body = f"{found.body:,.0f}" if row.body is None else str(row.body)
        about = (f"Table {row.table}", model_name(row.model), str(row.parameters))
        rows.append((*about, body, implied, found.ids_table_4, found.explained_by))
    return pd.DataFrame(rows, columns=["table", "model", "size", "body", "implied", "table_4", "explained"])


def sasrec_lengths() -> pd.DataFrame:
    """SASRec's parameters on MovieLens 1M by maximal length, the printed number, and whether that rounds to it."""
    printed = next(
        found.row.parameters
        for found in sizes.implied_ids()
        if found.row.model == "sasrec" and found.row.dataset == MOVIELENS
    )
    low, high = printed.range()
    counts = {length: sizes.sasrec(sizes.table_4_ids(MOVIELENS), length) for length in (50, 100, 200)}
    return pd.DataFrame(
        [
            {"length": n, "parameters": count, "printed": str(printed), "fits": "yes" if low <= count <= high else "no"}
            for n, count in counts.items()
        ]
    )

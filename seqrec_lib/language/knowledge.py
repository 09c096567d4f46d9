"""Where a ranker's order of candidates comes from: accuracy by the target's release year and by its popularity.

A model that has read the web knows old and much-discussed films by more than this data set says of them; one that only
learnt which letter holds a popular item does not. Every group stands beside the retriever's order and popularity on the
same users, those whose target is a candidate. The counterpart is a ranker whose titles are shuffled among the items.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.models.popularity import Popularity

RANKS = ("rank", "retriever_rank", "popularity_rank")
YEAR = re.compile(r"\((\d{4})\)")


def release_years(sequences: Sequences) -> np.ndarray:
    """(n_items + 1,) the year in brackets that a title ends with, as MovieLens has it; 0 where there is none."""
    found = [YEAR.findall(title) for title in sequences.titles]
    return np.array([int(years[-1]) if years else 0 for years in found], dtype=np.int64)


def by_year(ranks: pd.DataFrame, sequences: Sequences, parts: int = 4) -> pd.DataFrame:
    """`in_groups` of about equally many users by the target's release year; targets without one are left out."""
    return in_groups(ranks, release_years(sequences)[sequences.split("test").targets], parts)


def by_popularity(ranks: pd.DataFrame, sequences: Sequences, parts: int = 4) -> pd.DataFrame:
    """`in_groups` of about equally many users by the target's training interactions."""
    return in_groups(ranks, Popularity(sequences).counts.numpy()[sequences.split("test").targets], parts)


def in_groups(ranks: pd.DataFrame, values: np.ndarray, parts: int) -> pd.DataFrame:
    """NDCG@10 of each order of the candidates in groups of users.

    Args:
        ranks: the table "ranks" of a ranker's run, one row for each test user. values: (n,) what users are grouped by;
            0 leaves a user out.

    Returns:
        one row for each group: from, to (its smallest and largest value), users, and a column for each of `RANKS`.
    """
    asked = (ranks["place"].to_numpy() >= 0) & (values > 0)
    edges: Any = (
        np.unique(np.quantile(values[asked], np.linspace(0, 1, parts + 1), method="lower")) if asked.any() else []
    )
    rows = []
    for number, (low, high) in enumerate(itertools.pairwise(edges), 1):
        last = number == len(edges) - 1
        own = asked & (values >= low) & ((values <= high) if last else (values < high))
        row = {"from": int(values[own].min()), "to": int(values[own].max()), "users": int(own.sum())}
        rows.append(row | {name: rank_metrics(ranks[name].to_numpy()[own], (10,))["ndcg@10"] for name in RANKS})
    return pd.DataFrame(rows, columns=["from", "to", "users", *RANKS])

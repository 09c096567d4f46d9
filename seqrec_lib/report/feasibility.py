"""Can a printed HT@10, NDCG@10 and MRR@10 come from one ranked list per user?

With one target per user, all three are means over the same distribution of ranks. Let p_r be the share of
users whose target has rank r (r = 1 .. k; the rest of the users miss). Then

    HT@k = sum_r p_r        NDCG@k = sum_r p_r / log2(r + 1)        MRR@k = sum_r p_r / r

with p_r >= 0 and sum_r p_r <= 1. Whether numbers (h, n, m), each printed with some rounding, allow such a p
is a linear program. It is solved here for the *least* rounding t, in units of the last printed place, that
makes a row possible: t <= 0.5 means that correct rounding explains the row, t <= 1 that cutting digits off
would.

An infeasible row is no proof of an error: the three numbers may be of different lists, cut-offs or subsets of
users.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linprog

from seqrec_lib.report.paper import PaperRow, Printed

TOLERANCE = 1e-6
"""Slack on t, in units of the last place: the solver works to about 1e-9, rows differ by 1e-2 and more."""
K = 10  # the cut-off
RANKS = np.arange(1, K + 1)
GAINS = {"ht@10": np.ones(K), "ndcg@10": 1 / np.log2(RANKS + 1), "mrr@10": 1 / RANKS}
"""What a target at rank 1 .. K adds to each metric, shape (K,) each."""


def rounding_needed(printed: Mapping[str, Printed]) -> float:
    """The least t such that one distribution of ranks gives every metric within t units of its last place.

    ``printed`` maps any of "ht@10", "ndcg@10" and "mrr@10" to its number. The program minimises t over
    p_1 .. p_K >= 0, sum p <= 1, |gain . p - value| <= t unit for each metric.

    If every hit is at rank 1, all three metrics agree:

    >>> same = {"ht@10": Printed("0.10"), "ndcg@10": Printed("0.10"), "mrr@10": Printed("0.10")}
    >>> round(rounding_needed(same), 6)
    0.0

    No hit at rank 2 or below adds more to NDCG or MRR than to HT, so that NDCG can't exceed HT. Here 0.10 and
    0.20 must meet in the middle, 5 units from each:

    >>> round(rounding_needed({"ht@10": Printed("0.10"), "ndcg@10": Printed("0.20")}), 6)
    5.0

    And where HT and NDCG say "all at rank 1", MRR can't be a half of them:

    >>> rounding_needed(same | {"mrr@10": Printed("0.05")}) > 1
    True
    """
    above, limits = [np.append(np.ones(K), 0.0)], [1.0]
    for name, number in printed.items():
        above += [np.append(sign * GAINS[name], -number.unit) for sign in (1, -1)]
        limits += [number.value, -number.value]
    # One solution always exists (p = 0 with a large t), and t is bounded below by 0.
    solution = linprog(np.append(np.zeros(K), 1.0), A_ub=np.array(above), b_ub=np.array(limits), method="highs")
    assert solution.status == 0, solution.message
    return float(solution.fun)


def mrr_range(ht: Printed, ndcg: Printed, rounding: float = 0.5) -> tuple[float, float] | None:
    """The lowest and highest MRR@K that a printed HT@K and NDCG@K allow; None where those two exclude each other.

    >>> low, high = mrr_range(Printed("0.1000"), Printed("0.1000"), rounding=0)
    >>> round(low, 9), round(high, 9)
    (0.1, 0.1)
    """
    above, limits = [np.ones(K)], [1.0]
    for name, number in (("ht@10", ht), ("ndcg@10", ndcg)):
        low, high = number.range(rounding)
        above += [GAINS[name], -GAINS[name]]
        limits += [high, -low]
    ends = []
    for sign in (1.0, -1.0):
        solution = linprog(sign * GAINS["mrr@10"], A_ub=np.array(above), b_ub=np.array(limits), method="highs")
        if solution.status == 2:  # infeasible
            return None
        assert solution.status == 0, solution.message
        ends.append(sign * float(solution.fun))
    return ends[0], ends[1]


def feasible(row: PaperRow, rounding: float = 0.5) -> bool:
    """Whether numbers that are off by at most ``rounding`` units of their last place explain a row of the paper."""
    return rounding_needed(row.metrics) <= rounding + TOLERANCE

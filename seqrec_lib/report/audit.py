"""Tables of the page "What does not add up": the paper's numbers held against each other.

Nothing here needs data or models: all of it is computed from the printed tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from seqrec_lib.report import feasibility, sizes
from seqrec_lib.report.claims import latency_ratios
from seqrec_lib.report.feasibility import Feasibility
from seqrec_lib.report.figures import rounding_chart
from seqrec_lib.report.html import NONE, Html, table
from seqrec_lib.report.paper import METRICS, MOVIELENS, PaperRow, model_name, paper_name


def _place(row: PaperRow) -> str:
    return f"Table {row.table}, {model_name(row.model)}"


def feasibility_table(found: Sequence[Feasibility], rounding: float) -> Html:
    """Every row of Tables 1 to 3: printed numbers, the MRR that HT and NDCG allow, the rounding needed."""
    rows = []
    for item in found:
        row = item.row
        allowed = None
        if row.ht is not None and row.ndcg is not None:
            allowed = feasibility.mrr_range(row.ht, row.ndcg, rounding)
        rows.append(
            [
                _place(row),
                *(str(row.metric(name) or NONE) for name in METRICS),
                "none" if allowed is None else f"{allowed[0]:.4f} to {allowed[1]:.4f}",
                f"{item.rounding_needed:.2f}",
                ("yes" if item.feasible(rounding) else "no") + ("" if row.complete else " (two numbers)"),
            ]
        )
    return table(
        ["Row", "HT@10", "NDCG@10", "MRR@10", "MRR allowed", "Rounding", "Possible?"],
        rows,
        caption=f"Can a row come from one ranking, each number off by up to {rounding:g} of its last digit?",
        left=(0, 6),
    )


def feasibility_sentence(found: Sequence[Feasibility], rounding: float) -> str:
    """The count: how many complete rows are impossible at this rounding, and which."""
    complete = [item for item in found if item.row.complete]
    impossible = [item for item in complete if not item.feasible(rounding)]
    names = ", ".join(f"{model_name(item.row.model)} ({paper_name(item.row.dataset)})" for item in impossible)
    return (
        f"With {rounding:g} units of rounding in each number, {len(impossible)} of the {len(complete)} "
        f"complete rows cannot come from one ranking" + (f": {names}." if names else ".")
    )


def feasibility_figure(found: Sequence[Feasibility], rounding: float) -> Figure:
    """The rounding that each complete row needs, beside what is allowed."""
    complete = [item for item in found if item.row.complete]
    return rounding_chart(
        [_place(item.row) for item in complete], [item.rounding_needed for item in complete], rounding
    )


def sizes_table() -> Html:
    """For every model with an item embedding: the ids that the printed size implies, and Table 4's."""
    rows = [
        [
            _place(found.row),
            str(found.row.parameters),
            f"{found.body:,.0f}" if found.row.body is None else str(found.row.body),
            f"{found.ids_low:,} to {found.ids_high:,}",
            f"{found.ids_table_4:,}",
            found.explained_by,
        ]
        for found in sizes.implied_ids()
    ]
    return table(
        ["Row", "Size", "Body", "Ids implied", "Table 4", "Explained by"],
        rows,
        caption="Which catalogue explains the printed parameter count, at width 64?",
        left=(0, 5),
    )


def sasrec_lengths(lengths: Sequence[int] = (50, 100, 200)) -> Html:
    """SASRec's parameter count on ML-1M by maximal length, beside the printed one."""
    printed = next(
        f.row.parameters for f in sizes.implied_ids() if f.row.model == "sasrec" and f.row.dataset == MOVIELENS
    )
    low, high = printed.range()
    counts = {length: sizes.sasrec(sizes.table_4_ids(MOVIELENS), length) for length in lengths}
    rows = [
        [str(length), f"{count:,}", str(printed), "yes" if low <= count <= high else "no"]
        for length, count in counts.items()
    ]
    return table(
        ["Maximal length", "SASRec's parameters", "Printed", "Rounds to it"],
        rows,
        caption="SASRec (RecBole's size) on MovieLens 1M: which history length did the paper use?",
        left=(0, 3),
    )


def latency_table() -> Html:
    """Printed latencies as ratios, by data set: what the claims on speed rest on."""
    pairs = [
        ("sasrec", "mamba4rec"),
        ("sasrec", "hydra4rec"),
        ("mamba4rec", "hydra4rec"),
        ("mamrec", "gpt4rec"),
    ]
    ratios = [(slow, fast, latency_ratios(slow, fast)) for slow, fast in pairs]
    return table(
        ["Latency of", *(paper_name(name) for name in ratios[0][2])],
        [[f"{model_name(a)} over {model_name(b)}", *(f"{value:.2f}" for value in by.values())] for a, b, by in ratios],
        caption="The paper's printed latencies as ratios",
    )

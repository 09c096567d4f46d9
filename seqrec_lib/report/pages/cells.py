"""Every number of the paper's Tables 1 to 4 beside ours (book/cells.md): one row for each cell.

A cell is compared with a run on the data that it is about: MovieLens 1M in RecBole's order of time, which the code that
the paper is built on gives, and Beauty 2014 for Hydra4Rec's row of Table 1, which its parameter count names. Counts of
parameters are compared with the models' own, at the catalogues of Table 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.report import html, kit, paper
from seqrec_lib.report.feasibility import feasible
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.html import NONE, Html
from seqrec_lib.report.sizes import WIDTH, about_the_same_data, hydra_body, sasrec, table_4_ids
from seqrec_lib.report.timings import Timings
from seqrec_lib.report.values import table, value

RECBOLE = "ml-1m-recbole"
WORDS = {"matches": "reproduced", "ours higher": "higher", "ours lower": "lower"}
BASES = {  # data set that a run of ours is on -> what the table calls it
    RECBOLE: "RecBole's order",
    "amazon-2014-beauty": "Beauty 2014",
    "amazon-2018-video-games": "Video Games 2018",
}
COUNTED, ONE_CORE = "counted", "one CPU core"
COMMANDS = {
    **{
        name: f"seqrec study --profile paper --notebook accuracy --dataset {dataset}" for dataset, name in BASES.items()
    },
    ONE_CORE: "seqrec study --profile paper --notebook latency",
    COUNTED: "seqrec study --profile paper --notebook audit",
}
"""What ours is from -> the command that makes it again; `book/cells.md` lists them."""
TITLES = {"ht@10": "HT@10", "ndcg@10": "NDCG@10", "mrr@10": "MRR@10"}


def cells(runs: Runs) -> pd.DataFrame:
    """One row for each printed number: table, data, model, quantity, paper (as printed), ours with low and high (None
    where there is none), basis (what ours is from), verdict and possible.

    verdict: "reproduced", "higher", "lower" (ours beside the paper's, by `paper.verdict`); "other data", "other
    hardware", "infeasible" (no list of recommendations has the three metrics of this row as printed) or "not run".
    possible: whether one list of recommendations can have the row's metrics as printed; None for other cells.
    """
    frame, run_ids = _cells(runs)
    runs.given.update(run_ids)
    return frame


@lru_cache(maxsize=2)  # a page asks for it once for each of its numbers
def _cells(runs: Runs) -> tuple[pd.DataFrame, frozenset[str]]:
    """`cells`, and the runs that they are of."""
    runs = runs.within(runs.scope)
    runs.__dict__["given"] = set()
    rows: list[dict[str, Any]] = []
    for row in paper.PAPER:
        about = {"table": row.table, "data": paper.paper_name(row.dataset), "model": paper.model_name(row.model)}
        latency = [_latency(runs, row)] if row.latency else []
        rows += [about | cell for cell in (*_quality(runs, row), *latency, *_sizes(runs, row))]
    rows += _counts(runs)
    columns = ["table", "data", "model", "quantity", "paper", "ours", "low", "high", "basis", "verdict", "possible"]
    return pd.DataFrame(rows, columns=columns), frozenset(runs.given)


def _quality(runs: Runs, row: paper.PaperRow) -> Iterator[dict[str, Any]]:
    ours, same = _basis(row)
    possible = feasible(row)
    for metric, printed in row.metrics.items():
        found = runs.interval(ours, row.model, metric)
        cell = {"quantity": TITLES[metric], "paper": str(printed), "possible": possible}
        if np.isnan(found.estimate):
            yield cell | {"verdict": "not run" if possible else "infeasible"}
            continue
        word: str = paper.verdict(printed, found.estimate, found, comparable=same)
        word = "infeasible" if word == "other data" and not possible else word
        mine = {"ours": found.estimate, "low": found.low, "high": found.high, "basis": BASES[ours]}
        yield cell | mine | {"verdict": WORDS.get(word, word)}


def _basis(row: paper.PaperRow) -> tuple[str, bool]:
    """The data set of ours to hold a row against, and whether it is the data that the row is about."""
    if row.dataset == paper.MOVIELENS:
        return RECBOLE, True
    ours = next(ours for ours, theirs in paper.STAND_INS.items() if theirs == row.dataset)
    return ours, about_the_same_data(row, ours)


def _latency(runs: Runs, row: paper.PaperRow) -> dict[str, Any]:
    cell = {"quantity": "latency", "paper": str(row.latency), "verdict": "not run"}
    try:
        timings = Timings.newest(runs, "ml-1m" if row.dataset == paper.MOVIELENS else _basis(row)[0])
    except NotRun:
        return cell
    if (row.model, "served") not in timings.rows:
        return cell
    median = timings.median(row.model, "served")
    seconds = {"ours": median.estimate / 1e6, "low": median.low / 1e6, "high": median.high / 1e6}
    return cell | seconds | {"basis": ONE_CORE, "verdict": "other hardware"}


def _sizes(runs: Runs, row: paper.PaperRow) -> Iterator[dict[str, Any]]:
    """Parameters in all and, where the paper prints them, without the item embedding."""
    body = _body(runs, row.model)
    total = None if body is None else body + WIDTH * table_4_ids(row.dataset)
    for quantity, printed, count in (("parameters", row.parameters, total), ("without embedding", row.body, body)):
        if printed is not None:
            word = paper.verdict(printed, None if count is None else float(count))
            mine = {} if count is None else {"ours": float(count), "basis": COUNTED}
            yield {"quantity": quantity, "paper": str(printed), "verdict": WORDS.get(word, word)} | mine


def _body(runs: Runs, model: str) -> int | None:
    """Parameters without the item embedding; None for what was not run and for language models, which ours stand in
    for."""
    counted = {"sasrec": sasrec(0, 50), "hydra4rec": hydra_body()}
    if model in counted or model in paper.LANGUAGE:
        return counted.get(model)
    try:
        return int(runs.seeds("ml-1m", model)[0].cost["parameters_without_embeddings"])
    except NotRun:
        return None


def _counts(runs: Runs) -> Iterator[dict[str, Any]]:
    """Table 4: users, items and reviews after the 5-core."""
    try:
        counts = runs.seeds(RECBOLE, "popularity")[0].dataset
    except NotRun:
        counts = {}
    for row in paper.TABLE_4:
        for quantity, attribute in (("users", "n_users"), ("items", "n_items"), ("reviews", "n_interactions")):
            printed = getattr(row, quantity)
            cell = {"table": 4, "data": row.name, "model": NONE, "quantity": quantity, "paper": f"{printed:,}"}
            cell["verdict"] = "not run"
            if row.dataset == paper.MOVIELENS and counts:
                ours = float(counts[attribute])
                padding = 0 if quantity == "reviews" else 1  # RecBole counts the padding id among users and items
                gap = ours + padding - printed
                word = "reproduced" if gap == 0 else "lower" if gap < 0 else "higher"
                cell |= {"ours": ours, "basis": BASES[RECBOLE], "verdict": word}
            yield cell


@table(
    "paper-cells",
    kit.Column("model", "Model"),
    kit.Column("quantity", "Number"),
    kit.Column("paper", "Paper"),
    kit.Column("shown", "Ours"),
    kit.Column("verdict", "Verdict"),
    kit.Column("basis", "Ours is from"),
    kit.Column("data", "Data"),
    kit.Column("table", "Table"),
    filters=("table", "data", "model", "quantity", "verdict"),
    csv=("ours", "low", "high", "row", "command"),
)
def _table(runs: Runs) -> pd.DataFrame:
    frame = cells(runs).copy()
    frame["shown"] = [_show(row) for row in frame.to_dict("records")]
    frame["command"] = frame["basis"].map(COMMANDS)
    frame["basis"] = [
        html.link(basis, "#make-a-number-again") if basis in COMMANDS else NONE for basis in frame["basis"]
    ]
    frame["row"] = frame["possible"].map({False: "infeasible", True: "possible"}).fillna(NONE)
    return frame.astype({"table": str})


def _show(row: dict[str, Any]) -> Html:
    """Our number and its interval, in the precision of its kind."""
    quantity = row["quantity"]
    form = ".3f" if quantity in TITLES.values() else ".2g" if quantity == "latency" else ",.0f"
    ours, low, high = ("" if pd.isna(row[key]) else format(row[key], form) for key in ("ours", "low", "high"))
    if not low:
        return Html(ours or NONE, ours or NONE)
    return Html(f"{ours}<br><small>{low} to {high}</small>", f"{ours} ({low} to {high})")


def _number_with(verdicts: Sequence[str], runs: Runs) -> int:
    """How many printed numbers of quality have one of these verdicts; any, if none is named."""
    frame = cells(runs)
    quality = frame.loc[frame["quantity"].isin(TITLES.values()), "verdict"]
    return int(quality.isin(verdicts).sum()) if verdicts else len(quality)


value("cells/printed")(partial(_number_with, ()))
value("cells/comparable")(partial(_number_with, tuple(WORDS.values())))
for _word in WORDS.values():
    value(f"cells/{_word}")(partial(_number_with, (_word,)))

"""Frames of the page "What does not add up": the paper's numbers held against each other, and against the claims that
it draws from them: some do not hold in the very numbers behind them.

Nothing here needs data or models: all of it is computed from the printed tables. What our runs say to the claims stands
in the chapter of verdicts (`pages`).
"""

from __future__ import annotations

from statistics import fmean

import pandas as pd

from seqrec_lib.report import paper, sizes
from seqrec_lib.report.feasibility import feasible, mrr_range, rounding_needed

TABLES = {
    name: [row.model for row in paper.PAPER if row.dataset == name]
    for name in dict.fromkeys(r.dataset for r in paper.PAPER)
}


def rows(rounding: float) -> pd.DataFrame:
    """Every row of Tables 1 to 3: table, model, the printed metrics, the MRR@10 that its HT@10 and NDCG@10 allow, the
    rounding needed (units of the last digit), whether ``rounding`` suffices, and whether all metrics are printed."""
    found = []
    for row in paper.PAPER:
        allowed = mrr_range(row.metrics["ht@10"], row.metrics["ndcg@10"], rounding)
        found.append(
            {"table": f"Table {row.table}, {paper.paper_name(row.dataset)}", "model": paper.model_name(row.model)}
            | {name: str(row.metrics[name]) if name in row.metrics else None for name in paper.METRICS}
            | {"allowed": None if allowed is None else f"{allowed[0]:.4f} to {allowed[1]:.4f}"}
            | {"rounding": rounding_needed(row.metrics), "possible": "yes" if feasible(row, rounding) else "no"}
            | {"complete": len(row.metrics) == len(paper.METRICS)}
        )
    return pd.DataFrame(found)


def implied_catalogues() -> pd.DataFrame:
    """For each model with an item embedding: the catalogue that its printed size implies at width 64, and Table 4's."""
    rows = [
        {
            "table": f"Table {row.table}",
            "model": paper.model_name(row.model),
            "size": str(row.parameters),
            "body": str(row.body or f"{sizes.hydra_body():,}"),
            "implied": f"{ids[0]:,} to {ids[-1]:,}",
            "table_4": sizes.table_4_ids(row.dataset),
            "explained": sizes.explained_by(row),
        }
        for row in paper.PAPER
        if (ids := sizes.implied_ids(row))
    ]
    return pd.DataFrame(rows)


def sasrec_lengths() -> pd.DataFrame:
    """SASRec's parameters on MovieLens 1M by maximal length, the printed number, and whether that rounds to it."""
    row = paper.paper_row(paper.MOVIELENS, "sasrec")
    assert row is not None
    low, high = row.parameters.range()
    counts = {length: sizes.sasrec(sizes.table_4_ids(paper.MOVIELENS), length) for length in (50, 100, 200)}
    table = pd.DataFrame({"length": counts.keys(), "parameters": counts.values(), "printed": str(row.parameters)})
    return table.assign(fits=table["parameters"].between(low, high).map({True: "yes", False: "no"}))


# What the tables say to the claims


def _value(dataset: str, model: str, name: str) -> float:
    number = paper.paper_number(dataset, model, name)
    assert number is not None, (dataset, model, name)
    return number.value


def latency_ratios(slow: str, fast: str) -> dict[str, float]:
    """The printed latency of ``slow`` over that of ``fast``, by data set."""
    return {name: _value(name, slow, "latency") / _value(name, fast, "latency") for name in TABLES}


def places(model: str) -> dict[str, tuple[int, int]]:
    """The place of a model by the printed HT@10, and out of how many, by data set; 1 is best."""
    found = {}
    for name, models in TABLES.items():
        values = [_value(name, other, "ht@10") for other in models]
        found[name] = (1 + sum(value > _value(name, model, "ht@10") for value in values), len(values))
    return found


def own_tables() -> pd.DataFrame:
    """One row for each quantity that a claim rests on: claim, quantity, and its value (as text) by data set."""
    rows: list[tuple[str, str, dict[str, str]]] = []

    def ratio(claim: str, slow: str, fast: str) -> None:
        quantity = f"latency, {paper.model_name(slow)} over {paper.model_name(fast)}"
        rows.append((claim, quantity, {name: f"{value:.1f}" for name, value in latency_ratios(slow, fast).items()}))

    def gain(claim: str, quantity: str, models: tuple[str, ...], base: str, metric: str) -> None:
        gains = {
            name: fmean(_value(name, model, metric) for model in models) - _value(name, base, metric) for name in TABLES
        }
        rows.append((claim, f"{metric.upper()}, {quantity}", {name: f"{value:+.3f}" for name, value in gains.items()}))

    for model in paper.SSM:
        ratio("State space models recommend faster than SASRec.", "sasrec", model)
    ratio("Hydra4Rec's latency is four to five times lower than Mamba4Rec's.", "mamba4rec", "hydra4rec")
    claim = "Mamba-2 in GPT-2's place makes GPT4Rec perform better."
    ratio(claim, "mamrec", "gpt4rec")
    for metric in paper.METRICS:
        gain(claim, "MamRec minus GPT4Rec", ("mamrec",), "gpt4rec", metric)
    claim = "On average, state space models rank better than SASRec."
    for metric in paper.METRICS:
        gain(claim, "their mean minus SASRec", paper.SSM, "sasrec", metric)
    claim = "Hydra4Rec's metrics are similar to Mamba4Rec's."
    gain(claim, "Hydra4Rec minus Mamba4Rec", ("hydra4rec",), "mamba4rec", "ht@10")
    ranks = {name: f"{place} of {total}" for name, (place, total) in places("llamarec").items()}
    rows.append(("LlamaRec ranks best, at the price of its size.", "place by HT@10", ranks))
    for kind, models in (("state space models", paper.SSM), ("language models", paper.LANGUAGE)):
        best = {name: f"{max(_value(name, model, 'ht@10') for model in models):.3f}" for name in TABLES}
        rows.append(("State space models can rank better than language models.", f"best HT@10 of {kind}", best))
    return pd.DataFrame([{"claim": claim, "quantity": quantity} | values for claim, quantity, values in rows])

"""What the paper's own tables say to the claims that it draws from them, computed from `paper.PAPER`: some claims do
not hold in the very numbers behind them. What our runs say stands in the chapter of verdicts (`pages`).
"""

from __future__ import annotations

from statistics import fmean

import pandas as pd

from seqrec_lib.report.paper import METRICS, PAPER, model_name, paper_number

SSM = ("mamba4rec", "2mamba4rec", "hydra4rec")
LANGUAGE = ("gpt4rec", "mamrec", "llamarec")
TABLES = {name: [row.model for row in PAPER if row.dataset == name] for name in dict.fromkeys(r.dataset for r in PAPER)}


def _value(dataset: str, model: str, name: str) -> float:
    number = paper_number(dataset, model, name)
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
        quantity = f"latency, {model_name(slow)} over {model_name(fast)}"
        rows.append((claim, quantity, {name: f"{value:.1f}" for name, value in latency_ratios(slow, fast).items()}))

    def gain(claim: str, quantity: str, models: tuple[str, ...], base: str, metric: str) -> None:
        gains = {
            name: fmean(_value(name, model, metric) for model in models) - _value(name, base, metric) for name in TABLES
        }
        rows.append((claim, f"{metric.upper()}, {quantity}", {name: f"{value:+.3f}" for name, value in gains.items()}))

    for model in SSM:
        ratio("State space models recommend faster than SASRec.", "sasrec", model)
    ratio("Hydra4Rec's latency is four to five times lower than Mamba4Rec's.", "mamba4rec", "hydra4rec")
    claim = "Mamba-2 in GPT-2's place makes GPT4Rec perform better."
    ratio(claim, "mamrec", "gpt4rec")
    for metric in METRICS:
        gain(claim, "MamRec minus GPT4Rec", ("mamrec",), "gpt4rec", metric)
    claim = "On average, state space models rank better than SASRec."
    for metric in METRICS:
        gain(claim, "their mean minus SASRec", SSM, "sasrec", metric)
    claim = "Hydra4Rec's metrics are similar to Mamba4Rec's."
    gain(claim, "Hydra4Rec minus Mamba4Rec", ("hydra4rec",), "mamba4rec", "ht@10")
    ranks = {name: f"{place} of {total}" for name, (place, total) in places("llamarec").items()}
    rows.append(("LlamaRec ranks best, at the price of its size.", "place by HT@10", ranks))
    for kind, models in (("state space models", SSM), ("language models", LANGUAGE)):
        best = {name: f"{max(_value(name, model, 'ht@10') for model in models):.3f}" for name in TABLES}
        rows.append(("State space models can rank better than language models.", f"best HT@10 of {kind}", best))
    return pd.DataFrame([{"claim": claim, "quantity": quantity} | values for claim, quantity, values in rows])

"""Frames of the page about rankers of candidates (experiment `llamarec`): every order of the same candidates, what the
letters do, and what the paper's ranker would take.

A record of that experiment holds several orders of one retriever's candidates, each under a prefix (`ORDERS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from seqrec_lib.language.quantized import bits_per_weight
from seqrec_lib.report import floors
from seqrec_lib.report.language import is_scratch, origin
from seqrec_lib.report.paper import model_name
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.results import RunRecord, RunStore, plain

ORDERS = {"": "", "blend_": ", blended with its retriever"}
FLOORS = {"retriever_": "the retriever's order", "popularity_": "by popularity", "random_": "at random"}
"""Prefix in a record -> what a reader calls the order; the blend is weighed on validation users."""

LLAMA_7B = 6_738_415_616  # parameters of meta-llama/Llama-2-7b-hf
LLAMA_7B_LINEAR = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)  # of them in linear layers, the output layer left out
LLAMA_7B_ADAPTERS = 32 * 2 * 8 * (4096 + 4096)  # of LlamaRec's adapters: rank 8, two to a layer
LLAMA_TOKENS = 718  # of LlamaRec's prompt for MovieLens 1M, mean, with that model's tokenizer


def orders(runs: pd.DataFrame, store: RunStore, metric: str = "ndcg@10") -> pd.DataFrame:
    """Every order of the candidates, the floors of each retriever once: see `floors.compare` for the columns, and over
    (the retriever), found (the metric over users whose target is a candidate), recall (their share)."""
    parts = []
    for (made, over), own in runs.groupby(["made", "retriever.model"], sort=False):
        entries = [
            floors.Entry(f"{label}{suffix}", mine, prefix + metric, "ranker")
            for label, mine in own.groupby("label", sort=False)
            for prefix, suffix in ORDERS.items()
        ]
        entries += [
            floors.Entry(f"{model_name(over)}: {name}", own, prefix + metric, "floor")
            for prefix, name in FLOORS.items()
        ]
        table = floors.compare(entries, store, against=f"{model_name(over)}: {FLOORS['retriever_']}")
        recall = next((own[name] for name in own if name.startswith("recall@")), pd.Series(dtype=float))
        found = [_mean(entry.runs, entry.column.replace(metric, f"subset_{metric}")) for entry in entries]
        parts.append(table.assign(made=made, over=model_name(over), found=found, recall=recall.mean()))
        parts.append(floors.printed(own["dataset"].iloc[0], ["llamarec"], metric).assign(made=made))
    return pd.concat([part for part in parts if len(part)], ignore_index=True) if parts else pd.DataFrame()


def _mean(runs: pd.DataFrame, column: str) -> float:
    return float(runs[column].mean()) if column in runs else float("nan")


def letters(runs: pd.DataFrame, store: RunStore) -> pd.DataFrame:
    """Two lines for each ranker and question (a panel), by place in the prompt (1: the letter A), means over seeds with
    their range: how often the place is chosen, and how often it holds the target."""
    parts = []
    for row in runs[runs["status"] == "complete"].to_dict("records"):
        record = store.find(row["run_id"])
        if record is None or "letters" not in record.tables:
            continue
        table = store.table(record, "letters").to_pandas()
        for column, question in QUESTIONS.items():
            for line, values in (("holds the target", table["target"]), ("first choice", table[column])):
                panel = f"{row['label']}: {question}"
                places = range(1, len(table) + 1)
                parts.append(pd.DataFrame({"panel": panel, "line": line, "place": places, "share": values}))
    if not parts:
        return pd.DataFrame()
    found = pd.concat(parts).groupby(["panel", "line", "place"], sort=False)["share"].agg(["mean", "min", "max"])
    return found.reset_index().rename(columns={"min": "low", "max": "high"})


QUESTIONS = {"first": "retriever's order", "permuted": "random orders", "prior": "an empty prompt"}


def memory() -> pd.DataFrame:
    """What tuning the paper's ranker takes, computed from published sizes: GB (10^9 bytes) of frozen weights, of
    trained ones with gradient and Adam's two moments in float32, and together. Activations come on top."""
    four_bits = LLAMA_7B_LINEAR * bits_per_weight() / 8 + 4 * (LLAMA_7B - LLAMA_7B_LINEAR)
    ways = {
        "all weights": (0.0, LLAMA_7B),
        "LoRA, on float32 weights": (4.0 * LLAMA_7B, LLAMA_7B_ADAPTERS),
        "QLoRA, on four-bit weights": (four_bits, LLAMA_7B_ADAPTERS),
    }
    rows = [
        {"tuned": name, "frozen": frozen / 1e9, "trained": 16 * count / 1e9, "together": (frozen + 16 * count) / 1e9}
        for name, (frozen, count) in ways.items()
    ]
    return pd.DataFrame(rows)


# For pages of other experiments


def rows(configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore) -> list[ModelRuns]:
    """`gather`, with retriever, source and size of each ranker in its label.

    The model of a row is "llamarec" over SASRec, the sequential retriever that everything here is held against, and
    "llamarec+<retriever>" over another.
    """
    values = [plain(config) for config in configs]
    shuffled = [v["setting"].get("titles") == "shuffled" for v in values]
    untuned = [v["teaching"].get("prompts") == 0 for v in values]
    groups = [
        (v["retriever"]["model"], v["setting"]["negatives"], v["source"], u, s)
        for v, u, s in zip(values, untuned, shuffled, strict=True)
    ]
    several = len({group[1] for group in groups}) > 1
    found = []
    for group in dict.fromkeys(groups):
        over, kind, source, zero_shot, others = group
        chosen = [i for i, other in enumerate(groups) if other == group]
        for own in gather([configs[i] for i in chosen], [records[i] for i in chosen], store):
            details = origin(own, source) + (f", {kind} negatives" if several and not zero_shot else "")
            details += (", zero-shot" if zero_shot else "") + (", titles shuffled" if others else "")
            label = f"LlamaRec on {model_name(over)} ({details})"
            model = own.model if over == "sasrec" else f"{own.model}+{over}"
            found.append(replace(own, model=model, label=label, other_model=is_scratch(source)))
    return found


def beside(
    configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore
) -> tuple[list[ModelRuns], list[RunRecord | None]]:
    """What other pages show of the rankers: planned runs that are complete (else the first, as "not run"), and every
    pretrained one's.

    No candidate is an item of the history: a ranker's numbers are those of the others with seen items masked, and it
    has no others.

    Args:
        configs, records: planned runs from scratch on one data set, and what became of them.

    Returns:
        rows, and the records behind them.
    """
    dataset = plain(configs[0])["dataset"]
    planned = list(zip(configs, records, strict=True))
    kept = [(config, record) for config, record in planned if record is not None and record.complete] or planned[:1]
    for record in store.records("llamarec"):
        if record.complete and record.config["dataset"] == dataset and not is_scratch(record.config["source"]):
            kept.append((record.config, record))
    found = rows([config for config, _ in kept], [record for _, record in kept], store)
    return [_masked(own) for own in found], [record for _, record in kept]


def _masked(own: ModelRuns) -> ModelRuns:
    names = {f"{metric}@{k}" for metric in ("ht", "ndcg", "mrr") for k in (5, 10)}
    records = tuple(
        replace(record, metrics={f"masked_{n}": v for n, v in record.metrics.items() if n in names})
        if record is not None and record.complete
        else record
        for record in own.records
    )
    return replace(own, records=records, masked_ranks=own.ranks, ranks=(None,) * len(own.ranks))

"""Frames of the page about rankers of candidates (experiment `llamarec`): every order of the same candidates, what the
letters do, and what the paper's ranker would take.

A record of that experiment holds several orders of one retriever's candidates, each under a prefix (`ORDERS`).
"""

from __future__ import annotations

import pandas as pd

from seqrec_lib.language.quantized import bits_per_weight
from seqrec_lib.report import floors
from seqrec_lib.report.frames import complete, over_range
from seqrec_lib.report.paper import model_name
from seqrec_lib.results import RunStore

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
        found = [floors.mean_of(entry.runs, entry.column.replace(metric, f"subset_{metric}")) for entry in entries]
        parts.append(table.assign(made=made, over=model_name(over), found=found, recall=recall.mean()))
        parts.append(floors.printed(own["dataset"].iloc[0], ["llamarec"], metric).assign(made=made))
    return pd.concat([part for part in parts if len(part)], ignore_index=True) if parts else pd.DataFrame()


def letters(runs: pd.DataFrame, store: RunStore) -> pd.DataFrame:
    """Two lines for each ranker and question (a panel), by place in the prompt (1: the letter A), means over seeds with
    their range: how often the place is chosen, and how often it holds the target."""
    rows = (
        {"panel": f"{row['label']}: {question}", "line": line, "place": place, "share": share}
        for row, record in complete(runs, store)
        if "letters" in record.tables
        for column, question in QUESTIONS.items()
        for line, key in (("holds the target", "target"), ("first choice", column))
        for place, share in enumerate(store.table(record, "letters")[key].to_pylist(), 1)
    )
    return over_range(rows, ["panel", "line", "place"], "share")


QUESTIONS = {"first": "retriever's order", "permuted": "random orders", "prior": "an empty prompt"}


def memory() -> pd.DataFrame:
    """What tuning the paper's ranker takes, computed from published sizes: GB (10^9 bytes) of frozen weights, of
    trained ones with gradient and Adam's two moments in float32, and together. Activations come on top."""
    four_bits = LLAMA_7B_LINEAR * bits_per_weight() / 8 + 4 * (LLAMA_7B - LLAMA_7B_LINEAR)
    ways = {
        "all weights": (0.0, 16 * LLAMA_7B),
        "LoRA, on float32 weights": (4.0 * LLAMA_7B, 16 * LLAMA_7B_ADAPTERS),
        "QLoRA, on four-bit weights": (four_bits, 16 * LLAMA_7B_ADAPTERS),
    }
    table = pd.DataFrame.from_dict(ways, orient="index", columns=["frozen", "trained"])
    return (table.assign(together=table.sum(axis=1)) / 1e9).rename_axis("tuned").reset_index()

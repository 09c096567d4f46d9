"""Tables, figures and the verdict of rankers of candidates (experiment `llamarec`), always beside their floors.

A record of that experiment holds several rankings of one retriever's candidates, each with a prefix (`FLOORS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqrec_lib.language.quantized import bits_per_weight
from seqrec_lib.report import figures
from seqrec_lib.report.html import NONE, Html, not_run, table
from seqrec_lib.report.language import is_scratch, origin
from seqrec_lib.report.paper import dataset_name, model_name
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.report.tables import label_cell, mean_and_spread, metric_name
from seqrec_lib.results import RunRecord, RunStore, plain

FLOORS = {
    "blend": "blended",
    "retriever": "retriever's order",
    "popularity": "by popularity",
}
"""Rankings of the same candidates beside the ranker's: prefix in a record -> what a reader calls it."""

LLAMA_7B = 6_738_415_616  # parameters of meta-llama/Llama-2-7b-hf
LLAMA_7B_LINEAR = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)  # of them in linear layers, the output layer left out
LLAMA_7B_ADAPTERS = 32 * 2 * 8 * (4096 + 4096)  # of LlamaRec's adapters: rank 8, two to a layer
LLAMA_TOKENS = 718  # of LlamaRec's prompt for MovieLens 1M, mean, with that model's tokenizer


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


def with_floors(runs: Sequence[ModelRuns], store: RunStore) -> list[ModelRuns]:
    """Each ranker with its blend, and each retriever's floors once."""
    found: dict[str, ModelRuns] = {}
    for own in runs:
        found |= {part.label: part for part in (own, *(_floor(own, name, store) for name in FLOORS))}
    return list(found.values())


def _floor(own: ModelRuns, name: str, store: RunStore) -> ModelRuns:
    prefix, (ranker, parenthesis, rest) = f"{name}_", own.label.partition(" (")
    label = f"{ranker.removeprefix('LlamaRec on ')}: {FLOORS[name]}"
    if name == "blend":
        label = f"{ranker}, {FLOORS[name]}{parenthesis}{rest}"
    records: list[RunRecord | None] = []
    ranks: list[np.ndarray | None] = []
    for record in own.records:
        complete = record is not None and record.complete
        records.append(record)
        ranks.append(None)
        if complete and record is not None:
            metrics = {k.removeprefix(prefix): v for k, v in record.metrics.items() if k.startswith(prefix)}
            chance = {f"chance_{k[7:]}": v for k, v in record.metrics.items() if k.startswith("random_")}
            records[-1] = replace(record, metrics=metrics | chance)
            ranks[-1] = store.table(record, "ranks")[f"{prefix}rank"].to_numpy()
    first = ranks[0]
    if first is not None and all(rank is not None and np.array_equal(rank, first) for rank in ranks):
        # the retriever is the same for all seeds of the ranker, so that this order is one run and has no spread
        records, ranks, own = records[:1], ranks[:1], replace(own, seeds=own.seeds[:1])
    none = tuple(None for _ in ranks)
    return replace(
        own, model=name, label=label, records=tuple(records), ranks=tuple(ranks), masked_ranks=none,
        other_model=False,
    )  # fmt: skip


def candidates_table(runs: Sequence[ModelRuns], store: RunStore, dataset: str) -> Html:
    """Every ranking of the candidates, over users whose target is one of them, and over all."""
    body: list[list[str | Html]] = []
    names = ("subset_ht@10", "subset_ndcg@10", "subset_mrr@10", "ndcg@10")
    for part in with_floors([own for own in runs if own.complete], store):
        body.append([label_cell(part.label), *(mean_and_spread(part.mean(m), part.spread(m)) for m in names)])
        if part.model == "popularity":
            chance = [part.mean(f"chance_{name}") for name in names]
            body.append([f"{part.label.partition(':')[0]}: at random", *map(_number, chance)])
    if not body:
        return not_run("Orders of the same candidates")
    recall = ", ".join(f"{_recall(own):.1%} ({own.label})" for own in runs if own.complete)
    headers = ["Ranking", *(f"{metric_name(m.removeprefix('subset_'))}, found" for m in names[:3]), "NDCG@10, all"]
    notes = [
        f"Found: users whose target is among the candidates, {recall}. For everybody else no order of the candidates "
        "helps. Blended: the retriever's scores and the letters' log-odds, weighed on validation users. At random: by "
        "expectation."
    ]
    return table(headers, body, caption=f"Orders of the same candidates on {dataset_name(dataset)}", notes=notes)


def _recall(own: ModelRuns) -> float:
    name = next(name for name in own.complete[0].metrics if name.startswith("recall@"))
    return own.mean(name) or 0.0


def bias_table(runs: Sequence[ModelRuns], dataset: str) -> Html:
    """What the candidates' places do to NDCG@10 over users found, and what takes them out."""
    names = {
        "subset_ndcg@10": "Listed in the retriever's order",
        "permuted_subset_ndcg@10": "Listed in random orders",
        "averaged_subset_ndcg@10": "Scores averaged over orders",
        "empty_calibrated_subset_ndcg@10": "Less an empty prompt's logits",
        "mean_calibrated_subset_ndcg@10": "Less the mean logits",
        "random_subset_ndcg@10": "Chance",
    }
    body: list[list[str | Html]] = [
        [label_cell(own.label), *(mean_and_spread(own.mean(n), own.spread(n)) for n in names)]
        for own in runs
        if own.mean("permuted_subset_ndcg@10") is not None
    ]
    if not body:
        return not_run("What the places of the candidates do")
    notes = [
        "One ranker, one set of candidates: what differs is the order in which the prompt lists them, and what is "
        "taken off the letters' logits. In the retriever's order a letter also tells a candidate's rank."
    ]
    return table(["Ranker", *names.values()], body, caption=f"NDCG@10, found, on {dataset_name(dataset)}", notes=notes)


def letters_frame(runs: Sequence[ModelRuns], store: RunStore) -> pd.DataFrame:
    """The table "letters" of each ranker, means over seeds: label, letter, target, first, permuted, prior."""
    parts = []
    for own in runs:
        tables = [store.table(r, "letters").to_pandas() for r in own.complete if "letters" in r.tables]
        if tables:
            numbers = ["target", "first", "permuted", "prior"]
            mean = pd.DataFrame({name: np.mean([t[name] for t in tables], axis=0) for name in numbers})
            mean.insert(0, "letter", list(tables[0]["letter"]))
            mean.insert(0, "label", own.label)
            parts.append(mean)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def letters_figure(frame: pd.DataFrame) -> Figure | None:
    """How often each letter holds the target and how often it is the ranker's first choice; None without runs."""
    if frame.empty:
        return None
    groups = list(frame.groupby("label", sort=False))
    canvas, axes = figures.canvas(1, len(groups), 3.7 * max(len(groups), 2), 3.4)
    looks = {
        "target": ("the target, retriever's order", "#7f7f7f", ":", None),
        "first": ("first choice, retriever's order", "#882255", "-", "X"),
        "permuted": ("first choice, random orders", "#0072B2", "--", "o"),
        "prior": ("an empty prompt", "#E69F00", "-.", "s"),
    }
    for axis, (label, own) in zip(axes.flat, groups, strict=True):
        for name, (text, colour, line, marker) in looks.items():
            axis.plot(own["letter"], own[name], color=colour, linestyle=line, marker=marker, markersize=4, label=text)
        axis.axhline(1 / len(own), color="#444444", linewidth=0.8)
        axis.set(title=str(label), xlabel="Letter", ylabel="Share")
        axis.set_ylim(bottom=0)
        axis.tick_params(axis="x", labelsize=8)
    axes.flat[0].legend(frameon=False, fontsize=8)
    return canvas


def letters_alt(frame: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for label, own in frame.groupby("label", sort=False) if len(frame) else ():
        top = own.loc[own["permuted"].idxmax()]
        parts.append(
            f"{label}: in the retriever's order the first letter is the first choice of {own['first'].iloc[0]:.0%} of "
            f"users and holds the target of {own['target'].iloc[0]:.0%}; over random orders the letter that is chosen "
            f"most is {top['letter']}, by {top['permuted']:.0%}"
        )
    return "Line plot of shares by letter. " + "; ".join(parts)


def cost_table(runs: Sequence[ModelRuns], dataset: str) -> Html:
    """Size, tuning and time for one user; below, the operations of the paper's ranker by computation."""
    body = []
    for own in runs:
        if not own.complete:
            continue
        cost = {k: np.mean([r.cost[k] for r in own.complete]) for k in _COST}
        body.append(
            [
                own.label,
                f"{cost['parameters']:,.0f}",
                f"{cost['parameters_without_embeddings']:,.0f}",
                f"{cost['train_seconds'] / 60:.1f}",
                f"{cost['retriever_milliseconds_per_user']:.2f}",
                f"{cost['milliseconds_per_user']:.2f}",
                f"{cost['prompt_tokens']:.0f}",
                _operations(cost["parameters_without_embeddings"], cost["prompt_tokens"]),
            ]
        )
    if not body:
        return not_run("Cost of ranking")
    body.append(
        ["Llama-2 7B, LlamaRec's prompt (computed)", f"{LLAMA_7B:,}", NONE, NONE, NONE, NONE, f"{LLAMA_TOKENS}",
         _operations(LLAMA_7B, LLAMA_TOKENS)]
    )  # fmt: skip
    headers = [
        "Ranker", "Parameters", "Without embeddings", "Tuning, minutes", "Retrieval, ms per user",
        "Ranking, ms per user", "Prompt, tokens", "Operations per user",
    ]  # fmt: skip
    notes = [
        "Times are wall time in batches on the machine named below. Operations: two for each parameter and token of "
        "the prompt, embeddings (of ours) and attention's own left out. The last row was not run: it is computed from "
        "published sizes."
    ]
    return table(headers, body, caption=f"Cost of ranking on {dataset_name(dataset)}", notes=notes)


def memory_table() -> Html:
    """What the weights of the paper's ranker take to be tuned, by computation: all of them, LoRA, QLoRA."""
    four_bits = LLAMA_7B_LINEAR * bits_per_weight() / 8 + 4 * (LLAMA_7B - LLAMA_7B_LINEAR)
    ways = {
        "all weights": (0.0, LLAMA_7B),
        "LoRA, on float32 weights": (4.0 * LLAMA_7B, LLAMA_7B_ADAPTERS),
        "QLoRA, on four-bit weights": (four_bits, LLAMA_7B_ADAPTERS),
    }
    body = []
    for name, (frozen, count) in ways.items():
        trained = 4 * 4 * count  # a float32 each for the weight, its gradient and Adam's two moments
        parts = [gigabytes(frozen) if frozen else NONE, gigabytes(trained), gigabytes(frozen + trained)]
        body.append([name, *parts])
    notes = [
        f"Computed from published sizes, not run; a GB is a thousand million bytes. Trained: {LLAMA_7B:,} weights or "
        f"the {LLAMA_7B_ADAPTERS:,} of adapters, each with its gradient and Adam's two moments. In four bits one takes "
        f"{bits_per_weight():.3f} bits with its share of the scales; embeddings, norms and the output layer stay in "
        "float32. Activations come on top."
    ]
    headers = ["Tuned", "Frozen, GB", "Trained, GB", "Together, GB"]
    return table(headers, body, caption="Memory to tune Llama-2 7B", notes=notes)


def gigabytes(count: float) -> str:
    """Bytes in units of 10^9.

    >>> gigabytes(26_953_662_464)
    '26.95'
    """
    return f"{count / 1e9:.2f}"


_COST = (
    "parameters",
    "parameters_without_embeddings",
    "train_seconds",
    "retriever_milliseconds_per_user",
    "milliseconds_per_user",
    "prompt_tokens",
)


def _operations(parameters: float, tokens: float) -> str:
    return f"{2 * parameters * tokens:.1e}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"

"""Tables, figures and verdicts of the recommenders that write queries (experiment `generative`).

A record of that experiment holds several lists: see its docstring. `rows` makes the list of the tables a row beside
other models, `lists` makes each list a row of its own. Where a language model comes from stands in every label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqrec_lib.language.quantized import base, is_quantized
from seqrec_lib.language.recipes import FLOORS
from seqrec_lib.report import figures
from seqrec_lib.report.html import NONE, Html, not_run, table
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.report.tables import label_cell, mean_and_spread
from seqrec_lib.results import RunRecord, RunStore, plain

ONE_QUERY = "one query, K items"
LISTS = {"": "K queries, one item each", "trie_": "held to titles, no search"}
BEYOND = ("list_length", "diversity@10", "coverage@10")  # metrics of a list beside its accuracy


def rows(configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore) -> list[ModelRuns]:
    """`gather`, with each language model's source and size in its label; each source is a row of its own."""
    sources = [plain(config)["source"] for config in configs]
    found = []
    for source in dict.fromkeys(sources):
        chosen = [i for i, other in enumerate(sources) if other == source]
        runs = gather([configs[i] for i in chosen], [records[i] for i in chosen], store)
        found += [replace(own, label=_label(own, source), other_model=is_scratch(source)) for own in runs]
    order = list(dict.fromkeys(plain(config)["model"] for config in configs))
    return sorted(found, key=lambda own: order.index(own.model))


def known(configs: Sequence[Any], records: Sequence[RunRecord | None]) -> tuple[list[Any], list[RunRecord | None]]:
    """Of planned runs, those that are complete; of a model that has none, the first, which shows as "not run"."""
    done = {plain(c)["model"] for c, r in zip(configs, records, strict=True) if r is not None and r.complete}
    kept: dict[Any, tuple[Any, RunRecord | None]] = {}
    for config, record in zip(configs, records, strict=True):
        model = plain(config)["model"]
        if model not in done:
            kept.setdefault(model, (config, record))
        elif record is not None and record.complete:
            kept[record.run_id] = (config, record)
    return [config for config, _ in kept.values()], [record for _, record in kept.values()]


def beside(
    configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore
) -> tuple[list[ModelRuns], list[RunRecord | None]]:
    """What other pages show of the models that write queries: `known` planned runs, and every pretrained model's.

    Args:
        configs, records: planned runs from scratch on one data set, and what became of them.

    Returns:
        rows, the language models first and then their floors, and the records behind them.
    """
    dataset = plain(configs[0])["dataset"]
    configs, records = known(configs, records)
    for record in store.records("generative"):
        source = str(record.config.get("source", ""))
        if record.complete and record.config["dataset"] == dataset and source and not is_scratch(source):
            configs, records = [*configs, record.config], [*records, record]
    found = rows(configs, records, store)
    return sorted(found, key=lambda own: own.model in FLOORS), list(records)


def is_scratch(source: str) -> bool:
    """Whether a model of this source has no pretrained weights."""
    return source.startswith("scratch:")


def _label(own: ModelRuns, source: str) -> str:
    return f"{own.label} ({origin(own, source)})" if source else own.label


def origin(own: ModelRuns, source: str) -> str:
    """Where a language model comes from and how large it is, in a few words."""
    made = own.complete[0].environment.get("language_model", {}) if own.complete else {}
    name = "from scratch" if is_scratch(source) else str(made.get("name", base(source))).rstrip("/").rpartition("/")[2]
    name += " in four bits" if is_quantized(source) else ""
    return name + (f", {weights(made['parameters'])}" if made else "")


def weights(count: float) -> str:
    """A number of weights as a label has it.

    >>> weights(413_888), weights(124_439_808)
    ('0.41 M weights', '124 M weights')
    """
    millions = count / 1e6
    return f"{millions:.2g} M weights" if millions < 10 else f"{millions:,.0f} M weights"


def list_names(own: ModelRuns) -> dict[str, str]:
    """The lists that these runs hold: prefix of their metrics -> what a reader calls them."""
    if not own.complete:
        return {}
    metrics = own.complete[0].metrics
    few = sorted(
        (k.partition("_")[0] for k in metrics if k[0] == "m" and k[1].isdigit() and k.endswith("_list_length")),
        key=lambda text: -int(text[1:]),
    )
    names = (
        {"": ONE_QUERY if own.model == "bm25-last" else LISTS[""]}
        | {f"{m}_": f"{m[1:]} queries, K/{m[1:]} items each" for m in few}
        | {"trie_": LISTS["trie_"]}
    )
    return {prefix: name for prefix, name in names.items() if f"{prefix}list_length" in metrics}


def lists(own: ModelRuns, store: RunStore) -> dict[str, ModelRuns]:
    """Each list of these runs as runs of its own, with its metrics and ranks under the usual names."""
    return {name: _one_list(own, prefix, store) for prefix, name in list_names(own).items()}


def _one_list(own: ModelRuns, prefix: str, store: RunStore) -> ModelRuns:
    if not prefix:
        return own
    records: list[RunRecord | None] = []
    ranks: list[np.ndarray | None] = []
    masked: list[np.ndarray | None] = []
    for record in own.records:
        if record is None or not record.complete:
            records.append(record)
            ranks.append(None)
            masked.append(None)
            continue
        metrics = {k.removeprefix(prefix): v for k, v in record.metrics.items() if k.startswith(prefix)}
        stored = store.table(record, "ranks")
        records.append(replace(record, metrics=metrics))
        ranks.append(stored[f"{prefix}rank"].to_numpy())
        masked.append(stored[f"{prefix}masked_rank"].to_numpy())
    return replace(own, records=tuple(records), ranks=tuple(ranks), masked_ranks=tuple(masked))


def lists_table(runs: Sequence[ModelRuns], store: RunStore, dataset: str) -> Html:
    """What each way from queries to a list gives: accuracy, and how varied and complete the lists are."""
    body: list[list[str | Html]] = []
    for own in runs:
        for name, part in lists(own, store).items():
            values = [mean_and_spread(part.mean(m), part.spread(m)) for m in ("ht@10", "ndcg@10", "masked_ht@10")]
            beyond = [_number(part.mean(m)) for m in BEYOND]
            body.append([label_cell(own.label), name, *values, *beyond])
    if not body:
        return not_run("Lists from queries")
    headers = ["Model", "List", "HT@10", "NDCG@10", "HT@10, seen passed over", "Items", "Diversity@10", "Coverage@10"]
    return table(
        headers,
        body,
        caption=f"Lists from queries on {dataset_name(dataset)}",
        notes=[
            "Diversity: mean Jaccard distance between the words of two titles of a list. Coverage: the share of the "
            "catalogue in somebody's first ten."
        ],
        left=(0, 1),
    )


def writing_table(runs: Sequence[ModelRuns], dataset: str) -> Html:
    """What was written and what it cost."""
    body: list[list[str | Html]] = []
    for own in runs:
        if not any("exact_share" in record.metrics for record in own.complete):
            continue
        first = own.complete[0]
        cost = [
            np.mean([record.cost[key] for record in own.complete])
            for key in (
                "free_milliseconds_per_user",
                "trie_milliseconds_per_user",
                "free_tokens_per_second",
                "train_seconds",
            )
        ]
        exact = own.mean("exact_share")
        body.append(
            [
                label_cell(own.label),
                f"{first.environment['language_model']['parameters']:,}",
                NONE if exact is None else f"{exact:.1%}",
                f"{first.metrics['bm25_k1']:g}, {first.metrics['bm25_b']:g}",
                f"{cost[0]:.1f}",
                f"{cost[1]:.1f}",
                f"{cost[2]:,.0f}",
                f"{cost[3] / 60:.1f}",
            ]
        )
    if not body:
        return not_run("Writing by a language model")
    headers = [
        "Model",
        "Parameters",
        "Queries that are titles",
        "k1, b",
        "Free, ms per user",
        "Held, ms per user",
        "Free, tokens/s",
        "Tuning, minutes",
    ]
    return table(
        headers,
        body,
        caption=f"What was written on {dataset_name(dataset)}, and what it cost",
        notes=["Wall time of the machine named below, which may have had other work.", *_cut_titles(runs)],
    )


def _cut_titles(runs: Sequence[ModelRuns]) -> list[str]:
    """A note on free queries that end before the longest titles do; none where none does."""
    configs = [own.complete[0].config for own in runs if own.complete and own.complete[0].config.get("tuning")]
    for config in configs:
        steps, longest = config["writing"]["steps"], config["tuning"]["title_tokens"]
        if steps <= longest:
            return [
                f"A free query ends after {steps} tokens, its end included, where a title may have {longest}: longer "
                "titles can be written by held queries alone."
            ]
    return []


def tuning_curves(runs: Sequence[ModelRuns]) -> Figure | None:
    """Training and validation loss per token by epoch; None where nothing was tuned."""
    shown = [own for own in runs if any(record.history for record in own.complete)]
    if not shown:
        return None
    figure, axes = figures.canvas(1, 2, 7.4, 3.2)
    for own in shown:
        colour, marker = figures.style(own.model)
        for number, record in enumerate(own.complete):
            for axis, key in zip(axes.flat, ("loss", "valid_loss"), strict=True):
                axis.plot(
                    [e["epoch"] for e in record.history],
                    [e[key] for e in record.history],
                    color=colour,
                    marker=marker,
                    linestyle=figures._LINES[number % 4],
                    label=own.label if number == 0 else None,
                )
    for axis, title in zip(axes.flat, ("Training loss per token", "Validation loss of the next title"), strict=True):
        axis.set(title=title, xlabel="Epoch")
    axes.flat[0].legend(frameon=False, fontsize=8)
    return figure


def tuning_numbers(runs: Sequence[ModelRuns]) -> pd.DataFrame:
    """The numbers behind `tuning_curves`."""
    return pd.DataFrame(
        [
            {"model": own.label, "seed": record.config["seed"]} | {k: e.get(k) for k in ("epoch", "loss", "valid_loss")}
            for own in runs
            for record in own.complete
            for e in record.history
        ]
    )


def tuning_alt(runs: Sequence[ModelRuns]) -> str:
    """The curves in words."""
    parts = [
        f"{own.label}, seed {record.config['seed']}: validation loss from {record.history[0]['valid_loss']:.3f} to "
        f"{record.history[-1]['valid_loss']:.3f}"
        for own in runs
        for record in own.complete
        if record.history
    ]
    return "Two line plots, training and validation loss by epoch. " + "; ".join(parts)


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"

"""Tables, figures and verdicts of the recommenders that write queries (experiment `generative`).

A record of that experiment holds several lists: see its docstring. `rows` makes the list of the tables a row beside
other models, `lists` makes each list a row of its own. Where a language model comes from stands in every label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqrec_lib.report import figures
from seqrec_lib.report.claims import ClaimVerdict, claim
from seqrec_lib.report.html import NONE, Html, paragraph, table
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.report.statistics import compare_models
from seqrec_lib.report.tables import format_interval, mean_and_spread, metric_name
from seqrec_lib.results import RunRecord, RunStore, plain

LISTS = {"": "K queries, one item each", "trie_": "held to titles, no search"}
BEYOND = ("list_length", "diversity@10", "coverage@10")  # metrics of a list beside its accuracy


def rows(configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore) -> list[ModelRuns]:
    """`gather`, with each language model's source and size in its label."""
    runs = gather(configs, records, store)
    sources = {plain(config)["model"]: plain(config)["source"] for config in configs}
    return [
        replace(own, label=_label(own, sources[own.model]), other_model=_scratch(sources[own.model])) for own in runs
    ]


def _scratch(source: str) -> bool:
    return source.startswith("scratch:")


def _label(own: ModelRuns, source: str) -> str:
    if not source:
        return own.label
    made = own.complete[0].environment.get("language_model", {}) if own.complete else {}
    size = f", {made['parameters'] / 1e6:.2g}M" if made else ""
    origin = "from scratch" if _scratch(source) else str(made.get("name", source.rstrip("/").rpartition("/")[2]))
    return f"{own.label} ({origin}{size})"


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
        {"": LISTS[""]} | {f"{m}_": f"{m[1:]} queries, K/{m[1:]} items each" for m in few} | {"trie_": LISTS["trie_"]}
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
            body.append([own.label, name, *values, *beyond])
    if not body:
        return paragraph("Not run.")
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
    body = []
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
                own.label,
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
        return paragraph("No language model has a record here: not run.")
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
        notes=["Wall time of the machine named below, which may have had other work."],
    )


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


def pair_verdict(runs: Sequence[ModelRuns], metric: str = "ndcg@10") -> ClaimVerdict:
    """MamRec against GPT4Rec, user by user: the word on the claim that MamRec is better, and why.

    "upheld" where MamRec is higher and told apart, else "not upheld"; "not tested yet" where one of them has no run.
    """
    found = claim("quality-mamrec")
    by_model = {own.model: own for own in runs if own.model in ("gpt4rec", "mamrec")}
    means = {model: by_model[model].user_means(metric) for model in ("mamrec", "gpt4rec") if model in by_model}
    values: dict[str, np.ndarray] = {model: array for model, array in means.items() if array is not None}
    if len(values) < 2:
        return ClaimVerdict(found)
    (test,) = compare_models(values)
    higher = test.difference.estimate > 0 and test.p_holm <= 0.05
    reason = (
        f"{by_model['mamrec'].label} minus {by_model['gpt4rec'].label}: {metric_name(metric)} "
        f"{test.difference.estimate:+.4f} ({format_interval(test.difference, signed=True)}), p = {test.p_holm:.3f}"
    )
    if any(own.other_model for own in by_model.values()):
        reason += "; both from scratch at equal size, while the paper's are pretrained"
    ids = tuple(record.run_id for own in by_model.values() for record in own.complete)
    return ClaimVerdict(found, "upheld" if higher else "not upheld", reason, ids)


def verdict_paragraph(verdict: ClaimVerdict) -> Html:
    """The verdict as a sentence."""
    return paragraph(f"{verdict.claim.statement} Our verdict: {verdict.word}. {verdict.reason}".strip())


def state_bytes(
    geometry: Mapping[str, int], tokens: int, beams: int, written: int = 12, number: int = 4
) -> tuple[int, int, int]:
    """Bytes kept while decoding one user: (GPT-2 with a shared prompt, GPT-2 copied for each beam, Mamba-2).

    GPT-2 keeps 2 layers d numbers for each token, Mamba-2 layers (heads P N + channels (taps - 1)) for each beam.
    """
    token = 2 * geometry["gpt2_layers"] * geometry["d_model"] * number
    inner = 2 * geometry["d_model"]
    state = geometry["mamba2_layers"] * (inner * geometry["d_state"] + 3 * (inner + 2 * geometry["d_state"])) * number
    return token * (tokens + beams * written), token * beams * (tokens + written), state * beams


PAPER_GEOMETRY = {"d_model": 768, "gpt2_layers": 12, "mamba2_layers": 24, "d_state": 128}
"""GPT-2 (117M) and Mamba-2 (130M)."""


def memory_figure(beams: int) -> Figure:
    """What decoding keeps for one user against the length of the prompt, at the paper's sizes, in float32."""
    lengths = np.unique(np.geomspace(16, 16384, 60).astype(int))
    curves = np.array([state_bytes(PAPER_GEOMETRY, int(n), beams) for n in lengths]) / 2**20
    figure, axes = figures.canvas(1, 1, 6.5, 3.4)
    axis = axes.flat[0]
    names = ("GPT-2, prompt shared by the beams", "GPT-2, prompt copied for each beam", "Mamba-2")
    looks = (("#56B4E9", "-"), ("#56B4E9", "--"), ("#CC79A7", "-"))
    for column, (name, (colour, line)) in enumerate(zip(names, looks, strict=True)):
        axis.plot(lengths, curves[:, column], color=colour, linestyle=line, linewidth=2, label=name)
    axis.axvline(1024, color="#444444", linestyle=":")
    axis.text(1060, curves.min(), "GPT-2's window", fontsize=8, color="#444444")
    axis.set(xscale="log", yscale="log", xlabel="Tokens of the prompt", ylabel="MiB", title=f"{beams} beams")
    axis.legend(frameon=False, fontsize=8)
    return figure


def crossover(beams: int, shared: bool) -> int:
    """The prompt length from which on Mamba-2 keeps less than GPT-2 at the paper's sizes."""
    return next(
        n
        for n in range(1, 10**6)
        if state_bytes(PAPER_GEOMETRY, n, beams)[0 if shared else 1] > state_bytes(PAPER_GEOMETRY, n, beams)[2]
    )


def memory_sentence(beams: int) -> Html:
    """Where Mamba-2's constant state begins to pay, in words."""
    one, copied, shared = crossover(1, True), crossover(beams, False), crossover(beams, True)
    return paragraph(
        f"With one query, Mamba-2 keeps less than GPT-2 from {one:,} prompt tokens on. With {beams} beams and the "
        f"prompt copied for each, as transformers does, from {copied:,}. But the keys and values of a prompt can be "
        f"shared by all beams, a recurrent state cannot: then from {shared:,} tokens on, and GPT-2 reads at most "
        "1,024. Computed from the published sizes, in float32."
    )


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"

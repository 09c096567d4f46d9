"""What writing queries costs: tokens per second, seconds of a user, and memory, from two benchmarks.

`decoding_speed` has GPT-2 and Mamba-2 at the paper's sizes by prompt length, `query_latency` one request at a time
beside the served models, on a data set (benchmarks/results/<name>.json). Time per user and tokens per second are two
quantities: each has a column of its own, though the paper's tables print one number for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from seqrec_lib.evaluate.statistics import Interval, interval, ratio
from seqrec_lib.report.benchmarks import conditions, missing, versions
from seqrec_lib.report.figures import canvas, style
from seqrec_lib.report.html import NONE, Html, not_run, paragraph, table
from seqrec_lib.report.language import weights
from seqrec_lib.report.paper import comparable, dataset_name, model_name, paper_dataset, paper_row
from seqrec_lib.report.timings import span, times

Record = Mapping[str, Any]
MODELS = {"gpt2": "gpt4rec", "mamba2": "mamrec"}
NAMES = {"gpt2": "GPT-2", "mamba2": "Mamba-2"}
LANGUAGE = ("gpt4rec", "mamrec", "llamarec")
WAYS = {
    "free": "free queries, BM25",
    "held": "held to titles",
    "paper": "free queries, the paper's size",
    "ranker": "nothing: one pass over candidates",
    "paper-ranker": "nothing: one pass, Llama-2 7B's size, bfloat16",
}
WINDOW = 1024  # tokens that GPT-2 was made for
PAPER_GEOMETRY = {"d_model": 768, "gpt2_layers": 12, "mamba2_layers": 24, "d_state": 128}
"""GPT-2 (117M) and Mamba-2 (130M)."""


def reading(record: Record, row: Record) -> float:
    """Prompt tokens read in a second."""
    return float(row["context"] / median(row["read_seconds"]))


def writing(record: Record, row: Record) -> float:
    """Tokens written in a second, those of all beams."""
    return float(record["setting"]["beams"] / median(row["step_seconds"]))


def speed_table(record: Record | None, gpu: Record | None = None) -> Html:
    """Tokens per second, seconds of a user and memory by prompt length; the GPU's columns come with its record."""
    if record is None:
        return missing("decoding_speed")
    setting, other = record["setting"], {} if gpu is None else {_place(row): row for row in gpu["contexts"]}
    body: list[list[str | Html]] = []
    for row in record["contexts"]:
        cells: list[str | Html] = [
            NAMES[row["architecture"]],
            f"{row['context']:,}",
            f"{reading(record, row):,.0f}",
            f"{writing(record, row):,.0f}",
            f"{median(row['total_seconds']):.2f}",
            f"{row['kept_bytes'] / 2**20:,.0f}",
        ]
        twin = other.get(_place(row))
        if gpu is not None and twin is None:
            cells += ["not run"] * 3
        elif gpu is not None and twin is not None:
            cells += [
                f"{reading(gpu, twin):,.0f}",
                f"{writing(gpu, twin):,.0f}",
                f"{median(twin['total_seconds']):.3f}",
            ]
        body.append(cells)
    sizes = " and ".join(f"{NAMES[name]} ({weights(own['parameters'])})" for name, own in record["models"].items())
    headers = ["Model", "Prompt, tokens", "Read, tokens/s", "Written, tokens/s", "One user, s", "Kept, MiB"]
    headers += [] if gpu is None else ["GPU: read, tokens/s", "GPU: written, tokens/s", "GPU: one user, s"]
    return table(
        headers,
        body,
        caption=f"{sizes} with random weights: one user, {setting['beams']} beams of {setting['steps']} tokens",
        notes=[
            "Random weights: speed only, no quality. Written: the tokens of all beams, by the steps alone. One user: "
            "the whole search. Kept: measured, between two tokens, for one user; this program's GPT-2 also holds the "
            "prompt's queries beside its keys and values, half as much again as it would need. "
            f"GPT-2 as published reads {WINDOW:,} tokens; beyond stands the same shape with more positions.",
            conditions(record) + (" On a GPU: not run." if gpu is None else ""),
            f"Versions: {versions([record['versions']])}.",
        ],
    )


def _place(row: Record) -> tuple[str, int]:
    return row["architecture"], row["context"]


def peer_table(record: Record | None) -> Html:
    """Ours beside transformers' own models and `generate`."""
    if record is None:
        return missing("decoding_speed")
    body = []
    for name, own in record["peers"].items():
        cells = [NAMES[name], f"{own['prompt']:,}"]
        for part in ("read", "search"):
            cells += [f"{median(own[f'{side}{part}_seconds']):.2f}" for side in ("", "their_")]
            cells.append(f"{own[f'{part}_times_as_fast']:.1f}")
        body.append(cells)
    setting = record["setting"]
    headers = ["Model", "Prompt, tokens", "Reading, s", "transformers', s", "Faster by"]
    headers += ["Search, s", "transformers', s", "Faster by"]
    return table(
        headers,
        body,
        caption=f"The same weights in transformers, {setting['beams']} beams of {setting['steps']} tokens, in turns",
        notes=["Equal queries and scores, which tests check. transformers copies the prompt for each beam."],
    )


def _curves(record: Record) -> dict[str, list[Record]]:
    return {name: [row for row in record["contexts"] if row["architecture"] == name] for name in NAMES}


def context_figure(record: Record | None) -> Figure | None:
    """Reading, writing and memory against the length of the prompt."""
    if record is None:
        return None
    figure, axes = canvas(1, 3, 7.6, 3.3)
    for name, rows in _curves(record).items():
        colour, marker = style(MODELS[name])
        lengths = [row["context"] for row in rows]
        panels = (
            [reading(record, row) for row in rows],
            [writing(record, row) for row in rows],
            [row["kept_bytes"] / 2**20 for row in rows],
        )
        line = "-" if name == "gpt2" else "--"
        for axis, values in zip(axes.flat, panels, strict=True):
            axis.plot(lengths, values, line, color=colour, marker=marker, linewidth=2, markersize=6, label=NAMES[name])
    for axis, title in zip(axes.flat, ("Read, tokens/s", "Written, tokens/s", "Kept, MiB"), strict=True):
        axis.axvline(WINDOW, color="#444444", linestyle=":", linewidth=1)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(title=title, xlabel="Tokens of the prompt", ylim=(0, None))
        axis.tick_params(axis="x", labelrotation=45, labelsize=8)
    axes.flat[0].legend(frameon=False, fontsize=9)
    figure.supxlabel("dotted: GPT-2's window", fontsize=9, color="#444444")
    return figure


def context_numbers(record: Record | None) -> pd.DataFrame:
    """The numbers behind `context_figure`."""
    if record is None:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {
                "model": NAMES[row["architecture"]],
                "prompt": row["context"],
                "read, tokens/s": reading(record, row),
                "written, tokens/s": writing(record, row),
                "kept, MiB": row["kept_bytes"] / 2**20,
            }
            for row in record["contexts"]
        ]
    )


def context_alt(record: Record | None) -> str:
    """`context_figure` in words: both ends of every line."""
    parts = []
    for name, rows in (_curves(record) if record else {}).items():
        assert record is not None
        for row in (rows[0], rows[-1]):
            parts.append(
                f"{NAMES[name]} at {row['context']} tokens reads {reading(record, row):,.0f} and writes "
                f"{writing(record, row):,.0f} tokens a second and keeps {row['kept_bytes'] / 2**20:,.0f} MiB"
            )
    return "Three line plots over the prompt's length. " + "; ".join(parts)


def crossing_sentence(record: Record | None) -> Html:
    """From which measured length on Mamba-2 reads faster, writes faster and keeps less than GPT-2, in words."""
    if record is None:
        return missing("decoding_speed")
    ours, theirs = _curves(record)["mamba2"], _curves(record)["gpt2"]
    questions = {
        "reads faster": lambda a, b: reading(record, a) > reading(record, b),
        "writes faster": lambda a, b: writing(record, a) > writing(record, b),
        "answers a user sooner": lambda a, b: median(a["total_seconds"]) < median(b["total_seconds"]),
        "keeps less": lambda a, b: a["kept_bytes"] < b["kept_bytes"],
    }
    words = []
    for what, better in questions.items():
        held = [bool(better(a, b)) for a, b in zip(ours, theirs, strict=True)]
        lengths = [row["context"] for row in ours]
        if all(held):
            words.append(f"{what} at every length measured")
        elif not held[-1]:
            words.append(f"{what} at none" if not any(held) else f"{what} at some lengths, but not at the longest")
        else:
            first = len(held) - next(i for i, yes in enumerate([*reversed(held), False]) if not yes)
            words.append(f"{what} from {lengths[first]:,} tokens on")
    beams = record["setting"]["beams"]
    return paragraph(
        f"With {beams} beams and prompts of {ours[0]['context']:,} to {ours[-1]['context']:,} tokens, Mamba-2 "
        f"{'; '.join(words)}. (GPT-2's prompt is kept with its queries, half as much again as it would need: without "
        f"them it would keep less for longer.) GPT-2 as published reads {WINDOW:,}."
    )


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


def memory_figure(beams: int) -> Figure:
    """What decoding has to keep for one user against the length of the prompt, at the paper's sizes, in float32."""
    lengths = np.unique(np.geomspace(16, 16384, 60).astype(int))
    curves = np.array([state_bytes(PAPER_GEOMETRY, int(n), beams) for n in lengths]) / 2**20
    figure, axes = canvas(1, 1, 6.5, 3.4)
    axis: Axes = axes.flat[0]
    names = ("GPT-2, prompt shared by the beams", "GPT-2, prompt copied for each beam", "Mamba-2")
    looks = (("#56B4E9", "-"), ("#56B4E9", "--"), ("#CC79A7", "-"))
    for column, (name, (colour, line)) in enumerate(zip(names, looks, strict=True)):
        axis.plot(lengths, curves[:, column], color=colour, linestyle=line, linewidth=2, label=name)
    axis.axvline(WINDOW, color="#444444", linestyle=":")
    axis.text(1060, curves.min(), "GPT-2's window", fontsize=8, color="#444444")
    axis.set(xscale="log", yscale="log", xlabel="Tokens of the prompt", ylabel="MiB", title=f"{beams} beams")
    axis.xaxis.set_minor_formatter(NullFormatter())
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
        f"{WINDOW:,}. Computed from the published sizes, in float32."
    )


def _part(record: Record | None, dataset: str) -> Record | None:
    return None if record is None else record["datasets"].get(dataset)


def _blocks(part: Record, model: str, path: str) -> np.ndarray | None:
    found = [own for own in part["contestants"] if (own["model"], own["path"]) == (model, path)]
    return np.array(found[0]["block_milliseconds"]) if found else None


def latency_ratio(record: Record | None, dataset: str, slow: tuple[str, str], fast: tuple[str, str]) -> Interval | None:
    """How many times as long ``slow`` (model, path) takes as ``fast`` on the same users, block by block; None: it
    was not run."""
    part = _part(record, dataset)
    if part is None:
        return None
    a, b = _blocks(part, *slow), _blocks(part, *fast)
    if a is None or b is None:
        return None
    both = min(len(a), len(b))  # the paper's sizes take part in the first blocks only
    return ratio(a[:both], b[:both])


def in_units_of_sasrec(record: Record | None, dataset: str) -> dict[str, Interval]:
    """By model id, latency over that of SASRec as served: of the served models, and of language models at this
    study's own size."""
    part, found = _part(record, dataset), {}
    for own in part["contestants"] if part is not None else ():
        if own["path"] in {"served", "free", "ranker"}:
            estimate = latency_ratio(record, dataset, (own["model"], own["path"]), ("sasrec", "served"))
            if estimate is not None:
                found[own["model"]] = estimate
    return found


def users_table(record: Record | None, dataset: str) -> Html:
    """Language models, one request at a time: time per user, and in a column of its own tokens per second.

    ``record`` is `query_latency`'s, from a CPU or from a GPU.
    """
    part, on_gpu = _part(record, dataset), _on_gpu(record)
    place = ", on a GPU" if on_gpu else ""
    if part is None:
        return not_run(f"Language models, one request at a time on {dataset_name(dataset)}{place}")
    rows: list[tuple[str, Record | None]] = []
    timed = [own for own in part["contestants"] if own["path"] in WAYS]
    for model in dict.fromkeys((*LANGUAGE, *(own["model"] for own in timed))):
        own = [contestant for contestant in timed if contestant["model"] == model]
        rows += [(model, contestant) for contestant in own]
        if not own and _printed_latency(dataset, model) is not None:
            rows.append((model, None))
    body = [_user_row(record, dataset, model, own) for model, own in rows]
    headers = ["Model", "Weights", "Writes", "Time per user, ms", "95 % interval", "In units of SASRec", "Tokens/s"]
    headers += ["The paper's, in units of SASRec"]
    notes = ["Two quantities in two columns: the paper's tables print one number for both."]
    if record is not None:
        base = _blocks(part, "sasrec", _served(record))
        assert base is not None
        random = any(own and own["weights"] == "random" and "ranker" not in own["path"] for _, own in rows)
        notes.append(
            f"From the history to {part['queries']} queries and one list, {part['beams']} beams of {part['steps']} "
            f"tokens at most, a prompt of {part['prompt_tokens']} in the median; in turns with SASRec "
            f"{'as a CUDA graph' if on_gpu else 'as served'}, which took {np.median(base):.2f} ms. Intervals over "
            "blocks of the same users."
            + (" Random weights never end a query early: such a time is an upper bound." if random else "")
        )
        notes += [f"Failed: {name} ({error})." for name, error in part.get("errors", {}).items()]
        notes.append(conditions(record))
    if paper_dataset(dataset) and not comparable(dataset):
        notes.append("The paper's numbers are about other data.")
    caption = f"Language models, one request at a time on {dataset_name(dataset)}{place}"
    return table(headers, body, caption=caption, notes=notes, left=(0, 1, 2))


def _on_gpu(record: Record | None) -> bool:
    return record is not None and record.get("environment", {}).get("device_type") == "cuda"


def _served(record: Record | None) -> str:
    """The path by which a record's machine serves recommenders."""
    return "graph" if _on_gpu(record) else "served"


def _printed_latency(dataset: str, model: str) -> float | None:
    """The paper's latency of a model in units of its SASRec's, where it prints both."""
    printed, base = paper_row(dataset, model), paper_row(dataset, "sasrec")
    return printed.latency.value / base.latency.value if printed and base and printed.latency and base.latency else None


def _user_row(record: Record | None, dataset: str, model: str, own: Record | None) -> list[str | Html]:
    printed = _printed_latency(dataset, model)
    paper = NONE if printed is None else times(printed)
    if own is None:
        return [model_name(model), NONE, NONE, *["not run"] * 4, paper]
    found = interval(np.array(own["block_milliseconds"]), np.median)
    over = latency_ratio(record, dataset, (model, own["path"]), ("sasrec", _served(record)))
    made = "from scratch" if own["weights"] == "tuned" else "random"
    return [
        model_name(model),
        f"{made}, {weights(own['parameters'])}",
        WAYS[own["path"]],
        _milliseconds(found.estimate),
        span(found, _milliseconds),
        NONE if over is None else times(over.estimate),
        NONE if own["tokens_per_second"] is None else f"{own['tokens_per_second']:,.0f}",
        paper,
    ]


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"

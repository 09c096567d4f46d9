"""Tables and figures of the latency page, from one timing run (`timings.Timings`)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqrec_lib.data.registry import base_name
from seqrec_lib.latency.statistics import Coverage, false_difference_rate, outlier_shares
from seqrec_lib.report.figures import canvas, style
from seqrec_lib.report.html import NONE, Html, bullets, not_run, note, paragraph, stack, table
from seqrec_lib.report.paper import MOVIELENS, comparable, dataset_name, paper_row
from seqrec_lib.report.timings import PATHS, STAGES, Timings, label, milliseconds, span, times


def setting(timings: Timings | None) -> Html:
    """What was timed, on what, in a sentence or two."""
    if timings is None:
        return not_run("Timings")
    config, calls = timings.record.config, timings.calls
    threads = config["threads"]
    lengths = timings.of(*timings.rows[0])["length"]
    return paragraph(
        f"{config['processes']} processes, one after another, each with {config['blocks']} random blocks of "
        f"{config['block_users']} users; {len(calls) // len(timings.rows):,} calls for each row. The catalogue has "
        f"{timings.record.dataset['n_items']:,} items; every model reads the same latest items of a history, at most "
        f"{config['max_length']}, here {lengths.median():.0f} in the median and {lengths.min()} at least. On the "
        f"CPU with "
        f"{threads} thread{'' if threads == 1 else 's'}, float32, batch 1, weights random."
    )


def service_table(timings: Timings | None, *paths: str) -> Html:
    """Median with interval, mean, p95, p99 and outliers of the whole request, at batch 1."""
    if timings is None:
        return not_run("Service times")
    body: list[list[str | Html]] = []
    for model, path in timings.ordered(*paths):
        values = timings.of(model, path)["total"].to_numpy()
        estimate = timings.median(model, path)
        mild, severe = outlier_shares(values)
        p95, p99 = np.quantile(values, [0.95, 0.99])
        body.append(
            [
                label(model, path),
                milliseconds(estimate.estimate),
                span(estimate),
                *(milliseconds(x) for x in (values.mean(), p95, p99)),
                f"{mild:.1%}",
                f"{severe:.1%}",
            ]
        )
    headers = ["Model and path", "Median, ms", "95 % interval", "Mean", "p95", "p99", "Mild outliers", "Severe"]
    return table(
        headers,
        body,
        caption=f"Time of one request at batch 1 on {_where(timings)}, milliseconds",
        notes=[
            f"Median: the mean of the blocks' medians, with its BCa interval by {timings.unit}; mean, p95 and p99 "
            "are of all calls together. Outliers by Tukey's fences (1.5 and 3 interquartile ranges), counted, none "
            "removed. No request waits for another here: these are service times.",
        ],
    )


def stage_table(timings: Timings | None, *paths: str) -> Html:
    """Medians of encoding, scoring and selecting, and the part that encoding has."""
    if timings is None:
        return not_run("Stages")
    body = []
    for model, path in timings.ordered(*paths):
        medians = [timings.median(model, path, stage).estimate for stage in STAGES]
        body.append([label(model, path), *(milliseconds(m) for m in medians), f"{medians[0] / sum(medians):.0%}"])
    headers = ["Model and path", "Encode", "Score all items", "Top 10", "Encoding's part"]
    return table(headers, body, caption=f"The stages of a request on {_where(timings)}, median milliseconds")


def paper_table(timings: Timings | None, dataset: str) -> Html:
    """The paper's protocol: its estimand, what its removal of outliers takes away, and its own numbers as ratios."""
    if timings is None:
        return not_run("The paper's protocol")
    body: list[list[str | Html]] = []
    for model, path in timings.ordered("module", "served"):
        estimate = timings.paper_estimate(model, path)
        if estimate is None:
            continue
        trimmed, mean, removed = estimate
        base = timings.paper_estimate("sasrec", path)
        body.append(
            [
                label(model, path),
                milliseconds(trimmed.estimate),
                span(trimmed),
                milliseconds(mean.estimate),
                f"{removed:.1%}",
                NONE if base is None else times(trimmed.estimate / base[0].estimate),
                _paper_ratio(dataset, model),
            ]
        )
    config = timings.record.config
    headers = ["Model and path", "Paper's estimand, ms", "95 % interval", "Outliers kept", "Removed"]
    headers += ["In units of SASRec", "The paper's"]
    notes = [
        f"{config['samples']} samples of {config['sample_users']} users, with replacement where the data set has "
        f"fewer. "
        "Paper's estimand: mean time of a user, calls beyond 1.5 interquartile ranges removed within each sample. "
        "“Outliers "
        "kept”: the same mean over all calls.",
    ]
    if not comparable(dataset):
        notes.append("The paper's numbers are about other data.")
    return table(headers, body, caption=f"The paper's protocol on {_where(timings)}", notes=notes)


def _paper_ratio(dataset: str, model: str) -> str:
    own, base = paper_row(dataset, model), paper_row(dataset, "sasrec")
    if own is None or base is None or own.latency is None or base.latency is None:
        return NONE
    return times(own.latency.value / base.latency.value)


def ratio_table(timings: Timings | None, dataset: str) -> Html:
    """SASRec in units of every other model, and Mamba4Rec of Hydra4Rec, paired; the paper's ratio beside it."""
    if timings is None:
        return not_run("Ratios")
    pairs = [("sasrec", other) for other in ("mamba4rec", "2mamba4rec", "hydra4rec")] + [("mamba4rec", "hydra4rec")]
    body: list[list[str | Html]] = []
    for slow, fast in pairs:
        cells: list[str | Html] = [f"{label(slow)} over {label(fast)}"]
        for path in ("served", "module", "step"):
            found = timings.ratio((slow, path), (fast, path))
            cells.append(NONE if found is None else f"{times(found.estimate)} ({span(found, times)})")
        printed = _paper_ratio(dataset, slow), _paper_ratio(dataset, fast)
        both = None if NONE in printed else _printed(dataset, slow) / _printed(dataset, fast)
        body.append([*cells, NONE if both is None else times(both)])
    headers = ["How many times as long", *(PATHS[p].capitalize() for p in ("served", "module", "step")), "The paper's"]
    return table(
        headers, body, caption=f"Ratios of service times on {_where(timings)}, with 95 % intervals",
        notes=[f"Paired: the same users in the same block; geometric means by {timings.unit}."],
    )  # fmt: skip


def _printed(dataset: str, model: str) -> float:
    row = paper_row(dataset, model)
    assert row is not None and row.latency is not None
    return row.latency.value


def control(timings: Timings | None) -> Html:
    """The A/A control in sentences: one model timed twice."""
    if timings is None:
        return not_run("The A/A control")
    twins = [model for model, path in timings.rows if path == "again"]
    if not twins:
        return paragraph("No model was timed twice in this run.")
    a, b = (timings.units(twins[0], path) for path in ("served", "again"))
    found = timings.ratio((twins[0], "served"), (twins[0], "again"))
    assert found is not None
    rate = false_difference_rate(a, b)
    return paragraph(
        f"{label(twins[0])} was entered twice. The ratio of the two is {times(found.estimate)}, with an interval of "
        f"{span(found, times)}. Swapping the two labels at random within each {timings.unit}, the procedure calls "
        f"the model "
        f"different from itself in {rate:.1%} of 400 trials; 5 % is what a 95 % interval promises ({len(a)} units)."
    )


def batch_table(timings: Timings | None) -> Html:
    """Milliseconds per user of the models' own pass by batch size, the best one named."""
    if timings is None or timings.batches.empty:
        return not_run("Batches")
    data = timings.batches
    sizes = sorted(data["size"].unique().tolist())
    body = []
    for model in dict.fromkeys(data["model"]):
        medians = [float(data[(data["model"] == model) & (data["size"] == s)]["user"].median()) for s in sizes]
        best = int(np.argmin(medians))
        body.append([label(model), *map(milliseconds, medians), str(sizes[best]), f"{1e6 / medians[best]:,.0f}"])
    headers = ["Model", *(f"Batch {size}" for size in sizes), "Best batch", "Users/s there"]
    return table(
        headers, body, caption=f"Milliseconds per user by batch on {_where(timings)}, from ids to the top 10",
        notes=["The models' own pass (“module”); histories of a batch are padded to its longest. Medians over calls."],
    )  # fmt: skip


def warm_up_table(timings: Timings | None) -> Html:
    """What comes before the first timed call, and memory: first call, calls until steady, working memory."""
    if timings is None:
        return not_run("Warm-up")
    facts, body = timings.record.metrics, []
    for model, path in timings.ordered("served", "module", "step"):
        own = {name: facts.get(f"{path}/{model}/{name}") for name in ("first_call_ms", "warm_up_calls")}
        peak = facts.get(f"{path}/{model}/peak_memory_bytes")
        held = facts.get(f"{path}/{model}/held_bytes")
        body.append(
            [
                label(model, path),
                f"{own['first_call_ms']:,.1f}",
                f"{own['warm_up_calls']}",
                *(NONE if size is None else f"{size / 2**20:,.1f}" for size in (held, peak)),
            ]
        )
    headers = ["Model and path", "First call, ms", "Calls to warm up", "Weights and tables, MiB", "Working memory, MiB"]
    return table(
        headers, body, caption="Before the clock starts, and memory",
        notes=[
            "First call: the slowest over processes; it loads compiled loops, or compiles them where no cache is "
            "found. "
            "Working memory: growth of the process's peak while the longest history is served.",
        ],
    )  # fmt: skip


def cuda_table(timings: Timings | None) -> Html:
    """GPU columns: eager, compiled, CUDA graph; wall clock and the device's own."""
    if timings is None:
        return not_run("On a GPU")
    body: list[list[str | Html]] = []
    for model in timings.record.config["architectures"]:
        cells: list[str | Html] = [label(model)]
        for path in ("eager", "compiled", "graph"):
            if (model, path) not in timings.rows:
                cells.append("not run")
                continue
            cells.append(f"{milliseconds(timings.median(model, path).estimate)} ({_device_time(timings, model, path)})")
        body.append(cells)
    headers = ["Model", "Eager", "torch.compile", "CUDA graph"]
    return table(
        headers, body, caption="On a GPU: median milliseconds at batch 1, by the wall clock (by CUDA events)",
        notes=[
            f"{timings.record.environment['device']}, {len(timings.calls) // len(timings.rows):,} requests for each. A "
            "request goes from ids on the host to the ten best on the host, which waits for the GPU before it reads "
            "the clock."
        ],
    )  # fmt: skip


def _device_time(timings: Timings, model: str, path: str) -> str:
    return milliseconds(float(timings.of(model, path)["device"].median()))


def coverage_table(coverage: Coverage) -> Html:
    """The simulation: how often a 95 % interval holds the truth."""
    rows = [
        ["Mean of all calls", f"{coverage.mean:.0%}"],
        ["Mean after outliers are removed, against the mean", f"{coverage.mean_without_outliers:.0%}"],
        ["Median of all calls", f"{coverage.median:.0%}"],
    ]
    return table(
        ["Estimate", "Intervals that hold the truth"], rows,
        caption=f"{coverage.repetitions} simulated studies of {coverage.calls} calls, nominal coverage 95 %",
    )  # fmt: skip


def ecdf_figure(timings: Timings | None, path: str = "served") -> Figure | None:
    """Share of requests that took at most so long, a line per model; the tail is where outliers stand."""
    if timings is None:
        return None
    figure, axes = canvas(1, 1, 6.8, 3.6)
    axis: Axes = axes.flat[0]
    for number, (model, _) in enumerate(timings.ordered(path)):
        values = np.sort(timings.of(model, path)["total"].to_numpy()) / 1e3
        share = np.arange(1, len(values) + 1) / len(values)
        colour, marker = style(model)
        every = max(1, len(values) // 8)
        dashes = ("-", "--", ":", "-.")[number % 4]
        axis.plot(values, share, dashes, color=colour, marker=marker, markevery=every, ms=5, lw=1.5, label=label(model))
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel="Milliseconds for one request", ylabel="Share of requests", ylim=(0, 1.02))
    axis.legend(frameon=False, fontsize=9)
    return figure


def ecdf_numbers(timings: Timings | None, path: str = "served") -> pd.DataFrame:
    """Quantiles behind `ecdf_figure`, in milliseconds."""
    if timings is None:
        return pd.DataFrame()
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    return pd.DataFrame(
        [
            {"model": label(model)}
            | {
                f"{s:.0%}": v / 1e3
                for s, v in zip(shares, np.quantile(timings.of(model, path)["total"], shares), strict=True)
            }
            for model, _ in timings.ordered(path)
        ]
    )


def ecdf_alt(timings: Timings | None, path: str = "served") -> str:
    """What `ecdf_figure` shows, in words."""
    if timings is None:
        return "No timings."
    parts = [
        f"{label(model)} median {milliseconds(float(values.median()))} ms, slowest "
        f"{milliseconds(float(values.max()))} ms"
        for model, values in ((m, timings.of(m, path)["total"]) for m, _ in timings.ordered(path))
    ]
    return "Cumulative shares of requests by time on a log axis: " + "; ".join(parts)


def goals(timings: Timings | None) -> Html:
    """What this study aims at for its state space models at MovieLens 1M's size, and whether it got there."""
    if timings is None:
        return not_run("Goals")
    if base_name(timings.record.dataset["name"]) != MOVIELENS:
        return paragraph(f"This study's goals for such times are set at {dataset_name(MOVIELENS)}'s size.")
    lines = []
    for path, limit, what in (("served", 1500.0, "a recommendation at batch 1"), ("step", 200.0, "one more event")):
        for model in ("mamba4rec", "2mamba4rec", "hydra4rec"):
            if (model, path) in timings.rows:
                got = timings.median(model, path, "total").estimate
                word = "reached" if got <= limit else "missed"
                lines.append(f"{label(model)}, {what}: {milliseconds(got)} ms; the goal is {limit / 1e3:g} ms: {word}.")
    return stack(
        [note("Goals.", "At most these medians, at MovieLens 1M's size on a machine of two cores."), bullets(lines)]
    )


def _where(timings: Timings) -> str:
    return dataset_name(timings.record.dataset["name"])

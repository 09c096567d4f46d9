"""Figures of the optimizer page about the batch: fits of beta, which say if the paper's rule can stop, and traces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from seqrec_lib.experiments.arms import ARMS
from seqrec_lib.report.figures import canvas
from seqrec_lib.report.html import Html, not_run, table
from seqrec_lib.report.optimizers import Gathered
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.results import RunStore


@dataclass(frozen=True)
class Fit:
    """beta = intercept + slope * axis through the mean at each m; r2: weighted; crossing: the B of c1 = c2 * axis."""

    step: str
    axis: str
    intercept: float
    slope: float
    r2: float

    @property
    def crossing(self) -> str:
        """In words: where the paper's rule would stop."""
        if self.slope <= 0:
            return "at once: no noise term"
        if self.intercept <= 0:
            return "never: c1 is not positive"
        ratio = self.slope / self.intercept
        return f"{ratio if self.axis == '1/m' else ratio**2:,.0f}"


AXIS = {"1/m": lambda m: 1 / m, "1/sqrt(m)": lambda m: 1 / np.sqrt(m)}


def beta_means(noise: pa.Table) -> pd.DataFrame:
    """step, m, mean and standard error of beta, mean r."""
    grouped = noise.to_pandas().groupby(["step", "m"], sort=True)
    return pd.DataFrame(
        {"beta": grouped["beta"].mean(), "error": grouped["beta"].sem(), "r": grouped["r"].mean()}
    ).reset_index()


def beta_fits(noise: pa.Table) -> dict[tuple[str, str], Fit]:
    """Weighted least squares for both kinds of step and both axes."""
    means = beta_means(noise)
    fits = {}
    for step in ("real", "fixed"):
        rows = means[means["step"] == step]
        y, weight = rows["beta"].to_numpy(), 1 / np.maximum(rows["error"].to_numpy(), 1e-30) ** 2
        for axis, transform in AXIS.items():
            x = transform(rows["m"].to_numpy(dtype=float))
            slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weight))
            centre = np.average(y, weights=weight)
            r2 = 1 - np.sum(weight * (y - intercept - slope * x) ** 2) / np.sum(weight * (y - centre) ** 2)
            fits[step, axis] = Fit(step, axis, float(intercept), float(slope), float(r2))
    return fits


def beta_figure(noise: pa.Table) -> Figure:
    """Mean beta against m with both fits: real steps on the left, steps of one length on the right."""
    means, fits = beta_means(noise), beta_fits(noise)
    figure, axes = canvas(1, 2, 7.4, 3.6)
    titles = {"real": "Real step, d = -g / H", "fixed": "Step of one length"}
    for axis, (step, title) in zip(axes.flat, titles.items(), strict=True):
        rows = means[means["step"] == step]
        axis.errorbar(
            rows["m"], rows["beta"], yerr=2 * rows["error"], fmt="o", color="#000000", capsize=3, label="measured"
        )
        m = np.geomspace(1, rows["m"].max(), 100)
        for name, colour, line in (("1/m", "#0072B2", "-"), ("1/sqrt(m)", "#D55E00", "--")):
            fit = fits[step, name]
            label = f"c1 + c2 {'/ B' if name == '1/m' else '/ √B'}, R² = {fit.r2:.4f}"
            axis.plot(m, fit.intercept + fit.slope * AXIS[name](m), color=colour, linestyle=line, label=label)
        axis.set(title=title, xlabel="B, in batches of B₀", xscale="log")
        axis.set_xticks(rows["m"], [f"{value}" for value in rows["m"]])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.legend(frameon=False, fontsize=8)
    axes.flat[0].set_ylabel("β̂")
    return figure


def beta_alt(noise: pa.Table) -> str:
    """What `beta_figure` shows, in words."""
    parts = [f"{fit.step} step, axis {fit.axis}: R² {fit.r2:.4f}" for fit in beta_fits(noise).values()]
    return "Two plots of mean beta against the batch with two fitted curves each. " + "; ".join(parts)


def trace_numbers(own: ModelRuns | None, store: RunStore) -> pd.DataFrame:
    """The trace of an arm's first complete run; empty without one."""
    if own is None or not own.complete:
        return pd.DataFrame()
    return store.table(own.complete[0], "trace").to_pandas()


def epochs_met(own: ModelRuns, store: RunStore) -> tuple[int, int]:
    """In how many epochs of an arm's runs, of how many, the two sides that its rule compares had met by the last step
    that was recorded: the paper's c1 >= c2 / sqrt(B) > 0, or share times the signal >= noise / B."""
    batching, met = ARMS[own.model].batching, []
    for record in own.complete:
        trace = store.table(record, "trace").to_pandas()
        columns = ["c1", "c2"] if batching["rule"] == "paper" else ["signal", "noise"]
        if not set(columns) <= set(trace):
            continue
        ends = trace.dropna(subset=columns).groupby("epoch").tail(1)
        if batching["rule"] == "paper":
            met += list((ends["c2"] > 0) & (ends["c1"] >= ends["c2"] / np.sqrt(ends["m"])))
        else:
            met += list(batching["share"] * ends["signal"] >= ends["noise"] / ends["m"])
    return sum(met), len(met)


def met_table(found: Gathered, store: RunStore) -> Html:
    """For each arm with a rule for the batch: whether growth stopped by the rule, and how large the batch became."""
    rows: list[list[str | Html]] = []
    for name, arm in ARMS.items():
        own = found.arm(name)
        if own is None or not own.complete or arm.batching.get("rule") not in {"paper", "noise"}:
            continue
        met, epochs = epochs_met(own, store)
        last = [int(store.table(record, "trace")["m"].to_numpy()[-1]) for record in own.complete]
        rows.append([own.label, f"{met} of {epochs}", f"{np.mean(last):.1f}", str(len(own.complete))])
    if not rows:
        return not_run("Arms with a rule for the batch")
    return table(
        ["Arm", "Epochs in which both sides met", "Batches in the last step", "Runs"],
        rows,
        caption="Did growth stop by the rule, or by the epoch's end?",
        notes=["Judged at the last step of an epoch that the trace has; batches are means over runs."],
    )


def batch_traces(found: Gathered, store: RunStore) -> Figure | None:
    """B over the steps of both rules, and below what each compares: c1 with c2 / sqrt(B), noise / B with share times
    the signal."""
    traces = {name: trace_numbers(found.arm(name), store) for name in ("usgm-paper", "usgm-noise")}
    if any(trace.empty for trace in traces.values()):
        return None
    figure, axes = canvas(2, 2, 7.4, 5.6)
    share = float(ARMS["usgm-noise"].batching["share"])
    batches = max(trace["step"].max() for trace in traces.values())  # of an epoch
    compared = {
        "usgm-paper": (("c1", lambda t: t["c1"]), ("c2 / √B", lambda t: t["c2"] / np.sqrt(t["m"]))),
        "usgm-noise": (
            (f"{share:g} × signal", lambda t: share * t["signal"]),
            ("noise / B", lambda t: t["noise"] / t["m"]),
        ),
    }
    for column, (name, title) in enumerate((("usgm-paper", "The paper's rule"), ("usgm-noise", "The noise rule"))):
        trace = traces[name]
        epoch = trace["epoch"] - 1 + trace["step"] / batches
        axes[0, column].step(epoch, trace["m"], color="#000000", where="post")
        axes[0, column].set(title=title, ylabel="B, in batches of B₀" if column == 0 else "")
        for (label, values), (colour, line) in zip(compared[name], (("#0072B2", "-"), ("#D55E00", "--")), strict=True):
            axes[1, column].plot(epoch, values(trace), color=colour, linestyle=line, label=label)
        axes[1, column].set(xlabel="Epochs")
        axes[1, column].axhline(0, color="#7f7f7f", linewidth=0.8)
        axes[1, column].legend(frameon=False)
    return figure


def batch_traces_alt(found: Gathered, store: RunStore) -> str:
    """How far B grew under both rules, in words."""
    parts = []
    for name in ("usgm-paper", "usgm-noise"):
        trace = trace_numbers(found.arm(name), store)
        if not trace.empty:
            parts.append(f"{ARMS[name].label}: B up to {trace['m'].max()} batches, {trace['m'].iloc[-1]} at the end")
    return "Traces of the batch size and of what each rule compares. " + "; ".join(parts)

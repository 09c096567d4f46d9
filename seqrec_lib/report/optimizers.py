"""Frames of the optimizer page: its runs, arms paired by seed, what the methods adapted, the batch, and the grids.

Both arms of a pair start from the same weights and see the same batches, so that a difference is taken seed by seed;
intervals over seeds are Student's t. A grid is one seed, and has none.

H: inverse rate of USGM; D: its distance; m: batches in a step; c1, c2, signal, noise: see `optim.adaptive_batching`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from seqrec_lib.experiments.arms import ARMS, GRIDS, TUNED, WITHOUT_TUNING, Cell
from seqrec_lib.report import frames
from seqrec_lib.report.frames import COMPLETE, FAILED, NO_RUN
from seqrec_lib.report.paper import model_name
from seqrec_lib.results import RunRecord, RunStore

LOSS = "best_valid_loss"
REFERENCE = "adam"  # the better of the two tuned Adams, so the harder yardstick


def gather(
    cells: Sequence[Cell], configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore
) -> pd.DataFrame:
    """`frames.frame` with one row for each place on the page, an arm's seed or a grid's point; two may be one run.

    Further columns: arm, grid (an id, or ""), title (of the grid), axis (the settings that vary), at (the value of the
    last of them), lr0 (of the first, where two vary), H_first, H_last, H_change (relative), D_last.
    """
    made = iter(frames.frame(records, configs, store).to_dict("records"))
    places = []  # the rows of each configuration
    for record in records:
        own = [next(made)]
        if record is not None and own[0]["run_id"] != record.run_id:  # the published run stands before edited code's
            own.append(next(made))
        places.append([row | _adapted(row, store) for row in own])
    rows = []
    for cell in cells:
        for row in places[configs.index(cell.config)] if cell.arm or cell.grid else ():
            edited = ", edited" if row["edited"] else ""
            row = {**row, "arm": cell.arm, "grid": cell.grid, LOSS: row.get(LOSS)}
            if cell.arm:
                row["label"] = ARMS[cell.arm].label + edited
            else:
                grid = GRIDS[cell.grid]
                row |= {"title": grid_title(cell.grid) + edited, "axis": " and ".join(grid.axes)}
                row |= {"at": cell.values[-1], "lr0": cell.values[0] if len(cell.values) > 1 else None}
            rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["arm", "grid", "label", "status", "seed", LOSS])


def _adapted(row: Mapping[str, Any], store: RunStore) -> dict[str, float]:
    """How far H moved in a run, where it has one."""
    record = store.find(row["run_id"]) if row["status"] == COMPLETE else None
    if record is None or "H" not in record.tables.get("trace", {}).get("columns", {}):
        return {}
    trace = store.table(record, "trace")
    first, last = (float(trace["H"][place].as_py()) for place in (0, -1))
    change = last / first - 1 if first else np.nan  # from H = 0 on there is no relative change
    return {"H_first": first, "H_last": last, "H_change": change, "D_last": float(trace["D"][-1].as_py())}


def grid_title(name: str) -> str:
    """A grid as a reader calls it, with its model where that is not the page's own."""
    grid = GRIDS[name]
    return grid.title + (f" ({model_name(grid.model)})" if grid.model else "")


def pairs(runs: pd.DataFrame, of: Sequence[tuple[str, str]], columns: Sequence[str]) -> pd.DataFrame:
    """Arm minus arm, seed by seed: as `frames.over_seeds`, a row for each pair of ids whose arms are on the page."""
    parts = []
    for a, b in of:
        first, second = (
            runs[runs["arm"] == arm].drop_duplicates("seed", keep="last").set_index("seed") for arm in (a, b)
        )
        if len(first) and len(second):
            gaps = first.reindex(columns=columns).astype(float) - second.reindex(columns=columns).astype(float)
            status = gaps[columns[-1]].map(lambda gap: NO_RUN if np.isnan(gap) else COMPLETE)
            parts.append(gaps.assign(pair=f"{ARMS[a].label} minus {ARMS[b].label}", status=status))
    return frames.over_seeds(pd.concat(parts) if parts else pd.DataFrame(), columns, by="pair")


def curves(runs: pd.DataFrame, store: RunStore) -> pd.DataFrame:
    """One row for each arm, seed and epoch: loss, valid_loss, and steps, samples and seconds up to there."""
    parts, costs = [], ["steps", "samples", "seconds"]
    for row, record in frames.complete(runs[runs["arm"] != ""], store):
        history = pd.DataFrame(record.history)
        history[costs] = history[costs].astype(float).cumsum()
        about = {name: row[name] for name in ("arm", "label", "model", "seed")}
        parts.append(history[["epoch", "loss", "valid_loss", *costs]].assign(**about))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def beside(curves: pd.DataFrame, metrics: Mapping[str, str], reference: str) -> pd.DataFrame:
    """What a panel for each arm shows: ``metrics`` (column -> name of its line) by epoch, mean and range over seeds,
    and the last of them for the arm ``reference``, which trains the same model."""
    if curves.empty:
        return curves
    keys = ["arm", "label", "model", "line", "epoch"]
    long = curves.melt(["arm", "label", "model", "epoch"], list(metrics), "line", "value")
    found = frames.over_range(long, keys, "value")
    found["line"] = found["line"].map(metrics)
    last = list(metrics.values())[-1]
    if reference not in set(found["arm"]):
        return found
    other = found[(found["arm"] == reference) & (found["line"] == last)]
    shown = [found]
    for arm, own in found[found["model"] == other["model"].iloc[0]].groupby("arm", sort=False):
        if arm != reference:
            name = f"{last} of {ARMS[reference].label}"
            shown.append(other.assign(arm=arm, label=own["label"].iloc[0], line=name))
    return pd.concat(shown, ignore_index=True)


# The batch


AXIS = {"1/m": lambda m: 1 / m, "1/sqrt(m)": lambda m: 1 / np.sqrt(m)}
STEPS = {"real": "Real step, d = -g / H", "fixed": "Steps of one length"}
LINES = {"1/m": "c1 + c2 / B", "1/sqrt(m)": "c1 + c2 / √B"}


def beta_means(noise: pa.Table) -> pd.DataFrame:
    """step, m, mean and standard error of beta, mean r."""
    grouped = noise.to_pandas().groupby(["step", "m"], sort=True)
    return grouped.agg(beta=("beta", "mean"), error=("beta", "sem"), r=("r", "mean")).reset_index()


def beta_fits(noise: pa.Table) -> pd.DataFrame:
    """beta = c1 + c2 * axis, by kind of step and axis: c1, c2 and r2 of least squares through the mean at each m,
    weighted by its inverse variance, and B, at which c1 = c2 * axis; NaN where that is nowhere."""
    means = beta_means(noise)
    fits = {}
    for step, axis in itertools.product(STEPS, AXIS):
        rows = means[means["step"] == step]
        x, y = AXIS[axis](rows["m"].to_numpy(dtype=float)), rows["beta"].to_numpy()
        weight = 1 / np.maximum(rows["error"].to_numpy(), 1e-30) ** 2
        c2, c1 = np.polyfit(x, y, 1, w=np.sqrt(weight))
        centre = np.average(y, weights=weight)
        r2 = 1 - np.sum(weight * (y - c1 - c2 * x) ** 2) / np.sum(weight * (y - centre) ** 2)
        crossing = (c2 / c1) ** (1 if axis == "1/m" else 2) if min(c1, c2) > 0 else np.nan
        fits[step, axis] = {"c1": c1, "c2": c2, "r2": r2, "B": crossing}
    return pd.DataFrame.from_dict(fits, orient="index").rename_axis(["step", "axis"])


def beta(record: RunRecord | None, store: RunStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(measured means with two standard errors and both curves, the fits), empty where beta was not measured."""
    if record is None or not record.complete:
        return pd.DataFrame(), pd.DataFrame()
    noise = store.table(record, "noise")
    means, fits = beta_means(noise), beta_fits(noise)
    ends = {"low": means["beta"] - 2 * means["error"], "high": means["beta"] + 2 * means["error"]}
    parts = [means.assign(line="measured", **ends)[["step", "line", "m", "beta", "low", "high"]]]
    m = np.geomspace(1, means["m"].max(), 40)
    for (step, axis), fit in fits.iterrows():
        curve = dict.fromkeys(("beta", "low", "high"), fit["c1"] + fit["c2"] * AXIS[axis](m))
        parts.append(pd.DataFrame({"step": step, "line": LINES[axis], "m": m} | curve))
    shown = pd.concat(parts, ignore_index=True).sort_values("step", key=lambda step: step.map(list(STEPS).index))
    table = fits.rename(index=STEPS, level="step").rename(index=LINES, level="axis")
    return shown.assign(step=shown["step"].map(STEPS)), table.rename_axis(["step", "line"]).reset_index()


def batch(runs: pd.DataFrame, store: RunStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(traces, ends) of the arms with a rule for the batch.

    traces, of each arm's first run: panel (batches in a step, or the two sides), line, epoch, value. ends, one row for
    each arm: in how many epochs both sides had met by the last step on record (the paper's c1 >= c2 / sqrt(B) > 0, or
    share times the signal >= noise / B), of how many, the batches in the last step, runs.
    """
    traces, ends = [], []
    for arm, own in runs[(runs["arm"] != "") & (runs["status"] == COMPLETE)].groupby("arm", sort=False):
        batching = ARMS[str(arm)].batching
        if batching.get("rule") not in {"paper", "noise"}:
            continue
        met, last = [], []
        for number, (_, record) in enumerate(frames.complete(own, store)):
            trace = store.table(record, "trace").to_pandas()
            met += sides_met(trace, batching)
            last.append(int(trace["m"].iloc[-1]))
            if number == 0:
                sides = _sides(trace, batching)
                epoch = trace["epoch"] - 1 + trace["step"] / max(trace["step"].max(), 1)
                batches = trace[["m"]].set_axis(["B"], axis=1)
                for what, part in (("batches in a step", batches), ("the two sides", sides)):
                    panel = f"{own['label'].iloc[0]}: {what}"
                    long = part.assign(epoch=epoch.loc[part.index]).melt("epoch", var_name="line")
                    traces.append(long.assign(panel=panel)[["panel", "line", "epoch", "value"]])
        row = {"label": own["label"].iloc[0], "met": sum(met), "epochs": len(met), "B": np.mean(last), "runs": len(own)}
        ends.append(row)
    return (pd.concat(traces, ignore_index=True) if traces else pd.DataFrame()), pd.DataFrame(ends)


def sides_met(trace: pd.DataFrame, batching: Mapping[str, Any]) -> list[bool]:
    """For each epoch of a trace whether the sides that a rule compares had met at the last step on record."""
    sides = _sides(trace, batching)
    closing = sides.groupby(trace["epoch"].loc[sides.index]).tail(1)
    return [] if closing.empty else list((closing.iloc[:, 0] >= closing.iloc[:, 1]) & (closing.iloc[:, 1] > 0))


def _sides(trace: pd.DataFrame, batching: Mapping[str, Any]) -> pd.DataFrame:
    """What a rule compares, in each row of a trace that has it; the batch grows while the second is larger."""
    if batching["rule"] == "paper" and {"c1", "c2"} <= set(trace):
        sides = {"c1": trace["c1"], "c2 / √B": trace["c2"] / np.sqrt(trace["m"])}
    elif batching["rule"] == "noise" and {"signal", "noise"} <= set(trace):
        sides = {"share × signal": batching["share"] * trace["signal"], "noise / B": trace["noise"] / trace["m"]}
    else:
        return pd.DataFrame()
    return pd.DataFrame(sides).dropna()


# Grids


def points(runs: pd.DataFrame) -> pd.DataFrame:
    """The grids as lines: panel (title and setting), line (epochs, and lr0 where two vary), at, loss, steps."""
    grid = runs[runs["grid"] != ""].copy()
    if grid.empty:
        return pd.DataFrame(columns=["panel", "line", "at", "loss", "steps"])
    epochs = grid["training.epochs"].map("{:g} epochs".format)
    grid["line"] = epochs + grid["lr0"].map(lambda lr0: "" if pd.isna(lr0) else f", lr0 = {lr0:g}")
    grid["panel"] = grid["title"].str.replace(", short runs", "") + ": " + grid["axis"].str.split(" and ").str[-1]
    grid["loss"] = grid[LOSS]
    return grid.reindex(columns=["panel", "line", "at", "loss", "steps"])


def grids(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each grid: its range, runs, where its loss is least, the least and the largest, and where the grid
    tunes an arm, the value that the arm uses and by how much that is worse than the best."""
    rows = []
    for name, own in runs[runs["grid"] != ""].groupby("grid", sort=False):
        done = own[own[LOSS].notna()]
        used = TUNED.get(GRIDS[str(name)].tunes)
        at_used = done.loc[done["at"] == used, LOSS] if used is not None else done[LOSS].iloc[:0]
        first, losses = own.iloc[0], done[LOSS].astype(float)
        rows.append(
            {
                "title": first["title"], "axis": first["axis"], "epochs": first["training.epochs"],
                "range": f"{own['at'].min():g} to {own['at'].max():g}",
                "done": len(done), "planned": len(own), "failed": int((own["status"] == FAILED).sum()),
                "best_at": done["at"][losses.idxmin()] if len(done) else None,
                "least": losses.min(), "largest": losses.max(),
                "used": used, "excess": float(at_used.iloc[0] - losses.min()) if len(at_used) else None,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def without_tuning(runs: pd.DataFrame) -> pd.DataFrame:
    """The worst start of the variant that has no rate to tune, beside the best rate of a tuned Adam for the same model;
    sd: of that Adam over the seeds of its arm."""
    rows = []
    for name, peers in WITHOUT_TUNING.items():
        own = runs[runs["grid"] == name]
        peer = next((peer for peer in peers if (runs["grid"] == peer).any()), None)
        if own.empty or peer is None:
            continue
        other = runs[runs["grid"] == peer]
        tuned = runs.loc[(runs["arm"] == GRIDS[peer].tunes) & (runs["arm"] != ""), LOSS]
        rows.append(
            {
                "title": grid_title(name), "starts": int(own[LOSS].notna().sum()), "planned": len(own),
                "least": own[LOSS].min(), "largest": own[LOSS].max(), "peer": grid_title(peer),
                "rates": int(other[LOSS].notna().sum()), "best": other[LOSS].min(),
                "gap": own[LOSS].max() - other[LOSS].min(), "sd": tuned.std(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)

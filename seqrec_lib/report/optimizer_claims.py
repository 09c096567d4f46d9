"""The verdicts on the paper's claims about USGM and adaptive batching (sections 3.6 and 4), from the optimizer runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqrec_lib.experiments.arms import ARMS
from seqrec_lib.report.batch_figures import beta_fits
from seqrec_lib.report.claims import ClaimVerdict, Word, claim, here_table
from seqrec_lib.report.html import Html
from seqrec_lib.report.optimizers import PAPER_ARM, Gathered, difference, signed
from seqrec_lib.results import RunRecord, RunStore


def verdicts(found: Gathered, store: RunStore) -> list[ClaimVerdict]:
    """What the runs say to the paper's claims about USGM and adaptive batching."""
    return [_against_adam(found), _fit(found, store), _plateau(found, store), _robustness(found)]


def _against_adam(found: Gathered) -> ClaimVerdict:
    """Upheld: the paper's method is no worse than default and tuned Adam in training and validation loss."""
    own = found.arm(PAPER_ARM)
    pairs = {name: found.arm(name) for name in ("adam-default", "adam")}
    outcomes = {
        (name, metric): difference(own, other, metric)
        for name, other in pairs.items()
        if own is not None and other is not None
        for metric in ("loss", "best_valid_loss")
    }
    if own is None or len(outcomes) < 4 or any(value is None for value in outcomes.values()):
        return ClaimVerdict(claim("usgm"))
    words = {key: value.word for key, value in outcomes.items() if value is not None}
    if "one seed" in words.values():
        return ClaimVerdict(
            claim("usgm"), reason="one seed of an arm is not enough: it takes two to tell a difference from chance"
        )
    fine = [word != "higher" for word in words.values()]
    word: Word = "upheld" if all(fine) else "partly" if any(fine) else "not upheld"
    names = {"loss": "training loss", "best_valid_loss": "validation loss"}
    reason = "; ".join(
        f"{names[metric]} minus {ARMS[name].label}'s: {signed(value)}"
        for (name, metric), value in outcomes.items()
        if value is not None
    )
    reason += "; its D was chosen without a batch rule"
    return ClaimVerdict(claim("usgm"), word, reason, tuple(record.run_id for record in own.complete))


def _fit(found: Gathered, store: RunStore) -> ClaimVerdict:
    """Upheld: a line in 1 / sqrt(B) explains beta at one point at least as well as one in 1 / B; partly: it does where
    all steps have one length, which is not how the method steps."""
    if found.beta is None:
        return ClaimVerdict(claim("batching-fit"))
    fits = beta_fits(store.table(found.beta, "noise"))
    held = {step: fits[step, "1/sqrt(m)"].r2 >= fits[step, "1/m"].r2 for step in ("real", "fixed")}
    word: Word = "upheld" if held["real"] else "partly" if held["fixed"] else "not upheld"
    steps = {"real": "steps of the method", "fixed": "steps of one length"}
    reason = "; ".join(
        f"{name}: R² {fits[step, '1/sqrt(m)'].r2:.4f} over 1/√B, {fits[step, '1/m'].r2:.4f} over 1/B"
        for step, name in steps.items()
    )
    crossing = fits["real", "1/sqrt(m)"].crossing
    return ClaimVerdict(claim("batching-fit"), word, f"{reason}; c1 = c2/√B: {crossing}", (found.beta.run_id,))


def _plateau(found: Gathered, store: RunStore) -> ClaimVerdict:
    """Upheld: in every epoch of the paper's rule the last fit has c1 >= c2 / sqrt(B) > 0; partly: in some."""
    own = found.arm(PAPER_ARM)
    if own is None or not own.complete:
        return ClaimVerdict(claim("batching-plateau"))
    met = []
    for record in own.complete:
        trace = store.table(record, "trace").to_pandas()
        if "c1" not in trace:
            continue
        ends = trace.dropna(subset=["c1", "c2"]).groupby("epoch").tail(1)
        met += list((ends["c2"] > 0) & (ends["c1"] >= ends["c2"] / np.sqrt(ends["m"])))
    if not met:
        return ClaimVerdict(claim("batching-plateau"), reason="no trace has a fit")
    share = sum(met)
    runs = f"{len(own.complete)} run{'' if len(own.complete) == 1 else 's'}"
    word: Word = "upheld" if share == len(met) else "partly" if share else "not upheld"
    reason = f"both terms had met by the end of {share} of {len(met)} epochs ({runs})"
    return ClaimVerdict(claim("batching-plateau"), word, reason, tuple(record.run_id for record in own.complete))


def _robustness(found: Gathered) -> ClaimVerdict:
    """Upheld: over some two decades of lr0, and of D, USGM's validation loss ranges wider than Adam's over two decades
    of its rate; partly: over those of one of the two."""
    lines = {
        "Adam over lr": _line(found, "adam"),
        "USGM, D = 10, over lr0": _line(found, "usgm-lr0"),
        "USGM, lr0 = 1, over D": [(D, r) for (lr, D), r in found.grids.get("plane-usgm", []) if r and lr == 1.0],
    }
    if any(len(line) < 3 for line in lines.values()):
        return ClaimVerdict(claim("usgm-robustness"))
    ranges = {name: _two_decades([(v, r.metrics["best_valid_loss"]) for v, r in line]) for name, line in lines.items()}
    adam, *own = (width for width, _, _ in ranges.values())
    word: Word = "upheld" if min(own) > adam else "partly" if max(own) > adam else "not upheld"
    reason = "validation loss, worst minus best: " + "; ".join(
        f"{name} from {low:g} to {high:g}: {width:.3f}" for name, (width, low, high) in ranges.items()
    )
    upwards = [(D, r.metrics["best_valid_loss"]) for D, r in _line(found, "usgm")]
    if len(upwards) > 1:
        (low, _), (high, _), losses = upwards[0], upwards[-1], [loss for _, loss in upwards]
        reason += f"; of the grid that tunes D, from {low:g} to {high:g}: {max(losses) - min(losses):.3f}"
    ids = tuple(record.run_id for line in lines.values() for _, record in line)
    return ClaimVerdict(claim("usgm-robustness"), word, reason, ids)


def _line(found: Gathered, grid: str) -> list[tuple[float, RunRecord]]:
    return [(values[0], record) for values, record in found.grids.get(grid, []) if record is not None]


def _two_decades(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The widest range of the losses within a factor of 100 of the setting, and where it begins and ends."""
    widest = (0.0, points[0][0], points[0][0])
    for start, _ in points:
        inside = [(value, loss) for value, loss in points if start <= value <= 100.001 * start]
        losses = [loss for _, loss in inside]
        widest = max(widest, (max(losses) - min(losses), start, max(value for value, _ in inside)))
    return widest


def verdict_table(found: Gathered, store: RunStore) -> Html:
    """The claims and what the runs say."""
    return here_table(verdicts(found, store), "USGM")

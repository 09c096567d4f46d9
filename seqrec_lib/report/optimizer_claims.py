"""The verdicts on the paper's claims about USGM and adaptive batching (sections 3.6 and 4), from the optimizer runs."""

from __future__ import annotations

import numpy as np

from seqrec_lib.experiments.arms import ARMS, GRIDS
from seqrec_lib.report.claims import ClaimVerdict, Word, claim, here_table
from seqrec_lib.report.html import Html
from seqrec_lib.report.optimizer_figures import beta_fits
from seqrec_lib.report.optimizers import PAPER_ARM, Gathered, difference, signed
from seqrec_lib.results import RunStore


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
    """Upheld: over the same decades of its rate or D, USGM's validation loss varies more than Adam's over its rate."""
    grids = ("adam", "usgm-lr0", "usgm")
    ran = {name: [record for _, record in found.grids.get(name, []) if record is not None] for name in grids}
    spans = {name: [record.metrics["best_valid_loss"] for record in records] for name, records in ran.items()}
    if any(len(losses) < 3 for losses in spans.values()):
        return ClaimVerdict(claim("usgm-robustness"))
    ranges = {name: max(losses) - min(losses) for name, losses in spans.items()}
    word: Word = "upheld" if min(ranges["usgm"], ranges["usgm-lr0"]) > ranges["adam"] else "partly"
    if max(ranges["usgm"], ranges["usgm-lr0"]) <= ranges["adam"]:
        word = "not upheld"
    reason = "validation loss, worst minus best: " + "; ".join(
        f"{GRIDS[name].title} over {GRIDS[name].axes[0]}: {ranges[name]:.3f}" for name in spans
    )
    ids = tuple(record.run_id for records in ran.values() for record in records)
    return ClaimVerdict(claim("usgm-robustness"), word, reason, ids)


def verdict_table(found: Gathered, store: RunStore) -> Html:
    """The claims and what the runs say."""
    return here_table(verdicts(found, store), "USGM")

"""The verdicts on the paper's claims about USGM and adaptive batching (sections 3.6 and 4), from the optimizer runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seqrec_lib.experiments.arms import ARMS
from seqrec_lib.report.batch_figures import beta_fits, epochs_met
from seqrec_lib.report.claims import ClaimVerdict, Word, claim, here_table
from seqrec_lib.report.html import Html
from seqrec_lib.report.optimizers import PAPER_ARM, Gathered, difference, signed
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.results import RunStore

NEAR = 0.05  # nats of loss that two methods may differ and still be as good: 5 % in perplexity


def verdicts(found: Gathered, store: RunStore) -> list[ClaimVerdict]:
    """What the runs say to the paper's claims about USGM and adaptive batching."""
    return [_against_adam(found), _fit(found, store), _plateau(found, store), _robustness(found)]


def _against_adam(found: Gathered) -> ClaimVerdict:
    """Upheld: with the paper's method, training and validation loss are at most 0.05 nats above default and tuned
    Adam's, by the whole interval over seeds; partly: not all of the four are, and one is above; not upheld: none is,
    and one is above."""
    own = found.arm(PAPER_ARM)
    pairs = {name: found.arm(name) for name in ("adam-default", "adam")}
    outcomes = {
        (name, metric): gap
        for name, other in pairs.items()
        if own is not None and other is not None
        for metric in ("loss", "best_valid_loss")
        if (gap := difference(own, other, metric)) is not None
    }
    if own is None or len(outcomes) < 4:
        return ClaimVerdict(claim("usgm"))
    if any(gap.word == "one seed" for gap in outcomes.values()):
        return ClaimVerdict(
            claim("usgm"), reason="one seed of an arm is not enough: it takes two to tell a difference from chance"
        )
    near = [gap.high is not None and gap.high <= NEAR for gap in outcomes.values()]
    above = any(gap.word == "higher" and not close for gap, close in zip(outcomes.values(), near, strict=True))
    word: Word = "upheld" if all(near) else "not tested yet" if not above else "partly" if any(near) else "not upheld"
    names = {"loss": "training loss", "best_valid_loss": "validation loss"}
    reason = "; ".join(
        f"{names[metric]} minus {ARMS[name].label}'s: {signed(gap)}" for (name, metric), gap in outcomes.items()
    )
    reason += "; its lr0 was tuned with adaptive batching on, its D with it off" + _at_equal_steps(
        own, found.arm("adam-large")
    )
    if word == "not tested yet":
        reason = f"too few seeds to say: {reason}"
    return ClaimVerdict(claim("usgm"), word, reason, tuple(record.run_id for record in own.complete))


def _at_equal_steps(own: ModelRuns, large: ModelRuns | None) -> str:
    """The method beside Adam on a large fixed batch, which takes about as many steps: what the claim may have meant."""
    gap = None if large is None else difference(own, large, "best_valid_loss")
    if large is None or gap is None:
        return ""
    steps = [np.mean([record.cost["steps"] for record in runs.complete]) for runs in (own, large)]
    return (
        f"; beside {ARMS[large.model].label}, in {steps[0]:.0f} and {steps[1]:.0f} steps, validation loss: "
        f"{signed(gap)}, {gap.word}"
    )


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
    return ClaimVerdict(
        claim("batching-fit"),
        word,
        f"{reason}; in that fit, at one point of training, c1 = c2/√B: {crossing}",
        (found.beta.run_id,),
    )


def _plateau(found: Gathered, store: RunStore) -> ClaimVerdict:
    """Upheld: in every epoch of the paper's rule the last fit has c1 >= c2 / sqrt(B) > 0; partly: in some."""
    own = found.arm(PAPER_ARM)
    if own is None or not own.complete:
        return ClaimVerdict(claim("batching-plateau"))
    met, epochs = epochs_met(own, store)
    if not epochs:
        return ClaimVerdict(claim("batching-plateau"), reason="no trace has a fit")
    runs = f"{len(own.complete)} run{'' if len(own.complete) == 1 else 's'}"
    word: Word = "upheld" if met == epochs else "partly" if met else "not upheld"
    reason = f"by the rule's running fits, both terms had met by the end of {met} of {epochs} epochs ({runs})"
    return ClaimVerdict(claim("batching-plateau"), word, reason, tuple(record.run_id for record in own.complete))


def _robustness(found: Gathered) -> ClaimVerdict:
    """Upheld: within a factor of ten of the best lr0, and of the best D, USGM's validation loss ranges wider than
    Adam's does around its best rate; partly: around one of the two. A run that diverged ranges without bound."""
    lines = {
        "Adam over lr": _line(found, "adam-wide"),
        "USGM, D = 10, over lr0": _line(found, "usgm-lr0"),
        "USGM, lr0 = 1, over D": _line(found, "usgm-wide"),
    }
    if any(sum(math.isfinite(loss) for _, loss in line) < 3 for line in lines.values()):
        return ClaimVerdict(claim("usgm-robustness"))
    ranges = {name: _around_best(line) for name, line in lines.items()}
    adam, *own = (width for width, _, _ in ranges.values())
    word: Word = "upheld" if min(own) > adam else "partly" if max(own) > adam else "not upheld"
    reason = "validation loss after equally many epochs, worst minus best within a factor of ten of the best: "
    reason += "; ".join(
        f"{name} from {low:g} to {high:g}: {'diverged' if math.isinf(width) else f'{width:.3f}'}"
        for name, (width, low, high) in ranges.items()
    )
    ids = [r.run_id for grid in ("adam-wide", "usgm-lr0", "usgm-wide") for _, r in found.grids[grid] if r is not None]
    return ClaimVerdict(claim("usgm-robustness"), word, reason, tuple(ids))


def _line(found: Gathered, grid: str) -> list[tuple[float, float]]:
    """Setting and validation loss of a grid's points that ran: infinite where the run diverged."""
    return [
        (values[0], math.inf if record is None else record.metrics["best_valid_loss"])
        for values, record in found.grids.get(grid, [])
        if record is not None or (grid, values) in found.failed
    ]


def _around_best(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The range of the losses within a factor of ten of the best setting (of those within 0.001, the smallest), and
    where these settings begin and end."""
    best = min(value for value, loss in points if loss <= min(loss for _, loss in points) + 0.001)
    inside = [(value, loss) for value, loss in points if best / 10.001 <= value <= 10.001 * best]
    values, losses = zip(*inside, strict=True)
    return max(losses) - min(losses), min(values), max(values)


def verdict_table(found: Gathered, store: RunStore) -> Html:
    """The claims and what the runs say."""
    return here_table(verdicts(found, store), "USGM")

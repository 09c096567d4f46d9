"""Tables, figures and the verdict of tuning on preferences (experiment `orpo`): before and after, arm by arm.

All arms of a seed start from one fine-tuned ranker, so that a difference is taken user by user between the ranks
before and after. Seeds are averaged first; as users say nothing about another seed's tuning, an arm is called higher or
lower only where each of its seeds agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqrec_lib.evaluate.statistics import (
    Interval,
    average_over_seeds,
    compare_pairs,
    metric_values,
    paired_difference,
)
from seqrec_lib.report.html import NONE, Html, bullets, not_run, stacked, table
from seqrec_lib.report.language import is_scratch
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.report.tables import format_interval, format_p, mean_and_spread, metric_name
from seqrec_lib.results import RunRecord, RunStore, plain

LABELS = {
    "sft": "More fine-tuning",
    "letters": "Cross-entropy over letters",
    "dpo": "DPO",
    "s-dpo": "S-DPO, all others rejected",
    "simpo": "SimPO",
    "orpo-paper": "ORPO, the paper's setting and pairs",
    "orpo-paper-random": "ORPO, the paper's setting, random",
    "orpo": "ORPO",
    "orpo-multi": "ORPO, all others rejected",
    "orpo-retriever": "ORPO, retriever's candidates and best wrong",
    "orpo-own-error": "ORPO, own worst error",
    "orpo-lower-rated": "ORPO, lower rated",
    "orpo-lightfm": "ORPO, LightFM's worst",
    "orpo-lightfm-pool": "ORPO, LightFM's worst candidate",
    "orpo-leaky": "ORPO on the test items (a leak)",
}
"""Arms of the experiment as a reader calls them."""

PAPER_ARMS = ("orpo-paper", "orpo-paper-random")


@dataclass(frozen=True)
class Change:
    """One arm: its runs, and after minus before (None: not run) with a p-value that is corrected over the arms.

    ``against``: after minus what more fine-tuning reached (the arm "sft"), where both ran; ``agree`` and
    ``against_agree``: whether each seed has the sign of ``difference`` and of ``against`` (true of one seed).
    """

    own: ModelRuns
    before: float | None = None
    difference: Interval | None = None
    p: float | None = None
    against: Interval | None = None
    agree: bool = True
    against_agree: bool = True


def rows(configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore) -> list[ModelRuns]:
    """`gather`, with the arm as label, which says where the paper's pairs lack their first part."""
    sources = {plain(config)["model"]: (plain(config)["arm"], plain(config)["base"]["source"]) for config in configs}
    found = []
    for own in gather(configs, records, store):
        arm, source = sources[own.model]
        label = LABELS[arm] + (" (LightFM's alone: no ratings)" if _without_ratings(own) else "")
        found.append(replace(own, label=label, other_model=is_scratch(source)))
    return found


def _without_ratings(own: ModelRuns) -> bool:
    """Whether an arm of the paper's pairs had those with LightFM's worst alone, one for each user."""
    return own.model.endswith("+orpo-paper") and any(
        record.cost.get("pairs") == (record.dataset or {}).get("n_users") for record in own.complete
    )


def before(own: ModelRuns, store: RunStore, metric: str) -> np.ndarray | None:
    """Each user's metric before the tuning, averaged over seeds."""
    ranks = [store.table(record, "ranks")["before_rank"].to_numpy() for record in own.complete]
    return average_over_seeds([metric_values(array, metric) for array in ranks]) if ranks else None


def compare(runs: Sequence[ModelRuns], store: RunStore, metric: str = "ndcg@10") -> list[Change]:
    """Each arm against what it started from, user by user; Holm's correction over all arms that ran."""
    more = next((own for own in runs if own.model.endswith("+sft")), None)
    tuned = None if more is None else more.user_means(metric)
    users = [(before(own, store, metric), own.user_means(metric)) for own in runs]
    ran = {i: (first, then) for i, (first, then) in enumerate(users) if first is not None and then is not None}
    tests = compare_pairs([("after", then, "before", first) for first, then in ran.values()])
    found = [Change(own) for own in runs]
    for (i, (first, then)), test in zip(ran.items(), tests, strict=True):
        own = runs[i]
        other = None if tuned is None or own is more else paired_difference(then, tuned)[0]
        agree = _same_sign([r.metrics[metric] - r.metrics[f"before_{metric}"] for r in own.complete])
        known = {} if more is None else {r.config["seed"]: r.metrics[metric] for r in more.complete}
        beside = _same_sign([r.metrics[metric] - known[s] for r in own.complete if (s := r.config["seed"]) in known])
        found[i] = Change(own, float(first.mean()), test.difference, test.p_holm, other, agree, beside)
    return found


def _same_sign(values: Sequence[float]) -> bool:
    return all(value > 0 for value in values) or all(value < 0 for value in values) or not any(values)


def changes_table(changes: Sequence[Change], dataset: str, metric: str = "ndcg@10") -> Html:
    """Quality after minus before, over all users, and over random orders of the candidates."""
    if not any(change.difference is not None or change.own.failed for change in changes):
        return not_run("Arm by arm")
    body: list[list[str | Html]] = []
    for change in changes:
        own = change.own
        if change.difference is None or change.p is None:
            body.append([own.label, "failed" if own.failed else "not run", *[NONE] * 5])
            continue
        body.append(
            [
                own.label,
                reading(change),
                mean_and_spread(own.mean(metric), own.spread(metric)),
                stacked(f"{change.difference.estimate:+.4f}", format_interval(change.difference, signed=True)),
                format_p(change.p),
                NONE
                if change.against is None
                else stacked(
                    f"{change.against.estimate:+.4f}" + ("" if change.against_agree else ", seeds differ"),
                    format_interval(change.against, signed=True),
                ),
                _gain(own, "before_permuted_subset_ndcg@10", "permuted_subset_ndcg@10"),
            ]
        )
    headers = [
        "Arm", "Reading", "After", "After − before", "p (Holm)", "Beside more tuning",
        "Random orders, found",
    ]  # fmt: skip
    started = sorted({f"{c.before:.4f}" for c in changes if c.before is not None})
    notes = [
        f"Before: {', '.join(started)}. " if started else "",
        "Intervals, below a difference, are of 95 % over users, each with the mean over seeds. Beside more tuning: "
        "after, minus after as many steps of more fine-tuning. Seeds differ: not every seed has that sign. "
        "Random orders: the same "
        "difference over users whose target is a candidate, when they are listed in random orders, as in training.",
    ]
    caption = f"{metric_name(metric)} on {dataset_name(dataset)}: what tuning on preferences changes"
    return table(headers, body, caption=caption, notes=["".join(notes)], left=(0, 1))


def summary(changes: Sequence[Change]) -> Html:
    """What the arms say together, in sentences."""
    ran = [c for c in changes if c.difference is not None]
    if not ran:
        return not_run("Tuning on preferences")
    readings = ("higher", "lower", "seeds differ", "not told apart")
    words = {word: [c.own.label for c in ran if reading(c) == word] for word in readings}
    sentences = []
    for word, names in words.items():
        if len(names) == len(ran) > 1:
            sentences.append(f"Against before, {word}: each of the {len(ran)} arms")
        elif names:
            sentences.append(f"Against before, {word}: {'; '.join(names)}")
    beside = [c for c in ran if c.against is not None]
    for word, lies in (("higher", lambda low, high: low > 0), ("lower", lambda low, high: high < 0)):
        apart = [c for c in beside if c.against is not None and lies(c.against.low, c.against.high)]
        for agree, of_seeds in ((True, ""), (False, " over users, with seeds that differ")):
            names = [c.own.label for c in apart if c.against_agree == agree]
            if names:
                sentences.append(f"Beside as many steps of more fine-tuning, {word}{of_seeds}: {'; '.join(names)}")
    if beside:
        sentences.append(
            "Beside more fine-tuning, higher and lower are intervals over users without zero, not corrected for their "
            "number; the other arms are not told apart from it"
        )
    return bullets([f"{sentence}." for sentence in sentences])


def _gain(own: ModelRuns, first: str, then: str) -> str:
    old, new = own.mean(first), own.mean(then)
    return NONE if old is None or new is None else f"{new - old:+.4f}"


def reading(change: Change, alpha: float = 0.05) -> str:
    """The change in words."""
    if change.p is None or change.difference is None:
        return "not run"
    if change.p > alpha:
        return "not told apart"
    if not change.agree:
        return "seeds differ"
    return "higher" if change.difference.estimate > 0 else "lower"


def behaviour_table(runs: Sequence[ModelRuns], dataset: str) -> Html:
    """How far each arm went from where it started, what it prefers now, and what it cost."""
    body = []
    for own in runs:
        if not own.complete:
            continue
        cost = {
            k: float(np.mean([r.cost[k] for r in own.complete]))
            for k in ("steps", "pairs", "train_seconds", "before_milliseconds_per_user", "milliseconds_per_user")
        }
        ties = [] if _without_ratings(own) else [r.cost["ties"] for r in own.complete if "ties" in r.cost]
        body.append(
            [
                own.label,
                f"{own.mean('kl') or 0:.4f}",
                f"{own.mean('changed') or 0:.1%}",
                f"{own.mean('before_popularity') or 0:.3f} → {own.mean('popularity') or 0:.3f}",
                f"{cost['pairs']:,.0f}",
                f"{np.mean(ties):,.0f}" if ties else NONE,
                f"{cost['steps']:,.0f}",
                f"{cost['train_seconds']:.0f}",
                f"{cost['before_milliseconds_per_user']:.2f} → {cost['milliseconds_per_user']:.2f}",
            ]
        )
    if not body:
        return not_run("What the arms did")
    headers = [
        "Arm", "KL, nats", "First choice changed", "Popularity of the first ten", "Pairs", "Ties left out", "Steps",
        "Tuning, seconds", "ms per user",
    ]  # fmt: skip
    notes = [
        "KL: of the letters' distribution, from before to after, mean over test users. Popularity: share of the "
        "catalogue that is no more popular, mean over the first ten. The two times are of one model at one size, "
        "minutes apart: they differ by noise."
    ]
    return table(headers, body, caption=f"What the arms did on {dataset_name(dataset)}", notes=notes)

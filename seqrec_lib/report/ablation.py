"""Tables of the ablation: each model as the study runs it beside the same with one decision changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from seqrec_lib.experiments.ablation import Question, Variant, configs_of
from seqrec_lib.report.footer import precision_of
from seqrec_lib.report.html import NONE, Html, bullets, not_run, stacked, table
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.report.statistics import PairedTest, compare_pairs
from seqrec_lib.report.tables import format_interval, format_p, metric_name
from seqrec_lib.results import RunRecord, RunStore

Found = Mapping[str, RunRecord | None]  # by run id


def question_table(question: Question, found: Found, store: RunStore, parameters: Mapping[str, Any]) -> Html:
    """One row for each pair: the base, the variant, and their difference over users (seeds averaged), Holm-corrected,
    with that of the ranks among unseen items beside it.

    Args:
        found: the records of the plan, by run id.
        parameters: of the notebook: dataset, seeds, epochs, metric.
    """
    metric = str(parameters["metric"])
    pairs = [(_runs(a, found, store, parameters), _runs(b, found, store, parameters)) for a, b in question.pairs]
    tests, masked = paired(pairs, metric), paired(pairs, f"masked_{metric}")
    if not any(variant.complete or variant.failed for _, variant in pairs):
        return not_run(question.title)
    body: list[list[str | Html]] = []
    for (_, changed), (base, variant), test, unseen in zip(question.pairs, pairs, tests, masked, strict=True):
        values = [_value(base, metric), _value(variant, metric)]
        p = NONE if test is None else format_p(test.p_holm)
        body.append([changed.label, *values, _gain(test), p, _gain(unseen), _seconds(variant, base)])
    return table(
        ["Variant", "Unchanged", "Changed", "Difference", "p (Holm)", "Seen masked", "Time"],
        body,
        caption=f"{question.title}: {metric_name(metric)} on {dataset_name(str(parameters['dataset']))}",
        wrap=(0,),
    )


def paired(pairs: Sequence[tuple[ModelRuns, ModelRuns]], metric: str) -> list[PairedTest | None]:
    """The paired bootstrap of each (base, variant), variant minus base; None where one of them has no runs."""
    tested: dict[int, tuple[str, np.ndarray, str, np.ndarray]] = {}
    for place, (base, variant) in enumerate(pairs):
        a, b = variant.user_means(metric), base.user_means(metric)
        if a is not None and b is not None:
            tested[place] = (variant.label, a, base.label, b)
    found = dict(zip(tested, compare_pairs(list(tested.values())), strict=True))
    return [found.get(place) for place in range(len(pairs))]


def readings(
    question: Question, found: Found, store: RunStore, parameters: Mapping[str, Any], alpha: float = 0.05
) -> Html:
    """What the table says, a sentence for each pair."""
    metric = str(parameters["metric"])
    pairs = [(_runs(a, found, store, parameters), _runs(b, found, store, parameters)) for a, b in question.pairs]
    if not any(variant.complete or variant.failed for _, variant in pairs):
        return not_run(question.title)
    sentences, missing = [], []
    for (_, changed), test in zip(question.pairs, paired(pairs, metric), strict=True):
        if test is None:
            missing.append(changed.label)
        elif test.p_holm > alpha:
            sentences.append(f"{changed.label}: not told apart from the unchanged model.")
        else:
            sentences.append(f"{changed.label}: {'better' if test.difference.estimate > 0 else 'worse'}.")
    if question.id == "precision":
        sentences += [
            f"{changed.label}: {_precisions(after)} against {_precisions(before)}."
            for (_, changed), (before, after) in zip(question.pairs, pairs, strict=True)
            if before.complete and after.complete
        ]
    if missing:
        sentences.append(f"Not run: {'; '.join(missing)}.")
    return bullets(sentences)


def _precisions(runs: ModelRuns) -> str:
    """What the runs were computed in: a processor without bfloat16 takes float32 in its place."""
    return " and ".join(sorted({precision_of(record) or "a precision not on record" for record in runs.complete}))


def _runs(variant: Variant, found: Found, store: RunStore, parameters: Mapping[str, Any]) -> ModelRuns:
    from seqrec_lib.experiments import accuracy
    from seqrec_lib.experiments.base import key

    configs = configs_of(variant, parameters)
    (runs,) = gather(configs, [found.get(key(accuracy, config)) for config in configs], store)
    return runs


def _gain(test: PairedTest | None) -> str | Html:
    """A difference, its interval below it."""
    if test is None:
        return NONE
    return stacked(f"{test.difference.estimate:+.4f}", format_interval(test.difference, signed=True))


def _value(runs: ModelRuns, metric: str) -> str | Html:
    """A mean over seeds, their spread and number below it."""
    mean = runs.mean(metric)
    if mean is None:
        return "failed" if runs.failed else "not run"
    spread, seeds = runs.spread(metric), f"({len(runs.complete)})"
    return stacked(f"{mean:.4f}", seeds if spread is None else f"± {spread:.4f} {seeds}")


def _seconds(variant: ModelRuns, base: ModelRuns) -> str:
    times = [
        [run.cost["train_seconds"] for run in own.complete if "train_seconds" in run.cost] for own in (variant, base)
    ]
    return f"{fmean(times[0]) / fmean(times[1]):.1f}×" if all(times) else NONE

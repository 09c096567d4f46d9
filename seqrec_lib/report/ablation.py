"""Tables of the ablation: each model as the study runs it beside the same with one decision changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from seqrec_lib.evaluate.statistics import PairedTest, compare_pairs
from seqrec_lib.experiments.ablation import Question, Variant, configs_of
from seqrec_lib.report.footer import precision_of
from seqrec_lib.report.html import NONE, Html, bullets, not_run, stacked, table
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import ModelRuns, gather
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
    pairs = _matched_pairs(question, found, store, parameters)
    tests, masked = paired(pairs, metric), paired(pairs, f"masked_{metric}")
    if not any(variant.complete or variant.failed for _, variant in pairs):
        return not_run(question.title)
    body: list[list[str | Html]] = []
    for (_, changed), (base, variant), test, unseen in zip(question.pairs, pairs, tests, masked, strict=True):
        values = [_value(base, metric), _value(variant, metric)]
        p = NONE if test is None else format_p(test.p_holm)
        body.append([changed.label, *values, _gain(test), p, _gain(unseen), _epochs(base, variant)])
    return table(
        ["Variant", "Unchanged", "Changed", "Difference", "p (Holm)", "Seen masked", "Epochs"],
        body,
        caption=f"{question.title}: {metric_name(metric)} on {dataset_name(str(parameters['dataset']))}",
        notes=_unequal(question, pairs),
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
    pairs = _matched_pairs(question, found, store, parameters)
    if not any(variant.complete or variant.failed for _, variant in pairs):
        return not_run(question.title)
    sentences, missing = [], []
    tests, masked = paired(pairs, metric), paired(pairs, f"masked_{metric}")
    for (_, changed), test, unseen in zip(question.pairs, tests, masked, strict=True):
        if test is None:
            missing.append(changed.label)
            continue
        word = _word(test, alpha)
        other = word if unseen is None else _word(unseen, alpha)
        sentences.append(
            f"{changed.label}: {word}."
            if word == other
            else f"{changed.label}: {word}; with seen items masked, {other}."
        )
    if question.id == "precision":
        ran = {
            v.label: pair for (_, v), pair in zip(question.pairs, pairs, strict=True) if all(p.complete for p in pair)
        }
        compared: dict[str, list[str]] = {}
        for name, (before, after) in ran.items():
            compared.setdefault(f"{_precisions(after)} against {_precisions(before)}", []).append(name)
        sentences += [f"{_listed(names, ran)}: {words}." for words, names in compared.items()]
    if missing:
        sentences.append(f"Not run: {'; '.join(missing)}.")
    return bullets(sentences)


def _word(test: PairedTest, alpha: float) -> str:
    if test.p_holm > alpha:
        return "not told apart from the unchanged model"
    return "better" if test.difference.estimate > 0 else "worse"


def _unequal(question: Question, pairs: Sequence[tuple[ModelRuns, ModelRuns]]) -> list[str]:
    """Notes on pairs whose two sides also differ in the precision that they were computed in."""
    ran = {v.label: pair for (_, v), pair in zip(question.pairs, pairs, strict=True) if all(p.complete for p in pair)}
    precisions: dict[str, list[str]] = {}
    for label, (before, after) in ran.items():
        if _precisions(after) != _precisions(before):
            precisions.setdefault(f"{_precisions(after)} against {_precisions(before)}", []).append(label)
    notes = []
    if precisions and question.id != "precision":
        parts = [f"{_listed(labels, ran)}: {words}" for words, labels in precisions.items()]
        notes.append(f"The two sides differ in precision as well. {'. '.join(parts)}.")
    return notes


def _listed(labels: Sequence[str], every: Collection[str]) -> str:
    return "Each pair" if len(labels) == len(every) > 1 else "; ".join(labels)


def _precisions(runs: ModelRuns) -> str:
    """What the runs were computed in: a processor without bfloat16 takes float32 in its place."""
    return " and ".join(sorted({precision_of(record) or "a precision not on record" for record in runs.complete}))


def _runs(variant: Variant, found: Found, store: RunStore, parameters: Mapping[str, Any]) -> ModelRuns:
    from seqrec_lib.experiments import accuracy
    from seqrec_lib.experiments.base import key

    configs = configs_of(variant, parameters)
    (runs,) = gather(configs, [found.get(key(accuracy, config)) for config in configs], store)
    return runs


def _matched_pairs(
    question: Question, found: Found, store: RunStore, parameters: Mapping[str, Any]
) -> list[tuple[ModelRuns, ModelRuns]]:
    """Each pair's runs: where both sides ran, of the seeds that both have."""
    pairs = [(_runs(a, found, store, parameters), _runs(b, found, store, parameters)) for a, b in question.pairs]
    return [
        matched(base, variant) if base.complete and variant.complete else (base, variant) for base, variant in pairs
    ]


def matched(base: ModelRuns, variant: ModelRuns) -> tuple[ModelRuns, ModelRuns]:
    """Both with the seeds that both completed: a seed that one side lacks would count as a difference."""
    seeds = [
        {seed for seed, record in zip(own.seeds, own.records, strict=True) if record is not None and record.complete}
        for own in (base, variant)
    ]
    return _of_seeds(base, seeds[0] & seeds[1]), _of_seeds(variant, seeds[0] & seeds[1])


def _of_seeds(own: ModelRuns, seeds: set[int]) -> ModelRuns:
    kept = [place for place, seed in enumerate(own.seeds) if seed in seeds]
    return replace(
        own,
        seeds=tuple(own.seeds[place] for place in kept),
        records=tuple(own.records[place] for place in kept),
        ranks=tuple(own.ranks[place] for place in kept),
        masked_ranks=tuple(own.masked_ranks[place] for place in kept),
    )


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


def _epochs(base: ModelRuns, variant: ModelRuns) -> str:
    counts = [[run.cost["epochs"] for run in own.complete if "epochs" in run.cost] for own in (base, variant)]
    return f"{fmean(counts[0]):.0f} → {fmean(counts[1]):.0f}" if all(counts) else NONE

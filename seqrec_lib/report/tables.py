"""Tables of a results page: accuracy beside the paper's, cost, paired tests, and where every number comes
from.

Accuracy is made in two steps: a pure function from runs to a pandas DataFrame of plain values (numbers,
None), for whoever wants to go on computing, and one that formats the frame as HTML. A run that is missing
shows as "not run", a failed one as "failed": never as a blank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from seqrec_lib.evaluate.statistics import (
    Interval,
    PairedTest,
    bootstrap_interval,
    compare_models,
)
from seqrec_lib.report.html import NONE, Html, bullets, details, not_run, note, paragraph, stack, stacked, table
from seqrec_lib.report.paper import (
    METRICS,
    OPTIMIZER_STUDY,
    comparable,
    dataset_name,
    paper_dataset,
    paper_row,
    verdict,
)
from seqrec_lib.report.runs import ModelRuns

METRIC_NAMES = {"ht": "HT", "ndcg": "NDCG", "mrr": "MRR"}
_SIGNS = {
    "matches": "=",
    "ours higher": "▲",
    "ours lower": "▼",
    "not run": "○",
    "other data": "≠",
    "other model": "≠",
    "not in the paper": "·",
    "masked only": "·",
}
_JUDGED = ("matches", "ours higher", "ours lower")


def metric_name(metric: str) -> str:
    """A metric's key as a reader writes it: "ndcg@10" -> "NDCG@10"."""
    name, _, cut = metric.partition("@")
    return f"{METRIC_NAMES.get(name, name)}@{cut}"


def main_metric(metrics: Sequence[str]) -> str:
    """The metric that models are compared by, as for the claims: NDCG@10 where it is shown, else the first."""
    return "ndcg@10" if "ndcg@10" in metrics else metrics[0]


def accuracy_frame(runs: Sequence[ModelRuns], metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """One row per metric and model.

    Columns: metric, label, model, paper (`Printed` or None), planned, done, failed (numbers of runs), mean,
    sd (over seeds, None below 2 runs), interval (`Interval` over users or None), difference (ours - paper,
    None where there is no verdict on the number), verdict, masked_mean, masked_sd, masked_interval.
    """
    rows = []
    for metric in metrics:
        for own in runs:
            row = paper_row(own.dataset, own.model)
            paper = None if row is None else row.metric(metric)
            mean, interval = own.mean(metric), _interval(own, metric)
            word: str = verdict(paper, mean, interval, comparable=comparable(own.dataset))
            if mean is None and own.complete:
                word = "masked only"
            elif own.other_model and paper is not None and mean is not None:
                word = "other model"
            judged = mean is not None and paper is not None and word in _JUDGED
            rows.append(
                {
                    "metric": metric,
                    "label": own.label,
                    "model": own.model,
                    "paper": paper,
                    "planned": len(own.records),
                    "done": len(own.complete),
                    "failed": len(own.failed),
                    "mean": mean,
                    "sd": own.spread(metric),
                    "interval": interval,
                    "difference": mean - paper.value if judged and mean is not None and paper is not None else None,
                    "verdict": word,
                    "masked_mean": own.mean(f"masked_{metric}"),
                    "masked_sd": own.spread(f"masked_{metric}"),
                    "masked_interval": _interval(own, f"masked_{metric}"),
                }
            )
    return pd.DataFrame(rows, dtype=object)


def _interval(runs: ModelRuns, metric: str) -> Interval | None:
    values = runs.user_means(metric)
    return None if values is None or len(values) < 2 else bootstrap_interval(values)


def accuracy_tables(frame: pd.DataFrame, dataset: str, ranked: str = "ranking all items, seen ones included") -> Html:
    """One table per metric from `accuracy_frame`, one for masked ranking, then what the columns mean.

    ``ranked``: which items the rows' models rank, for the legend.
    """
    shown = to_show(frame)
    masked = frame[frame["masked_mean"].notna()]
    if masked.empty and not (shown["mean"].notna() | (shown["failed"] > 0)).any():
        return not_run(f"The models on {dataset_name(dataset)}")
    parts = [_accuracy_table(str(metric), rows, dataset) for metric, rows in shown.groupby("metric", sort=False)]
    waiting = [label for label in dict.fromkeys(frame["label"]) if label not in {*shown["label"], *masked["label"]}]
    if waiting:
        parts.append(paragraph(f"Not run on {dataset_name(dataset)}: {'; '.join(waiting)}."))
    if len(masked):
        parts.append(_masked_table(masked, dataset))
    ours = f"Ours: mean ± standard deviation over seeds, {ranked}; below it the 95 % interval."
    legend = (ours, _LEGEND_INTERVAL, *(_LEGEND_PAPER if shown["paper"].notna().any() else ()))
    legend += (_LEGEND_MASKED,) if len(masked) else ()
    parts.append(details("How to read these tables", bullets(legend)))
    return stack(parts)


def to_show(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of models that have a number of ours or the paper's, or have failed; the others were not run."""
    known = frame["mean"].notna() | frame["paper"].notna() | (frame["failed"] > 0)
    return frame[frame["label"].isin(frame.loc[known, "label"])]


_LEGEND_INTERVAL = (
    "95 % interval: BCa bootstrap over users, each with the mean over seeds. It covers which users there "
    "are, not which seeds: that is the ±."
)
_LEGEND_PAPER = (
    "Difference: ours minus the paper's printed number.",
    "Verdict: “matches” where our interval and the paper's number, rounding allowed, share a point; "
    "else “ours higher” or “ours lower”. “Other data”: the paper's number is about "
    "another collection. “Other model”: it is about a pretrained model, ours was trained from scratch. "
    "“Masked only”: what is ranked leaves out seen items, so that the number stands in the last table.",
)
_LEGEND_MASKED = (
    "Seen items masked: the same runs with the items of the user's history taken out of the ranking (the "
    "target stays). The paper does not say which of the two it reports; a verdict uses the first."
)


def _accuracy_table(metric: str, rows: pd.DataFrame, dataset: str) -> Html:
    """What a phone shows first stands on the left; the columns on the paper are left out where it has nothing here."""
    beside = rows["paper"].notna().any()
    headers = ["Model", "Ours", *(["Paper", "Verdict", "Difference"] if beside else []), "Runs"]
    body: list[list[str | Html]] = []
    for row in rows.itertuples():
        paper: list[str | Html] = [
            NONE if row.paper is None else str(row.paper),
            f"{_SIGNS[row.verdict]} {row.verdict}",
            NONE if row.difference is None else f"{row.difference:+.4f}",
        ]
        ours = _ours(row.mean, row.sd, row.interval, row.done, row.failed)
        runs = str(row.done) if row.done == row.planned else f"{row.done} of {row.planned}"
        body.append([label_cell(str(row.label)), ours, *(paper if beside else []), runs])
    caption = f"{metric_name(metric)} on {dataset_name(dataset)}, test split{', and the paper' if beside else ''}"
    return table(headers, body, caption=caption, left=(0, 3) if beside else (0,))


def _masked_table(frame: pd.DataFrame, dataset: str) -> Html:
    metrics = list(dict.fromkeys(frame["metric"]))
    body: list[list[str | Html]] = []
    for label in dict.fromkeys(frame["label"]):
        rows = frame[frame["label"] == label].itertuples()
        cells = [(mean_and_spread(r.masked_mean, r.masked_sd), format_interval(r.masked_interval)) for r in rows]
        body.append([label_cell(str(label)), *(stacked(above, below) for above, below in cells)])
    caption = f"The same runs on {dataset_name(dataset)}, seen items masked"
    return table(["Model", *map(metric_name, metrics)], body, caption=caption)


def _ours(mean: float | None, sd: float | None, interval: Interval | None, done: int, failed: int) -> str | Html:
    if mean is None:
        return "failed" if failed else NONE if done else "not run"
    return stacked(mean_and_spread(mean, sd), format_interval(interval))


def label_cell(label: str) -> str | Html:
    """A model's label in a table: what stands in parentheses goes below, so that a phone has room for the numbers."""
    name, parenthesis, rest = label.partition(" (")
    if not (parenthesis and rest.endswith(")")):
        return Html(escape(label).replace("+", "<wbr>+"), label) if "+" in label else label
    return Html(stacked(name, rest[:-1].replace(") (", ", ")).html, label)


def mean_and_spread(mean: float | None, sd: float | None) -> str:
    """A mean with its spread over seeds; the spread is left out where there is none."""
    if mean is None:
        return NONE
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def format_interval(interval: Interval | None, signed: bool = False) -> str:
    """The ends of an interval; in words where all users have one value."""
    if interval is None:
        return NONE
    if interval.degenerate:
        return "all users equal"
    plus = "+" if signed else ""
    return f"{interval.low:{plus}.4f} to {interval.high:{plus}.4f}"


def summary(
    frame: pd.DataFrame,
    dataset: str,
    tests: Sequence[PairedTest] = (),
    masked_tests: Sequence[PairedTest] = (),
    alpha: float = 0.05,
) -> Html:
    """What the accuracy frame says, in sentences: who leads, from whom that is not told apart, and where the paper's
    numbers hold.

    ``tests``, ``masked_tests``: the paired tests of the `main_metric`, and of it with seen items left out, if there are
    any. Only where a metric was tested does somebody *lead*.
    """
    sentences = []
    main = main_metric(list(dict.fromkeys(frame["metric"])))
    for metric, rows in frame.groupby("metric", sort=False):
        ran = [row for row in rows.itertuples() if row.mean is not None]
        if not ran:
            continue
        best = max(ran, key=lambda row: row.mean)
        own = tests if metric == main else ()
        sentence = f"{metric_name(str(metric))}: {_leads(best.label, best.mean, best.sd, own, alpha)}"
        words = {word: [row.label for row in ran if row.verdict == word] for word in _JUDGED}
        found = [f"{word} for {'; '.join(names)}" for word, names in words.items() if names]
        beside = f" Beside the paper's numbers: {', and '.join(found)}." if found else ""
        sentences.append(f"{sentence}.{beside}")
    masked = [row for row in frame[frame["metric"] == main].itertuples() if row.masked_mean is not None]
    if masked:
        best = max(masked, key=lambda row: row.masked_mean)
        said = _leads(best.label, best.masked_mean, best.masked_sd, masked_tests, alpha)
        sentences.append(f"{metric_name(main)} with seen items left out: {said}.")
    sentences += _price_of_seen_items(frame) + _masked_verdicts(frame)
    if not sentences:
        return not_run(f"The models on {dataset_name(dataset)}")
    waiting = sorted({row.label for row in frame.itertuples() if row.mean is None and not row.done})
    if waiting:
        sentences.append(f"Not run on {dataset_name(dataset)}: {'; '.join(waiting)}.")
    if not comparable(dataset):
        sentences.append("No number here is a verdict on one of the paper's, whose tables are about other data.")
    return bullets(sentences)


def _leads(label: str, mean: float, sd: float | None, tests: Sequence[PairedTest], alpha: float) -> str:
    """Who has the highest mean: who *leads* was tested against others."""
    if not any(label in (test.a, test.b) for test in tests):
        return f"{label} has the highest mean, {mean_and_spread(mean, sd)}"
    return f"{label} leads with {mean_and_spread(mean, sd)}{_not_told_apart(label, tests, alpha)}"


def _price_of_seen_items(frame: pd.DataFrame) -> list[str]:
    """What each model would gain in NDCG@10 (else in the first metric) if its lists left out what the user has seen."""
    metric = main_metric(list(dict.fromkeys(frame["metric"])))
    rows = frame[(frame["metric"] == metric) & frame["mean"].notna() & frame["masked_mean"].notna()]
    gains = [f"{row.label} {row.masked_mean - row.mean:+.4f}" for row in rows.itertuples()]
    if not gains:
        return []
    return [
        f"Taking seen items out of the ranking changes {metric_name(metric)} by: {'; '.join(gains)}. "
        "The unmasked ranking, which is the default of the code that the paper builds on, also asks a model to tell "
        "what it has already read."
    ]


def _not_told_apart(label: str, tests: Sequence[PairedTest], alpha: float) -> str:
    """The models that the paired test does not tell from this one, as the end of a sentence."""
    pairs = [test for test in tests if label in (test.a, test.b) and test.p_holm > alpha]
    others = [test.b if test.a == label else test.a for test in pairs]
    return f", not told apart from {'; '.join(others)}" if others else ""


def _masked_verdicts(frame: pd.DataFrame) -> list[str]:
    """How the words on the paper's numbers would read, had the paper taken seen items out, which it does not say."""
    parts = []
    for metric, rows in frame.groupby("metric", sort=False):
        both = [r for r in rows.itertuples() if r.verdict in _JUDGED and r.masked_mean is not None]
        words = {r.label: verdict(r.paper, r.masked_mean, r.masked_interval) for r in both}
        found = [f"{w} for {'; '.join(n for n in words if words[n] == w)}" for w in _JUDGED if w in words.values()]
        if found:
            parts.append(f"{metric_name(str(metric))}: {', and '.join(found)}")
    if not parts:
        return []
    return [
        "The paper does not say whether it masks seen items. If it does, its numbers belong beside our masked ones, "
        f"and the words would be: {'. '.join(parts)}."
    ]


def data_note(dataset: str) -> Html:
    """The remark that opens a results page: how the data relate to the paper's."""
    if dataset == "demo":
        return note(
            "Simulated data.",
            "These users and items do not exist: a simulator made them, to show the whole path in seconds. "
            "The numbers say that the code works; they say nothing about the paper, nor about real people.",
        )
    original = paper_dataset(dataset)
    if original is None:
        also = "; its study of the optimizer (Figure 3) is on this data set" if dataset == OPTIMIZER_STUDY else ""
        return note("Not in the paper's tables.", f"There is no row for {dataset_name(dataset)} to compare with{also}.")
    if not comparable(dataset):
        return note(
            "Other data than the paper's.",
            f"{dataset_name(dataset)} stands in for {dataset_name(original)}: same shop and category, "
            "another collection. The paper's numbers are shown for orientation, without a verdict.",
        )
    return note(
        "The paper's data set.",
        f"{dataset_name(dataset)}: where the paper prints a number for what is run here, the two stand side by side.",
    )


def paired_tests(runs: Sequence[ModelRuns], metric: str) -> list[PairedTest]:
    """Every pair of models that ran, user by user (each user's mean over seeds), Holm-corrected."""
    values = {own.label: own.user_means(metric) for own in runs}
    return compare_models({label: array for label, array in values.items() if array is not None})


def paired_table(tests: Sequence[PairedTest], metric: str, dataset: str, alpha: float = 0.05) -> Html:
    """The paired tests as a table, or a sentence where fewer than two models ran."""
    if not tests:
        return not_run("Two models to compare")
    short = short_labels([label for test in tests for label in (test.a, test.b)])
    body: list[list[str | Html]] = [
        [
            f"{short[test.a]} − {short[test.b]}",
            stacked(f"{test.difference.estimate:+.4f}", format_interval(test.difference, signed=True)),
            format_p(test.p_holm),
            _reading(test, short, alpha),
        ]
        for test in tests
    ]
    remark = (
        "Each user counts once, with the mean over seeds. p (Holm) is corrected for all pairs of this table, "
        "the intervals are not. The test covers users, not seeds: see ± above."
    )
    left_out = sorted({label for label, name in short.items() if label != name})
    names = [f"In full: {'; '.join(left_out)}."] if left_out else []
    return table(
        ["Pair", "Difference, 95 % interval", "p (Holm)", "Reading"],
        body,
        caption=f"Paired bootstrap over users, {metric_name(metric)} on {dataset_name(dataset)}",
        notes=[*names, remark],
        left=(0, 3),
    )


def _reading(test: PairedTest, names: Mapping[str, str], alpha: float) -> str:
    if test.p_holm > alpha:
        return "not told apart"
    return f"{names[test.a if test.difference.estimate > 0 else test.b]} higher"


def short_labels(labels: Sequence[str]) -> dict[str, str]:
    """Each label without its parenthesis, where that still tells it from the others.

    >>> short_labels(["MamRec (from scratch)", "GPT4Rec (gpt2)", "GPT4Rec (from scratch)"])["MamRec (from scratch)"]
    'MamRec'
    """
    stems = {label: label.partition(" (")[0] for label in labels}
    taken = list(stems.values())
    return {label: stem if taken.count(stem) == 1 else label for label, stem in stems.items()}


def format_p(p: float) -> str:
    """A p-value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_in_words(p: float) -> str:
    """A p-value inside a sentence.

    >>> p_in_words(0.0123), p_in_words(0.0001)
    ('p = 0.012', 'p < 0.001')
    """
    text = format_p(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"

"""The README's table of results, written from published records: ``make readme``.

The table stands between two markers; all other text of the README is left alone. A test holds the two together: a
README that lags behind the records fails it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import bootstrap_interval
from seqrec_lib.places import project_root
from seqrec_lib.report import floors
from seqrec_lib.report.frames import COMPLETE, frame, users
from seqrec_lib.report.html import NONE
from seqrec_lib.report.paper import Printed, comparable, dataset_name, in_its_order, paper_row, verdict
from seqrec_lib.results import RunStore
from seqrec_lib.study import load_study
from seqrec_lib.study.plans import page_runs
from seqrec_lib.terminal import one_line

BEGIN = "<!-- results: begin (written by make readme; do not edit) -->"
END = "<!-- results: end -->"
METRICS = ("ht@10", "ndcg@10")
PUBLISHED = "results"
RANKER = "llamarec"  # an experiment
NOTE = """Ours: mean ± standard deviation over seeds, all items ranked. The book has intervals, tests, costs and the \
run ids behind each number.
Where the verdict is “other data”, the paper's number is about another collection of the same kind. “Other order”: \
ours is in another order of time than the paper's code base gives; the verdict stands in the rows of RecBole's order.
A model *from scratch* is no pretrained one of that name: it has read this data set's titles only.
LlamaRec orders candidates without seen items: hold it against the others' column of masked ranks."""


def results_table(root: Path | None = None, published: Path | str = PUBLISHED) -> str:
    """Markdown: one row for each data set and model of the accuracy pages that has a published run; language
    models, which have pages of their own, stand below the others of their data set.

    Only published records count, so that everybody's README is the same. Demo data are never published.
    """
    study = load_study(root or project_root())
    store = RunStore(new=published, published=published)
    lines = []
    for page in study.pages():
        if page.notebook == "accuracy":
            parts = [frame(records, configs, store) for configs, records in [page_runs(page, store)]]
            parts += [
                floors.gather(other.notebook, *page_runs(other, store), store)[0]
                for other in study.pages()
                if other.dataset == page.dataset and other.notebook in {"generative", RANKER}
            ]
            lines += _rows(str(page.dataset), pd.concat(parts, ignore_index=True), store)
    if not lines:
        return "No run has been published yet.\n"
    headers = ["Data", "Model"]
    for metric in METRICS:
        headers += [f"{metric.upper()}, paper", f"{metric.upper()}, ours"]
    headers += [f"{METRICS[-1].upper()}, seen masked", "Runs", f"Verdict on {METRICS[0].upper()}"]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in (headers, ["---"] * len(headers), *lines))
    return f"{text}\n\n{NOTE}\n"


def _rows(dataset: str, runs: pd.DataFrame, store: RunStore) -> list[list[str]]:
    """The cells of each model of one data set."""
    rows = []
    for label, own in runs[runs["status"] == COMPLETE].groupby("label", sort=False):
        first = own.iloc[0]
        ranker = first["experiment"] == RANKER  # which leaves out what a user has seen, and has masked numbers alone
        row = paper_row(dataset, str(first["model"]))
        printed = {metric: None if row is None else row.metric(metric) for metric in METRICS}
        cells = [dataset_name(dataset), str(label)]
        for metric in METRICS:
            number = NONE if printed[metric] is None else str(printed[metric])
            cells += [number, NONE if ranker else _mean_and_spread(own[metric])]
        cells.append(_mean_and_spread(own[METRICS[-1] if ranker else f"masked_{METRICS[-1]}"]))
        rows.append([*cells, str(len(own)), "masked only" if ranker else _verdict(own, printed[METRICS[0]], store)])
    return rows


def _mean_and_spread(values: pd.Series) -> str:
    return f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else "")


def _verdict(own: pd.DataFrame, printed: Printed | None, store: RunStore) -> str:
    if printed is not None and own.iloc[0].get("made") == floors.MADE[0] and own.iloc[0]["source"]:
        return "other model"
    values = users(own, METRICS[0], store)
    found = None if values is None else bootstrap_interval(values)
    dataset = str(own.iloc[0]["dataset"])
    about = {"comparable": comparable(dataset), "same_order": in_its_order(dataset)}
    return verdict(printed, float(own[METRICS[0]].mean()), found, **about)


def updated(text: str, table: str) -> str:
    """``text`` with what stands between the markers replaced by ``table``.

    Raises:
        SeqRecError: a marker is missing, or they stand in the wrong order.
    """
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise SeqRecError(f"the README lacks its markers; put {BEGIN!r} and {END!r} around the table of results")
    return f"{text[: begin + len(BEGIN)]}\n\n{table}\n{text[end:]}"


def main() -> int:
    """Rewrite the README's table; exit status 2 with one line where that is not possible."""
    path = project_root() / "README.md"
    try:
        text = path.read_text(encoding="utf-8")
        new = updated(text, results_table())
    except (OSError, SeqRecError) as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    path.write_text(new, encoding="utf-8")
    print(f"{path}: {'unchanged' if new == text else 'results table rewritten'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

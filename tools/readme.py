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
from seqrec_lib.report.paper import Printed, dataset_name, in_its_order, paper_number, paper_row, verdict
from seqrec_lib.report.sizes import about_the_same_data
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
    """Markdown: the paper's MovieLens rows beside ours in both orders of time, then all rows of each data set, folded.

    A row stands for a model of the accuracy pages that has a published run; language models, which have pages of their
    own, stand below the others of their data set. Only published records count, so that everybody's README is the
    same. Demo data are never published.
    """
    study = load_study(root or project_root())
    store = RunStore(new=published, published=published)
    tables: dict[str, list[list[str]]] = {}
    for page in study.pages():
        if page.notebook == "accuracy":
            parts = [frame(records, configs, store) for configs, records in [page_runs(page, store)]]
            parts += [
                floors.gather(other.notebook, *page_runs(other, store), store)[0]
                for other in study.pages()
                if other.dataset == page.dataset and other.notebook in {"generative", RANKER}
            ]
            rows = _rows(str(page.dataset), pd.concat(parts, ignore_index=True), store)
            if rows:
                tables[str(page.dataset)] = rows
    if not tables:
        return "No run has been published yet.\n"
    headers = ["Model"]
    for metric in METRICS:
        headers += [f"{metric.upper()}, paper", f"{metric.upper()}, ours"]
    headers += [f"{METRICS[-1].upper()}, seen masked", "Runs", f"Verdict on {METRICS[0].upper()}"]
    folded = [
        f"<details>\n<summary>{dataset_name(dataset)}</summary>\n\n{_table([headers, *rows])}\n\n</details>"
        for dataset, rows in tables.items()
    ]
    return "\n\n".join([*_in_both_orders(tables), *folded, NOTE]) + "\n"


def _in_both_orders(tables: dict[str, list[list[str]]]) -> list[str]:
    """The rows that the paper prints for MovieLens 1M, in the order of its code base and in the true order."""
    true, theirs = ({row[0]: row for row in tables.get(dataset, [])} for dataset in ("ml-1m", "ml-1m-recbole"))
    rows = [
        [model, row[1], row[2], true[model][2], row[-1]]
        for model, row in theirs.items()
        if model in true and row[1] != NONE
    ]
    headers = [f"{METRICS[0].upper()} on MovieLens 1M", "Paper", "RecBole's order", "True order", "In RecBole's order"]
    return [_table([headers, *rows])] if rows else []


def _table(rows: list[list[str]]) -> str:
    """Markdown of a table, its first row the head."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def _rows(dataset: str, runs: pd.DataFrame, store: RunStore) -> list[list[str]]:
    """The cells of each model of one data set."""
    rows = []
    for label, own in runs[runs["status"] == COMPLETE].groupby("label", sort=False):
        first = own.iloc[0]
        ranker = first["experiment"] == RANKER  # which leaves out what a user has seen, and has masked numbers alone
        printed = {metric: paper_number(dataset, str(first["model"]), metric) for metric in METRICS}
        cells = [str(label)]
        for metric in METRICS:
            cells += [str(printed[metric] or NONE), NONE if ranker else _mean_and_spread(own[metric])]
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
    row = paper_row(dataset, str(own.iloc[0]["model"]))
    about = {
        "comparable": row is not None and about_the_same_data(row, dataset),
        "same_order": in_its_order(dataset),
    }
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

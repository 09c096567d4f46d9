"""The README's table of results, written from published records: ``make readme``.

The table stands between two markers; all other text of the README is left alone. A test holds the two together: a
README that lags behind the records fails it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.report import language, rankers
from seqrec_lib.report.paper import comparable, dataset_name, paper_dataset
from seqrec_lib.report.runs import gather
from seqrec_lib.report.tables import accuracy_frame, mean_and_spread, metric_name
from seqrec_lib.results import RunStore
from seqrec_lib.study import load_study
from seqrec_lib.study.plans import page_runs
from seqrec_lib.terminal import one_line

BEGIN = "<!-- results: begin (written by make readme; do not edit) -->"
END = "<!-- results: end -->"
METRICS = ("ht@10", "ndcg@10")
PUBLISHED = "results"


def results_table(root: Path | None = None, published: Path | str = PUBLISHED) -> str:
    """Markdown: one row for each data set and model of the accuracy pages that has a published run; language
    models, which have pages of their own, stand below the others of their data set.

    Only published records count, so that everybody's README is the same. Demo data are never published.
    """
    study = load_study(root or project_root())
    store = RunStore(new=published, published=published)
    lines = []
    for page in study.pages():
        if page.notebook != "accuracy":
            continue
        runs = gather(*page_runs(page, store), store)
        for other in study.pages():
            if (other.notebook, other.dataset) == ("generative", page.dataset):
                runs += language.rows(*page_runs(other, store), store)
            if (other.notebook, other.dataset) == ("llamarec", page.dataset):
                runs += rankers.beside(*page_runs(other, store), store)[0]
        frame = accuracy_frame([own for own in runs if own.complete], METRICS)
        for label in dict.fromkeys(frame["label"]) if len(frame) else ():
            by_metric = {row.metric: row for row in frame[frame["label"] == label].itertuples()}
            cells = [dataset_name(str(page.dataset)), str(label)]
            for metric in METRICS:
                row = by_metric[metric]
                cells += ["–" if row.paper is None else str(row.paper), mean_and_spread(row.mean, row.sd)]
            first = by_metric[METRICS[0]]
            cells += [mean_and_spread(by_metric[METRICS[-1]].masked_mean, by_metric[METRICS[-1]].masked_sd)]
            cells += [str(first.done), first.verdict]
            lines.append(cells)
    if not lines:
        return "No run has been published yet.\n"
    headers = ["Data", "Model"]
    for metric in METRICS:
        headers += [f"{metric_name(metric)}, paper", f"{metric_name(metric)}, ours"]
    headers += [f"{metric_name(METRICS[-1])}, seen masked", "Runs", f"Verdict on {metric_name(METRICS[0])}"]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in (headers, ["---"] * len(headers), *lines))
    stand_in = any(
        paper_dataset(name) and not comparable(name) for name in {str(page.dataset) for page in study.pages()}
    )
    note = (
        "\nOurs: mean ± standard deviation over seeds, all items ranked. The book has intervals, tests, costs and the "
        "run ids behind each number.\n"
    )
    if stand_in:
        note += "Where the verdict is “other data”, the paper's number is about another collection of the same kind.\n"
    if any("from scratch" in cells[1] for cells in lines):
        note += "A model *from scratch* is no pretrained one of that name: it has read this data set's titles only.\n"
    if any(cells[1].startswith("LlamaRec") for cells in lines):
        note += "LlamaRec orders candidates without seen items: hold it against the others' column of masked ranks.\n"
    return text + "\n" + note


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

"""The end of a chapter: for each statement that it cites, the rule, the estimate, and every run with its record and
the command that makes it again."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from seqrec_lib.report.footer import AGAIN, RECORDS, run_line
from seqrec_lib.report.statements import Evidence, Statement
from seqrec_lib.report.values import Names
from seqrec_lib.results import RunStore


def evidence_section(cited: Mapping[str, Evidence], names: Names) -> str:
    """Markdown: a heading and, for each cited statement, what unfolds to its evidence."""
    items = [_entry(names.statements[name], evidence, names) for name, evidence in cited.items()]
    return "\n".join(["## Evidence", "", *items])


def _entry(statement: Statement, evidence: Evidence, names: Names) -> str:
    scope = statement.scope
    seeds = scope.seeds and f"seed{'s' * (len(scope.seeds) > 1)} {', '.join(map(str, scope.seeds))}"
    limits = [
        "any order" if scope.orders is None else " and ".join(scope.orders),
        {"cpu": "on a CPU", "cuda": "on a GPU"}.get(scope.device or "", "on any device"),
        seeds or "all seeds",
    ]
    found = map(names.runs.store.find, evidence.run_ids)
    lines = [(one.experiment, run_line(one, AGAIN.format(one.run_id))) for one in found if one is not None]
    runs = "".join(f"<li>{escape(experiment)}: {line}</li>" for experiment, line in lines)
    ids = f"<ul>{runs}</ul>" if runs else ""
    return (
        f'<details class="evidence"><summary><code>{statement.name}</code></summary>'
        f'<div id="evidence-{statement.name}"><p><strong>{escape(f"{statement.measures}: {evidence}")}.</strong> '
        f"{escape(statement.rule)}</p><p>Scope: {escape('; '.join(limits))}.</p>{ids}</div></details>\n"
    )


def copy_records(run_ids: Iterable[str], store: RunStore, source: Path) -> None:
    """Put the records behind cited statements into the staged book, where the pages link to them."""
    folder = source / RECORDS
    folder.mkdir(parents=True, exist_ok=True)
    for run_id in sorted(set(run_ids)):
        record = store.find(run_id)
        if record is not None:
            shutil.copyfile(store.path(record), folder / f"{run_id}.json")


def own_note(published: Evidence, own: Evidence | None) -> str:
    """A note where a reader's own runs give another answer than the published ones."""
    same = own is not None and not published.held and math.isclose(own.estimate, published.estimate, abs_tol=1e-9)
    if own is None or own.held or same:
        return ""
    return f' <span class="own-runs">(the runs on this machine disagree: {escape(str(own))})</span>'

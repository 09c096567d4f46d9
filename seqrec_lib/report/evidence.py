"""The end of a chapter: for each statement that it cites, the rule and the estimate, and every run that the chapter
rests on with its record and the command that makes it again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from seqrec_lib.report.footer import AGAIN, RECORDS, run_line, what
from seqrec_lib.report.statements import Evidence, Statement
from seqrec_lib.report.values import Names
from seqrec_lib.results import RunStore


def evidence_section(cited: Mapping[str, Evidence], given: Iterable[str], names: Names) -> str:
    """Markdown: a heading and, for each cited statement, what unfolds to its evidence; then the other ones of the runs
    ``given``, which tables, figures and numbers of the chapter rest on."""
    items = [_entry(names.statements[name], evidence, names) for name, evidence in cited.items()]
    others = set(given) - {run_id for evidence in cited.values() for run_id in evidence.run_ids}
    if others:
        shown = (
            '<details class="evidence"><summary>Other runs behind this page\'s tables, figures and numbers</summary>'
        )
        items.append(f"{shown}{_runs(sorted(others), names)}</details>\n")
    return "\n".join(["## Evidence", "", *items])


def _runs(run_ids: Sequence[str], names: Names) -> str:
    """A list of runs, by experiment and what was run."""
    found = [one for one in map(names.runs.store.find, run_ids) if one is not None]
    found.sort(key=lambda one: (one.experiment, what(one), one.config.get("seed") or 0))
    lines = (f"<li>{escape(one.experiment)}: {run_line(one, AGAIN.format(one.run_id))}</li>" for one in found)
    return f"<ul>{''.join(lines)}</ul>" if found else ""


def _entry(statement: Statement, evidence: Evidence, names: Names) -> str:
    scope = statement.scope
    devices = {"cpu": "CPU", "cuda": "GPU"}
    fields = {
        "Estimate": escape(str(evidence)),
        "What is measured": escape(statement.measures),
        "Rule": escape(statement.rule),
        "Order of time": _list(scope.orders),
        "Device": devices.get(scope.device or "", "any"),
        "Seeds": _list(scope.seeds),
    }
    if runs := _runs(evidence.run_ids, names):
        fields["Runs"] = runs
    shown = "".join(f"<dt>{title}</dt><dd>{text}</dd>" for title, text in fields.items())
    return (
        f'<details class="evidence"><summary><code>{statement.name}</code></summary>'
        f'<div id="evidence-{statement.name}"><dl class="entries">{shown}</dl></div></details>\n'
    )


def _list(values: Sequence[object] | None) -> str:
    return "any" if values is None else escape(", ".join(map(str, values)))


def copy_records(run_ids: Iterable[str], store: RunStore, source: Path) -> None:
    """Put the records behind cited statements into the staged book, where the pages link to them, without the blanks
    that make a fifth of their size."""
    folder = source / RECORDS
    folder.mkdir(parents=True, exist_ok=True)
    for run_id in sorted(set(run_ids)):
        record = store.find(run_id)
        if record is not None:
            content = json.loads(store.path(record).read_text(encoding="utf-8"))
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            (folder / f"{run_id}.json").write_text(text + "\n", encoding="utf-8")


def own_note(published: Evidence, own: Evidence | None) -> str:
    """A note where a reader's own runs give another answer than the published ones."""
    same = own is not None and not published.held and math.isclose(own.estimate, published.estimate, abs_tol=1e-9)
    if own is None or own.held or same:
        return ""
    return f' <span class="own-runs">(the runs on this machine disagree: {escape(str(own))})</span>'

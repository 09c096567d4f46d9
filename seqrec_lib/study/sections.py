"""Sections of a page that have nothing to show leave it: one line says which, and how to run them. Of a reader's own
data, what is about the paper leaves too: cells with the tag `PAPER`.

Where nothing was run, every table of a page would say "not run", and what was run would drown in that. A section (from
one heading of the second level to the next) leaves when it shows something, and all that it shows are pieces marked
with `html.NOT_RUN`. The executed copy keeps them, as does the notebook in JupyterLab.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from seqrec_lib.data.own import is_own
from seqrec_lib.report.html import NOT_RUN

PAPER = "paper"  # the tag of cells on the paper, or on other data than a reader's
_MARKED = re.compile(rf'<p class="{NOT_RUN}">.*?</p>', re.S)
_HEADING = re.compile(r"^## +(.+)$", re.M)
Cell = dict[str, Any]


def without_empty_sections(cells: Sequence[Cell], dataset: str) -> list[Cell]:
    """The cells of an executed page, with its empty sections replaced by one line in the place of the first."""
    own = is_own(dataset)
    cells = [cell for cell in cells if not own or PAPER not in cell.get("metadata", {}).get("tags", [])]
    sections: list[list[Cell]] = [[]]
    for cell in cells:
        if cell["cell_type"] == "markdown" and _HEADING.search(text_of(cell["source"])):
            sections.append([])
        sections[-1].append(cell)
    kept: list[Cell] = []
    names: list[str] = []
    place = 0
    for section in sections:
        if not _is_empty(section):
            kept += section
            continue
        place = place if names else len(kept)
        names += _HEADING.findall(text_of(section[0]["source"]))
    line = [_line(names, dataset, str(cells[0].get("id", "page")))] if names else []
    return kept[:place] + line + kept[place:]


def _is_empty(group: Sequence[Cell]) -> bool:
    if not group or group[0]["cell_type"] != "markdown" or len(_HEADING.findall(text_of(group[0]["source"]))) != 1:
        return False
    shown = [
        text_of(output["data"].get("text/html", "something"))
        for cell in group
        if cell["cell_type"] == "code"
        for output in cell.get("outputs", [])
        if output.get("output_type") in {"display_data", "execute_result"}
    ]
    return bool(shown) and not any(_MARKED.sub("", html).strip() for html in shown)


def _line(names: Sequence[str], dataset: str, stem: str) -> Cell:
    command = "make study" if dataset == "demo" else f"make study PROFILE=paper DATASETS={dataset}"
    reason = "**Not run here**, as `seqrec study --data` does not run them or their runs failed"
    if not is_own(dataset):
        reason = f"**Not run here yet** (`{command}` runs what is missing)"
    text = f"{reason}: {'; '.join(f'*{name}*' for name in names)}"
    return {"cell_type": "markdown", "id": f"{stem}-not-run"[:64], "metadata": {}, "source": text}


def text_of(source: str | Sequence[str]) -> str:
    """A cell's source or output, which a notebook may hold as lines."""
    return source if isinstance(source, str) else "".join(source)

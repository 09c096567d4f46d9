"""Tables and figures of chapters and notebooks: caption, alt text and the numbers to download come with one frame.

What is missing in a frame (None, NaN) was not run, and says so wherever it would stand.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any

import pandas as pd

from seqrec_lib.report import html, svg
from seqrec_lib.report.html import Html

WIDE, NARROW = 720, 340  # pixels: of the page's text at 1280, and on a phone
_SWITCH = (
    "<style>.chart>.narrow{display:none}.chart>.wide{overflow-x:auto}@media(max-width:640px)"
    "{.chart>.narrow{display:block}.chart>.wide{display:none}}</style>"
)
_LONG = 15  # characters of a number
_SHOWN_ROWS = 60  # longer tables of numbers come as a download only

Rows = Iterator[dict[str, Any]]


def rows_of(rows: Callable[..., Rows]) -> Callable[..., pd.DataFrame]:
    """A function that yields rows of a record becomes one that gives their frame, an empty one without a record."""

    @wraps(rows)
    def read(record: Any, *arguments: Any) -> pd.DataFrame:
        return pd.DataFrame() if record is None else pd.DataFrame(list(rows(record, *arguments)))

    return read


@dataclass(frozen=True)
class Column:
    """A column of a table: its key in the frame, its title, the format of its numbers, the keys of its interval; an
    optional one leaves the table where no row has a value."""

    key: str
    title: str
    form: str = ".3f"
    interval: tuple[str, str] | None = None
    missing: str = "not run"
    optional: bool = False


def table(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    caption: str,
    filters: Sequence[str] = (),
    csv: Sequence[str] = (),
) -> Html:
    """The frame's rows; text to the left, numbers to the right, an interval below its number; and a CSV of them.

    Args:
        filters: keys of columns whose values a reader may choose from; then each column can also be sorted by. The page
            loads ``_static/tables.js``; without it the table is as it is.
        csv: keys that stand in the CSV only.
    """
    if frame.empty:
        return html.not_run(caption)
    columns = [column for column in columns if not column.optional or frame[column.key].notna().any()]
    rows = [[_cell(row, column) for column in columns] for row in frame.to_dict("records")]
    texts = _texts(frame, [column.key for column in columns])
    keys = [key for column in columns for key in (column.key, *(column.interval or ()))]

    chosen = " ".join(str(i) for i, column in enumerate(columns) if column.key in filters)
    shown = _grid(
        [column.title for column in columns], rows, texts, caption, f' data-filters="{chosen}"' * bool(filters)
    )
    return Html(shown + download(frame[[*keys, *csv]]), f"{caption}\n{frame[keys].to_string(index=False)}")


def _texts(frame: pd.DataFrame, keys: Sequence[str]) -> set[int]:
    """The places of the columns that hold text."""
    return {i for i, key in enumerate(keys) if frame[key].map(lambda cell: isinstance(cell, str | Html)).any()}


def _grid(
    titles: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int], caption: str, attributes: str = ""
) -> str:
    """A table of cells that are HTML already; those of the columns ``texts`` stand to the left."""

    def line(cells: Sequence[str], scopes: Sequence[str]) -> str:
        tags = [("th", f' scope="{scope}"') if scope else ("td", "") for scope in scopes]
        sides = ["" if i in texts else ' class="number"' for i in range(len(cells))]
        parts = zip(tags, sides, cells, strict=True)
        return f"<tr>{''.join(f'<{tag}{scope}{side}>{cell}</{tag}>' for (tag, scope), side, cell in parts)}</tr>"

    head = line([escape(title) for title in titles], ["col"] * len(titles))
    body = "\n".join(line(row, ["row", *[""] * (len(titles) - 1)]) for row in rows)
    name = escape(caption)
    return (
        f'<div class="table-scroll kit" role="region" tabindex="0" aria-label="{name}">\n'
        f'<table class="dataframe"{attributes}>\n'
        f"<caption>{name}</caption>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n"
    )


def _cell(row: dict[str, Any], column: Column) -> str:
    value = row[column.key]
    if pd.isna(value):
        return escape(column.missing)
    if isinstance(value, str | Html):
        return value.html if isinstance(value, Html) else escape(value)
    text = escape(show(value, column.form))
    if column.interval is None or pd.isna(row[column.interval[0]]):
        return text
    low, high = (escape(show(row[key], column.form)) for key in column.interval)
    return f"{text}<br><small>{low} to {high}</small>"


def show(value: float | int | str, form: str = "") -> str:
    """A value as text, by a format specification of Python's, or "p" for the p of a test; a percent sign stands off
    its number. What is too long to be read, as the end of an interval over three rounds may be, is written with an
    exponent.

    >>> show(0.1971, ".1%"), show(6040, ","), show("0.340"), show(0.0004, "p"), show(4.4558e244, ".2f")
    ('19.7\\xa0%', '6,040', '0.340', '< 0.001', '4.5e+244')
    """
    if form == "p":
        return "< 0.001" if float(value) < 0.001 else f"{value:.3f}"
    if not form and isinstance(value, float):
        form = ".3f"
    text = format(value, form)
    if isinstance(value, float) and len(text) > _LONG:
        text = f"{value:.1e}"
    return text[:-1] + "\N{NO-BREAK SPACE}%" if text.endswith("%") else text


def figure(frame: pd.DataFrame, kind: str, *, alt: str, caption: str, **options: Any) -> Html:
    """A chart of the frame (see `svg` for the kinds and their options), drawn for a wide page and for a phone.

    Args:
        alt: what the figure shows, in words, for readers who don't see it.
        caption: its finding.
    """
    if frame.empty:
        return html.not_run(caption)
    draw = svg.KINDS[kind]
    label = f'aria-label="{escape(alt, quote=True)}"'
    pictures = "".join(
        f'<div class="{name}">{draw(frame, width, **options).replace("<svg ", f"<svg {label} ", 1)}</div>'
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    )
    text = f"<figcaption>{escape(caption)}</figcaption>"
    return Html(
        f'<figure class="chart">{_SWITCH}{pictures}{text}{numbers(frame, caption)}</figure>',
        f"[figure: {alt}]\n{caption}",
    )


def numbers(frame: pd.DataFrame, caption: str) -> str:
    """The numbers behind a figure: to unfold where they are few, and to download."""
    shown = ""
    if len(frame) <= _SHOWN_ROWS:
        rows = [[_plain(cell) for cell in row] for row in frame.itertuples(index=False)]
        titles = list(map(str, frame.columns))
        shown = _grid(titles, rows, _texts(frame, titles), f"Numbers: {caption}")
    return f"<details><summary>The numbers behind this figure</summary>{shown}{download(frame)}</details>"


def download(frame: pd.DataFrame) -> str:
    """A link to the frame as CSV, within the page: no file to lose."""
    csv = base64.b64encode(frame.to_csv(index=False).encode()).decode()
    rows = f"{len(frame)} row{'' if len(frame) == 1 else 's'}"
    return f'<p class="download"><a download="numbers.csv" href="data:text/csv;base64,{csv}">CSV ({rows})</a></p>'


def _plain(cell: object) -> str:
    if pd.isna(cell):
        return html.NONE
    return f"{cell:.4g}" if isinstance(cell, float) else escape(str(cell))

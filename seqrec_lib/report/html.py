"""Small pieces of accessible HTML: tables with caption and header cells, figures with alt text, notes.

Why not pandas' own: its tables have neither a caption that reads well nor scoped headers, and a wide one
pushes the page sideways on a phone. Here a table scrolls in a box of its own, which the keyboard can reach.
No colours are set: the class ``dataframe`` makes the book's theme pick them, in light and in dark. Each piece
also has a plain-text form, which a terminal shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

NONE = "–"
"""What a cell shows that has nothing to say."""

NOT_RUN = "not-run"
"""Class of what stands for a table or figure without runs; a section with nothing else leaves the book's page."""


class Html:
    """Something to display: HTML where there is a browser, text elsewhere."""

    def __init__(self, html: str, text: str) -> None:
        """Keep both forms as they are."""
        self.html = html
        self.text = text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Html) -> Html:
        """One piece below the other."""
        return Html(f"{self.html}\n{other.html}", f"{self.text}\n\n{other.text}")


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str | Html]],
    *,
    caption: str,
    notes: Sequence[str] = (),
    left: Sequence[int] = (0,),
    wrap: Sequence[int] = (),
) -> Html:
    """A table of texts; the first cell of each row is its header.

    Columns whose index is not in ``left`` are numbers and aligned to the right; those in ``wrap`` hold
    sentences and may break into lines. ``notes`` are short paragraphs below. Texts are escaped;
    `Html` is taken as it is.
    """

    def cell(index: int, content: str | Html, tag: str, scope: str = "") -> str:
        side = "left" if index in left else "right"
        inner = content.html if isinstance(content, Html) else escape(content)
        breaks = "min-width:9rem" if index in wrap else "white-space:nowrap"
        return f'<{tag}{scope} style="text-align:{side};{breaks}">{inner}</{tag}>'

    head = "".join(cell(i, text, "th", ' scope="col"') for i, text in enumerate(headers))
    body = "\n".join(
        "<tr>"
        + "".join(cell(i, text, "td" if i else "th", "" if i else ' scope="row"') for i, text in enumerate(row))
        + "</tr>"
        for row in rows
    )
    name = escape(caption)
    box = 'class="table-scroll" role="region" tabindex="0" style="overflow-x:auto;margin:0.8rem 0"'
    html = (
        f'<div {box} aria-label="{name}">\n'
        '<table class="dataframe">\n'
        f'<caption style="text-align:left;caption-side:top">{name}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )
    html += "".join(f"\n<p><small>{escape(note)}</small></p>" for note in notes)
    return Html(html, _text_table(headers, rows, caption, notes))


def _text_table(
    headers: Sequence[str], rows: Sequence[Sequence[str | Html]], caption: str, notes: Sequence[str]
) -> str:
    lines = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    text = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([caption, *text, *notes])


def stacked(above: str, below: str) -> Html:
    """Two lines in one cell of a table, the lower one smaller; one line where the lower has nothing to say."""
    if below == NONE:
        return Html(escape(above), above)
    lower = f'<span style="font-size:0.85em">{escape(below)}</span>'
    return Html(f"{escape(above)}<br>{lower}", f"{above} [{below}]")


def paragraph(text: str) -> Html:
    """One paragraph; no markup in ``text``."""
    return Html(f"<p>{escape(text)}</p>", text)


def not_run(what: str) -> Html:
    """A sentence in place of a table or figure: what was not run."""
    text = f"{what}: not run."
    return Html(f'<p class="{NOT_RUN}">{escape(text)}</p>', text)


def link(text: str, address: str) -> Html:
    """A link; ``address`` counts from the page that shows it."""
    return Html(f'<a href="{escape(address)}">{escape(text)}</a>', text)


def bullets(items: Sequence[str]) -> Html:
    """A list of sentences."""
    html = "".join(f"<li>{escape(item)}</li>" for item in items)
    return Html(f"<ul>{html}</ul>", "\n".join(f"- {item}" for item in items))


def entries(items: Sequence[tuple[str, Sequence[str | Html]]]) -> Html:
    """Terms, each with lines below it."""

    def line(part: str | Html) -> str:
        return f"<dd>{part.html if isinstance(part, Html) else escape(part)}</dd>"

    html = "".join(f"<dt>{escape(term)}</dt>{''.join(map(line, parts))}" for term, parts in items)
    text = "\n".join("\n".join([term, *(f"  {part}" for part in parts)]) for term, parts in items)
    return Html(f'<dl class="entries">{html}</dl>', text)


def note(title: str, text: str) -> Html:
    """A boxed remark that stands out without colour."""
    look = "border:1px solid currentColor;border-left-width:6px;padding:0.5rem 1rem;margin:0.5rem 0"
    html = f'<div role="note" style="{look}"><strong>{escape(title)}</strong> {escape(text)}</div>'
    return Html(html, f"{title} {text}")


def details(summary: str, content: Html) -> Html:
    """Content that a reader can unfold."""
    return Html(
        f"<details><summary>{escape(summary)}</summary>\n{content.html}\n</details>",
        f"{summary}\n{content.text}",
    )


def figure(source: str, *, alt: str, caption: str, below: str = "") -> Html:
    """A picture with alt text and caption; ``source`` is an address or a data URI, ``below`` ready HTML.

    The picture stands on an opaque white ground with rounded corners, so that it reads the same in a dark
    theme. MyST-NB would take the alt text of a displayed picture from cell metadata only; as HTML of our own
    it survives.
    """
    html = (
        '<figure style="margin:1rem 0">'
        f'<img src="{escape(source)}" alt="{escape(alt)}" '
        'style="max-width:100%;height:auto;background:#fff;border-radius:8px;padding:6px">'
        f"<figcaption>{escape(caption)}</figcaption>{below}</figure>"
    )
    return Html(html, f"[figure: {alt}]\n{caption}")


def stack(parts: Sequence[Html]) -> Html:
    """Pieces below each other, at least one."""
    whole, *others = parts
    for part in others:
        whole = whole + part
    return whole

"""Small pieces of HTML that are not tables or figures: links, terms, what unfolds, and "not run".

Each piece also has a plain-text form, which a terminal shows. No colours are set, so that the theme picks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

NONE = "–"
"""What a cell shows that has nothing to say."""

NOT_RUN = "not-run"
"""Class of what stands for a table or figure without runs; a section with nothing else leaves the book's page."""


@dataclass(frozen=True, repr=False)
class Html:
    """Something to display: HTML where there is a browser, text elsewhere."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Html) -> Html:
        """One piece below the other."""
        return Html(f"{self.html}\n{other.html}", f"{self.text}\n\n{other.text}")


def not_run(what: str) -> Html:
    """A sentence in place of a table or figure: what was not run."""
    text = f"{what}: not run."
    return Html(f'<p class="{NOT_RUN}">{escape(text)}</p>', text)


def link(text: str, address: str) -> Html:
    """A link; ``address`` counts from the page that shows it."""
    return Html(f'<a href="{escape(address)}">{escape(text)}</a>', text)


def entries(items: Sequence[tuple[str, Sequence[str | Html]]]) -> Html:
    """Terms, each with lines below it."""

    def line(part: str | Html) -> str:
        return f"<dd>{part.html if isinstance(part, Html) else escape(part)}</dd>"

    html = "".join(f"<dt>{escape(term)}</dt>{''.join(map(line, parts))}" for term, parts in items)
    text = "\n".join("\n".join([term, *(f"  {part}" for part in parts)]) for term, parts in items)
    return Html(f'<dl class="entries">{html}</dl>', text)


def details(summary: str, content: Html) -> Html:
    """Content that a reader can unfold."""
    return Html(
        f"<details><summary>{escape(summary)}</summary>\n{content.html}\n</details>", f"{summary}\n{content.text}"
    )

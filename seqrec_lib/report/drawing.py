"""The elements of charts, as SVG text. Colours are CSS variables of the page, so that the theme's switch reaches
them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from seqrec_lib.report.axes import TEXT

INK, MUTED, GRID = "var(--chart-ink,#222)", "var(--chart-muted,#595959)", "var(--chart-grid,#d9d9d9)"
COLOURS = [  # told apart by readers with any common colour vision (after Okabe and Ito 2008)
    f"var(--chart-{number},{colour})"
    for number, colour in enumerate(("#0064a6", "#c24a00", "#00795a", "#8d5a00", "#a8447f", "#4b4b9b"), 1)
]


def lines_of(frame: pd.DataFrame, series: str) -> list[str]:
    """The names of a panel's lines; raises `ValueError` where there are more than six, which take two figures."""
    names = list(dict.fromkeys(frame[series]))
    if len(names) > len(COLOURS):
        raise ValueError(f"{len(names)} lines in one panel; {len(COLOURS)} is the most that can be read")
    return names


def canvas(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:.0f}" width="{width:g}" height="{height:.0f}" role="img" '
        f'font-size="{TEXT}" font-family="inherit">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" style="fill:{colour}">'
        f"{escape(words)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, thickness: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{colour}" '
        f'stroke-width="{thickness:g}"/>'
    )


def circle(x: float, y: float, radius: float, colour: str, *, hollow: bool = False) -> str:
    fill = "none" if hollow else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" stroke-width="2" style="fill:{fill};stroke:{colour}"/>'


def _points(xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def path(xs: Sequence[float], ys: Sequence[float], colour: str, dash: str = "") -> str:
    return f'<polyline points="{_points(xs, ys)}" stroke-width="2" {dash}style="fill:none;stroke:{colour}"/>'


def band(xs: Sequence[float], floors: Sequence[float], tops: Sequence[float], colour: str) -> str:
    edge = _points([*xs, *xs[::-1]], [*tops, *floors[::-1]])
    return f'<polygon points="{edge}" style="fill:{colour}" opacity="0.25"/>'

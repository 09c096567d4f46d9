"""Small multiples: the same chart again and again, one panel for each value of a column (see `svg`)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from seqrec_lib.report import drawing as draw
from seqrec_lib.report.axes import LINE, TEXT, Place, inner_scale, log_scale, widened, with_room

_DASHES = ("", "6 4", "2 3", "8 3 2 3")


def panels(
    frame: pd.DataFrame,
    width: int,
    *,
    panel: str,
    x: str,
    y: str,
    series: str | None = None,
    marks: Sequence[str] = (),
    x_axis: str = "",
    log_x: bool = False,
    share_x: bool = False,
    free_y: bool = False,
    top: float = math.inf,
    columns: tuple[int, int] = (4, 2),
) -> str:
    """Small multiples: one panel for each of ``panel``, with up to six lines of ``series``, whose names stand once,
    above all panels. Intervals are bands, or whiskers where a series is named in ``marks``: points without a line.

    ``share_x``: all panels have one scale of x; ``free_y``: each has a scale of its own for y; ``top``: what lies above
    is drawn hollow, at the upper edge; ``columns``: panels side by side, on a wide page and on a phone.
    """
    frame = frame[frame[y].notna() & frame[x].notna()]
    names = draw.lines_of(frame, series) if series else [""]
    titles = list(dict.fromkeys(frame[panel]))
    across = columns[0] if width > 500 else columns[1]
    step, left, gap = width / across, 56.0, 16.0
    words = {title: textwrap.wrap(str(title), int((step - gap) / (TEXT * 0.62))) for title in titles}
    head, body = LINE * max(map(len, words.values())) + 4, 120.0
    parts, y0 = _key(names, width) if series else ([], 0.0)
    low, high = (name if name in frame else y for name in ("low", "high"))
    shared = _span(frame, y, low, high, top)
    for index, title in enumerate(titles):
        own = frame[frame[panel] == title]
        x0, upper = (index % across) * step, y0 + (index // across) * (head + body + 30)
        lower, start, stop = upper + head + body, x0 + left, x0 + step - gap
        parts += [draw.text(x0, upper + 12 + LINE * i, line, weight="600") for i, line in enumerate(words[title])]
        floor, ceiling = _span(own, y, low, high, top) if free_y else shared
        place_y, ticks_y = inner_scale(floor, ceiling, lower - 4, upper + head + 6)
        across_all = frame if share_x else own
        first, last = widened(float(across_all[x].min()), float(across_all[x].max()), log_x)
        ends = (first, last, start + 6, stop - 6)
        place_x, ticks_x = (
            log_scale(*ends, 0, (1,) if last >= 100 * first else (1, 2, 5)) if log_x else inner_scale(*ends)
        )
        ticks_x = with_room(ticks_x, place_x)
        parts += [draw.line(start, place_y(tick), stop, place_y(tick), draw.GRID) for tick in ticks_y]
        parts += [
            draw.text(start - 5, place_y(tick) + 4, f"{tick:.5g}", anchor="end", colour=draw.MUTED) for tick in ticks_y
        ]
        parts += [
            draw.text(place_x(tick), lower + 14, f"{tick:g}", anchor="middle", colour=draw.MUTED) for tick in ticks_x
        ]
        for number, name in enumerate(names):
            rows = own[own[series] == name] if series else own
            if len(rows):
                parts += _panel_line(
                    rows.sort_values(x), (x, y, low, high), place_x, place_y, number, name in marks, top
                )
    bottom = y0 + -(-len(titles) // across) * (head + body + 30)
    if x_axis:
        parts.append(draw.text(width / 2, bottom + 6, x_axis, anchor="middle", colour=draw.MUTED))
    return draw.canvas(width, bottom + (12 if x_axis else 0), parts)


def _panel_line(
    rows: pd.DataFrame,
    columns: tuple[str, str, str, str],
    place_x: Place,
    place_y: Place,
    number: int,
    marks: bool,
    top: float,
) -> list[str]:
    colour, dash = draw.COLOURS[number], _DASHES[number % len(_DASHES)]
    xs = [place_x(value) for value in rows[columns[0]]]
    ys, floors, tops = ([place_y(min(value, top)) for value in rows[name]] for name in columns[1:])
    parts = []
    if marks:
        parts += [draw.line(a, b, a, c, colour, 2) for a, b, c in zip(xs, floors, tops, strict=True)]
    else:
        if columns[2] != columns[1]:
            parts.append(draw.band(xs, floors, tops, colour))
        parts.append(draw.path(xs, ys, colour, f'stroke-dasharray="{dash}" '))
    if len(rows) <= 12:
        for a, b, value in zip(xs, ys, rows[columns[1]], strict=True):
            fill = "var(--chart-ground,#fff)" if value > top else colour
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" style="fill:{fill};stroke:{colour}"/>')
    return parts


def _key(names: Sequence[str], width: float) -> tuple[list[str], float]:
    """A sample of each line with its name, above the panels; and how high that is."""
    parts, x, y = [], 0.0, 12.0
    for number, name in enumerate(names):
        long = 34 + len(name) * TEXT * 0.62
        if x and x + long > width:
            x, y = 0.0, y + LINE + 3
        dash = _DASHES[number % len(_DASHES)]
        sample = draw.line(x, y - 4, x + 24, y - 4, draw.COLOURS[number], 3)
        parts.append(sample.replace("<line ", f'<line stroke-dasharray="{dash}" ', 1))
        parts.append(draw.text(x + 30, y, name, colour=draw.COLOURS[number], weight="600"))
        x += long + 16
    return parts, y + 14


def _span(frame: pd.DataFrame, y: str, low: str, high: str, top: float) -> tuple[float, float]:
    numbers = np.minimum(frame[[y, low, high]].to_numpy(dtype=float), top)
    return widened(float(np.nanmin(numbers)), float(np.nanmax(numbers)), False)

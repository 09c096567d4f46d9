"""Small charts as SVG text that follows the page: colours are CSS variables, so that the theme's switch reaches them.

Each kind draws a frame at a width in pixels, and is called twice: for a wide page and for a phone. Text is set at
`TEXT` pixels of a canvas no wider than its place, so that it is never smaller on the screen. Names stand beside what
they name; there is no legend."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.report import drawing as draw
from seqrec_lib.report.axes import LETTER, LINE, TEXT, Axis, linear_scale, with_room
from seqrec_lib.report.axes import axis as axis_of
from seqrec_lib.report.panels import panels

TOP, BOTTOM = 30.0, 44.0  # pixels: above and below the panel of `lines` and `scatter`
BOLD = 0.76  # width of a bold letter, as `LETTER`


def dots(
    frame: pd.DataFrame,
    width: int,
    *,
    group: str,
    label: str,
    value: str,
    axis: str,
    low: str = "low",
    high: str = "high",
    series: str | None = None,
    hollow: Sequence[str] = (),
    ring: str | None = None,
    form: str = ".3f",
) -> str:
    """Rows in groups: a mark at ``value`` with its interval, its name to the left and its number to the right. The axis
    starts at 0 unless all values lie in its upper half.

    ``series`` names the column that gives rows their colour; rows named in ``hollow`` are rings. ``ring`` names a
    column with another number for the same row, drawn as a ring on its line. Without a value, a row says "not run".
    """
    head = 25
    names = [name for name in dict.fromkeys(frame[series]) if name not in hollow] if series else []
    left = min(0.42 * width, max(len(str(name)) for name in frame[label]) * TEXT * LETTER + 14)
    right = width - 5 * TEXT
    frame = frame.assign(**{side: np.nan for side in (low, high) if side not in frame})
    numbers = frame[[value, low, high, *([ring] if ring else [])]].to_numpy(dtype=float)
    largest, least = float(np.nanmax(numbers, initial=-np.inf)), float(np.nanmin(numbers, initial=np.inf))
    if not np.isfinite(largest) or largest == least == 0:
        largest, least = 0.01, 0.0
    start = least if least < 0 or least >= 0.5 * largest else 0.0
    place, ticks = linear_scale(start, max(largest, 0.0), left + 8, right - 14, width)
    ticks = with_room(ticks, place)
    parts, y = [], 0.0
    for name, rows in frame.groupby(group, sort=False):
        title = _wrapped(str(name), int(width / (TEXT * BOLD)))
        parts += [draw.text(0, y + 17 + LINE * i, line, weight="600") for i, line in enumerate(title)]
        y += head + LINE * (len(title) - 1)
        for row in rows.to_dict("records"):
            words = _wrapped(str(row[label]), max(8, int((left - 8) / (TEXT * LETTER))))
            row_height = 21 + LINE * (len(words) - 1)
            middle = y + row_height / 2
            empty = row[series or label] in hollow
            colour = (
                draw.MUTED if empty else draw.COLOURS[names.index(row[series]) % len(draw.COLOURS) if series else 0]
            )
            first = middle + 4 - LINE * (len(words) - 1) / 2
            parts += [draw.text(left - 6, first + LINE * i, line, anchor="end") for i, line in enumerate(words)]
            if pd.isna(row[value]):
                parts.append(draw.text(right, middle + 4, "not run", colour=draw.MUTED))
            else:
                if not (pd.isna(row[low]) or pd.isna(row[high])):
                    a, b = place(row[low]), place(row[high])
                    parts.append(draw.line(a, middle, b, middle, colour, 2))
                    # ends that the mark can't hide
                    parts += [draw.line(x, middle - 5, x, middle + 5, colour, 2) for x in (a, b)]
                parts.append(draw.circle(place(row[value]), middle, 5 if empty else 3.5, colour, hollow=empty))
                parts.append(draw.text(right, middle + 4, format(row[value], form)))
            if ring and not pd.isna(row[ring]):
                parts.append(draw.circle(place(row[ring]), middle, 6, draw.INK, hollow=True))
            y += row_height
        y += 5
    grid = [draw.line(place(tick), head, place(tick), y, draw.GRID) for tick in ticks]
    if least < 0:
        grid.append(draw.line(place(0), head, place(0), y, draw.MUTED, 2))
    below = [draw.text(place(tick), y + 15, f"{tick:g}", anchor="middle", colour=draw.MUTED) for tick in ticks]
    title = textwrap.wrap(axis, int(width / (TEXT * LETTER)))
    below += [
        draw.text(width / 2, y + 32 + LINE * i, words, anchor="middle", colour=draw.MUTED)
        for i, words in enumerate(title)
    ]
    return draw.canvas(width, y + 26 + LINE * len(title), [*grid, *parts, *below])


def lines(
    frame: pd.DataFrame,
    width: int,
    *,
    series: str,
    x: str,
    y: str,
    x_axis: str,
    y_axis: str,
    log_x: bool = True,
    log_y: bool = True,
    form: str = ",.0f",
) -> str:
    """One line for each of ``series`` (six at most), on log axes unless told otherwise, its name at its end; its
    interval is a band where the frame has ``low`` and ``high``. ``form``: of the numbers on the x axis.
    """
    names = draw.lines_of(frame, series)
    low, high = (side if side in frame else y for side in ("low", "high"))
    height, left = round(0.55 * width + 60), 48.0
    right = width - max(len(name) for name in names) * TEXT * BOLD - 10
    spans = frame[[y, low, high]].to_numpy(dtype=float)
    place_x, ticks_x = axis_of(float(frame[x].min()), float(frame[x].max()), left, right, width, log_x)
    ticks_x = with_room(ticks_x, place_x)
    place_y, ticks_y = axis_of(float(np.nanmin(spans)), float(np.nanmax(spans)), height - BOTTOM, TOP, width, log_y)
    parts = _axes((place_x, ticks_x), (place_y, ticks_y), (left, right, height), x_axis, y_axis, form)
    ends = []
    for colour, name in zip(draw.COLOURS, names, strict=False):
        own = frame[(frame[series] == name) & frame[y].notna()].sort_values(x)
        if own.empty:
            continue
        xs = [place_x(number) for number in own[x]]
        ys, floors, tops = ([place_y(number) for number in own[side]] for side in (y, low, high))
        if low != y and own[[low, high]].notna().all(axis=None):
            parts.append(draw.band(xs, floors, tops, colour))
        parts.append(draw.path(xs, ys, colour))
        ends.append((place_y(float(own[y].iloc[-1])), name, colour))
    placed = _apart(ends, TEXT + 3)
    lift = max(0.0, placed[-1][0] - (height - BOTTOM)) if placed else 0.0  # names below the axis move up together
    for height_of, name, colour in placed:
        parts.append(draw.text(right + 8, height_of + 4 - lift, name, colour=colour, weight="600"))
    return draw.canvas(width, height, parts)


def _axes(x: Axis, y: Axis, edges: tuple[float, float, float], x_axis: str, y_axis: str, form: str) -> list[str]:
    """The grid, its numbers and what the axes show; ``edges``: left and right of the panel, height of the canvas."""
    left, right, height = edges
    parts = [draw.line(left, y[0](tick), right, y[0](tick), draw.GRID) for tick in y[1]]
    parts += [draw.text(left - 6, y[0](tick) + 4, f"{tick:g}", anchor="end", colour=draw.MUTED) for tick in y[1]]
    below = height - BOTTOM + 16
    parts += [draw.text(x[0](tick), below, format(tick, form), anchor="middle", colour=draw.MUTED) for tick in x[1]]
    middle = max((left + right) / 2, len(x_axis) * TEXT * LETTER / 2)  # beside long names a panel is narrower than it
    parts.append(draw.text(middle, height - 8, x_axis, anchor="middle", colour=draw.MUTED))
    return [*parts, draw.text(0, 14, y_axis, colour=draw.MUTED)]


def scatter(
    frame: pd.DataFrame,
    width: int,
    *,
    label: str,
    x: str,
    y: str,
    x_axis: str,
    y_axis: str,
    ring_x: str = "ring x",
    ring_y: str = "ring y",
) -> str:
    """A mark for each row at ``x`` (log axis) and ``y``, with the intervals ``x low`` to ``y high`` where the frame has
    them, and its name beside it; a ring at ``ring_x``, ``ring_y``, where it has those, joined to the mark by a line."""
    height, right = round(0.5 * width + 110), width - 12.0
    sides = [side for name in (x, y) for side in (f"{name} low", f"{name} high")]
    own = frame.assign(**{side: np.nan for side in (*sides, ring_x, ring_y) if side not in frame})
    spans = [own[[*names]].to_numpy(dtype=float) for names in ((x, ring_x, *sides[:2]), (y, ring_y, *sides[2:]))]
    place_y, ticks_y = axis_of(
        float(np.nanmin(spans[1])), float(np.nanmax(spans[1])), height - BOTTOM, TOP, width, False
    )
    left = max(48.0, 12 + max(len(f"{tick:g}") for tick in ticks_y) * TEXT * LETTER)
    place_x, ticks_x = axis_of(float(np.nanmin(spans[0])), float(np.nanmax(spans[0])), left + 8, right - 8, width, True)
    ticks_x = with_room(ticks_x, place_x)
    parts = _axes((place_x, ticks_x), (place_y, ticks_y), (left, right, height), x_axis, y_axis, "g")
    marks = []
    for number, row in enumerate(own.to_dict("records")):
        colour = draw.COLOURS[number % len(draw.COLOURS)]
        at = [(place_x(row[a]), place_y(row[b])) for a, b in ((x, y), (ring_x, ring_y)) if not pd.isna(row[a] + row[b])]
        if len(at) == 2:
            parts.append(draw.line(*at[0], *at[1], colour, 0.7))
        if not pd.isna(row[ring_x] + row[ring_y]):
            parts.append(draw.circle(*at[-1], 5, colour, hollow=True))
        if not pd.isna(row[x] + row[y]):
            left_end, right_end, low_end, high_end = (row[side] for side in sides)
            if not pd.isna(left_end):
                parts.append(draw.line(place_x(left_end), at[0][1], place_x(right_end), at[0][1], colour, 2))
            if not pd.isna(low_end):
                parts.append(draw.line(at[0][0], place_y(low_end), at[0][0], place_y(high_end), colour, 2))
            parts.append(draw.circle(*at[0], 4, colour))
        marks += [(*point, str(row[label]), colour) for point in at[:1]]
    return draw.canvas(width, height, [*parts, *_beside(marks, left, width, TOP, height - BOTTOM)])


def _beside(
    marks: Sequence[tuple[float, float, str, str]], left: float, width: float, top: float, floor: float
) -> list[str]:
    """A name for each mark, between ``left`` and ``width``, to its right or left, moved up or down until it covers no
    other name or mark; none where there is no room."""
    taken = [(x - 5, x + 5, y) for x, y, _, _ in marks]
    parts = []
    for x, y, name, colour in sorted(marks, key=lambda mark: mark[1]):
        if len(name) * TEXT * BOLD > width - left - 20:
            name = name.partition(" (")[0]
        long = len(name) * TEXT * BOLD
        start = x + 9 if x + 9 + long < width else max(left, x - 9 - long)
        tries = [y + step * sign * 4.0 for step in range(80) for sign in (1, -1)]
        free = (
            at
            for at in tries
            if top <= at <= floor
            and all(abs(at - other) >= LINE or start + long < a or start > b for a, b, other in taken)
        )
        at = next(free, math.nan)
        if math.isnan(at):
            continue  # its numbers stand below the figure
        taken.append((start, start + long, at))
        if abs(at - y) > LINE / 2:
            parts.append(draw.line(x, y, start if start > x else start + long, at, colour, 0.7))
        side = ("start", start) if start > x else ("end", start + long)
        parts.append(draw.text(side[1], at + 4, name, anchor=side[0], colour=colour, weight="600"))
    return parts


def lanes(frame: pd.DataFrame, width: int, *, lane: str, name: str, tie: str, last: str) -> str:
    """Sequences of small boxes, one lane for each, under its title; the box where ``last`` holds is filled. Boxes with
    the same ``tie`` in a lane share a line below them."""
    lanes_of = [(str(title), rows) for title, rows in frame.groupby(lane, sort=False)]
    most = max(len(rows) for _, rows in lanes_of)
    step = min(84.0, (width - 2) / most)
    box, parts, y = step - 6, [], 0.0
    for title, rows in lanes_of:
        parts.append(draw.text(0, y + 15, title, weight="600"))
        y += 23
        previous: tuple[Any, float] | None = None
        for index, row in enumerate(rows.to_dict("records")):
            x = 1 + index * step
            fill, ink = ("var(--chart-1,#0064a6)", "var(--chart-ground,#fff)") if row[last] else ("none", draw.INK)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{box:.1f}" height="30" rx="4" '
                f'style="fill:{fill};stroke:{draw.INK}"/>'
            )
            parts.append(draw.text(x + box / 2, y + 20, str(row[name]), anchor="middle", colour=ink, weight="600"))
            if previous is not None and previous[0] == row[tie]:
                parts.append(draw.line(previous[1], y + 36, x + box, y + 36, "var(--chart-2,#c24a00)", 3))
            previous = (row[tie], x)
        y += 52
    return draw.canvas(width, y, parts)


KINDS: dict[str, Callable[..., str]] = {kind.__name__: kind for kind in (dots, lines, scatter, lanes, panels)}


def _wrapped(text: str, letters: int) -> list[str]:
    """Lines of at most so many letters, where that can be; a line may also end before a plus sign."""
    lines = textwrap.wrap(text.replace("+", " +"), letters) or [""]
    return [line.replace(" +", "+") for line in lines]


def _apart(ends: Sequence[tuple[float, str, str]], gap: float) -> list[tuple[float, str, str]]:
    """The labels at the lines' ends, moved down until none covers another."""
    placed: list[tuple[float, str, str]] = []
    for y, name, colour in sorted(ends):
        y = max(y, placed[-1][0] + gap) if placed else y
        placed.append((y, name, colour))
    return placed

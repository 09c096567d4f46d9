"""Small charts as SVG text that follows the page: colours are CSS variables, so that the theme's switch reaches them.

Each kind draws a frame at a width in pixels, and is called twice: for a wide page and for a phone. Text is set at
`TEXT` pixels of a canvas no wider than its place, so that it is never smaller on the screen. Names stand beside what
they name; there is no legend."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.report.axes import LETTER, TEXT, Axis, Place, inner_scale, linear_scale, log_scale, widened, with_room
from seqrec_lib.report.axes import axis as axis_of

if TYPE_CHECKING:
    import pandas as pd

LINE = 15  # pixels: height of a line of text
INK, MUTED, GRID = "var(--chart-ink,#222)", "var(--chart-muted,#595959)", "var(--chart-grid,#d9d9d9)"
COLOURS = [  # told apart by readers with any common colour vision (after Okabe and Ito 2008)
    f"var(--chart-{number},{colour})"
    for number, colour in enumerate(("#0064a6", "#c24a00", "#00795a", "#8d5a00", "#a8447f", "#4b4b9b"), 1)
]
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
    missing: str = "not run",
) -> str:
    """Rows in groups: a mark at ``value`` with its interval, its name to the left and its number to the right. The axis
    starts at 0 unless all values lie in its upper half.

    ``series`` names the column that gives rows their colour; rows named in ``hollow`` are rings. ``ring`` names a
    column with another number for the same row, drawn as a ring on its line. Without a value, a row says ``missing``.
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
        parts.append(_text(0, y + 17, str(name), weight="600"))
        y += head
        for row in rows.to_dict("records"):
            words = _wrapped(str(row[label]), max(8, int((left - 8) / (TEXT * LETTER))))
            row_height = 21 + LINE * (len(words) - 1)
            middle = y + row_height / 2
            empty = row[series or label] in hollow
            colour = MUTED if empty else COLOURS[names.index(row[series]) % len(COLOURS) if series else 0]
            first = middle + 4 - LINE * (len(words) - 1) / 2
            parts += [_text(left - 6, first + LINE * i, line, anchor="end") for i, line in enumerate(words)]
            if _absent(row[value]):
                parts.append(_text(right, middle + 4, missing, colour=MUTED))
            else:
                parts += _mark(row, value, low, high, middle, place, colour, empty)
                parts.append(_text(right, middle + 4, format(row[value], form)))
            if ring and not _absent(row[ring]):
                parts.append(_circle(place(row[ring]), middle, 6, INK, hollow=True))
            y += row_height
        y += 5
    grid = [_line(place(tick), head, place(tick), y, GRID) for tick in ticks]
    if least < 0:
        grid.append(_line(place(0), head, place(0), y, MUTED, 2))
    below = [_text(place(tick), y + 15, f"{tick:g}", anchor="middle", colour=MUTED) for tick in ticks]
    title = textwrap.wrap(axis, int(width / (TEXT * LETTER)))
    below += [
        _text(width / 2, y + 32 + LINE * i, words, anchor="middle", colour=MUTED) for i, words in enumerate(title)
    ]
    return _canvas(width, y + 26 + LINE * len(title), [*grid, *parts, *below])


def _mark(
    row: Mapping[str, Any],
    value: str,
    low: str,
    high: str,
    y: float,
    place: Place,
    colour: str,
    hollow: bool,
) -> list[str]:
    parts = []
    if not _absent(row[low]) and not _absent(row[high]):
        a, b = place(row[low]), place(row[high])
        parts.append(_line(a, y, b, y, colour, 2))
        parts += [_line(x, y - 5, x, y + 5, colour, 2) for x in (a, b)]  # ends that the mark can't hide
    parts.append(_circle(place(row[value]), y, 5 if hollow else 3.5, colour, hollow=hollow))
    return parts


def _circle(x: float, y: float, radius: float, colour: str, *, hollow: bool = False) -> str:
    fill = "none" if hollow else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" stroke-width="2" style="fill:{fill};stroke:{colour}"/>'


def lines(
    frame: pd.DataFrame,
    width: int,
    *,
    series: str,
    x: str,
    y: str,
    x_axis: str,
    y_axis: str,
    low: str = "low",
    high: str = "high",
    log_x: bool = True,
    log_y: bool = True,
    form: str = ",.0f",
) -> str:
    """One line for each of ``series`` (six at most), on log axes unless told otherwise, its name at its end; its
    interval is a band where the frame has ``low`` and ``high``. ``form``: of the numbers on the x axis.

    Raises:
        ValueError: more than six lines; draw two figures.
    """
    names = _names_of_lines(frame, series)
    low, high = (side if side in frame else y for side in (low, high))
    height, left = round(0.55 * width + 60), 48.0
    right = width - max(len(name) for name in names) * TEXT * BOLD - 10
    spans = frame[[y, low, high]].to_numpy(dtype=float)
    place_x, ticks_x = axis_of(float(frame[x].min()), float(frame[x].max()), left, right, width, log_x)
    ticks_x = with_room(ticks_x, place_x)
    place_y, ticks_y = axis_of(float(np.nanmin(spans)), float(np.nanmax(spans)), height - BOTTOM, TOP, width, log_y)
    parts = _axes((place_x, ticks_x), (place_y, ticks_y), (left, right, height), x_axis, y_axis, form)
    ends = []
    for colour, name in zip(COLOURS, names, strict=False):
        own = frame[(frame[series] == name) & frame[y].notna()].sort_values(x)
        if own.empty:
            continue
        xs = [place_x(number) for number in own[x]]
        ys, floors, tops = ([place_y(number) for number in own[side]] for side in (y, low, high))
        if low != y and own[[low, high]].notna().all(axis=None):
            parts.append(_band(xs, floors, tops, colour))
        parts.append(_path(xs, ys, colour))
        ends.append((place_y(float(own[y].iloc[-1])), name, colour))
    placed = _apart(ends, TEXT + 3)
    lift = max(0.0, placed[-1][0] - (height - BOTTOM)) if placed else 0.0  # names below the axis move up together
    for height_of, name, colour in placed:
        parts.append(_text(right + 8, height_of + 4 - lift, name, colour=colour, weight="600"))
    return _canvas(width, height, parts)


def _names_of_lines(frame: pd.DataFrame, series: str) -> list[str]:
    names = list(dict.fromkeys(frame[series]))
    if len(names) > len(COLOURS):
        raise ValueError(f"{len(names)} lines in one panel; {len(COLOURS)} is the most that can be read")
    return names


def _axes(x: Axis, y: Axis, edges: tuple[float, float, float], x_axis: str, y_axis: str, form: str) -> list[str]:
    """The grid, its numbers and what the axes show; ``edges``: left and right of the panel, height of the canvas."""
    left, right, height = edges
    parts = [_line(left, y[0](tick), right, y[0](tick), GRID) for tick in y[1]]
    parts += [_text(left - 6, y[0](tick) + 4, f"{tick:g}", anchor="end", colour=MUTED) for tick in y[1]]
    below = height - BOTTOM + 16
    parts += [_text(x[0](tick), below, format(tick, form), anchor="middle", colour=MUTED) for tick in x[1]]
    parts.append(_text((left + right) / 2, height - 8, x_axis, anchor="middle", colour=MUTED))
    return [*parts, _text(0, 14, y_axis, colour=MUTED)]


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
    form: str = "g",
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
    parts = _axes((place_x, ticks_x), (place_y, ticks_y), (left, right, height), x_axis, y_axis, form)
    marks = []
    for number, row in enumerate(own.to_dict("records")):
        colour = COLOURS[number % len(COLOURS)]
        at = [(place_x(row[a]), place_y(row[b])) for a, b in ((x, y), (ring_x, ring_y)) if not _absent(row[a] + row[b])]
        if len(at) == 2:
            parts.append(_line(*at[0], *at[1], colour, 0.7))
        if not _absent(row[ring_x] + row[ring_y]):
            parts.append(_circle(*at[-1], 5, colour, hollow=True))
        if not _absent(row[x] + row[y]):
            if not _absent(row[sides[0]]):
                parts.append(_line(place_x(row[sides[0]]), at[0][1], place_x(row[sides[1]]), at[0][1], colour, 2))
            if not _absent(row[sides[2]]):
                parts.append(_line(at[0][0], place_y(row[sides[2]]), at[0][0], place_y(row[sides[3]]), colour, 2))
            parts.append(_circle(*at[0], 4, colour))
        marks += [(*point, str(row[label]), colour) for point in at[:1]]
    return _canvas(width, height, [*parts, *_beside(marks, left, width, TOP, height - BOTTOM)])


def _beside(
    marks: Sequence[tuple[float, float, str, str]], left: float, width: float, top: float, floor: float
) -> list[str]:
    """A name for each mark, between ``left`` and ``width``, to its right or left, moved up or down until it covers no
    other name or mark."""
    taken = [(x - 5, x + 5, y) for x, y, _, _ in marks]
    parts = []
    for x, y, name, colour in sorted(marks, key=lambda mark: mark[1]):
        if len(name) * TEXT * BOLD > width - left - 20:
            name = name.partition(" (")[0]
        long = len(name) * TEXT * BOLD
        start = x + 9 if x + 9 + long < width else max(left, x - 9 - long)
        tries = [y + step * sign * 4.0 for step in range(80) for sign in (1, -1)]
        for at in tries:
            free = all(abs(at - other) >= LINE or start + long < a or start > b for a, b, other in taken)
            if free and top <= at <= floor:
                break
        taken.append((start, start + long, at))
        if abs(at - y) > LINE / 2:
            parts.append(_line(x, y, start if start > x else start + long, at, colour, 0.7))
        side = ("start", start) if start > x else ("end", start + long)
        parts.append(_text(side[1], at + 4, name, anchor=side[0], colour=colour, weight="600"))
    return parts


def lanes(frame: pd.DataFrame, width: int, *, lane: str, name: str, tie: str, last: str) -> str:
    """Sequences of small boxes, one lane for each, under its title; the box where ``last`` holds is filled. Boxes with
    the same ``tie`` in a lane share a line below them."""
    lanes_of = [(str(title), rows) for title, rows in frame.groupby(lane, sort=False)]
    most = max(len(rows) for _, rows in lanes_of)
    step = min(84.0, (width - 2) / most)
    box, parts, y = step - 6, [], 0.0
    for title, rows in lanes_of:
        parts.append(_text(0, y + 15, title, weight="600"))
        y += 23
        previous: tuple[Any, float] | None = None
        for index, row in enumerate(rows.to_dict("records")):
            x = 1 + index * step
            fill, ink = ("var(--chart-1,#0064a6)", "var(--chart-ground,#fff)") if row[last] else ("none", INK)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{box:.1f}" height="30" rx="4" style="fill:{fill};stroke:{INK}"/>'
            )
            parts.append(_text(x + box / 2, y + 20, str(row[name]), anchor="middle", colour=ink, weight="600"))
            if previous is not None and previous[0] == row[tie]:
                parts.append(_line(previous[1], y + 36, x + box, y + 36, "var(--chart-2,#c24a00)", 3))
            previous = (row[tie], x)
        y += 52
    return _canvas(width, y, parts)


_DASHES = ("", "6 4", "2 3", "8 3 2 3")


def panels(
    frame: pd.DataFrame,
    width: int,
    *,
    panel: str,
    x: str,
    y: str,
    series: str | None = None,
    low: str = "low",
    high: str = "high",
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

    Raises:
        ValueError: more than six lines in a panel.
    """
    frame = frame[frame[y].notna() & frame[x].notna()]
    names = _names_of_lines(frame, series) if series else [""]
    titles = list(dict.fromkeys(frame[panel]))
    across = columns[0] if width > 500 else columns[1]
    step, left, gap = width / across, 56.0, 16.0
    words = {title: textwrap.wrap(str(title), int((step - gap) / (TEXT * 0.62))) for title in titles}
    head, body = LINE * max(map(len, words.values())) + 4, 120.0
    parts, y0 = _key(names, width) if series else ([], 0.0)
    low, high = (name if name in frame else y for name in (low, high))
    shared = _span(frame, y, low, high, top)
    for index, title in enumerate(titles):
        own = frame[frame[panel] == title]
        x0, upper = (index % across) * step, y0 + (index // across) * (head + body + 30)
        lower, start, stop = upper + head + body, x0 + left, x0 + step - gap
        parts += [_text(x0, upper + 12 + LINE * i, line, weight="600") for i, line in enumerate(words[title])]
        floor, ceiling = _span(own, y, low, high, top) if free_y else shared
        place_y, ticks_y = inner_scale(floor, ceiling, lower - 4, upper + head + 6)
        across_all = frame if share_x else own
        first, last = widened(float(across_all[x].min()), float(across_all[x].max()), log_x)
        ends = (first, last, start + 6, stop - 6)
        place_x, ticks_x = (
            log_scale(*ends, 0, (1,) if last >= 100 * first else (1, 2, 5)) if log_x else inner_scale(*ends)
        )
        ticks_x = with_room(ticks_x, place_x)
        parts += [_line(start, place_y(tick), stop, place_y(tick), GRID) for tick in ticks_y]
        parts += [_text(start - 5, place_y(tick) + 4, f"{tick:.5g}", anchor="end", colour=MUTED) for tick in ticks_y]
        parts += [_text(place_x(tick), lower + 14, f"{tick:g}", anchor="middle", colour=MUTED) for tick in ticks_x]
        for number, name in enumerate(names):
            rows = own[own[series] == name] if series else own
            if len(rows):
                parts += _panel_line(
                    rows.sort_values(x), (x, y, low, high), place_x, place_y, number, name in marks, top
                )
    bottom = y0 + -(-len(titles) // across) * (head + body + 30)
    if x_axis:
        parts.append(_text(width / 2, bottom + 6, x_axis, anchor="middle", colour=MUTED))
    return _canvas(width, bottom + (12 if x_axis else 0), parts)


def _panel_line(
    rows: pd.DataFrame,
    columns: tuple[str, str, str, str],
    place_x: Place,
    place_y: Place,
    number: int,
    marks: bool,
    top: float,
) -> list[str]:
    colour, dash = COLOURS[number], _DASHES[number % len(_DASHES)]
    xs = [place_x(value) for value in rows[columns[0]]]
    ys, floors, tops = ([place_y(min(value, top)) for value in rows[name]] for name in columns[1:])
    parts = []
    if marks:
        parts += [_line(a, b, a, c, colour, 2) for a, b, c in zip(xs, floors, tops, strict=True)]
    else:
        if columns[2] != columns[1]:
            parts.append(_band(xs, floors, tops, colour))
        parts.append(_path(xs, ys, colour, f'stroke-dasharray="{dash}" '))
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
        sample = _line(x, y - 4, x + 24, y - 4, COLOURS[number], 3)
        parts.append(sample.replace("<line ", f'<line stroke-dasharray="{dash}" ', 1))
        parts.append(_text(x + 30, y, name, colour=COLOURS[number], weight="600"))
        x += long + 16
    return parts, y + 14


def _span(frame: pd.DataFrame, y: str, low: str, high: str, top: float) -> tuple[float, float]:
    numbers = np.minimum(frame[[y, low, high]].to_numpy(dtype=float), top)
    return widened(float(np.nanmin(numbers)), float(np.nanmax(numbers)), False)


KINDS: dict[str, Callable[..., str]] = {
    "dots": dots,
    "lines": lines,
    "scatter": scatter,
    "lanes": lanes,
    "panels": panels,
}


def _canvas(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:.0f}" width="{width:g}" height="{height:.0f}" role="img" '
        f'font-size="{TEXT}" font-family="inherit">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" style="fill:{colour}">'
        f"{escape(words)}</text>"
    )


def _points(xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _path(xs: Sequence[float], ys: Sequence[float], colour: str, dash: str = "") -> str:
    return f'<polyline points="{_points(xs, ys)}" stroke-width="2" {dash}style="fill:none;stroke:{colour}"/>'


def _band(xs: Sequence[float], floors: Sequence[float], tops: Sequence[float], colour: str) -> str:
    edge = _points([*xs, *xs[::-1]], [*tops, *floors[::-1]])
    return f'<polygon points="{edge}" style="fill:{colour}" opacity="0.25"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, thickness: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{colour}" '
        f'stroke-width="{thickness:g}"/>'
    )


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


def _absent(number: Any) -> bool:
    return number is None or (isinstance(number, float) and math.isnan(number))

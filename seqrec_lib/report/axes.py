"""Scales and ticks of charts: from numbers to pixels, and round numbers to write on an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

TEXT, LINE = 12.5, 15  # pixels: size of text, height of a line
LETTER = 0.64  # width of a letter, in its size: an estimate for what must fit; a browser checks the result
Place = Callable[[float], float]
Axis = tuple[Place, list[float]]  # where a number stands, and the ticks


def widened(low: float, high: float, log: bool) -> tuple[float, float]:
    """Ends with room around a single number."""
    if low < high:
        return low, high
    return (low / 1.5, high * 1.5) if log else (low - 0.5, high + 0.5)


def axis(low: float, high: float, start: float, stop: float, width: float, log: bool) -> Axis:
    """A scale from ``low`` at ``start`` to ``high`` at ``stop``, and ticks at round numbers."""
    low, high = widened(low, high, log)
    if not log:
        return linear_scale(low, high, start, stop, width)
    place, ticks = log_scale(low, high, start, stop, width)
    return (place, ticks) if len(ticks) > 2 else log_scale(low, high, start, stop, width, range(1, 10))


def linear_scale(low: float, high: float, left: float, right: float, width: float) -> Axis:
    """A linear scale, and ticks at round numbers; fewer where there is less room."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = max((high - low) / (6 if width > 500 else 3), 1e-9)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    low = math.floor(low / step + 1e-9) * step
    ticks = [float(f"{low + i * step:.10g}") for i in range(int((high - low) / step + 1e-9) + 1)]
    return (lambda number: left + (number - low) / (high - low) * (right - left)), ticks


def with_room(ticks: Sequence[float], place: Place) -> list[float]:
    """Of the ticks of a horizontal axis all, every second, ...: the most whose numbers stand apart."""
    for every in range(1, len(ticks)):
        kept = ticks[::every]
        wide = [len(f"{tick:,g}") * TEXT * LETTER for tick in kept]
        pairs = zip(kept, kept[1:], wide, wide[1:], strict=False)
        if all(abs(place(b) - place(a)) >= (wide_a + wide_b) / 2 + 8 for a, b, wide_a, wide_b in pairs):
            return list(kept)
    return list(ticks[:1])


def inner_scale(low: float, high: float, start: float, stop: float) -> Axis:
    """A linear scale from ``low`` at ``start`` to ``high`` at ``stop``, with two to five ticks at round numbers."""
    rough = (high - low) / 2.5
    power = 10 ** math.floor(math.log10(rough))
    step = max(factor * power for factor in (0.5, 1, 2, 5) if factor * power <= rough * (1 + 1e-9))
    ticks = [float(f"{i * step:.10g}") for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return (lambda number: start + (number - low) / (high - low) * (stop - start)), ticks


def log_scale(
    low: float, high: float, start: float, stop: float, width: float, digits: Sequence[int] = (1, 2, 5)
) -> Axis:
    """A log scale from ``low`` at ``start`` to ``high`` at ``stop``, and its ticks, some 40 pixels apart at least."""
    a, b = math.log10(low), math.log10(high)
    candidates = [factor * 10.0**power for power in range(math.floor(a), math.ceil(b) + 1) for factor in digits]
    inside = [tick for tick in candidates if low * 0.999 <= tick <= high * 1.001]

    def place(number: float) -> float:
        return start + (math.log10(number) - a) / (b - a) * (stop - start)

    ticks: list[float] = []
    for tick in inside:
        if not ticks or abs(place(tick) - place(ticks[-1])) >= (48 if width > 500 else 40):
            ticks.append(tick)
    return place, ticks

"""Clocks for a CPU and a GPU, and the peak of memory while something runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Clock:
    """Wall clock of the host. ``mark`` gives seconds; differences of marks are durations."""

    def mark(self) -> float:
        """Now."""
        return time.perf_counter()

    def device_seconds(self) -> float | None:
        """Seconds from the first to the last mark since the previous call, on the device's own clock; None: none."""
        return None


class CudaClock(Clock):
    """Waits for the GPU before it reads the wall clock, and records a CUDA event at the same places."""

    def __init__(self) -> None:
        self._events: list[Any] = []

    def mark(self) -> float:
        """Now, with all work on the GPU done."""
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)
        torch.cuda.synchronize()
        return time.perf_counter()

    def device_seconds(self) -> float | None:
        """As the base class, from CUDA events."""
        first, last = self._events[0], self._events[-1]
        self._events = []
        return float(first.elapsed_time(last)) / 1e3


def clock_of(device: str) -> Clock:
    """The clock for a device: "cpu" or "cuda"."""
    return CudaClock() if device == "cuda" else Clock()


def peak_memory(action: Callable[[], Any], device: str) -> int | None:
    """Bytes by which memory rose at its highest while ``action`` ran; None where the system does not tell.

    On a GPU what torch allocated; on Linux the resident set, whose high-water mark is reset first.
    """
    if device == "cuda":
        import torch

        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        action()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        action()
        return max(0, _status("VmHWM") - before)
    except (OSError, KeyError):
        action()
        return None


def _status(name: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)

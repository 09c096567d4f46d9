"""The workers' side of the benchmarks beside other packages: work when told to, report, wait for the next turn.

A worker reads its settings (one JSON object) from the command line and prepares its data and model.
To train, it then calls :meth:`Turns.step` after every optimizer step. The first step warms up and is not timed. Each
line on its input is the length of a turn, as a clock (wall | cpu) and seconds on it; at the first step beyond it, one
JSON line with what the turn achieved goes to its output.
To recommend, it calls :func:`answer`, once. Each line on its input is a turn: which way, and the users of each request.
Standard library only: it runs in the environments of the other packages too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

# Whatever the packages print goes to the error stream: the output carries reports only.
_REPORTS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

_BEGAN = time.perf_counter()


def settings() -> dict[str, Any]:
    """The settings that train_speed.py put on the command line, which is emptied: some packages read it too."""
    values = json.loads(sys.argv[1])
    del sys.argv[1:]
    return values


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Stopwatch:
    """Seconds since this process began, on a clock (wall | cpu); while it is paused, none pass."""

    def __init__(self, clock: str) -> None:
        self.now = time.process_time if clock == "cpu" else time.perf_counter
        self.began = 0.0 if clock == "cpu" else _BEGAN

    def seconds(self) -> float:
        """So far."""
        return self.now() - self.began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, the watch stands still."""
        before = self.now()
        yield
        self.began += self.now() - before


class Turns:
    """Counts and times steps, turn by turn. ``facts`` go to the benchmark's record once the worker is warm."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.seconds = 0.0  # length of the turn; 0 until the first step is done
        self.clock = "wall"
        self.counts = [0, 0, 0, 0]
        self.wall = self.cpu = 0.0

    def step(self, targets: int, positions: int, tokens: int) -> None:
        """One optimizer step is done: trained ``targets``, on ``positions`` of which ``tokens`` were not padding."""
        if self.seconds == 0.0:
            self._wait(self.facts | {"prepare_seconds": time.perf_counter() - _BEGAN})
            return
        self.counts = [x + y for x, y in zip(self.counts, (1, targets, positions, tokens), strict=True)]
        clocks = {"wall": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}
        if clocks[self.clock] >= self.seconds:
            names = ("steps", "targets", "positions", "tokens")
            report = clocks | dict(zip(names, self.counts, strict=True))
            self._wait(report | {"peak_memory_bytes": peak_memory()})

    def _wait(self, report: dict[str, Any]) -> None:
        """Send a report; come back with a new turn. The process ends here when the benchmark is over."""
        send(report)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # in the middle of someone else's training loop: no tidier way out is common to all
        self.clock, seconds = line.split()
        self.seconds = float(seconds)
        self.counts = [0, 0, 0, 0]
        self.wall, self.cpu = time.perf_counter(), time.process_time()


Way = Callable[[list[int]], Sequence[Sequence[Any]]]


def answer(ways: Mapping[str, Way], k: int, **facts: Any) -> None:
    """Report ``facts``, then take turns until the input ends. Users are counted from 0.

    Args:
        ways: by name, what gives the k items of each user of a request.
        k: how many items a user gets.

    Raises:
        ValueError: a way gives another number of lists, or of items.
    """
    for name, way in ways.items():
        for users in ([0], [1, 2, 3], [4]):  # warms up
            lengths = [len(items) for items in way(users)]
            if lengths != [k] * len(users):
                raise ValueError(f"{name} gave {lengths} items to {len(users)} users; {k} for each were asked for")
    send(facts | {"prepare_seconds": time.perf_counter() - _BEGAN})
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    for line in sys.stdin:
        turn = json.loads(line)
        way, now = ways[turn["way"]], clocks[turn["clock"]]
        seconds: list[float] = []
        for users in turn["requests"]:
            began = now()
            way(users)
            seconds.append(now() - began)
        send({"seconds": seconds, "peak_memory_bytes": peak_memory()})


def send(report: Mapping[str, Any]) -> None:
    """One JSON line for the benchmark."""
    _REPORTS.write(json.dumps(report) + "\n")

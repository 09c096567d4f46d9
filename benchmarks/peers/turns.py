"""The workers' side of the training benchmark: train when told to, report, wait for the next turn.

A worker reads its settings (one JSON object) from the command line, prepares its data and model, and calls
:meth:`Turns.step` after every optimizer step. The first step warms up and is not timed. Each line on its input is the
length of a turn, as a clock (wall | cpu) and seconds on it; at the first step beyond it, one JSON line with what the
turn achieved goes to its output.
Standard library only: it runs in the environments of the other packages too.
"""

from __future__ import annotations

import json
import os
import sys
import time
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


class Turns:
    """Counts and times steps, turn by turn. ``facts`` go to the benchmark's record once the worker is warm."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.seconds = 0.0  # length of the turn; 0 until the first step is done

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
        _REPORTS.write(json.dumps(report) + "\n")
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # in the middle of someone else's training loop: no tidier way out is common to all
        self.clock, seconds = line.split()
        self.seconds = float(seconds)
        self.counts = [0, 0, 0, 0]
        self.wall, self.cpu = time.perf_counter(), time.process_time()

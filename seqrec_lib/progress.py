"""Progress of runs: one line rewritten in place in a terminal and in a notebook, plain lines anywhere else.

A notebook gets a single display that is updated, so that an executed copy keeps one short summary and no
widget. Where a notebook is executed by `seqrec study`, the lines also go to the file named in
SEQREC_PROGRESS, which the study shows to its user: papermill itself shows nothing of a cell before it ends.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any

from seqrec_lib.terminal import escape

INTERVAL = 0.2  # seconds between two updates of a line that is rewritten in place
RARELY = 300.0  # seconds between two lines on how far a run is, where lines stay
KINDS = ("read", "run", "failed", "not run")


class Reporter:
    """Shows what `seqrec_lib.experiments.base.execute` does; a context manager.

    Args:
        enabled: False shows nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.counts: Counter[str] = Counter()
        self._notebook = enabled and in_notebook()
        self._terminal = enabled and not self._notebook and sys.stderr.isatty()
        self._file = os.environ.get("SEQREC_PROGRESS") if enabled else None
        self._label = ""
        self._shown = self._share = self._from = 0.0
        self._since: float | None = None
        self._lines: list[str] = []
        self._handle: Any = None
        self._status: Any = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if self.counts.keys() - {"read"}:
            self.line(self.summary())
        elif self._notebook and self.counts:
            self._display([self.summary()])

    def summary(self) -> str:
        """Such as "9 runs: 7 read, 2 run"; without the time, so that reading again gives the same text."""
        total = sum(self.counts.values())
        parts = [f"{self.counts[kind]} {kind}" for kind in KINDS if self.counts[kind]]
        return f"{total} run{'' if total == 1 else 's'}: {', '.join(parts) or 'nothing to do'}"

    def count(self, kind: str) -> None:
        """Count one run as one of `KINDS`."""
        self.counts[kind] += 1

    def start(self, label: str) -> None:
        """A run begins."""
        self._label, self._shown = label, 0.0 if self._terminal or self._notebook else time.perf_counter()
        self._since, self._share = None, 0.0
        self._pass(label, passing=True)

    def report(self, text: str) -> None:
        """How far the present run is, in one line."""
        self._pass(f"{self._label}: {text}", passing=True)

    def report_share(self, share: float, text: str) -> None:
        """How far the present run is, as often as one likes; where lines stay, one appears every `RARELY`.

        The time left is judged by what was done since the share began to grow: a run that goes on from a checkpoint, or
        comes to another part of its work, begins anew.
        """
        present, live = time.perf_counter(), self._terminal or self._notebook
        if share < self._share or self._since is None:
            self._since, self._from = present, share
        self._share = share
        if not self.enabled or present - self._shown < (INTERVAL if live else RARELY):
            return
        self._shown = present
        done = share - self._from
        left = (present - self._since) * (1 - share) / done if done > 0 else None
        text = f"{self._label}: {text}, {share:.0%}" + (f", {duration(left)} left" if left is not None else "")
        self._pass(text, passing=True, filed=not live)

    def line(self, text: str) -> None:
        """A line that stays."""
        self._stop()
        self._pass(text, passing=False)

    def _pass(self, text: str, *, passing: bool, filed: bool = True) -> None:
        if not self.enabled:
            return
        text = escape(text)
        if self._file and filed:
            with open(self._file, "a", encoding="utf-8") as stream:
                stream.write(f"{text}\n")
        if self._notebook:
            self._display([*self._lines, text])
            if not passing:
                self._lines.append(text)
        elif self._terminal and passing:
            self._rewrite(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def _rewrite(self, text: str) -> None:
        from rich.console import Console
        from rich.status import Status
        from rich.text import Text

        if self._status is None:
            self._status = Status("", console=Console(stderr=True))
            self._status.start()
        self._status.update(Text(text))

    def _display(self, lines: list[str]) -> None:
        from IPython.display import display

        data = {"text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def duration(seconds: float) -> str:
    """Seconds as people say them: "0.4 s", "12 min 3 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{seconds:.1f} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")

"""What the training loop says to those that listen, and gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seqrec_lib.train.recipes import Precision

Loop = Literal["auto", "ordinary", "resident", "graphs"]


@dataclass
class Progress:
    """What a listener of :func:`train` hears after each optimizer step, or, where steps are replayed on a GPU, about
    once a second; ``epoch_entry`` is set when an epoch ended.

    step, steps: batches used and batches of the epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    epoch_entry: dict[str, float] | None = None

    @property
    def share(self) -> float:
        """Of all epochs, what is done."""
        return (self.epoch - 1 + self.step / self.steps) / self.epochs

    def __str__(self) -> str:
        return f"epoch {self.epoch}/{self.epochs}, loss {self.loss:.3f}"


@dataclass
class TrainingResult:
    """history: one dict per epoch; best_epoch, best_valid: of the kept weights; seconds: of training proper, without
    validation; samples: targets trained; precision, loop: those that were used."""

    history: list[dict[str, float]]
    best_epoch: int
    best_valid: float
    seconds: float
    samples: int
    precision: Precision
    loop: Loop


def rounded(history: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """A history with six significant digits: records are small and are read by people."""
    return [{k: int(v) if k == "epoch" else float(f"{v:.6g}") for k, v in entry.items()} for entry in history]

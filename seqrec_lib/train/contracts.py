"""What the training loop says to those that listen, asks of those that decide, and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

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


class BatchRule(Protocol):
    """Decides, step by step, how many batches an optimizer step sums over (see ``seqrec_lib.optim``)."""

    @property
    def micro_batches(self) -> int:
        """Batches of the next step, at least 1; an epoch's last step takes what is left."""
        ...

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradient is there and clipped; the parameters have not moved yet."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The parameters have moved; the gradient is still there."""

    def end_epoch(self) -> None:
        """An epoch has ended."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a checkpoint keeps."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


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

    def rounded(self) -> list[dict[str, Any]]:
        """The history with six significant digits: records are small and are read by people."""
        return [
            {key: int(value) if key == "epoch" else float(f"{value:.6g}") for key, value in entry.items()}
            for entry in self.history
        ]

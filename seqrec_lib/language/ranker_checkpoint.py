"""What tuning a ranker needs to go on after a kill, in one file: its place, its random state, the tuned weights.

Only weights that are trained are kept, so that the file of a model with adapters is as small as they are. Like that of
`seqrec_lib.train.checkpoint` it is always whole, and one from elsewhere cannot run code.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.train import checkpoint

if TYPE_CHECKING:
    from torch import nn

SECONDS = 60.0  # between two writings


@dataclass
class Place:
    """How far tuning is: finished steps, sums over the examples of the epoch under way, entries of finished epochs."""

    step: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    history: list[dict[str, Any]] = field(default_factory=list)


class RankerCheckpoint:
    """Saves and restores tuning; without a path it does neither.

    Args:
        path: the file.
        identity: plain values that define the tuning; a file of another one is refused.
    """

    def __init__(
        self, path: Path | None, identity: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.path, self.identity, self.optimizer = path, identity, optimizer
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.saved = time.monotonic()

    def save(self, place: Place, *, due: bool = True) -> None:
        """Write the file; with ``due=False`` only if the last writing is long ago."""
        if self.path is None or not (due or time.monotonic() - self.saved > SECONDS):
            return
        payload = {
            "identity": self.identity,
            "place": vars(place),
            "weights": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
        }
        checkpoint.write(self.path, payload)
        self.saved = time.monotonic()

    def load(self) -> Place:
        """The saved place, with weights, optimizer and random state restored; a fresh one if there is no file.

        Raises:
            SeqRecError: the file is none of ours, or of another tuning.
        """
        if self.path is None or not self.path.exists():
            return Place()
        payload = checkpoint.read(self.path)
        if payload["identity"] != self.identity:
            raise SeqRecError(f"{self.path} was written by another tuning; delete its folder to start afresh")
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(payload["weights"][name])
        self.optimizer.load_state_dict(payload["optimizer"])
        checkpoint.restore_random(payload)
        return Place(**payload["place"])

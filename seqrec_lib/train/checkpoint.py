"""What a training run needs to go on after a kill: its place, its random state, its weights, all in one file.

The file is written to a temporary name, synced and renamed, so it is always whole. It is read back as tensors and
plain values (``weights_only=True``): a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqrec_lib.errors import SeqRecError
from seqrec_lib.train.recipes import TrainingConfig

if TYPE_CHECKING:
    from seqrec_lib.train.loop import BatchRule


def write(path: Path, payload: dict[str, Any]) -> None:
    """Save tensors and plain values, with the state of the random numbers, in one step: the file is always whole."""
    random = {
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    with open(partial, "wb") as file:
        torch.save(payload | random, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read(path: Path) -> dict[str, Any]:
    """What `write` saved, on the CPU.

    Raises:
        SeqRecError: the file is no such checkpoint.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise SeqRecError(f"{path} is not a checkpoint ({reason}); delete it to start afresh") from None


def restore_random(payload: dict[str, Any]) -> None:
    """Take the random numbers up where `write` left them."""
    torch.set_rng_state(payload["random"])
    if payload["random_cuda"]:
        torch.cuda.set_rng_state_all(payload["random_cuda"])


class WeightAverage:
    """Exponential moving average of the weights, started without bias: decay = min(average, (1 + t) / (10 + t))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters: list[Tensor] = list(model.parameters())
        self.values = [p.detach().clone() for p in self.parameters]

    def share(self, step: int) -> float:
        """How far step ``step``, from 1, moves the average towards the weights: 1 - decay."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        torch._foreach_lerp_(self.values, self.parameters, self.share(step))

    @torch.no_grad()
    def blend(self, share: Tensor) -> None:
        """As `update`, by a share that lies on the device, (): reading it would wait."""
        change = torch._foreach_sub(self.parameters, self.values)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(self.values, change)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights with the averages."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            keep = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(keep)


@dataclass
class TrainingState:
    """Everything that a checkpoint holds beside tensors of model and optimizer."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch under way
    total_steps: int = 0
    total_samples: int = 0
    loss_sum: Any = 0.0  # a 0-dim tensor on the device: reading it would synchronise
    targets: int = 0
    positions: int = 0
    epoch_seconds: float = 0.0
    flops: float = 0.0  # per padded position, forward and backward
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_valid: float = -1.0
    since_best: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def finished(self, config: TrainingConfig) -> bool:
        return self.epoch >= config.epochs or self.since_best >= config.patience > 0

    def mean_loss(self) -> float:
        return float(self.loss_sum) / max(self.targets, 1)

    def end_epoch(self, padding: float, rate: float) -> dict[str, float]:
        entry = {
            "epoch": float(self.epoch + 1),
            "loss": self.mean_loss(),
            "seconds": self.epoch_seconds,
            "samples_per_second": self.targets / self.epoch_seconds,
            "padding": padding,
            "matmul_fraction": self.flops * self.positions / self.epoch_seconds / rate,
        }
        self.history.append(entry)
        self.total_samples += self.targets
        self.epoch += 1
        self.step, self.loss_sum, self.targets, self.positions, self.epoch_seconds = 0, 0.0, 0, 0, 0.0
        return entry


class Checkpoint:
    """Saves and restores a run; tensors and plain values only, read back without unpickling objects."""

    def __init__(
        self,
        path: Path,
        config: TrainingConfig,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        batch_rule: BatchRule | None = None,
    ) -> None:
        self.path, self.config = path, config
        self.model, self.optimizer, self.average, self.batch_rule = model, optimizer, average, batch_rule

    def save(self, state: TrainingState) -> None:
        values = {field.name: getattr(state, field.name) for field in fields(TrainingState)}
        payload = {
            "config": asdict(self.config),
            "state": values | {"loss_sum": float(state.loss_sum)},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values if self.average else [],
            "batch_rule": self.batch_rule.state_dict() if self.batch_rule else {},
        }
        write(self.path, payload)

    def load(self) -> TrainingState:
        """The saved state, with model, optimizer and random state restored; a fresh state if there is none."""
        if not self.path.exists():
            return TrainingState()
        payload = read(self.path)
        saved = TrainingConfig(**payload["config"])
        epochs = self.config.epochs if self.config.schedule == "constant" else saved.epochs  # else they shape the rate
        if replace(saved, epochs=epochs, patience=self.config.patience) != self.config:
            raise SeqRecError(f"{self.path} was written by another configuration; delete its folder to start afresh")
        self.model.load_state_dict(payload["model"])
        self.optimizer.load_state_dict(payload["optimizer"])
        if self.average:
            for value, loaded in zip(self.average.values, payload["average"], strict=True):
                value.copy_(loaded)
        if self.batch_rule:
            self.batch_rule.load_state_dict(payload["batch_rule"])
        restore_random(payload)
        return TrainingState(**payload["state"])

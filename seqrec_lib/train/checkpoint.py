"""What a run needs to go on after a kill: its place, its random state, its tensors, all in one file with a checksum.

A file is what `torch.save` writes, followed by the 32 bytes of its SHA-256: PyTorch does not check what it reads. It is
written to a temporary name, synced and renamed; the file that it replaces stays as ``<name>.previous`` until the next
one is written. So a kill at any moment leaves a whole file, and a damaged one costs what was done since the one before.
Tensors and plain values only (``weights_only=True``): a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from seqrec_lib.checksums import append_sum, ends_in_sum
from seqrec_lib.errors import SeqRecError
from seqrec_lib.train.recipes import TrainingConfig

VALIDATION_METRIC = "ndcg@10"
CONTENT = {"identity", "place", "parts", "random", "random_cuda"}  # of a file

P = TypeVar("P")


class Stateful(Protocol):
    """What has a state to be saved: a model, an optimizer, a batch rule, `Tensors`."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Restore what :meth:`state_dict` gave."""


class Tensors:
    """Some tensors by name, restored in place; others or other shapes are refused."""

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self.named = dict(named)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.named.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], /) -> None:
        shapes = [{name: tensor.shape for name, tensor in own.items()} for own in (state, self.named)]
        if shapes[0] != shapes[1]:
            raise ValueError("its tensors have other names or shapes")
        for name, tensor in self.named.items():
            tensor.copy_(state[name])


class Checkpoint:
    """Saves and restores a run in one file.

    Args:
        path: the file; None saves nothing and finds nothing.
        identity: plain values that define the run; a file of another run is refused.
        parts: what is saved and restored besides the run's place and the random numbers.
        seconds: time between two savings that are not due.
        report: takes a line that says so where the file is damaged and the one before is used.
    """

    def __init__(
        self,
        path: Path | None,
        identity: Mapping[str, Any],
        parts: Mapping[str, Stateful],
        *,
        seconds: float = 60.0,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path, self.identity, self.parts = path, dict(identity), parts
        self.seconds, self.report = seconds, report
        self.saved = time.monotonic()

    def save(self, place: Any, *, due: bool = True) -> None:
        """Save with ``place``, a dataclass of plain values and tensors; with ``due=False`` only after `seconds`.

        Raises:
            SeqRecError: the disk refuses. The file that was there stays.
        """
        if self.path is None or not (due or time.monotonic() - self.saved > self.seconds):
            return
        values = {own.name: getattr(place, own.name) for own in fields(place)}
        content = {
            "identity": self.identity,
            "place": {k: v.item() if isinstance(v, Tensor) and v.ndim == 0 else v for k, v in values.items()},
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        _write(self.path, content)
        self.saved = time.monotonic()

    def load(self, kind: type[P]) -> P:
        """The saved place, with parts and random numbers restored; ``kind()`` if nothing was saved.

        Raises:
            SeqRecError: there are files and none is a whole checkpoint, or the newest whole one is of another run.
        """
        path, content = self._newest()
        if path is None:
            return kind()
        try:
            if content["identity"] != self.identity:
                raise SeqRecError(f"{path} was written by another run; delete its folder to start afresh")
            for name, part in self.parts.items():
                part.load_state_dict(content["parts"][name])
            place = kind(**content["place"])
            torch.set_rng_state(content["random"])
            if content["random_cuda"]:
                torch.cuda.set_rng_state_all(content["random_cuda"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise SeqRecError(f"{path} does not fit this run ({reason}); delete its folder to start afresh") from None
        return place

    def _newest(self) -> tuple[Path | None, dict[str, Any]]:
        """The file, or the one before where the file is missing or damaged; what is damaged is removed then."""
        damaged: list[Path] = []
        for path in (self.path, previous(self.path)) if self.path is not None else ():
            try:
                content = read(path)
            except FileNotFoundError:
                continue
            except SeqRecError:
                damaged.append(path)
                continue
            for own in damaged:
                shutil.rmtree(own) if own.is_dir() and not own.is_symlink() else own.unlink()
                self.report(f"{own} was damaged and is deleted; going on from the checkpoint before it")
            return path, content
        if damaged:
            names = " and ".join(map(str, damaged))
            raise SeqRecError(f"{names} is not a checkpoint, or a damaged one; delete it to start afresh")
        return None, {}


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at ``path`` lies."""
    return path.with_name(f"{path.name}.previous")


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU: identity, place, parts, random, random_cuda.

    Raises:
        FileNotFoundError: there is no such file.
        SeqRecError: it is not a checkpoint, or not what was written.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(path)
    if path.is_file():  # a pipe would be waited for
        with suppress(Exception), path.open("rb") as file:  # of what PyTorch cannot read it has many errors
            if ends_in_sum(file):
                content = torch.load(file, map_location="cpu", weights_only=True)
                if isinstance(content, dict) and content.keys() == CONTENT:
                    return content
    raise SeqRecError(f"{path} is not a checkpoint, or a damaged one; delete it to start afresh")


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")  # one name: what a kill leaves is overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w+b") as file:
            torch.save(content, file)
            append_sum(file)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.replace(path, previous(path))  # from here to the next line, it is the only one
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise SeqRecError(f"cannot write {path}: {error.strerror or error}; free space, then repeat") from None


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
    loss_sum: Any = 0.0  # a tensor on the device, () or (k,) with sums of more: reading it would synchronise
    targets: int = 0
    positions: int = 0
    epoch_seconds: float = 0.0
    flops: float = 0.0  # per position as a part counts them, forward and backward
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_valid: float = -1.0
    since_best: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def finished(self, config: TrainingConfig) -> bool:
        return self.epoch >= config.epochs or self.since_best >= config.patience > 0

    def could_be_of(self, config: TrainingConfig) -> bool:
        """Whether a run of ``config`` passes here: so it is only if no other ``epochs``, ``validate_every`` or
        ``patience`` would have ended it before, or validated after other epochs."""
        best, since = -1.0, 0
        for epoch, entry in enumerate(self.history, 1):
            value = entry.get(f"valid_{VALIDATION_METRIC}")
            due = epoch % config.validate_every == 0 or epoch == config.epochs
            if epoch > config.epochs or since >= config.patience > 0 or due != (value is not None):
                return False
            if value is not None:
                best, since = (value, 0) if value > best else (best, since + 1)
        return not (self.step and self.finished(config))

    def mean_loss(self) -> float:
        return self.means()[0]

    def means(self) -> list[float]:
        """The means so far of what is summed in this epoch, the loss first."""
        sums: list[float] = torch.as_tensor(self.loss_sum, dtype=torch.float64).reshape(-1).tolist()
        return [total / max(self.targets, 1) for total in sums]

    def end_epoch(self, **measures: float) -> dict[str, float]:
        entry = {"epoch": float(self.epoch + 1), "loss": self.mean_loss(), "seconds": self.epoch_seconds} | measures
        self.history.append(entry)
        self.total_samples += self.targets
        self.epoch += 1
        self.step, self.loss_sum, self.targets, self.positions, self.epoch_seconds = 0, 0.0, 0, 0, 0.0
        return entry

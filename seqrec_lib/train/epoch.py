"""An epoch of optimizer steps: the one loop in which recommenders and the rankers of candidates are trained.

A step sums over one or several batches, and its gradient is that of the mean over all its targets. The caller says what
a batch holds, what its loss is, and when a checkpoint is due.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seqrec_lib.train.checkpoint import TrainingState, WeightAverage
from seqrec_lib.train.processes import seed_step, sum_over_processes

if TYPE_CHECKING:
    from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize


class Batches(ABC):
    """An epoch's batches: indices of what is trained on.

    Attributes:
        step_ends: in rising order, the batches after the last ones of optimizer steps; None: the caller decides.
    """

    batches: Sequence[np.ndarray]
    step_ends: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def end_of_step(self, first: int, batches: int) -> int:
        """The batch after the last one of the optimizer step that begins with batch ``first``."""
        if self.step_ends is not None:
            return int(self.step_ends[np.searchsorted(self.step_ends, first, side="right")])
        return min(first + batches, len(self))

    @abstractmethod
    def n_targets(self, step: int) -> int:
        """Targets of a batch, those of all processes."""

    @abstractmethod
    def load(self, step: int) -> Any:
        """This process's part of a batch, with the numbers of its targets (``n``) and ``positions``; None: no part."""


def train_epoch(
    batches: Batches,
    state: TrainingState,
    loss_of: Callable[[Any], Tensor],
    optimizer: torch.optim.Optimizer,
    base_rates: Sequence[float],
    *,
    factor: Callable[[int, float], float],
    clip: float,
    look: Callable[[], None],
    device: torch.device,
    seed: int = 0,
    processes: Accelerator | None = None,
    average: WeightAverage | None = None,
    batch_rule: AdaptiveBatchSize | None = None,
) -> None:
    """Take the steps that are left of the epoch under way, and count in ``state`` what they trained.

    Args:
        loss_of: the mean loss over the targets of a part, (), or (k,) with what else is averaged behind the loss, which
            several processes do not do.
        base_rates, factor: of each group of the optimizer, times a factor of the steps and the epochs done.
        clip: largest norm of the gradient; 0: any. look: called after every step.
        seed, processes: the random numbers of each of several processes that share a step.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state.loss_sum = torch.as_tensor(state.loss_sum, dtype=torch.float64, device=device)
    while state.step < len(batches):
        stop = batches.end_of_step(state.step, batch_rule.micro_batches if batch_rule else 1)
        steps = range(state.step, stop)
        n_targets = sum(map(batches.n_targets, steps))
        scale = factor(state.total_steps, state.epoch + state.step / len(batches))
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * scale
        if processes is not None:
            seed_step(seed, state.total_steps, processes.process_index)
        sums = [torch.zeros((), dtype=torch.float64, device=device)] * len(steps)  # over the targets of each part
        for index, part in enumerate([batches.load(step) for step in steps]):
            if part is None:
                continue
            with FlopCounterMode(display=False) if state.flops == 0 else nullcontext() as counter:
                values = loss_of(part)
                (values.flatten()[0] * (part.n / n_targets)).backward()
            if counter is not None:
                state.flops = counter.get_total_flops() / part.positions
            sums[index] = values.detach().double() * part.n
            state.positions += part.positions
        if processes is not None:
            sums = list(sum_over_processes(processes, parameters, torch.stack(sums)))
        for of_part in sums:
            state.loss_sum = state.loss_sum + of_part
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        if batch_rule is not None:
            batch_rule.before_step(optimizer)
        optimizer.step()
        if batch_rule is not None:
            batch_rule.after_step(optimizer)
        optimizer.zero_grad()
        state.step = stop
        state.total_steps += 1
        state.targets += n_targets
        if average is not None:
            average.update(state.total_steps)
        look()

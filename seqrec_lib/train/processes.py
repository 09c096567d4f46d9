"""Several processes that take one step together, each on its share of the step's windows.

The loss of a step is the sum over all targets divided by their global number. A process computes the part of its own
windows, and the parts and their gradients are added up: so the step is that of one process up to the order of sums, and
optimizer, rule of batches and averages, which every process keeps for itself, decide alike everywhere. Only a sampled
softmax differs: each process estimates it from the targets of its own windows and from items that it draws.

A batch with fewer windows than processes leaves some with nothing to compute, which wrappers that reduce during the
backward pass do not allow; one sum after it also needs no care where a step has several batches.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn


def sum_over_processes(accelerator: Accelerator, parameters: Iterable[nn.Parameter], losses: Tensor) -> Tensor:
    """Replace each gradient by its sum over all processes; one that is missing counts as zeros.

    Returns:
        the sum of ``losses`` over all processes, in its shape.
    """
    trained = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    summed = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
    for p, values in zip(trained, summed.split([p.numel() for p in trained]), strict=True):
        p.grad = values.view_as(p)
    return accelerator.reduce(losses, "sum")


def seed_step(seed: int, step: int, process: int) -> None:
    """Set the random numbers of one process for one step, a function of these three alone.

    So processes draw differently, and a run that was killed draws again what it drew.
    """
    torch.manual_seed(
        int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    )

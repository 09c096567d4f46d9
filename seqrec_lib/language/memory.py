"""How many tokens a step of tuning may hold at once, so that a stated bound on memory is kept.

Each layer keeps tensors for the backward pass, so that memory grows with the tokens of a micro-batch. A probe reads the
longest prompt and adds up what autograd saved. The bound less weights, gradients, the optimizer's moments and
`OVERHEAD`, over what a token keeps, is the number of tokens.

Gradient checkpointing keeps each layer's input alone and computes the rest again: a third more work. A core of a CPU
computes prompts one by one as fast as together, so it pays only where not even the longest prompt fits otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

BOUND = 6_000_000_000  # bytes of a process on a CPU; of a GPU nine tenths of its memory
ENOUGH = 2048  # tokens at once on a CPU: more make nothing faster there
OVERHEAD = 1_000_000_000  # bytes of Python and its libraries, the data set, and what a step of the optimizer needs
GROWTH = 1.5  # of what is saved: gradients of activations, and what the allocator leaves between tensors


@dataclass(frozen=True)
class StepPlan:
    """What a micro-batch may hold.

    Attributes:
        tokens: padding included. checkpointing: of gradients. bound: bytes. kept: whether it is, by computation.
        flops: FLOP of a token, forward and backward.
    """

    tokens: int
    checkpointing: bool
    bound: int
    kept: bool
    flops: float


def plan_steps(model: Any, loss_of: Callable[[], Tensor], longest: int, bound: int | None = None) -> StepPlan:
    """What micro-batches of a model may hold.

    Args:
        model: in training, on its device. loss_of: the loss of its longest prompt, of ``longest`` tokens.
        bound: bytes; by default that of the device.
    """
    cuda = model.device.type == "cuda"
    if bound is None:
        bound = 9 * torch.cuda.get_device_properties(model.device).total_memory // 10 if cuda else BOUND
    # Weights, and gradients and Adam's two moments of those that are trained.
    weights = {p.data_ptr(): p for p in model.parameters()}.values()
    fixed = sum(p.numel() * (p.element_size() + 12 * p.requires_grad) for p in weights)
    left, most = bound - OVERHEAD - fixed, 2**31 if cuda else ENOUGH
    saved, flops = probe(model, loss_of)
    flops /= longest
    each = GROWTH * saved / longest
    if left >= each * longest:
        return StepPlan(min(int(left / each), max(most, longest)), False, bound, True, flops)
    set_checkpointing(model, True)
    layers = max(int(getattr(model.config, "num_hidden_layers", 1)), 1)
    try:
        inputs, _ = probe(model, loss_of)
    finally:
        set_checkpointing(model, False)
    least = GROWTH * (inputs + saved / layers) / longest  # of one layer at a time, everything
    tokens = max(min(int(left / least), most), longest)
    return StepPlan(tokens, True, bound, left >= least * longest, flops)


def set_checkpointing(model: Any, on: bool) -> None:
    """Switch gradient checkpointing on or off; adapters, or a body frozen below them, do not mind."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    with warnings.catch_warnings():  # transformers is renaming its own methods
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        if on:
            inner.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            inner.gradient_checkpointing_disable()


def probe(model: Any, loss_of: Callable[[], Tensor]) -> tuple[int, float]:
    """(bytes that autograd saves for a loss, FLOP of it forward and backward). Draws and gradients leave no trace."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}
    alive = []  # a storage that was freed could come back under its address

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss_of()
        loss.backward()
    model.zero_grad(set_to_none=True)
    return sum(seen.values()), float(counter.get_total_flops())

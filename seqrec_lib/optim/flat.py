"""A parameter group as one vector: the buffers that vector methods such as USGM compute with.

Each buffer is a single tensor with a view for each parameter, so that a dot product or a norm of the whole group is one
operation, whatever the number of parameters, and copies from and to the parameters are foreach operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError


class FlatGroup:
    """Named flat buffers and 0-dim scalars of a group, on its device, in float32 (float64 for float64 parameters).

    Attributes:
        parameters, names: of the group, in order.
        scalars: 0-dim tensors by name; flags: plain values by name.
        steps: finished steps.
    """

    def __init__(self, parameters: Sequence[Tensor], names: Sequence[str] | None = None) -> None:
        self.parameters = list(parameters)
        self.names = list(names) if names is not None else [f"number {i}" for i in range(len(self.parameters))]
        devices = sorted({str(p.device) for p in self.parameters})
        if len(devices) != 1:
            raise SeqRecError(f"a group's parameters are on {', '.join(devices)}; make a group for each device")
        for name, p in zip(self.names, self.parameters, strict=True):
            if not p.is_floating_point():
                raise SeqRecError(f"parameter {name} is {p.dtype}; only real floating-point parameters can be trained")
        self.device = self.parameters[0].device
        self.dtype = torch.float64 if any(p.dtype == torch.float64 for p in self.parameters) else torch.float32
        self.scalars: dict[str, Tensor] = {}
        self.flags: dict[str, bool] = {}
        self.steps = 0
        self.first_bad = torch.full((), -1, device=self.device)  # number of the first parameter with a bad gradient
        self._buffers: dict[str, Tensor] = {}
        self._views: dict[str, list[Tensor]] = {}

    def __getitem__(self, name: str) -> Tensor:
        """The buffer ``name``, shape (number of weights,)."""
        return self._buffers[name]

    @property
    def checks_each_step(self) -> bool:
        """Whether reading a value costs nothing: on a CPU."""
        return self.device.type == "cpu"

    def scalar(self, value: float) -> Tensor:
        """A 0-dim tensor beside the buffers."""
        return torch.full((), value, device=self.device, dtype=self.dtype)

    def allocate(self, *names: str) -> None:
        """Make buffers of zeros."""
        sizes = [p.numel() for p in self.parameters]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        for name in names:
            buffer = torch.zeros(sum(sizes), device=self.device, dtype=self.dtype)
            self._buffers[name] = buffer
            self._views[name] = [
                buffer.narrow(0, start, p.numel()).view(p.shape)
                for start, p in zip(starts, self.parameters, strict=True)
            ]

    def buffers(self) -> dict[str, list[Tensor]]:
        """Every buffer as views in the parameters' shapes."""
        return self._views

    def swap(self, a: str, b: str) -> None:
        """Exchange two buffers' names."""
        self._buffers[a], self._buffers[b] = self._buffers[b], self._buffers[a]
        self._views[a], self._views[b] = self._views[b], self._views[a]

    @torch.no_grad()
    def load_gradients(self, name: str) -> Tensor:
        """Copy the gradients into a buffer; a parameter without one counts as zero."""
        gradients = [p.grad for p in self.parameters]
        for label, gradient in zip(self.names, gradients, strict=True):
            if gradient is not None and gradient.is_sparse:
                raise SeqRecError(f"the gradient of parameter {label} is sparse; use dense gradients")
        views = self._views[name]
        if any(gradient is None for gradient in gradients):
            self._buffers[name].zero_()
            views = [view for view, gradient in zip(views, gradients, strict=True) if gradient is not None]
        present = [gradient for gradient in gradients if gradient is not None]
        if present:
            torch._foreach_copy_(views, present)
        return self._buffers[name]

    def finite(self, gradient: Tensor) -> Usable:
        """Look whether the gradient is finite: at once on a CPU, else as a tensor that the step is multiplied with."""
        if not self.checks_each_step:
            self._note_bad()
            gradient.nan_to_num_(0.0, 0.0, 0.0)
            return Usable(self.first_bad < 0, torch.dot(gradient, gradient))
        squared = torch.dot(gradient, gradient)
        if not math.isfinite(float(squared)):
            self._note_bad()
            raise_not_finite(self)
        return Usable(None, squared)

    def _note_bad(self) -> None:
        """Remember the first parameter whose gradient is not finite (or too large to be squared)."""
        norms = torch.stack(torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])).to(self.dtype)
        numbers = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        bad = ~torch.isfinite(norms**2)
        first = torch.tensor(numbers, device=self.device)[bad.to(torch.uint8).argmax()]
        self.first_bad = torch.where((self.first_bad < 0) & bad.any(), first, self.first_bad)

    def move(self, direction: Tensor, scale: Tensor, scratch: str) -> None:
        """parameters += scale * direction; ``direction`` is a buffer's tensor, ``scratch`` names another one."""
        name = next(name for name, buffer in self._buffers.items() if buffer is direction)
        if self.checks_each_step:  # reading the scale is free, and saves a pass
            torch._foreach_add_(self.parameters, self._views[name], alpha=float(scale))
        else:
            torch.mul(direction, scale, out=self._buffers[scratch])
            torch._foreach_add_(self.parameters, self._views[scratch])

    @torch.no_grad()
    def load_parameters(self, name: str) -> Tensor:
        """Copy the parameters into a buffer."""
        torch._foreach_copy_(self._views[name], self.parameters)
        return self._buffers[name]

    @torch.no_grad()
    def store_parameters(self, name: str) -> None:
        """Copy a buffer into the parameters."""
        torch._foreach_copy_(self.parameters, self._views[name])


class Usable:
    """Whether a step counts: always (None), or by a tensor that only the device knows; squared: <g, g>."""

    def __init__(self, flag: Tensor | None, squared: Tensor) -> None:
        self.flag, self.squared = flag, squared

    def keep(self, value: Tensor) -> Tensor:
        """``value`` where the step counts, else 0."""
        return value if self.flag is None else torch.where(self.flag, value, torch.zeros_like(value))


def raise_not_finite(flat: FlatGroup) -> None:
    """Raise SeqRecError, naming the parameter, if a gradient of the group was not finite; waits for the device."""
    first = int(flat.first_bad)
    if first >= 0:
        flat.first_bad.fill_(-1)
        raise SeqRecError(
            f"the gradient of parameter {flat.names[first]} is not finite (or its square overflows) after "
            f"{flat.steps} steps; clip gradients, lower lr, or look for the cause in the loss"
        )


def store_group(state: MutableMapping[Tensor, Any], flat: FlatGroup) -> None:
    """Put buffers and scalars where ``Optimizer.state_dict`` finds them."""
    for index, parameter in enumerate(flat.parameters):
        state[parameter] = {name: views[index] for name, views in flat.buffers().items() if name != "spare"}
    state[flat.parameters[0]] |= {"scalars": dict(flat.scalars), "flags": flat.flags, "steps": flat.steps}


def restore_group(flat: FlatGroup, saved: Sequence[Mapping[str, Any]]) -> None:
    """The inverse of :func:`store_group`, from the plain state of each parameter; nothing where it is empty."""
    if not saved or "steps" not in saved[0]:
        return
    for index, values in enumerate(saved):
        for name, views in flat.buffers().items():
            if name != "spare":
                views[index].copy_(values[name])
    flat.scalars = {name: value.to(flat.scalar(0.0)) for name, value in saved[0]["scalars"].items()}
    flat.flags = dict(saved[0]["flags"])
    flat.steps = int(saved[0]["steps"])


def check_number(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> None:
    """Raise SeqRecError unless ``value`` is a number for which ``holds`` is true (NaN never is)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not holds(value):
        raise SeqRecError(f"{name} is {value!r}; expected a number {expected}")

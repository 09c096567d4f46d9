"""USGM, the universal stochastic gradient method (Rodomanov et al. 2024; the paper's Algorithm 1), for PyTorch.

    x_{k+1} = argmin_{x in dom f} { <g_k, x> + (H_k / 2) ||x - x_k||^2 }
    H_{k+1} = H_k + [beta_{k+1} - (1/2) H_k r_{k+1}^2]_+ / (D^2 + (1/2) r_{k+1}^2)

One call of ``step`` sees the gradient g_{k+1} at the point reached by the step before. It first updates H from that
step's outcome, then takes the next one. The method has no schedule: H grows while consecutive gradients disagree by
more than the model of the last step allowed, and stands still otherwise. It never falls. The theory's rates hold for
the mean of the iterates, which a caller keeps who wants them.

Glossary:
    g      stochastic gradient; u the direction of a step; d = x_{k+1} - x_k, which is -u / H without projection
    H      inverse step size, starts at 1 / lr
    D      bound on the distance to a solution (the diameter of the domain)
    r      ||x_{k+1} - x_k||
    beta   <g_{k+1} - g_k, x_{k+1} - x_k>, written beta_hat in the book

By hand, f(x) = (x_1^2 + 4 x_2^2) / 2, so g = (x_1, 4 x_2); x_0 = (1, 1), lr = 1 (H_0 = 1), D = 1:

    g_0 = (1, 4)     x_1 = x_0 - g_0 / H_0 = (0, -3)      r^2 = 1 + 16 = 17
    g_1 = (0, -12)   beta = (-1)(-1) + (-16)(-4) = 65     H_1 = 1 + (65 - 17/2) / (1 + 17/2) = 6.947368...
                     x_2 = (0, -3 + 12 / H_1)

>>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
>>> optimizer = UniversalSGM([x], lr=1.0, D=1.0)
>>> for _ in range(2):
...     x.grad = torch.tensor([1.0, 4.0], dtype=torch.float64) * x.detach()
...     optimizer.step()
>>> round(float(optimizer.H), 6)
6.947368
>>> [round(value, 6) for value in x.tolist()]                      # -3 + 12 / 6.947368
[0.0, -1.272727]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError
from seqrec_lib.optim.flat import FlatGroup, check_number, raise_not_finite, restore_group, store_group

Norm = Literal["euclidean", "adam"]
_SCALARS = ("H", "D", "scale", "gradient_step", "r2", "beta")


class UniversalSGM(torch.optim.Optimizer):
    """Algorithm 1. Each parameter group is a vector of its own, with its own H.

    Args:
        params: parameters or groups; names (``model.named_parameters()``) make better error messages.
        lr: lr0; H_0 = 1 / lr0. ``math.inf`` is the literal H_0 = 0: the first step goes to the edge of the domain, so
            it needs ``radius``. What ``lr`` becomes after the first step has no effect: the method sets its own rate.
        D: bound on the distance between the start and a solution, in the norm of the method.
        radius: the domain is the ball of this radius around the starting point; None: the whole space. The trial point
            is projected, so that gradients are taken inside.
        norm: "euclidean", or "adam": ||x||^2 = sum b x^2 with b = sqrt(v) + eps from Adam's second moment v, and Adam's
            first moment in place of g in the step. H then starts as Adam with learning rate lr.
        betas, eps: of norm "adam".
        check_every: on an accelerator, steps between two looks at whether all gradients were finite: each look waits
            for the device. On a CPU every step is checked.

    Sums, norms and H are float32 also for bfloat16 and float16 parameters, and float64 for float64 ones.

    Raises:
        SeqRecError: a setting is out of range, lr is infinite without radius, or radius comes with norm "adam". From
            ``step``: a gradient that is not finite, by the parameter's name. On a CPU nothing has moved then. On an
            accelerator nothing has moved since, and the error comes with the next look.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        *,
        D: float = 10.0,
        radius: float | None = None,
        norm: Norm = "euclidean",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        check_every: int = 100,
    ) -> None:
        self.check_every = check_every
        self._flat: list[FlatGroup] = []
        self._steps = 0
        settings = {"lr": lr, "D": D, "radius": radius, "norm": norm, "betas": betas, "eps": eps}
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its settings are checked."""
        super().add_param_group(param_group)
        _check(self.param_groups[-1])

    @property
    def H(self) -> Tensor:
        """Inverse step size of the first group: a 0-dim tensor on the device (reading it waits for the device)."""
        return self._group(0).scalars["H"]

    @property
    def D(self) -> Tensor:
        """Bound on the distance of the first group; `ProbingUSGM` measures it."""
        return self._group(0).scalars["D"]

    @property
    def r(self) -> Tensor:
        """Length of the first group's last step, in the norm of the method."""
        return self._group(0).scalars["r2"].sqrt()

    @property
    def beta_hat(self) -> Tensor:
        """beta of the step before the last one: known once the gradient after it has been seen."""
        return self._group(0).scalars["beta"]

    def betas(self) -> list[Tensor]:
        """:attr:`beta_hat` of every group."""
        return [self._group(index).scalars["beta"] for index in range(len(self.param_groups))]

    def _group(self, index: int) -> FlatGroup:
        """Buffers of a group, made when first needed: by then the parameters are on their device."""
        while len(self._flat) < len(self.param_groups):
            options = self.param_groups[len(self._flat)]
            flat = FlatGroup(options["params"], options.get("param_names"))
            flat.allocate("direction", "spare")
            if options["radius"] is not None:
                flat.allocate("offset")  # x_k - x_0
            if options["norm"] == "adam":
                flat.allocate("first", "second")
            flat.scalars = {name: flat.scalar(0.0) for name in _SCALARS}
            flat.scalars["H"] = flat.scalar(1.0 / options["lr"])
            flat.scalars["D"] = flat.scalar(options["D"])
            self._flat.append(flat)
        return self._flat[index]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update H from the last step's outcome, then take the next step. Returns the closure's value, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index in range(len(self.param_groups)):
            self._step_group(self._group(index), self.param_groups[index])
        self._steps += 1
        if self._steps % self.check_every == 0:
            self.check_finite()
        return loss

    def check_finite(self) -> None:
        """Raise SeqRecError if a gradient was not finite, naming its parameter; waits for the device."""
        for flat in self._flat:
            raise_not_finite(flat)

    def _step_group(self, flat: FlatGroup, options: dict[str, Any]) -> None:
        s = flat.scalars
        u = flat["direction"]
        g = flat.load_gradients("spare")
        usable = flat.finite(g)  # on a CPU: raises instead, before anything has changed

        # Outcome of the last step, d = scale * u. Before the first one scale = r2 = 0, and H stays as it is.
        s["beta"] = s["scale"] * torch.dot(g, u) - s["gradient_step"]
        excess = (s["beta"] - 0.5 * s["H"] * s["r2"]).clamp(min=0.0)
        s["H"] = s["H"] + usable.keep(excess / (s["D"] ** 2 + 0.5 * s["r2"]))

        if options["norm"] == "adam":
            u, squared = self._adam_direction(flat, g, options, flat["direction"])
            inner = torch.dot(g, u)
        else:
            flat.swap("direction", "spare")  # the gradient is the direction; the old one is free
            u = g
            squared = inner = usable.squared
        if options["radius"] is None:
            s["scale"] = usable.keep(-1.0 / s["H"])
            s["r2"] = s["scale"] ** 2 * squared
            s["gradient_step"] = s["scale"] * inner
            flat.move(u, s["scale"], "spare")
        else:
            self._projected_step(flat, float(options["radius"]))
        flat.steps += 1

    @staticmethod
    def _adam_direction(flat: FlatGroup, g: Tensor, options: dict[str, Any], b: Tensor) -> tuple[Tensor, Tensor]:
        """u = B^-1 m and ||u||_B^2, with B = diag(sqrt(v) + eps) and both moments freed of their start at zero.

        ``b`` takes B's diagonal; it may be u's own buffer, which is then overwritten.
        """
        (beta1, beta2), t = options["betas"], flat.steps + 1
        m, v, u = flat["first"], flat["second"], flat["direction"]
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        torch.sqrt(v, out=b).mul_((1 - beta2**t) ** -0.5).add_(options["eps"])
        torch.div(m, b, out=u).mul_(1 / (1 - beta1**t))
        return u, torch.dot(m, u) / (1 - beta1**t)

    @staticmethod
    def _projected_step(flat: FlatGroup, radius: float) -> None:
        """x_0 + the projection of x_k - x_0 - g / H; with H = 0 the edge of the ball in the direction -g."""
        s, g, z = flat.scalars, flat["direction"], flat["offset"]
        whole = s["H"] == 0
        trial = torch.add(z * (~whole), g * torch.where(whole, -1.0, -1.0 / s["H"]), out=flat["spare"])
        length = torch.linalg.vector_norm(trial)
        shrink = torch.where(whole | (length > radius), radius / length, 1.0)
        moves = torch.isfinite(shrink)  # not where H = 0 meets a gradient of zero
        d = trial.mul_(torch.where(moves, shrink, 0.0)).sub_(z * moves)
        s["gradient_step"] = torch.dot(g, d)
        s["r2"] = torch.dot(d, d)
        s["scale"] = torch.ones_like(s["H"])
        z.add_(d)
        flat.swap("direction", "spare")  # d is the direction now
        flat.move(d, s["scale"], "spare")

    def state_dict(self) -> dict[str, Any]:
        """As every optimizer's; the vectors lie under their parameters, H and its like under a group's first one.

        Raises:
            SeqRecError: a gradient was not finite (a checkpoint of it would be worthless).
        """
        self.check_finite()
        for flat in self._flat:
            store_group(self.state, flat)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, H and vectors in their own precision, on the parameters' device."""
        super().load_state_dict(state_dict)
        self.state.clear()
        self._flat = []
        for index, saved in enumerate(state_dict["param_groups"]):
            flat = self._group(index)
            restore_group(flat, [state_dict["state"].get(number, {}) for number in saved["params"]])
        self._steps = max((flat.steps for flat in self._flat), default=0)


def _check(group: dict[str, Any]) -> None:
    """Refuse settings that the method cannot work with."""
    check_number("D", group["D"], "above 0", lambda x: 0 < x < math.inf)
    check_number("lr", group["lr"], "above 0 (math.inf for H_0 = 0)", lambda x: x > 0)
    check_number("eps", group["eps"], "above 0", lambda x: 0 < x < math.inf)
    if group["norm"] not in ("euclidean", "adam"):
        raise SeqRecError(f"norm is {group['norm']!r}; use euclidean or adam")
    betas: Sequence[float] = group["betas"]
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise SeqRecError(f"betas is {betas!r}; give two numbers from 0 to below 1")
    if group["radius"] is None:
        if math.isinf(group["lr"]):
            raise SeqRecError("lr is infinite (H_0 = 0): the first step goes to the domain's edge; give its radius")
        return
    check_number("radius", group["radius"], "above 0 or None", lambda x: 0 < x < math.inf)
    if group["norm"] == "adam":
        raise SeqRecError("radius with norm 'adam' is not supported: the ball would change with B; use radius=None")

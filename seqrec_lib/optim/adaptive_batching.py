"""Adaptive batching (the paper's section 3.6): how many batches of size B_0 an optimizer step sums over.

The paper takes the bound beta_{k+1} <= L_nu r^(1+nu) + sigma r / sqrt(B) (its eq. 2.1) as an equality

    F(B) = c1 + c2 / sqrt(B) ~ beta_{k+1}

and fits c1 and c2 by least squares with weights (1 - alpha)^(K - k) (eq. 2.2). While the second term, the noise,
outweighs the first, B grows by B_0 a step; where they are equal, B stays until the epoch's end; then B is divided by
lambda, so that it can grow again.

Rule "paper" makes the crossing precise: B grows while c1 < c2 / sqrt(B), and while there is no line yet (fewer than two
different B). beta_{k+1} is paired with B_k, the batch whose noise moved the parameters: the noise of g_{k+1} is
independent of that step and drops out of the mean.

Rule "noise" asks the same question of quantities that can answer it. Two consecutive gradients come from disjoint
batches, so that with trace(Sigma) the variance of the gradient of one batch of size B_0 and m the number of batches

    E <g_{k+1}, g_k> ~ <f'(x_{k+1}), f'(x_k)>                                   the signal, S
    E |g_{k+1} - g_k|^2 = trace(Sigma) (1 / m_k + 1 / m_{k+1}) + |f'(x_{k+1}) - f'(x_k)|^2      the noise, N, after
                                                                       division by the bracket

and B grows while N / m > share * S, with N and S as averages that forget like eq. 2.2. At ``share`` = 1 that is the
noise scale of McCandlish et al. (2018): a step of that size makes half the progress of a noiseless one, and a
sample half of what it makes in a small batch. Neither side needs the step's length, H or lr. (The signal is
approximate as x_{k+1} holds the noise of g_k: with curvature L it misses -(L / H) trace(Sigma) / m_k.)

Glossary: m micro-batches in a step, B = m B_0; alpha forgetting; lambda_ the divisor at an epoch's end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError
from seqrec_lib.optim.flat import FlatGroup, check_number
from seqrec_lib.optim.usgm import UniversalSGM

Batch = TypeVar("Batch")
Rule = Literal["paper", "noise", "fixed"]


@dataclass
class WeightedLine:
    """The line y = intercept + slope x by weighted least squares, updated in O(1) with each point.

    A point's weight falls by (1 - alpha) with each later one. Kept as weighted means and centred sums, which do not
    cancel as sums of squares would.

    >>> line = WeightedLine(alpha=0.5)
    >>> for x, y in ((1.0, 3.0), (0.5, 2.0), (0.25, 1.5)):      # on y = 1 + 2 x
    ...     line.add(x, y)
    >>> line.coefficients()
    (1.0, 2.0)
    """

    alpha: float = 0.01
    weight: float = 0.0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def add(self, x: float, y: float) -> None:
        """Take in a point; one that is not finite is left out."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        keep = 1.0 - self.alpha
        self.weight = keep * self.weight + 1.0
        before = x - self.mean_x
        self.mean_x += before / self.weight
        self.mean_y += (y - self.mean_y) / self.weight
        self.xx = keep * self.xx + before * (x - self.mean_x)
        self.xy = keep * self.xy + before * (y - self.mean_y)

    def coefficients(self) -> tuple[float, float] | None:
        """(intercept, slope); None before two different x (told apart at 1e-9 of their mean's square)."""
        if self.xx <= 1e-9 * self.weight * self.mean_x**2:
            return None
        slope = self.xy / self.xx
        return self.mean_y - slope * self.mean_x, slope


@dataclass
class Observation:
    """What one pair of consecutive steps showed; ``micro_batches`` is m_k, of the earlier one."""

    micro_batches: int
    beta: float
    signal: float
    noise: float


class AdaptiveBatchSize:
    """A batch rule for :func:`seqrec_lib.train.loop.train` and for plain loops over a DataLoader.

        rule = AdaptiveBatchSize(rule="noise")
        for parts in rule.steps(loader):                 # a list of the loader's own batches, nothing is copied
            for x, y in parts:
                (loss(model(x), y) * len(y) / sum(len(y) for _, y in parts)).backward()
            rule.before_step(optimizer)
            optimizer.step()
            rule.after_step(optimizer)
            optimizer.zero_grad()

    It works with any optimizer: from gradients and parameters it computes beta itself, and takes it from
    :class:`UniversalSGM` where that has it. A decision needs numbers on the host, so each step waits for the device.

    Args:
        rule: "paper", "noise", or "fixed" (m stays at ``start``; what the others look at is still recorded).
        start: micro-batches of the first step.
        alpha: forgetting of eq. 2.2 (the paper's 0.01), and of the averages of rule "noise".
        lambda_: what B is divided by at an epoch's end; rounded down to a whole number of batches, at least one.
        share: of rule "noise": the noise in a step's squared gradient that is tolerated, in units of the signal.

    Raises:
        SeqRecError: a setting is out of range.
    """

    def __init__(
        self,
        rule: Rule = "paper",
        *,
        start: int = 1,
        alpha: float = 0.01,
        lambda_: float = 2.0,
        share: float = 1.0,
    ) -> None:
        if rule not in ("paper", "noise", "fixed"):
            raise SeqRecError(f"rule is {rule!r}; use paper, noise or fixed")
        check_number("alpha", alpha, "above 0 and below 1", lambda x: 0 < x < 1)
        check_number("lambda_", lambda_, "at least 1", lambda x: 1 <= x < math.inf)
        check_number("share", share, "above 0", lambda x: 0 < x < math.inf)
        if type(start) is not int or start < 1:
            raise SeqRecError(f"start is {start!r}; expected a whole number of micro-batches from 1")
        self.rule, self.alpha, self.lambda_, self.share = rule, alpha, lambda_, share
        self.m = start
        self.plateau = False
        self.line = WeightedLine(alpha)
        self.signal = 0.0  # both are sums of alpha (1 - alpha)^age; their ratio needs no correction for the start
        self.noise = 0.0
        self.observed: Observation | None = None
        self._undo: dict[str, Any] | None = None
        self._last_m = 0  # of the step before; 0: there is none to pair with
        self._groups: list[FlatGroup] = []
        self._saved: list[dict[str, Tensor]] = []  # loaded, and not yet in a group's buffers
        self._pending: list[list[Tensor]] = []

    @property
    def micro_batches(self) -> int:
        """m: batches of size B_0 in the next step; an epoch's last step takes what is left."""
        return self.m

    @property
    def coefficients(self) -> tuple[float, float] | None:
        """(c1, c2) of eq. 2.2, None before two different B."""
        return self.line.coefficients()

    def steps(self, loader: Iterable[Batch]) -> Iterator[list[Batch]]:
        """The batches of one epoch, as many for each step as the rule asks for, and the epoch's end."""
        parts: list[Batch] = []
        for batch in loader:
            parts.append(batch)
            if len(parts) >= self.m:
                yield parts
                parts = []
        if parts:
            yield parts
        self.end_epoch()

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Compare the gradient with the step before, and keep what the next comparison needs."""
        inner = _unwrapped(optimizer)
        own_beta = self.rule != "noise" and not isinstance(inner, UniversalSGM)
        for index, flat in enumerate(self._flat(inner, own_beta)):
            g, before = flat.load_gradients("spare"), flat["gradient"]
            change = before.neg_().add_(g)  # the old gradient is not needed any more, but for the dot product below
            # <g', g> = (<g', g'> - <g' - g, g'>): one buffer serves both
            self._pending[index] = [torch.dot(change, change), torch.dot(g, g) - torch.dot(change, g)]
            if own_beta:
                self._pending[index].append(torch.dot(change, flat["displacement"]))
                torch._foreach_copy_(flat.buffers()["displacement"], flat.parameters)
            flat.swap("gradient", "spare")

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take in what the pair of steps showed, and decide on the next step's m."""
        inner = _unwrapped(optimizer)
        groups = self._flat(inner, False)
        for flat in groups:
            if "displacement" in flat.buffers():  # x_{k+1} - x_k
                torch._foreach_sub_(flat.buffers()["displacement"], flat.parameters)
                flat["displacement"].neg_()
        if self._last_m:
            squared, signal, *beta = (float(sum(each)) for each in zip(*self._pending, strict=True))
            if isinstance(inner, UniversalSGM):
                beta = [float(sum(inner.betas()))]
            noise = squared / (1 / self._last_m + 1 / self.m)
            self._take(Observation(self._last_m, beta[0] if beta else 0.0, signal, noise))
        self._last_m = self.m
        self._decide()

    def _take(self, seen: Observation) -> None:
        self._undo = asdict(self.line) | {"signal": self.signal, "noise": self.noise}
        self.observed = seen
        self.line.add(1 / math.sqrt(seen.micro_batches), seen.beta)
        if math.isfinite(seen.signal) and math.isfinite(seen.noise):
            self.signal += self.alpha * (seen.signal - self.signal)
            self.noise += self.alpha * (seen.noise - self.noise)

    def _decide(self) -> None:
        """Grow by one batch, or settle on the plateau until the epoch's end."""
        if self.rule == "fixed" or self.plateau:
            return
        if self.rule == "paper":
            line = self.coefficients
            grow = line is None or line[0] < line[1] / math.sqrt(self.m)
        else:
            grow = self.observed is None or self.noise > self.m * self.share * self.signal
        if grow:
            self.m += 1
        else:
            self.plateau = True

    def end_epoch(self) -> None:
        """Divide B by lambda and leave the plateau.

        The epoch's last step had what was left of the data, perhaps fewer batches than m, which only the loop knows:
        what it showed is taken back, and it is not paired with the next epoch's first step.
        """
        if self._undo is not None:
            self.signal, self.noise = self._undo.pop("signal"), self._undo.pop("noise")
            self.line = WeightedLine(**self._undo)
            self._undo = None
        self._last_m = 0
        self.plateau = False
        if self.rule != "fixed":
            self.m = max(1, math.floor(self.m / self.lambda_ + 1e-9))

    def _flat(self, optimizer: torch.optim.Optimizer, displacement: bool) -> list[FlatGroup]:
        if not self._groups:
            for options in optimizer.param_groups:
                flat = FlatGroup(options["params"], options.get("param_names"))
                flat.allocate("gradient", "spare")
                if displacement:
                    flat.allocate("displacement")
                self._groups.append(flat)
            self._pending = [[] for _ in self._groups]
            for flat, saved in zip(self._groups, self._saved, strict=False):
                for name, values in saved.items():
                    flat[name].copy_(values)
            self._saved = []
        return self._groups

    def state_dict(self) -> dict[str, Any]:
        """Plain values and the last gradient (and displacement), by group."""
        return {
            "m": self.m,
            "plateau": self.plateau,
            "line": asdict(self.line),
            "signal": self.signal,
            "noise": self.noise,
            "observed": asdict(self.observed) if self.observed else None,
            "undo": self._undo,
            "last_m": self._last_m,
            "groups": [{name: flat[name] for name in flat.buffers() if name != "spare"} for flat in self._groups]
            or self._saved,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; the settings are the constructor's."""
        self.m, self.plateau = state["m"], state["plateau"]
        self.line = WeightedLine(**state["line"])
        self.signal, self.noise = state["signal"], state["noise"]
        self.observed = Observation(**state["observed"]) if state["observed"] else None
        self._undo, self._last_m = state["undo"], state["last_m"]
        self._groups, self._saved = [], list(state["groups"])


def _unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer itself where Accelerate has wrapped it."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer

"""The probing variant: what it measures on problems where the answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqrec_lib.errors import SeqRecError
from seqrec_lib.optim.probing import ProbingUSGM


class Quadratic:
    """f(x) = scale * sum(x^2) / 2 with noisy gradients; one vector of 50 weights from x_0 = 1."""

    def __init__(self, noise: float = 0.3, scale: float = 1.0, seed: int = 0, **settings: float) -> None:
        self.rng, self.noise, self.scale = np.random.default_rng(seed), noise, scale
        self.x = nn.Parameter(torch.ones(50, dtype=torch.float64))
        self.optimizer = ProbingUSGM([self.x], **settings)

    def step(self) -> None:
        noise = torch.from_numpy(self.rng.normal(size=50))
        self.x.grad = self.scale * (self.x.detach() + self.noise * noise)
        self.optimizer.step()

    def until_settled(self, limit: int = 300) -> int:
        for k in range(limit):
            self.step()
            if not self.optimizer.probing:
                return k
        raise AssertionError("it never stopped probing")

    def loss(self) -> float:
        return float(self.x.detach().square().sum()) / 2


def test_it_returns_to_the_start_exactly_and_is_then_adam_at_a_safe_rate() -> None:
    problem = Quadratic()
    steps = problem.until_settled()
    assert torch.equal(problem.x.detach(), torch.ones(50, dtype=torch.float64))
    # The rate rose by 1.2 from each step after the first to the one before the last, then fell by `BACK`.
    assert 1 / float(problem.optimizer.H) == pytest.approx(1e-4 * 1.2 ** (steps - 1) / 8)
    H, D = float(problem.optimizer.H), float(problem.optimizer.D)
    assert D > 0

    x = nn.Parameter(torch.ones(50, dtype=torch.float64))
    adam, generator = torch.optim.Adam([x], lr=1 / H), np.random.default_rng(9)
    problem.rng = np.random.default_rng(9)
    problem.step()
    x.grad = x.detach() + 0.3 * torch.from_numpy(generator.normal(size=50))
    adam.step()
    torch.testing.assert_close(problem.x.detach(), x.detach(), rtol=1e-6, atol=1e-9)


def test_the_rate_is_as_large_as_the_way_to_the_solution_allows() -> None:
    """Every weight goes from 1 to 0, and Adam moves each by about its rate: the edge is within a factor of ten."""
    for seed in range(3):
        problem = Quadratic(seed=seed)
        problem.until_settled()
        assert 0.1 < 8 / float(problem.optimizer.H) < 10


def test_neither_the_gradients_scale_nor_a_large_lr_change_anything() -> None:
    losses = []
    changes: list[dict[str, Any]] = [{}, {"scale": 1e-3}, {"scale": 1e3}, {"lr": 1.0}, {"lr": 100.0}]
    for settings in changes:
        problem = Quadratic(**settings)
        for _ in range(150):
            problem.step()
        losses.append(problem.loss())
    assert losses == pytest.approx([losses[0]] * 5, rel=1e-3)
    assert losses[0] < 25 / 50


def test_a_tiny_lr_costs_steps_and_nothing_else() -> None:
    rates, steps = [], []
    for lr in (1e-4, 1e-7):
        problem = Quadratic(lr=lr)
        steps.append(problem.until_settled())
        rates.append(1 / float(problem.optimizer.H))
    assert steps[1] - steps[0] == pytest.approx(math.log(1e3) / math.log(1.2), abs=8)
    assert 1 / 4 < rates[0] / rates[1] < 4


def test_after_the_probe_h_follows_algorithm_1_in_adams_norm() -> None:
    problem = Quadratic(noise=1.0)
    problem.until_settled()
    H, D, previous, x0 = float(problem.optimizer.H), float(problem.optimizer.D), None, problem.x.detach().clone()
    m = v = torch.zeros(50, dtype=torch.float64)
    for t in range(1, 26):
        x = problem.x.detach().clone()
        problem.step()
        g = problem.x.grad
        if previous is not None:
            g_old, x_old, b_old = previous
            beta, r2 = float((g - g_old) @ (x - x_old)), float(b_old @ (x - x_old) ** 2)
            H += max(beta - H * r2 / 2, 0) / (D**2 * float(b_old.sum()) + r2 / 2)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        b = (v / (1 - 0.999**t)).sqrt() + 1e-8
        previous = (g, x, b)
        assert float(problem.optimizer.H) == pytest.approx(H, rel=1e-9)
        if t % 10 == 0:  # the largest distance so far, looked at every tenth step
            z = problem.x.detach() - x0
            D = max(D, math.sqrt(float(b @ z**2 / b.sum())))
            assert float(problem.optimizer.D) == pytest.approx(D, rel=1e-9)


@pytest.mark.parametrize("stop", [10, 60])  # within the probe and after it
def test_a_saved_state_goes_on_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole, first, second = Quadratic(), Quadratic(), Quadratic()
    for _ in range(90):
        whole.step()
    for _ in range(stop):
        first.step()
    torch.save(first.optimizer.state_dict(), tmp_path / "o.pt")
    second.x.data.copy_(first.x.data)
    second.rng = first.rng
    second.optimizer.load_state_dict(torch.load(tmp_path / "o.pt", weights_only=True))
    for _ in range(90 - stop):
        second.step()
    assert torch.equal(whole.x, second.x)
    assert not second.optimizer.probing


def test_a_rate_that_cannot_work_is_refused() -> None:
    with pytest.raises(SeqRecError, match="lr is inf"):
        ProbingUSGM([nn.Parameter(torch.ones(2))], math.inf)

"""The fit against numpy's least squares, the rules on gradients whose noise is known, and the training loop."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from seqrec_lib.data.sequences import WindowDataset, cut_windows
from seqrec_lib.errors import SeqRecError
from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize, WeightedLine
from seqrec_lib.optim.usgm import UniversalSGM
from seqrec_lib.train.loop import train
from tests.conftest import random_sequences
from tests.train.test_loop import CONFIG, small_model, weights


@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_the_line_is_weighted_least_squares(alpha: float) -> None:
    rng = np.random.default_rng(0)
    x = 1 / np.sqrt(rng.integers(1, 20, size=200))
    y = 1e3 + 4 * x + rng.normal(size=200)  # a large mean, where sums of squares would cancel
    line = WeightedLine(alpha)
    for k in range(200):
        line.add(x[k], y[k])
        if k < 5 or k % 40 == 39:
            root = (1 - alpha) ** (np.arange(k, -1, -1) / 2)
            design = np.stack([np.ones(k + 1), x[: k + 1]], axis=1)
            expected, _, rank, _ = np.linalg.lstsq(design * root[:, None], y[: k + 1] * root, rcond=None)
            if rank == 2:
                assert line.coefficients() == pytest.approx(tuple(expected), rel=1e-7)
            else:
                assert line.coefficients() is None


def test_a_line_needs_two_different_x_and_ignores_what_is_not_finite() -> None:
    line = WeightedLine()
    for _ in range(3):
        line.add(0.5, 2.0)
    line.add(0.7, float("nan"))
    assert line.coefficients() is None


class Stream:
    """An optimizer with one vector whose gradients are given; noise of a mean over m batches has variance 1 / m."""

    def __init__(self, rule: AdaptiveBatchSize, signal: float, n: int = 400, lr: float = 1e-3, seed: int = 0) -> None:
        self.rule, self.rng = rule, np.random.default_rng(seed)
        self.x = nn.Parameter(torch.zeros(n, dtype=torch.float64))
        self.mean = np.full(n, signal / math.sqrt(n))
        self.optimizer = torch.optim.SGD([self.x], lr=lr)

    def step(self, m: int | None = None) -> None:
        noise = self.rng.normal(size=len(self.mean)) / math.sqrt(len(self.mean) * (m or self.rule.m))
        self.x.grad = torch.from_numpy(self.mean + noise)
        self.rule.before_step(self.optimizer)
        self.optimizer.step()
        self.rule.after_step(self.optimizer)


@pytest.mark.parametrize("m", [1, 4])
def test_noise_and_signal_are_estimated_without_bias(m: int) -> None:
    """trace(Sigma) = 1 for one batch and |f'|^2 = 0.25, whatever m is: 400 pairs, so the errors are below 0.05."""
    rule = AdaptiveBatchSize("fixed", start=m, alpha=0.005)
    stream = Stream(rule, signal=0.5)
    seen = []
    for _ in range(400):
        stream.step()
        if rule.observed:
            seen.append((rule.observed.noise, rule.observed.signal))
    noise, signal = np.mean(seen, axis=0)
    assert noise == pytest.approx(1.0, rel=0.05) and signal == pytest.approx(0.25, rel=0.1)
    assert rule.noise / rule.signal == pytest.approx(4.0, rel=0.15)  # the noise scale


def test_noise_is_that_of_one_batch_also_where_the_steps_have_different_numbers() -> None:
    rule = AdaptiveBatchSize("fixed")
    stream = Stream(rule, signal=0.5)
    seen = []
    for _ in range(400):
        for m in (1, 4):
            rule.m = m
            stream.step()
            if rule.observed:
                seen.append(rule.observed.noise)
    assert np.mean(seen) == pytest.approx(1.0, rel=0.05)


def test_rule_noise_stops_at_the_noise_scale() -> None:
    """|f'|^2 = 0.1 and trace(Sigma) = 1: the noise scale is 10 batches."""
    stops = []
    for seed in range(5):
        rule = AdaptiveBatchSize("noise", alpha=0.05)
        stream = Stream(rule, signal=math.sqrt(0.1), seed=seed)
        for _ in range(40):
            stream.step()
        assert rule.plateau
        stops.append(rule.m)
    assert 7 <= np.mean(stops) <= 14


def test_rule_paper_pairs_beta_with_the_batch_of_the_step() -> None:
    """With plain SGD E beta is lr |noise|^2 / m_k = lr / m_k, of the earlier batch alone."""
    rule = AdaptiveBatchSize("fixed")
    stream = Stream(rule, signal=0.0, lr=1.0)
    found: dict[int, list[float]] = {}
    for _ in range(200):
        for m in (1, 4):
            rule.m = m
            stream.step()
            if rule.observed:
                found.setdefault(rule.observed.micro_batches, []).append(rule.observed.beta)
    assert np.mean(found[1]) == pytest.approx(1.0, rel=0.05)
    assert np.mean(found[4]) == pytest.approx(0.25, rel=0.05)


def test_rule_paper_grows_until_the_noise_term_is_no_larger() -> None:
    """beta = 1 + 3 / sqrt(m) exactly: c1 < c2 / sqrt(m) up to m = 8 and not at m = 9, where both are 1."""
    rule = AdaptiveBatchSize("paper")
    m = []
    for _ in range(15):
        m.append(rule.m)
        rule.line.add(1 / math.sqrt(rule.m), 1 + 3 / math.sqrt(rule.m))
        rule._decide()
    assert m in ([*range(1, 9), *[9] * 7], [*range(1, 10), *[10] * 6])  # equal but for rounding
    assert rule.plateau and rule.coefficients == pytest.approx((1.0, 3.0))


def test_an_epochs_end_divides_and_lets_it_grow_again() -> None:
    rule = AdaptiveBatchSize("paper", lambda_=2.0, start=7)
    rule.plateau = True
    for expected in (3, 1, 1):
        rule.end_epoch()
        assert rule.m == expected and not rule.plateau
    fixed = AdaptiveBatchSize("fixed", start=7)
    fixed.end_epoch()
    assert fixed.m == 7


def test_the_epochs_last_step_is_not_learned_from() -> None:
    """It may have had fewer batches than m; here it has a hundred times the noise."""
    rule = AdaptiveBatchSize("fixed", start=4)
    stream = Stream(rule, signal=0.5)
    for _ in range(20):
        stream.step()
    before = rule.signal, rule.noise, rule.coefficients, rule.line.weight
    stream.step(m=1)
    assert rule.line.weight != before[3]
    rule.end_epoch()
    assert (rule.signal, rule.noise, rule.coefficients, rule.line.weight) == before
    stream.step()  # the next epoch's first step has nothing before it
    assert rule.line.weight == before[3]


@pytest.mark.parametrize("norm", ["euclidean", "adam"])
def test_its_own_beta_is_usgms(norm: Any) -> None:
    """Computed from parameters and gradients alone, and taken from the optimizer's state."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    rules = [AdaptiveBatchSize("fixed"), AdaptiveBatchSize("fixed")]
    for model, rule, hidden in zip(models, rules, (False, True), strict=True):
        optimizer = UniversalSGM(model.parameters(), lr=0.1, D=1.0, norm=norm)
        seen = []
        for k in range(6):
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(k)).double()
            optimizer.zero_grad()
            (model(x) - x.sum(dim=1, keepdim=True)).square().mean().backward()
            own: Any = _Disguise(optimizer) if hidden else optimizer
            rule.before_step(own)
            optimizer.step()
            rule.after_step(own)
            seen.append(rule.observed)
        rule.seen = seen  # type: ignore[attr-defined]
    for a, b in zip(*(rule.seen[1:] for rule in rules), strict=True):  # type: ignore[attr-defined]
        assert a.beta == pytest.approx(b.beta, rel=1e-9)


class _Disguise:
    """An optimizer that is not known to be USGM."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.param_groups = inner.param_groups


def test_a_plain_loop_over_a_data_loader_needs_no_change_to_it() -> None:
    """Steps take 1, 2, 3, ... of the loader's own batches, in order, each once, and the last what is left."""
    sequences = random_sequences(0, n_users=40)
    data: Any = WindowDataset(sequences, cut_windows(sequences, 12), 12)
    loader = DataLoader(data, batch_size=3, shuffle=False)
    model = small_model(dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rule = AdaptiveBatchSize("paper", lambda_=3.0)
    inputs_seen, sizes = [], []
    for parts in rule.steps(loader):
        sizes.append(len(parts))
        n_targets = sum(int((targets > 0).sum()) for _, targets in parts)
        for inputs, targets in parts:
            inputs_seen.append(inputs)
            logits = model.hidden(inputs, (inputs > 0).sum(dim=1)) @ model.item_embedding.weight.T
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0, reduction="sum")
            (loss / n_targets).backward()
        rule.before_step(optimizer)
        optimizer.step()
        rule.after_step(optimizer)
        optimizer.zero_grad()
    assert sum(sizes) == len(loader) and sizes[:2] == [1, 2]  # no line before two different sizes
    assert torch.equal(torch.cat(inputs_seen), torch.cat([inputs for inputs, _ in loader]))
    assert rule.m <= max(sizes) // 3 + 1


class Watch(AdaptiveBatchSize):
    """Writes down the m of every step."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.sizes: list[int] = []

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.sizes.append(self.m)
        super().before_step(optimizer)


@pytest.mark.parametrize("rule", ["paper", "noise"])
def test_the_training_loop_follows_it_and_resumes_bit_for_bit(rule: str, tmp_path: Path) -> None:
    sequences = random_sequences(0, n_users=60)

    def go(folder: str, stop_after: int = 10**9) -> tuple[torch.Tensor, Watch]:
        model, batch_rule, heard = small_model(), Watch(rule, alpha=0.05), 0

        def listen(progress: object) -> None:
            nonlocal heard
            heard += 1
            if heard > stop_after:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            train(
                model,
                sequences,
                replace(CONFIG, epochs=3),
                tmp_path / folder,
                make_optimizer=lambda p: UniversalSGM(p, lr=0.3),
                batch_rule=batch_rule,
                checkpoint_seconds=0.0,
                listen=listen,
            )
        return weights(model), batch_rule

    whole, watched = go("a")
    assert watched.sizes[:3] == [1, 2, 3]
    _, first = go("b", stop_after=4)
    resumed, second = go("b")
    assert torch.equal(whole, resumed)
    assert second.state_dict()["m"] == watched.state_dict()["m"]
    assert 0 < len(second.sizes) < len(watched.sizes)
    # the step at whose end it was stopped had been saved by then or is done again
    assert first.sizes[: len(watched.sizes) - len(second.sizes)] + second.sizes == watched.sizes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "newton"}, "rule is 'newton'"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"lambda_": 0.5}, "lambda_ is 0.5; expected a number at least 1"),
        ({"start": 0}, "start is 0"),
        ({"share": -1.0}, "share is -1.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        AdaptiveBatchSize(**settings)

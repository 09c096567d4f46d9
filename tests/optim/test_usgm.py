"""USGM against Algorithm 1 written out in float64, by hand, and against the theory's rates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqrec_lib.errors import SeqRecError
from seqrec_lib.optim.flat import FlatGroup
from seqrec_lib.optim.usgm import UniversalSGM

Oracle = Callable[[np.ndarray], np.ndarray]


def algorithm_1(oracle: Oracle, x0: np.ndarray, H: float, D: float, steps: int, radius: float | None = None) -> dict:
    """Algorithm 1, literally: from x_k and x_{k+1}, without any of the optimizer's shortcuts."""
    x, g = x0.copy(), oracle(x0)
    Hs, rs, betas, xs = [H], [], [], []
    for _ in range(steps):
        if H == 0:
            assert radius is not None
            new = x0 - radius * g / np.linalg.norm(g)
        else:
            new = x - g / H
        if radius is not None and np.linalg.norm(new - x0) > radius:
            new = x0 + radius * (new - x0) / np.linalg.norm(new - x0)
        r = float(np.linalg.norm(new - x))
        g_new = oracle(new)
        beta = float((g_new - g) @ (new - x))
        H = H + max(beta - 0.5 * H * r**2, 0.0) / (D**2 + 0.5 * r**2)
        x, g = new, g_new
        Hs.append(H), rs.append(r), betas.append(beta), xs.append(x)
    return {"H": Hs, "r": rs, "beta": betas, "x": xs}


def run(oracle: Oracle, x0: np.ndarray, steps: int, split: int = 1, dtype=torch.float64, **settings) -> dict:
    """The optimizer on the same oracle, its vector cut into ``split`` parameters of one group."""
    parameters: list[torch.Tensor] = [
        nn.Parameter(torch.tensor(part, dtype=dtype)) for part in np.array_split(x0, split)
    ]
    optimizer = UniversalSGM(parameters, **settings)
    Hs, rs, betas, xs = [], [], [], []
    for _ in range(steps + 1):  # the last one only for H and beta of the step before
        x = torch.cat(parameters).detach().double().numpy()
        g = torch.from_numpy(oracle(x)).to(dtype)
        for p, part in zip(parameters, torch.tensor_split(g, split), strict=True):
            p.grad = part.clone()
        optimizer.step()
        Hs.append(float(optimizer.H)), rs.append(float(optimizer.r)), betas.append(float(optimizer.beta_hat))
        xs.append(torch.cat(parameters).detach().double().numpy().copy())
    return {"H": Hs, "r": rs[:-1], "beta": betas[1:], "x": xs[:-1], "optimizer": optimizer, "parameters": parameters}


def noisy_quadratic(seed: int, n: int = 6) -> Oracle:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A = A @ A.T / n
    return lambda x: A @ x + 0.3 * rng.normal(size=n)


@pytest.mark.parametrize("radius", [None, 1.5, 0.2])
@pytest.mark.parametrize("lr", [1.0, 0.05, 20.0])
def test_is_algorithm_1(lr: float, radius: float | None) -> None:
    x0 = np.random.default_rng(5).normal(size=6)
    expected = algorithm_1(noisy_quadratic(1), x0, 1 / lr, 2.0, 25, radius)
    got = run(noisy_quadratic(1), x0, 25, split=3, lr=lr, D=2.0, radius=radius)
    for name in ("H", "r", "beta"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["x"], expected["x"], rtol=1e-9, atol=1e-12)
    if radius is not None:
        assert max(np.linalg.norm(x - x0) for x in got["x"]) <= radius * (1 + 1e-12)


def test_h0_of_zero_steps_to_the_edge_of_the_domain() -> None:
    x0 = np.array([1.0, 0.0, 2.0])
    expected = algorithm_1(noisy_quadratic(3, 3), x0, 0.0, 1.0, 12, 0.7)
    got = run(noisy_quadratic(3, 3), x0, 12, lr=math.inf, D=1.0, radius=0.7)
    assert got["H"][0] == 0 and got["r"][0] == pytest.approx(0.7)
    np.testing.assert_allclose(got["H"], expected["H"], rtol=1e-9)
    np.testing.assert_allclose(got["x"], expected["x"], rtol=1e-9)


def test_a_gradient_of_zero_at_h0_of_zero_stays_where_it_is() -> None:
    got = run(lambda x: np.zeros(2), np.ones(2), 2, lr=math.inf, radius=1.0)
    assert (got["x"][-1] == 1).all() and got["H"][-1] == 0


def test_without_projection_h_grows_when_gradients_disagree() -> None:
    """beta - H r^2 / 2 = (|g_k|^2 / 2 - <g_{k+1}, g_k>) / H, so H grows exactly where <g', g> < |g|^2 / 2."""
    gradients = [np.array([2.0, 0.0]), np.array([1.5, 7.0]), np.array([0.5, 0.0]), np.array([0.3, 0.0])]
    stream = iter([*gradients, np.zeros(2)])
    got = run(lambda x: next(stream), np.zeros(2), 4, lr=1.0, D=1.0)
    # <g1, g0> = 3 > 2: stays; <g2, g1> = 0.75 < 25.6: grows; <g3, g2> = 0.15 > 0.125: stays; <0, g3> = 0: grows
    assert [b > a for a, b in zip(got["H"], got["H"][1:], strict=False)] == [False, True, False, True]


def test_agrees_with_adagrad_norm_where_gradients_are_orthogonal() -> None:
    """<g_{k+1}, g_k> = 0: H' = H + (|g|^2 / 2H) / (D^2 + |g|^2 / 2H^2), which for D >> r is H'^2 = H^2 + |g|^2 / D^2,
    AdaGrad-Norm's sum with step D / sqrt(sum |g|^2), up to a term of the order of r^2 / D^2."""
    rng = np.random.default_rng(0)
    gradients = [rng.uniform(0.5, 2.0) * np.eye(2)[k % 2] for k in range(2001)]
    stream, D, H0 = iter(gradients), 1.0, 50.0
    got = run(lambda x: next(stream), np.zeros(2), 2000, lr=1 / H0, D=D)
    adagrad = np.sqrt(H0**2 + np.cumsum([g @ g for g in gradients]) / D**2)
    assert got["H"][-1] > 1.2 * H0  # so that the comparison is not about H_0 alone
    np.testing.assert_allclose(got["H"][1:], adagrad[:2000], rtol=1e-3)


def gap(values: Callable[[np.ndarray], float], oracle: Oracle, x0: np.ndarray, steps: int, D: float) -> float:
    """f at the mean of the iterates, minus the least value, with D at the true distance."""
    return values(np.mean(run(oracle, x0, steps, lr=math.inf, D=D, radius=2 * D)["x"], axis=0))


def slope(counts: list[int], gaps: list[float]) -> float:
    return float(np.polyfit(np.log(counts), np.log(gaps), 1)[0])


COUNTS = [40, 160, 640]


def test_rate_on_a_smooth_problem_without_noise_is_at_least_one_over_k() -> None:
    a = np.geomspace(1e-3, 1.0, 20)  # theory: L D^2 / k for this, the non-accelerated method
    gaps = [gap(lambda x: 0.5 * a @ x**2, lambda x: a * x, np.ones(20), n, math.sqrt(20)) for n in COUNTS]
    assert slope(COUNTS, gaps) < -0.9


def test_rate_on_l1_is_about_one_over_the_root() -> None:
    """Theory: the gap is at most of the order D M / sqrt(k) for a Lipschitz function, M = sqrt(n) for |x|_1."""
    n = 20
    x0 = np.linspace(0.5, 1.5, n)
    D = float(np.linalg.norm(x0))
    gaps = [gap(lambda x: np.abs(x).sum(), np.sign, x0, k, D) for k in COUNTS]
    assert slope(COUNTS, gaps) < -0.4
    assert all(value <= 4 * D * math.sqrt(n) / math.sqrt(k) for k, value in zip(COUNTS, gaps, strict=True))


def test_rate_with_noise_is_about_one_over_the_root() -> None:
    """Noisy least squares, sigma^2 = E |noise|^2: at most of the order L D^2 / k + sigma D / sqrt(k)."""
    n, sigma = 10, 1.0
    gaps = []
    for k in COUNTS:
        trials = []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            oracle = lambda x, rng=rng: x + sigma / math.sqrt(n) * rng.normal(size=n)  # noqa: E731
            trials.append(gap(lambda x: 0.5 * x @ x, oracle, np.ones(n), k, math.sqrt(n)))
        gaps.append(float(np.mean(trials)))
    assert slope(COUNTS, gaps) < -0.45
    assert all(
        value <= 4 * (n / k + sigma * math.sqrt(n) / math.sqrt(k)) for k, value in zip(COUNTS, gaps, strict=True)
    )


def test_rate_on_logistic_regression_needs_no_rate() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    y = np.sign(X @ np.ones(5) + rng.normal(size=200))

    def value(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -y * (X @ w)).mean())

    def gradient(w: np.ndarray) -> np.ndarray:
        return -(X * (y / (1 + np.exp(y * (X @ w))))[:, None]).mean(axis=0)

    from scipy.optimize import minimize

    best = minimize(value, np.zeros(5), jac=gradient, tol=1e-12)
    D = float(np.linalg.norm(best.x))
    gaps = [gap(lambda w: value(w) - best.fun, gradient, np.zeros(5), k, D) for k in COUNTS]
    assert slope(COUNTS, gaps) < -0.9


def test_too_large_a_rate_corrects_itself_and_too_small_a_one_does_not() -> None:
    """The paper's "poor robustness", in one dimension of lr: H never falls."""
    a = np.array([1.0, 0.1])
    good, large, small = (
        run(lambda x: a * x, np.ones(2), 60, lr=lr, D=1.0)["optimizer"].H.item() for lr in (1.0, 1e3, 1e-3)
    )
    assert small == pytest.approx(1e3, rel=1e-6)
    assert large < 10 * good


def adam_reference(oracle: Oracle, x0: np.ndarray, lr: float, steps: int, D: float) -> list[np.ndarray]:
    """Algorithm 1 in the norm of B = diag(sqrt(v) + eps) with Adam's first moment, literally."""
    x, m, v, H, xs, previous = x0.copy(), 0 * x0, 0 * x0, 1 / lr, [], None
    for t in range(1, steps + 1):
        g = oracle(x)
        if previous is not None:
            g_old, x_old, b_old = previous
            beta, r2 = (g - g_old) @ (x - x_old), b_old @ (x - x_old) ** 2
            H += max(beta - H * r2 / 2, 0) / (D**2 + r2 / 2)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        b = np.sqrt(v / (1 - 0.999**t)) + 1e-8
        previous = (g, x.copy(), b)
        x = x - m / (1 - 0.9**t) / b / H
        xs.append(x)
    return xs


def test_adams_norm_follows_its_definition() -> None:
    x0 = np.random.default_rng(2).normal(size=6)
    expected = adam_reference(noisy_quadratic(4), x0, 0.3, 30, 0.5)
    got = run(noisy_quadratic(4), x0, 30, split=2, lr=0.3, D=0.5, norm="adam")
    np.testing.assert_allclose(got["x"], expected, rtol=1e-9, atol=1e-12)
    assert got["H"][-1] > 1.1 / 0.3


def test_adams_norm_with_an_enormous_d_is_adam() -> None:
    x0 = np.random.default_rng(2).normal(size=6)
    got = run(noisy_quadratic(4), x0, 20, lr=0.01, D=1e6, norm="adam")
    x = nn.Parameter(torch.from_numpy(x0.copy()))
    adam, oracle = torch.optim.Adam([x], lr=0.01), noisy_quadratic(4)
    for expected in got["x"]:
        x.grad = torch.from_numpy(oracle(x.detach().numpy()))
        adam.step()
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-9)


def test_groups_are_vectors_of_their_own() -> None:
    a, b = noisy_quadratic(1, 3), noisy_quadratic(2, 3)
    xs = [nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    together = UniversalSGM([{"params": [xs[0]]}, {"params": [xs[1]], "lr": 0.1, "D": 0.5}], lr=1.0, D=2.0)
    for _ in range(10):
        for x, oracle in zip(xs, (a, b), strict=True):
            x.grad = torch.from_numpy(oracle(x.detach().numpy()))
        together.step()
    alone = run(noisy_quadratic(1, 3), np.ones(3), 9, lr=1.0, D=2.0)
    other = run(noisy_quadratic(2, 3), np.ones(3), 9, lr=0.1, D=0.5)
    np.testing.assert_allclose(xs[0].detach().numpy(), alone["parameters"][0].detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(xs[1].detach().numpy(), other["parameters"][0].detach().numpy(), rtol=1e-12)


SETTINGS = [{}, {"radius": 0.5}, {"norm": "adam", "lr": 0.01}]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(s) or "plain")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_state_goes_on_bit_for_bit(settings: dict, dtype: torch.dtype, tmp_path) -> None:
    def setup() -> tuple[nn.Module, UniversalSGM]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)
        return model, UniversalSGM(model.named_parameters(), **settings)

    def steps(model: nn.Module, optimizer: UniversalSGM, numbers: range) -> None:
        for k in numbers:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(k)).to(dtype)
            optimizer.zero_grad()
            (model(x) - x.sum(dim=1, keepdim=True)).square().mean().backward()
            optimizer.step()

    whole, optimizer = setup()
    steps(whole, optimizer, range(9))
    model, first = setup()
    steps(model, first, range(5))
    torch.save({"model": model.state_dict(), "optimizer": first.state_dict()}, tmp_path / "c.pt")
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    model, second = setup()
    model.load_state_dict(saved["model"])
    second.load_state_dict(saved["optimizer"])
    steps(model, second, range(5, 9))
    for p, q in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(optimizer.H, second.H) and second.H.dtype == torch.float32


def test_bfloat16_parameters_have_float32_norms() -> None:
    """1,000 gradients of 0.01: their squares sum to 0.1, which bfloat16 cannot accumulate."""
    x = nn.Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    optimizer = UniversalSGM([x], lr=1.0)
    x.grad = torch.full_like(x, 0.01)
    optimizer.step()
    assert float(optimizer.r) == pytest.approx(math.sqrt(1000) * float(torch.tensor(0.01).bfloat16()), rel=1e-5)


def test_a_parameter_without_a_gradient_counts_as_zero() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = UniversalSGM([used, unused], lr=0.5)
    for _ in range(2):
        used.grad = used.detach().clone()
        optimizer.step()
    assert (unused == 1).all() and (used != 1).all()


def test_a_closure_is_evaluated_with_gradients() -> None:
    x = nn.Parameter(torch.tensor([2.0]))
    optimizer = UniversalSGM([x], lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 4.0
    assert float(x.detach()) == 0.0  # 2 - 0.5 * 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_named_before_anything_moves(bad: float) -> None:
    model = nn.Linear(3, 2)
    optimizer = UniversalSGM(model.named_parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    before = copy.deepcopy(model.state_dict()), float(optimizer.H)
    model.bias.grad[1] = bad
    with pytest.raises(SeqRecError, match="gradient of parameter bias is not finite"):
        optimizer.step()
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    model.bias.grad[1] = 1.0
    optimizer.step()  # usable again
    assert math.isfinite(float(optimizer.H))


def test_where_reading_would_wait_the_step_is_left_out_and_the_error_comes_later(monkeypatch) -> None:
    """An accelerator's way, taken here on the CPU."""
    monkeypatch.setattr(FlatGroup, "checks_each_step", False)
    model = nn.Linear(3, 2)
    optimizer = UniversalSGM(model.named_parameters(), check_every=4)
    for k in range(1, 4):
        before = copy.deepcopy(model.state_dict())
        for p in model.parameters():
            p.grad = torch.full_like(p, 0.1)
        if k == 2:
            model.weight.grad[0, 0] = float("nan")
        optimizer.step()
        same = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert same == (k >= 2)  # everything after it is left out, too
    with pytest.raises(SeqRecError, match="parameter weight"):
        optimizer.step()
    model.bias.grad[0] = float("inf")
    optimizer.step()
    with pytest.raises(SeqRecError, match="parameter bias"):
        optimizer.state_dict()


def test_the_accelerators_way_takes_the_same_steps(monkeypatch) -> None:
    expected = run(noisy_quadratic(1), np.ones(6), 20, split=3, lr=0.5, norm="adam", D=0.1)["x"]
    monkeypatch.setattr(FlatGroup, "checks_each_step", False)
    got = run(noisy_quadratic(1), np.ones(6), 20, split=3, lr=0.5, norm="adam", D=0.1)["x"]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"D": 0.0}, "D is 0.0; expected a number above 0"),
        ({"D": float("nan")}, "D is nan"),
        ({"D": math.inf}, "D is inf"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": math.inf}, "give its radius"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"norm": "l1"}, "norm is 'l1'"),
        ({"norm": "adam", "radius": 1.0}, "not supported"),
        ({"betas": (0.9, 1.0)}, "betas is"),
        ({"eps": 0.0}, "eps is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        UniversalSGM([nn.Parameter(torch.ones(2))], **settings)


def test_what_it_cannot_train_is_refused() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = UniversalSGM(table.named_parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(SeqRecError, match="gradient of parameter weight is sparse"):
        optimizer.step()
    x = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    x.grad = torch.ones_like(x)
    with pytest.raises(SeqRecError, match="real floating-point"):
        UniversalSGM([x]).step()

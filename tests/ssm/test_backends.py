"""Which implementation runs, what is said when one is missing, and the check before a run."""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.ssm import Hydra, Mamba, Mamba2, agreement, backends
from tests.ssm.mixers import history, make


def test_the_kernel_runs_where_it_can() -> None:
    x = torch.zeros(1, 2, 3)
    assert backends.choose("auto", x) == "cpu"
    assert backends.choose("auto", x.double()) == "matrix"
    assert backends.choose("reference", x) == "reference"


@pytest.mark.parametrize(
    ("requested", "x", "message"),
    [
        ("gpu", torch.zeros(1), "no backend 'gpu'"),
        ("cuda", torch.zeros(1), "asked for a tensor on cpu"),
        ("cpu", torch.zeros(1, dtype=torch.float64), "float64"),
    ],
)
def test_a_backend_that_does_not_work_is_named(requested: str, x: torch.Tensor, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        backends.choose(requested, x)


def test_without_numba_the_matrix_form_runs_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = make("mamba2", torch.float32)
    x = history(mixer, 2, 9)
    want = mixer(x)
    monkeypatch.setattr(backends, "missing", lambda kernel: "ImportError: no numba; install numba")
    with pytest.warns(RuntimeWarning, match="install numba"):
        got = mixer(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert agreement.preflight("cpu") == {"backend": "matrix", "message": "ImportError: no numba; install numba"}


def test_a_broken_extension_is_described_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError(f"{name}.so: undefined symbol\nand more")

    monkeypatch.setattr(importlib, "import_module", broken)
    backends.missing.cache_clear()
    try:
        assert (
            backends.missing("cpu") == "OSError: seqrec_lib.fast.kernels.gated_norm.so: undefined symbol; install numba"
        )
    finally:
        backends.missing.cache_clear()


def test_preflight_on_the_cpu() -> None:
    found = agreement.preflight("cpu", length=40)
    assert found["backend"] == "cpu"
    for name in ("mamba", "mamba2", "hydra"):
        assert found[name]["output"] < 1e-5
        assert found[name]["worst_gradient"] < 1e-4


def test_preflight_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    agreement.preflight("cpu", length=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_kernels_that_disagree_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"output": 1e-7, "worst_gradient": 1e-6, "parameter": "D"}
    found = {"backend": "cpu", "mamba": good, "mamba2": good, "hydra": good | {"worst_gradient": float("nan")}}
    monkeypatch.setattr(agreement, "preflight", lambda device: found)
    agreement.checked.cache_clear()
    try:
        with pytest.raises(SeqRecError, match=r"cpu kernels of hydra are off by nan .* \(limit 1e-04\); reinstall"):
            agreement.checked("cpu")
        found["hydra"] = good
        assert agreement.checked("cpu") is found
    finally:
        agreement.checked.cache_clear()


@pytest.mark.parametrize("cls", [Mamba, Mamba2, Hydra])
def test_autocast_to_bfloat16_stays_close(cls: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    mixer = cls(64)
    x = torch.randn(2, 30, 64)
    want = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16), warnings.catch_warnings():
        got = mixer(x)
        got.float().square().sum().backward()
    assert (got - want).norm() / want.norm() < 2e-2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(backends.missing("cuda") is not None, reason=f"no kernels: {backends.missing('cuda')}")
class TestOnAGPU:
    """Tolerance 1e-3 in IEEE mode (TRITON_F32_DEFAULT=ieee), 2e-2 with the default TF32 dots."""

    def test_preflight(self) -> None:
        found = agreement.preflight("cuda")
        assert found["backend"] == "cuda", found
        tolerance = 1e-3 if found["float32_dots"] == "ieee" else 2e-2
        for name in ("mamba", "mamba2", "hydra"):
            assert found[name]["output"] < tolerance, found
            assert found[name]["worst_gradient"] < tolerance, found

    @pytest.mark.parametrize("length", [1, 64, 300, 1000])
    @pytest.mark.parametrize("name", ["mamba", "mamba2", "hydra"])
    def test_lengths(self, name: str, length: int) -> None:
        mixer = {"mamba": Mamba(64, 32), "mamba2": Mamba2(64), "hydra": Hydra(64, 32)}[name]
        x = torch.randn(3, length, 64)
        lengths = torch.tensor([length, max(1, length // 2), 1])
        want = mixer.double()(x.double(), lengths)
        got = mixer.float().cuda()(x.cuda(), lengths.cuda())
        assert agreement.relative_error(got, want) < (2e-2 if name != "mamba" else 1e-3)

    def test_hydra_prefixes(self) -> None:
        mixer = Hydra(64, 32)
        x, lengths = torch.randn(2, 100, 64), torch.tensor([100, 31])
        want = mixer.double().forward_prefixes(x.double(), lengths)
        got = mixer.float().cuda().forward_prefixes(x.cuda(), lengths.cuda())
        assert agreement.relative_error(got, want) < 2e-2

    def test_step(self) -> None:
        for mixer in (Mamba(64, 32).cuda(), Mamba2(64).cuda()):
            x = torch.randn(2, 20, 64, device="cuda")
            state = mixer.init_state(2)
            with torch.no_grad():
                for t in range(20):
                    out, state = mixer.step(x[:, t], state)
                assert agreement.relative_error(out, mixer(x)[:, -1]) < 2e-2

"""`Hydra.forward_prefixes` against evaluating every prefix on its own, outputs and gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from seqrec_lib.ssm import Hydra
from tests.ssm.agreement import assert_agree, error
from tests.ssm.mixers import history, make

HYDRAS = ["hydra", "hydra-short", "hydra-middle"]


def prefix_by_prefix(mixer: Hydra, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([mixer(x[:, : t + 1])[:, -1] for t in range(x.shape[1])], dim=1)


def with_gradients(mixer: Hydra, method: str, x: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, and gradients of the input and of every parameter that has one."""
    mixer.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    y = prefix_by_prefix(mixer, x) if method == "one by one" else mixer.forward_prefixes(x)
    y.backward(g)
    found = {"output": y.detach(), "input": x.grad}
    return found | {name: p.grad.clone() for name, p in mixer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", HYDRAS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 17])
def test_outputs_and_gradients_are_exact(name: str, length: int) -> None:
    mixer = make(name)
    x = history(mixer, 2, length)
    g = history(mixer, 2, length, seed=2)
    want = with_gradients(mixer, "one by one", x, g)
    got = with_gradients(mixer, "in one pass", x, g)
    assert set(got) == set(want)
    for key in want:
        torch.testing.assert_close(got[key], want[key], rtol=1e-10, atol=1e-10, msg=partial("{}: {}".format, key))


@pytest.mark.parametrize("length", [5, 90])
def test_the_kernels_agree(length: int) -> None:
    exact, fast = make("hydra"), make("hydra", torch.float32, "cpu")
    x, g = history(exact, 2, length), history(exact, 2, length, seed=2)
    want = with_gradients(exact, "in one pass", x, g)
    got = with_gradients(fast, "in one pass", x.float(), g.float())
    # A parameter whose gradient is rounding noise (the backward half's) is compared against the others' size.
    keys = [key for key in want if want[key].norm() > 1e-9]
    assert_agree([got[key] for key in keys], [want[key] for key in keys])


def test_the_backward_half_gets_no_gradient() -> None:
    """Rows of in_proj that only feed the backward B, C and dt do not reach any prefix's end."""
    mixer = make("hydra")
    grads = with_gradients(mixer, "in one pass", history(mixer, 1, 9), history(mixer, 1, 9, seed=2))
    start, stop = 2 * mixer.d_inner + 2 * mixer.d_state, 2 * mixer.d_inner + 4 * mixer.d_state
    assert not grads["in_proj.weight"][start:stop].any()
    assert not grads["in_proj.weight"][-mixer.nheads :].any()
    assert grads["in_proj.weight"][:start].any(1).all()


def test_prefixes_are_causal_and_the_layer_is_not() -> None:
    mixer = make("hydra")
    x = history(mixer, 1, 12)
    changed = x.clone()
    changed[:, 8:] += 1.0
    assert error(mixer.forward_prefixes(changed)[:, :8], mixer.forward_prefixes(x)[:, :8]) < 1e-14
    assert error(mixer(changed)[:, :8], mixer(x)[:, :8]) > 1e-3


@pytest.mark.parametrize("d_conv", [1, 2, 4])
def test_a_convolution_without_a_centre_is_refused(d_conv: int) -> None:
    with pytest.raises(ValueError, match=f"d_conv {d_conv}"):
        Hydra(16, d_conv=d_conv)

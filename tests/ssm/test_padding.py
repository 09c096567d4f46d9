"""A history's output does not depend on what it is batched with, nor on what stands in the padding."""

from __future__ import annotations

import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.ssm.padding import Span
from tests.ssm.agreement import error
from tests.ssm.mixers import MIXERS, history, make

LENGTHS = torch.tensor([19, 1, 7, 0])
# Float64 runs the matrix form, float32 the compiled kernels.
CASES = [(torch.float64, "matrix", 1e-12), (torch.float32, "cpu", 2e-6)]


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(("dtype", "backend", "tolerance"), CASES)
def test_batched_equals_alone(name: str, dtype: torch.dtype, backend: str, tolerance: float) -> None:
    mixer = make(name, dtype, backend)
    x = history(mixer, 4, 19)
    together = mixer(x, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        assert not together[i, length:].any()
        if length:
            assert error(together[i, :length], mixer(x[i : i + 1, :length])[0]) < tolerance


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(("dtype", "backend", "tolerance"), CASES)
def test_padding_gets_no_gradient_and_gives_none(name: str, dtype: torch.dtype, backend: str, tolerance: float) -> None:
    mixer = make(name, dtype, backend)
    x = history(mixer, 4, 19)
    noisy = x.clone()
    for i, length in enumerate(LENGTHS.tolist()):
        noisy[i, length:] = 1e3
    gradients = []
    for given in (x, noisy):
        mixer.zero_grad()
        given = given.clone().requires_grad_()
        out = mixer(given, LENGTHS)
        out.square().sum().backward()
        gradients.append(
            [out.detach(), given.grad, *(p.grad.clone() for p in mixer.parameters() if p.grad is not None)]
        )
    for clean, dirty in zip(*gradients, strict=True):
        torch.testing.assert_close(dirty, clean, rtol=tolerance, atol=tolerance)
    for i, length in enumerate(LENGTHS.tolist()):
        assert not gradients[1][1][i, length:].any()


def test_hydra_prefixes_ignore_padding() -> None:
    for dtype, backend, tolerance in CASES:
        mixer = make("hydra", dtype, backend)
        x = history(mixer, 4, 19)
        together = mixer.forward_prefixes(x, LENGTHS)
        for i, length in enumerate(LENGTHS.tolist()):
            assert not together[i, length:].any()
            if length:
                alone = mixer.forward_prefixes(x[i : i + 1, :length])[0]
                assert error(together[i, :length], alone) < tolerance


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.tensor([3, 6]), "do not fit a batch of 5 positions"),
        (torch.tensor([3]), "one length per history"),
        (torch.tensor([3, -1]), "do not fit a batch of 5 positions"),
        (torch.ones(2, 5, dtype=torch.bool), "one number per history"),
        (torch.ones(2, dtype=torch.bool), "one number per history"),
    ],
)
def test_wrong_lengths_are_named(given: torch.Tensor, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        Span.of(torch.zeros(2, 5, 3), given)

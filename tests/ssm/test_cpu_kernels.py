"""The elementary functions of the compiled kernels, and the threads that they run on."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from seqrec_lib.fast.kernels import threads
from seqrec_lib.fast.kernels.elementary import FAST, exp32, sigmoid32, softplus32
from seqrec_lib.fast.kernels.structured import chunking
from seqrec_lib.ssm import Mamba
from tests.ssm.agreement import error, evaluate
from tests.ssm.test_agreement import scan_by, scan_inputs


@njit(**FAST)
def _table(x, out):
    for i in range(x.size):
        out[0, i] = exp32(x[i])
        out[1, i] = sigmoid32(x[i])
        out[2, i] = softplus32(x[i])


def test_elementary_functions() -> None:
    x = np.linspace(-80, 80, 20_001).astype(np.float32)
    got = np.empty((3, x.size), np.float32)
    _table(x, got)
    wide = x.astype(np.float64)
    for row, want in zip(got, (np.exp(wide), 1 / (1 + np.exp(-wide)), np.logaddexp(0, wide)), strict=True):
        np.testing.assert_allclose(row, want, rtol=4e-7)
    special = np.array([np.nan, -1000.0, 1000.0], np.float32)
    got = np.empty((3, 3), np.float32)
    _table(special, got)
    assert np.isnan(got[:, 0]).all()  # a diverged training must show
    assert got[:, 1].tolist() == pytest.approx([0, 0, 0], abs=1e-37)
    assert got[1:, 2].tolist() == [1, 1000]


@pytest.mark.parametrize("pool", ["openmp", "python"])
def test_any_number_of_threads_gives_the_same(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [x.float() for x in scan_inputs(0, 5, 30, 130, 4, "mixed")]
    g = torch.randn(5, 30, 130)
    before = torch.get_num_threads()
    if pool == "python":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(evaluate(scan_by("cpu"), inputs, g))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert error(a, b) < 1e-6


def _encode(connection: object, x: np.ndarray) -> None:
    torch.set_num_threads(1)  # as a DataLoader's workers do: torch's own products hang in a forked child otherwise
    torch.manual_seed(0)
    with torch.no_grad():
        connection.send(Mamba(8, 4)(torch.from_numpy(x)).numpy())  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes(method: str) -> None:
    """A forked child must not wait for threads that only its parent has."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    x = torch.randn(3, 10, 8)
    torch.manual_seed(0)
    with torch.no_grad():
        want = Mamba(8, 4)(x)
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_encode, args=(sender, x.numpy()))
    child.start()
    try:
        assert receiver.poll(240), "the child process hangs"
        np.testing.assert_allclose(receiver.recv(), want.numpy(), rtol=1e-5, atol=1e-6)
    finally:
        child.terminate()
        child.join()


@pytest.mark.parametrize("length", [1, 50, 72, 73, 97, 144, 145, 200, 1000, 1001])
def test_chunks_cover_the_history_with_little_padding(length: int) -> None:
    chunks, chunk = chunking(length)
    assert (chunks - 1) * chunk < length <= chunks * chunk
    assert chunk <= 72
    assert chunks * chunk - length <= max(1, length // 50)

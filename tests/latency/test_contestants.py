"""What is timed: the compiled path reads what the others read, and compiles few programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.latency import contestants
from seqrec_lib.latency.clock import Clock
from seqrec_lib.latency.contestants import Module, make_model

ARCHITECTURES: dict[str, dict[str, Any]] = {"sasrec": {"d_model": 16}, "2mamba4rec": {"d_model": 32, "d_state": 16}}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_compiled_histories_have_few_lengths_and_the_same_encodings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen: list[int] = []

    def compile_(function: Any, dynamic: bool) -> Any:
        def compiled(items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            seen.append(items.shape[1])
            return function(items, lengths)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(contestants, "ROOMS", (4, 16, 400))
    net = make_model(name, 30, 40, ARCHITECTURES[name], seed=0)
    with torch.inference_mode():
        module, eager = Module(name, net, "compiled"), Module(name, net, "eager")
        assert seen == [4, 16, 40], "all programs are there before anything is timed"
        for length in (1, 4, 5, 16, 17, 40):
            history = np.random.default_rng(length).integers(1, 31, length)
            torch.testing.assert_close(module._read(history), eager._read(history), rtol=1e-5, atol=1e-6)
        assert set(seen) == {4, 16, 40}


@pytest.mark.parametrize("path", ["module", "eager"])
def test_a_model_with_a_repeat_bias_reads_its_window_as_the_others_do(path: str) -> None:
    net = make_model("2mamba4rec+residual+repeats", 30, 8, ARCHITECTURES["2mamba4rec"], seed=0)
    history = np.random.default_rng(0).integers(1, 31, 12)
    stages = Module("2mamba4rec+residual+repeats", net, path).serve(history, 3, Clock())
    assert stages.total > 0

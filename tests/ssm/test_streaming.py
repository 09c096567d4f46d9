"""Token by token equals re-encoding; states are plain tensors that can be saved, joined and parted."""

from __future__ import annotations

import io

import pytest
import torch

from tests.ssm.agreement import error
from tests.ssm.mixers import MIXERS, history, make


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_every_step_equals_encoding_the_whole_history(name: str, dtype: torch.dtype, tolerance: float) -> None:
    mixer = make(name, dtype)
    x = history(mixer, 2, 25)
    state = mixer.init_state(2)
    with torch.no_grad():
        for t in range(25):
            out, state = mixer.step(x[:, t], state)
            assert error(out, mixer(x[:, : t + 1])[:, -1]) < tolerance


@pytest.mark.parametrize("name", ["mamba", "mamba2", "hydra"])
def test_no_error_builds_up_over_a_thousand_steps(name: str) -> None:
    mixer = make(name, torch.float32)
    x = history(mixer, 1, 1000)
    state = mixer.init_state(1)
    with torch.no_grad():
        for t in range(1000):
            out, state = mixer.step(x[:, t], state)
        assert error(out, mixer(x)[:, -1]) < 1e-5


@pytest.mark.parametrize("name", ["mamba", "mamba2", "hydra"])
def test_states_can_be_saved_joined_and_parted(name: str) -> None:
    mixer = make(name)
    x = history(mixer, 3, 9)
    with torch.no_grad():
        together = mixer.init_state(3)
        for t in range(8):
            together_before = {key: value.clone() for key, value in together.items()}
            _, after = mixer.step(x[:, t], together)
            assert all(torch.equal(together[key], together_before[key]) for key in together)  # left as it was
            together = after
        alone = mixer.init_state(1)
        for t in range(8):
            _, alone = mixer.step(x[1:2, t], alone)
        file = io.BytesIO()
        torch.save(alone, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        joined = {key: torch.cat([together[key][:1], loaded[key], together[key][2:]]) for key in loaded}
        want, _ = mixer.step(x[:, 8], together)
        got, _ = mixer.step(x[:, 8], joined)
    torch.testing.assert_close(got, want)


def test_state_shapes_are_those_of_the_public_inference_caches() -> None:
    assert {k: tuple(v.shape) for k, v in make("mamba").init_state(2).items()} == {
        "conv": (2, 24, 4),
        "ssm": (2, 24, 5),
    }
    shapes = {k: tuple(v.shape) for k, v in make("mamba2").init_state(2).items()}
    assert shapes == {"conv": (2, 32 + 12, 4), "ssm": (2, 4, 8, 6)}

"""This study's mixer in place of transformers' Mamba-2: outputs, gradients, names; and the recurrence of decoding."""

from __future__ import annotations

import pytest
import torch

from seqrec_lib.language.mixers import SharedMixer, fast_mixers, fits
from seqrec_lib.language.states import advance


def test_outputs_and_gradients_are_transformers_own(tiny) -> None:
    model = tiny["mamba2"].model
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 300, (3, 90), generator=generator)
    mask = (torch.arange(90) < torch.tensor([90, 31, 7])[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)

    def run() -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    loss, gradients = run()
    names = set(model.state_dict())
    with fast_mixers(model):
        assert set(model.state_dict()) == names
        assert isinstance(model.backbone.layers[0].mixer, SharedMixer)
        fast_loss, fast = run()
    assert not isinstance(model.backbone.layers[0].mixer, SharedMixer)
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients.items():
        scale = gradient.abs().max() + 1e-6
        assert (fast[name] - gradient).abs().max() < 2e-3 * scale, name
    model.zero_grad(set_to_none=True)


def test_mixers_come_back_after_an_error_and_other_models_are_left_alone(tiny) -> None:
    model = tiny["mamba2"].model
    kinds = [type(layer.mixer) for layer in model.backbone.layers]
    with pytest.raises(RuntimeError, match="stop"), fast_mixers(model):
        raise RuntimeError("stop")
    assert [type(layer.mixer) for layer in model.backbone.layers] == kinds
    with fast_mixers(tiny["gpt2"].model):
        pass
    assert fits(model) and not fits(tiny["gpt2"].model)


def test_prefill_ends_in_the_state_after_each_last_token(tiny) -> None:
    mixer = SharedMixer(tiny["mamba2"].model.backbone.layers[0].mixer)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([80, 1, 2, 37])
    x = torch.randn(4, 80, 16, generator=generator)
    with torch.inference_mode():
        out, conv, ssm = mixer.prefill(x, lengths)
        for row, length in enumerate(lengths.tolist()):
            state = mixer.init_state(1)
            for t in range(length):
                y, state = mixer.step(x[row, t][None], state)
                torch.testing.assert_close(out[row, t], y[0], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(ssm[row], state["ssm"][0], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(conv[row].T, state["conv"][0, :, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kept", "beams"), [(1, 3), (3, 3), (4, 2)])
def test_the_kernel_of_the_recurrence_agrees_with_float64(kept: int, beams: int) -> None:
    generator = torch.Generator().manual_seed(kept)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    B, H, P, N = 2, 3, 5, 7
    state, x, b, c = draw(B, kept, H, P, N), draw(B, beams, H, P), draw(B, beams, N), draw(B, beams, N)
    decay, parents = (
        torch.rand(B, beams, H, generator=generator),
        torch.randint(0, kept, (B, beams), generator=generator),
    )
    spare = torch.full((B, beams, H, P, N), torch.nan)
    new, y = advance(state, parents, decay, x, b, c, spare)
    assert new.data_ptr() == spare.data_ptr()
    wide, wide_y = advance(*(v.double() if v.is_floating_point() else v for v in (state, parents, decay, x, b, c)))
    torch.testing.assert_close(new.double(), wide, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(y.double(), wide_y, rtol=1e-5, atol=1e-5)
    for i in range(B):
        for j in range(beams):
            h = decay[i, j, :, None, None] * state[i, parents[i, j]] + x[i, j, :, :, None] * b[i, j]
            torch.testing.assert_close(new[i, j], h)

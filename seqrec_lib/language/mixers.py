"""transformers' Mamba-2 with this study's mixer: the same weights, the same numbers, several times as fast on a CPU.

`fast_mixers` exchanges transformers' mixers, for the time of a `with`, for `seqrec_lib.ssm.Mamba2` holding the very
same parameters under the same names. Right padding only, and no cache: decoding has its own (`states`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_lib.ssm import Mamba2
from seqrec_lib.ssm.backends import choose
from seqrec_lib.ssm.convolution import short_convolution, taps_of
from seqrec_lib.ssm.padding import Span
from seqrec_lib.ssm.projection import project_parts
from seqrec_lib.ssm.ssd import ssd


class SharedMixer(Mamba2):
    """The mixer of one layer of transformers' Mamba-2, with its parameters."""

    def __init__(self, theirs: Any) -> None:
        with torch.device("meta"):
            super().__init__(
                theirs.hidden_size,
                theirs.ssm_state_size,
                theirs.conv_kernel_size,
                theirs.intermediate_size // theirs.hidden_size,
                theirs.head_dim,
                ngroups=theirs.n_groups,
                conv_bias=theirs.use_conv_bias,
                bias=theirs.use_bias,
                chunk_size=theirs.chunk_size,
            )
        self.in_proj, self.conv1d, self.out_proj = theirs.in_proj, theirs.conv1d, theirs.out_proj
        self.dt_bias, self.A_log, self.D = theirs.dt_bias, theirs.A_log, theirs.D
        self.norm.weight = theirs.norm.weight
        self.norm.eps = theirs.norm.variance_epsilon
        self._forward_hooks.update(theirs._forward_hooks)  # such as dropout that was added to it
        self.train(theirs.training)

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        """(B, L, D) -> (B, L, D); a mask is not needed, as padding stands on the right."""
        return super().forward(hidden_states)

    def prefill(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of right-padded texts, and what decoding goes on from.

        Returns:
            (B, L, D); the last d_conv - 1 inputs of the convolution (B, d_conv - 1, channels); the state after each
            text's last token (B, H, P, N).
        """
        span, backend = Span.of(x, lengths), choose(self.backend, x)
        N = self.d_state
        z, xBC, dt_raw = project_parts(x, self.in_proj, [self.d_inner, self.d_inner + 2 * N, self.nheads])
        u, B, C = short_convolution(xBC, *taps_of(self.conv1d), self.d_conv - 1, (self.d_inner, N, N), span, backend)
        dt = span.zero(F.softplus(dt_raw + self.dt_bias))  # 0 beyond a text: its state stays as it is
        A = -torch.exp(self.A_log)
        heads = u.unflatten(-1, (self.nheads, self.headdim))
        y = ssd(heads, dt, A, B[:, :, None], C[:, :, None], self.D, backend, self.chunk_size).flatten(-2)
        out = span.zero(self.out_proj(self.norm(y, z, span, backend)))
        # h = sum_t exp(sum of dt A after t) dt_t x_t B_t^T, one product for each head
        after = (dt * A).flip(1).cumsum(1).flip(1) - dt * A
        weight = (torch.exp(after) * dt)[..., None] * heads  # (B, L, H, P)
        state = torch.einsum("blhp,bln->bhpn", weight, B)
        past = self.d_conv - 1
        padded = F.pad(span.zero(xBC), (0, 0, past, 0))
        places = lengths[:, None] + torch.arange(past, device=x.device)
        return out, padded.gather(1, places[..., None].expand(-1, -1, xBC.shape[-1])), state


def fits(model: Any) -> bool:
    """Whether a model is transformers' Mamba-2 in a form that `SharedMixer` computes."""
    config = model.config
    return (
        config.model_type == "mamba2"
        and config.n_groups == 1
        and tuple(config.time_step_limit) == (0.0, float("inf"))
        and config.hidden_act == "silu"
        and all(type(layer.mixer.in_proj) is torch.nn.Linear for layer in model.backbone.layers)  # no adapters inside
    )


@contextmanager
def fast_mixers(model: Any) -> Iterator[None]:
    """Within: a Mamba-2 that `fits` computes with this study's mixers. Any other model is left as it is."""
    if not hasattr(model, "backbone") or not fits(model):
        yield
        return
    layers = list(model.backbone.layers)
    theirs = [layer.mixer for layer in layers]
    try:
        for layer in layers:
            layer.mixer = SharedMixer(layer.mixer)
        yield
    finally:
        for layer, mixer in zip(layers, theirs, strict=True):
            layer.mixer = mixer

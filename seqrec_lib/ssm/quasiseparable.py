"""Hydra: the quasiseparable mixer (Hwang, Lahoti, Dao and Gu, 2024) and its block.

A quasiseparable matrix is lower triangular, upper triangular and diagonal at once: one state-space model reads the
history forwards, one backwards, each shifted so that it does not see the token itself, and the diagonal adds that:

    QS(x) = shift(SS(x)) + flip(shift(SS(flip(x)))) + diag x

Glossary: B batch, L length, H heads, P = headdim, N = d_state, Q chunk length; f and b forward and backward. Parameter
names, shapes and initial values are those of the public `Hydra` block. What differs is padding: there the backward
half starts in it and the convolution mixes it in, here the output for a history is what it would be alone.

Not causal. But the output at the last position of each prefix has a one-pass form: `forward_prefixes` (`prefixes`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_lib.ssm import prefixes
from seqrec_lib.ssm.backends import choose
from seqrec_lib.ssm.convolution import short_convolution, taps_of
from seqrec_lib.ssm.gated_norm import RMSNormGated
from seqrec_lib.ssm.initialisation import dt_bias, undecayed
from seqrec_lib.ssm.padding import Span, delayed, lengthened
from seqrec_lib.ssm.projection import project_parts
from seqrec_lib.ssm.ssd import heads_of, ssd, ssd_reference


def quasiseparable_reference(
    x: Tensor, dt: tuple[Tensor, Tensor], A: Tensor, B: tuple[Tensor, Tensor], C: tuple[Tensor, Tensor], delta: Tensor
) -> Tensor:
    """The definition above, with the recurrence of `ssd_reference` in each direction.

    Args:
        x: (batch, length, heads, headdim). A: (heads,), negative. delta: (batch, length, heads), the diagonal.
        dt, B, C: forward and backward, each as in `ssd_reference`.

    Returns:
        y, shaped as x.
    """
    forward = delayed(ssd_reference(x, dt[0], A, B[0], C[0]))
    backward = delayed(ssd_reference(x.flip(1), dt[1].flip(1), A, B[1].flip(1), C[1].flip(1))).flip(1)
    return forward + backward + delta[..., None] * x


def quasiseparable(
    x: Tensor,
    dt: tuple[Tensor, Tensor],
    A: Tensor,
    B: tuple[Tensor, Tensor],
    C: tuple[Tensor, Tensor],
    delta: Tensor,
    backend: str,
    chunk: int,
) -> Tensor:
    """`quasiseparable_reference`, for one group, by the given backend; `chunk` is the chunk length on CUDA."""
    length = x.shape[1]
    if backend == "reference":
        return quasiseparable_reference(x, dt, A, B, C, delta)
    if backend == "cpu" and length > 0:
        from seqrec_lib.fast.kernels.structured import Semiseparable, chunking, half_wanted

        chunks, Q = chunking(length)
        extra = chunks * Q - length
        (Bf, Bb), (Cf, Cb) = ([m.squeeze(2) for m in pair] for pair in (B, C))
        # Row i of the strict triangles holds C of its neighbour.
        parts = [x, delta, dt[0], Bf, delayed(Cf), dt[1], Bb, delayed(Cb.flip(1)).flip(1)]
        parts = [lengthened(v, extra) for v in parts]
        y: Tensor = Semiseparable.apply(Q, 1, half_wanted(), *parts[:2], A, *parts[2:])
        return y[:, :length]
    # Both directions as one batch of twice the size.
    both = [torch.cat([f, b.flip(1)]) for f, b in ((x, x), dt, B, C)]
    forward, backward = delayed(ssd(both[0], both[1], A, both[2], both[3], None, backend, chunk)).chunk(2)
    return forward + backward.flip(1) + delta[..., None] * x


class Hydra(nn.Module):
    """The Hydra block: project, convolve (centred), mix in both directions, norm, gate, project back.

    Args:
        d_model: width of input and output.
        d_state: numbers of state per head channel and direction.
        d_conv: taps of the centred convolution over x, B and C; odd, at least 3.
        expand: d_inner = expand * d_model.
        headdim: channels of a head; divides d_inner.
        chunk_size: chunk length of the CUDA kernel.
        backend: see `seqrec_lib.ssm.backends`; an attribute that may be changed at any time.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 7,
        expand: int = 2,
        headdim: int = 64,
        *,
        chunk_size: int = 256,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if d_conv < 3 or d_conv % 2 == 0:
            raise ValueError(f"d_conv {d_conv} is not an odd number from 3 on: Hydra's convolution is centred")
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.headdim, self.chunk_size = headdim, chunk_size
        self.d_inner = expand * d_model
        self.nheads = heads_of(self.d_inner, headdim)
        self.backend = backend
        conv_dim = self.d_inner + 4 * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + conv_dim + 2 * self.nheads, bias=False)  # z, x, BfCfBbCb, dt
        self.conv1d = nn.Conv1d(conv_dim, conv_dim, d_conv, groups=conv_dim, padding=d_conv // 2)
        self.dt_bias = undecayed(dt_bias(self.nheads))
        self.A_log = undecayed(torch.zeros(self.nheads))  # A = -1
        self.D = undecayed(torch.ones(self.nheads))
        self.fc_D = nn.Linear(self.d_inner, self.nheads, bias=False)
        self.norm = RMSNormGated(self.d_inner, norm_before_gate=True)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, length, d_model) -> the same shape; 0 at padded positions (see `padding.Span.of`).

        Raises:
            SeqRecError: lengths that do not fit x; a backend that does not work here.
        """
        span = Span.of(x, lengths)
        backend = choose(self.backend, x)
        N = self.d_state
        z, xBC, dt_raw = project_parts(x, self.in_proj, [self.d_inner, self.d_inner + 4 * N, 2 * self.nheads])
        widths = (self.d_inner, N, N, N, N)
        u, *BC = short_convolution(xBC, *taps_of(self.conv1d), self.d_conv // 2, widths, span, backend)
        Bf, Cf, Bb, Cb = (m[:, :, None] for m in BC)  # one group of heads
        dt = self._dt(dt_raw, span)
        y = quasiseparable(
            u.unflatten(-1, (self.nheads, self.headdim)), (dt[..., 0, :], dt[..., 1, :]), -torch.exp(self.A_log),
            (Bf, Bb), (Cf, Cb), self.fc_D(u) + self.D, backend, self.chunk_size,
        )  # fmt: skip
        return span.zero(self.out_proj(self.norm(y.flatten(-2), z, span, backend)))

    def forward_prefixes(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """At every position t, what `forward` of the prefix that ends at t gives at its last position, in one pass.

        Shapes and errors as for `forward`. See `prefixes` for the identity. Output t depends on inputs up to t.
        """
        span = Span.of(x, lengths)
        backend = choose(self.backend, x)
        causal, widths = self._causal_parts()
        z, xBC, _, dt_raw, _ = project_parts(x, self.in_proj, widths)
        dt = span.zero(F.softplus(dt_raw.to(self.dt_bias.dtype) + self.dt_bias))
        weight, bias = taps_of(self.conv1d)
        y = prefixes.last_outputs(
            xBC, weight[:causal], bias[:causal], dt, -torch.exp(self.A_log), lambda u: self.fc_D(u) + self.D,
            self.d_state, span, backend, self.chunk_size,
        )  # fmt: skip
        return span.zero(self.out_proj(self.norm(y, z, span, backend)))

    def init_state(self, batch: int) -> dict[str, Tensor]:
        """The state before the first token, zeros: conv (batch, d_inner + 2 N, d_conv), the last inputs; dt (batch,
        d_conv // 2, heads), the last step sizes; ssm (batch, heads, headdim, N), d_conv // 2 tokens behind.

        Along the first axis states may be sliced and concatenated.
        """
        like = self.A_log
        return {
            "conv": like.new_zeros(batch, self.d_inner + 2 * self.d_state, self.d_conv),
            "dt": like.new_zeros(batch, self.d_conv // 2, self.nheads),
            "ssm": like.new_zeros(batch, self.nheads, self.headdim, self.d_state),
        }

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One token: x (batch, d_model) and the state after the tokens before it -> (output, new state).

        Equal to the last position of `forward` over all tokens so far, which holds for a model with one Hydra layer;
        the outputs at earlier positions would change with the new token. The given state is left as it is.
        """
        causal, widths = self._causal_parts()
        z, xBC, _, dt_raw, _ = self.in_proj(x).split(widths, dim=-1)
        weight, bias = taps_of(self.conv1d)
        y, new = prefixes.last_output_step(
            xBC, weight[:causal], bias[:causal], F.softplus(dt_raw + self.dt_bias), -torch.exp(self.A_log),
            lambda u: self.fc_D(u) + self.D, self.d_state, state,
        )  # fmt: skip
        return self.out_proj(self.norm(y, z)), new

    def _causal_parts(self) -> tuple[int, list[int]]:
        """Channels of x and the forward B and C, and the widths of in_proj's parts: z, these, Bb and Cb, dt twice."""
        causal = self.d_inner + 2 * self.d_state
        return causal, [self.d_inner, causal, 2 * self.d_state, self.nheads, self.nheads]

    def _dt(self, dt_raw: Tensor, span: Span) -> Tensor:
        """Step sizes (batch, length, 2, heads); both directions share the bias."""
        return span.zero(F.softplus(dt_raw.to(self.dt_bias.dtype).unflatten(-1, (2, self.nheads)) + self.dt_bias))

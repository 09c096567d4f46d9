"""Mamba-2: state-space duality (Dao and Gu, 2024) and its block.

One decay per head and token instead of one per channel and state makes the scan a product with a lower triangular
matrix, y = M x with M_ij = C_i . B_j exp(sum_(j<k<=i) dt_k A) dt_j: masked attention without a softmax, or, in
chunks, a recurrence over whole chunks.

Glossary: B batch, L length, H heads, P = headdim, N = d_state, G groups of heads that share B and C, Q chunk length.
Parameter names, shapes and initial values are those of mamba-ssm's `Mamba2`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_lib.ssm.backends import choose
from seqrec_lib.ssm.convolution import convolution_step, short_convolution, taps_of
from seqrec_lib.ssm.gated_norm import RMSNormGated
from seqrec_lib.ssm.initialisation import dt_bias, undecayed
from seqrec_lib.ssm.padding import Span, lengthened
from seqrec_lib.ssm.projection import project_parts


def ssd_reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence, one token after another, for each head with its state h (P x N):

        h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T
        y_t = h_t C_t

    Args:
        x: (batch, length, heads, headdim). dt: (batch, length, heads), > 0. A: (heads,), negative.
        B, C: (batch, length, groups, d_state).

    Returns:
        y, shaped as x.
    """
    batch, length, heads, width = x.shape
    per_group = heads // B.shape[2]
    h = x.new_zeros(batch, heads, width, B.shape[3])
    outputs = []
    for t in range(length):
        B_t, C_t = (m[:, t].repeat_interleave(per_group, dim=1)[:, :, None, :] for m in (B, C))  # (B, H, 1, N)
        decay = torch.exp(dt[:, t] * A)[:, :, None, None]
        h = decay * h + (dt[:, t, :, None] * x[:, t])[..., None] * B_t
        outputs.append((h * C_t).sum(-1))
    return torch.stack(outputs, dim=1) if outputs else torch.zeros_like(x)


def segment_sums(a: Tensor) -> Tensor:
    """S_ij = sum of a_k over j < k <= i, and -inf for j > i: (..., Q) -> (..., Q, Q).

    A cumulative sum over masked columns, not a difference of two cumulative sums: where dt A is large that difference
    cancels, and with it the gradient of A.

    >>> segment_sums(torch.tensor([1.0, 2.0, 4.0]))
    tensor([[0., -inf, -inf],
            [2., 0., -inf],
            [6., 4., 0.]])
    """
    length = a.shape[-1]
    below = torch.ones(length, length, dtype=torch.bool, device=a.device).tril(-1)
    sums = a[..., None].expand(*a.shape, length).masked_fill(~below, 0.0).cumsum(-2)
    return sums.masked_fill(below.T, -torch.inf)


def ssd_matrix(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int = 64) -> Tensor:
    """The same by matrix products: inside chunks of Q tokens the triangular matrix, across them the recurrence.

    Arguments and result as for `ssd_reference`; any length.
    """
    length, heads = x.shape[1:3]
    Q = max(1, min(chunk, length))
    extra = -length % Q
    x, dt, B, C = (lengthened(v, extra).unflatten(1, (-1, Q)) for v in (x, dt, B, C))
    B, C = (v.repeat_interleave(heads // B.shape[3], dim=3) for v in (B, C))  # (B, c, Q, H, N)
    a = (dt * A).transpose(2, 3)  # (B, c, H, Q)
    x = x * dt[..., None]
    S = segment_sums(a)
    # Inside a chunk: (C B^T * exp(S)) x
    y = torch.einsum("bcihn,bcjhn,bchij,bcjhp->bcihp", C, B, torch.exp(S), x)
    # What a chunk adds to the state at its end, and the state at each chunk's beginning
    added = torch.einsum("bcjhn,bchj,bcjhp->bchpn", B, torch.exp(S[..., -1, :]), x)
    h = torch.zeros_like(added[:, 0])
    begins = []
    whole = torch.exp(a.sum(-1))[..., None, None]
    for c in range(added.shape[1]):
        begins.append(h)
        h = whole[:, c] * h + added[:, c]
    # What reaches a token from before its chunk
    y = y + torch.einsum("bcihn,bchpn,bchi->bcihp", C, torch.stack(begins, 1), torch.exp(a.cumsum(-1)))
    return y.flatten(1, 2)[:, :length]


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, backend: str, chunk: int) -> Tensor:
    """y_t + D x_t by the given backend. Shapes as in `ssd_reference`; D (heads,), None for 0; `chunk`: on CUDA."""
    length = x.shape[1]
    if backend == "cuda":
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        y: Tensor = mamba_chunk_scan_combined(
            x.contiguous(), dt.contiguous(), A, B.contiguous(), C.contiguous(), chunk, D=D
        )  # fmt: skip
        return y
    if backend == "cpu" and B.shape[2] == 1 and length > 0:
        from seqrec_lib.fast.kernels.structured import Semiseparable, chunking, half_wanted

        chunks, Q = chunking(length)
        extra = chunks * Q - length
        B, C = B.squeeze(2), C.squeeze(2)
        x, dt, B, C = (lengthened(v, extra) for v in (x, dt, B, C))
        delta = torch.zeros_like(dt) if D is None else D.expand(dt.shape)
        y = Semiseparable.apply(Q, 0, half_wanted(), x, delta, A, dt, B, C)
        return y[:, :length]
    form = ssd_reference if backend == "reference" else ssd_matrix
    y = form(x, dt, A, B, C)
    return y if D is None else y + D[:, None] * x


class Mamba2(nn.Module):
    """The Mamba-2 block. Causal: output t depends on inputs up to t.

    Args:
        d_model: width of input and output.
        d_state: numbers of state per head channel.
        d_conv: taps of the causal convolution over x, B and C.
        expand: d_inner = expand * d_model.
        headdim: channels of a head; divides d_inner.
        ngroups: groups of heads that share B and C; the CPU kernel has one, more take the matrix form.
        conv_bias, bias: biases of the convolution and of the projections in and out.
        chunk_size: chunk length of the CUDA kernel.
        backend: see `seqrec_lib.ssm.backends`; an attribute that may be changed at any time.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        *,
        ngroups: int = 1,
        conv_bias: bool = True,
        bias: bool = False,
        chunk_size: int = 256,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.headdim, self.ngroups, self.chunk_size = headdim, ngroups, chunk_size
        self.d_inner = expand * d_model
        self.nheads = heads_of(self.d_inner, headdim)
        self.backend = backend
        conv_dim = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + conv_dim + self.nheads, bias=bias)  # order: z, x, B, C, dt
        self.conv1d = nn.Conv1d(conv_dim, conv_dim, d_conv, groups=conv_dim, padding=d_conv - 1, bias=conv_bias)
        self.dt_bias = undecayed(dt_bias(self.nheads))
        self.A_log = undecayed(torch.log(torch.empty(self.nheads).uniform_(1.0, 16.0)))
        self.D = undecayed(torch.ones(self.nheads))
        self.norm = RMSNormGated(self.d_inner, group_size=self.d_inner // ngroups)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, length, d_model) -> the same shape; 0 at padded positions (see `padding.Span.of`).

        Raises:
            SeqRecError: lengths that do not fit x; a backend that does not work here.
        """
        span = Span.of(x, lengths)
        backend = choose(self.backend, x)
        GN = self.ngroups * self.d_state
        z, xBC, dt_raw = project_parts(x, self.in_proj, [self.d_inner, self.d_inner + 2 * GN, self.nheads])
        u, B, C = short_convolution(xBC, *taps_of(self.conv1d), self.d_conv - 1, (self.d_inner, GN, GN), span, backend)
        dt = span.zero(F.softplus(dt_raw.to(self.dt_bias.dtype) + self.dt_bias))
        heads = u.unflatten(-1, (self.nheads, self.headdim))
        B, C = (m.unflatten(-1, (self.ngroups, self.d_state)) for m in (B, C))
        y = ssd(heads, dt, -torch.exp(self.A_log), B, C, self.D, backend, self.chunk_size).flatten(-2)
        return span.zero(self.out_proj(self.norm(y, z, span, backend)))

    def init_state(self, batch: int) -> dict[str, Tensor]:
        """The state before the first token, zeros: conv (batch, channels, d_conv), ssm (batch, heads, headdim, N).

        The layout is that of mamba-ssm's inference cache. Along the first axis states may be sliced and concatenated.
        """
        like = self.A_log
        return {
            "conv": like.new_zeros(batch, self.conv1d.in_channels, self.d_conv),
            "ssm": like.new_zeros(batch, self.nheads, self.headdim, self.d_state),
        }

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One token: x (batch, d_model) and the state after the tokens before it -> (output, new state).

        Equal to the last position of `forward` over all tokens so far. The given state is left as it is.
        """
        GN = self.ngroups * self.d_state
        z, xBC, dt_raw = self.in_proj(x).split([self.d_inner, self.d_inner + 2 * GN, self.nheads], dim=-1)
        conv = torch.cat([state["conv"][:, :, 1:], xBC[:, :, None]], dim=-1)
        u, B, C = convolution_step(conv, *taps_of(self.conv1d)).split([self.d_inner, GN, GN], dim=-1)
        dt = F.softplus(dt_raw + self.dt_bias)
        u = u.unflatten(-1, (self.nheads, self.headdim))
        per_group = self.nheads // self.ngroups
        B, C = (m.unflatten(-1, (self.ngroups, -1)).repeat_interleave(per_group, 1)[:, :, None] for m in (B, C))
        decay = torch.exp(dt * -torch.exp(self.A_log))[..., None, None]
        h = decay * state["ssm"] + (dt[..., None] * u)[..., None] * B
        y = (h * C).sum(-1) + self.D[:, None] * u
        return self.out_proj(self.norm(y.flatten(-2), z)), {"conv": conv, "ssm": h}


def heads_of(d_inner: int, headdim: int) -> int:
    """d_inner / headdim; ValueError if that is no whole number."""
    if d_inner % headdim:
        raise ValueError(f"headdim {headdim} does not divide d_inner {d_inner} = expand * d_model")
    return d_inner // headdim

"""Mamba: the selective scan and its block (Gu and Dao, 2023, Algorithm 2).

Glossary: B batch, L length, D_in = expand * d_model channels, N = d_state; u the scan's input, h the state
(D_in x N), dt the step size, z the gate. Parameter names, shapes and initial values are those of mamba-ssm's `Mamba`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_lib.ssm.backends import choose
from seqrec_lib.ssm.convolution import convolution_step, short_convolution, taps_of
from seqrec_lib.ssm.initialisation import dt_bias, undecayed
from seqrec_lib.ssm.padding import Span
from seqrec_lib.ssm.projection import project_parts


def selective_scan_reference(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence, one token after another, for each channel:

        h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t
        y_t = C_t . h_t + D u_t

    dt, B and C depend on the token ("selective"): a large dt forgets the past for u_t, a small one ignores u_t.

    Args:
        u, dt: (batch, length, d_inner), dt > 0.
        A: (d_inner, d_state), negative. B, C: (batch, length, d_state). D: (d_inner,).

    Returns:
        y, shaped as u.
    """
    h = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * A)
        h = decay * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None, :]
        outputs.append((h * C[:, t, None, :]).sum(-1))
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(u)
    return y + D * u


def selective_scan(
    u: Tensor,
    dt_raw: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor,
    span: Span,
    backend: str,
) -> Tensor:
    """scan(u) silu(z) with dt = softplus(dt_raw + dt_bias), by the given backend.

    Shapes as in `selective_scan_reference`; z as u, dt_bias (d_inner,). u is 0 at padded positions.
    """
    if backend == "cpu":
        from seqrec_lib.fast.kernels.scan import SelectiveScan

        y: Tensor = SelectiveScan.apply(u, dt_raw, A, B, C, D, dt_bias, z, span.lengths)
        return y
    if backend == "cuda":
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        rows = (
            x.transpose(1, 2).contiguous() for x in (u, dt_raw.to(u.dtype), B.to(u.dtype), C.to(u.dtype), z.to(u.dtype))
        )
        u, dt_raw, B, C, z = rows
        y = selective_scan_fn(
            u, dt_raw, A.float(), B, C, D.float(), z=z, delta_bias=dt_bias.float(), delta_softplus=True
        )  # fmt: skip
        return y.transpose(1, 2)
    return selective_scan_reference(u, F.softplus(dt_raw + dt_bias), A, B, C, D) * F.silu(z)


class Mamba(nn.Module):
    """The Mamba block: project, convolve, scan, gate, project back. Causal: output t depends on inputs up to t.

    Args:
        d_model: width of input and output.
        d_state: numbers of state per channel.
        d_conv: taps of the causal convolution.
        expand: d_inner = expand * d_model.
        backend: see `seqrec_lib.ssm.backends`; an attribute that may be changed at any time.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        *,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16)  # of the projection to dt
        self.backend = backend
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)  # order: x, z
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)  # order: dt, B, C
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt_bias(self.d_inner))
        self.dt_proj.bias._no_reinit = True  # type: ignore[attr-defined]
        A = torch.arange(1, d_state + 1, dtype=torch.float32).repeat(self.d_inner, 1)  # S4D-real
        self.A_log = undecayed(torch.log(A))
        self.D = undecayed(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, length, d_model) -> the same shape; 0 at padded positions (see `padding.Span.of`).

        Raises:
            SeqRecError: lengths that do not fit x; a backend that does not work here.
        """
        span = Span.of(x, lengths)
        backend = choose(self.backend, x)
        u_raw, z = project_parts(x, self.in_proj, [self.d_inner, self.d_inner])
        (u,) = short_convolution(u_raw, *taps_of(self.conv1d), self.d_conv - 1, (self.d_inner,), span, backend)
        dt_low, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dt_raw = F.linear(dt_low, self.dt_proj.weight)
        A = -torch.exp(self.A_log)
        y = selective_scan(u, dt_raw, A, B, C, self.D, self.dt_proj.bias, z, span, backend)
        return span.zero(self.out_proj(y))

    def init_state(self, batch: int) -> dict[str, Tensor]:
        """The state before the first token: conv (batch, d_inner, d_conv), ssm (batch, d_inner, d_state), zeros.

        The layout is that of mamba-ssm's inference cache. Along the first axis states may be sliced and concatenated.
        """
        like = self.A_log
        return {
            "conv": like.new_zeros(batch, self.d_inner, self.d_conv),
            "ssm": like.new_zeros(batch, self.d_inner, self.d_state),
        }

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One token: x (batch, d_model) and the state after the tokens before it -> (output, new state).

        Equal to the last position of `forward` over all tokens so far. The given state is left as it is.
        """
        u_raw, z = self.in_proj(x).chunk(2, dim=-1)
        conv = torch.cat([state["conv"][:, :, 1:], u_raw[:, :, None]], dim=-1)
        u = convolution_step(conv, *taps_of(self.conv1d))
        dt_low, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dt = F.softplus(self.dt_proj(dt_low))
        decay = torch.exp(dt[..., None] * -torch.exp(self.A_log))
        h = decay * state["ssm"] + (dt * u)[..., None] * B[:, None, :]
        y = (h * C[:, None, :]).sum(-1) + self.D * u
        return self.out_proj(y * F.silu(z)), {"conv": conv, "ssm": h}

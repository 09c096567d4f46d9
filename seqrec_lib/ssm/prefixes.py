"""Hydra read at the last position of every prefix, in one pass.

A Hydra layer is not causal, so its outputs for a history cannot train every position at once. But a recommender
reads only the last position, and there, in the prefix that ends at T,

- the backward half is shifted by one and has seen nothing: it is 0;
- the forward half is the recurrence up to T - 1 and the diagonal adds token T;
- the centred convolution of r = (d_conv - 1) / 2 taps to each side misses its taps beyond T: those of position
  T - r + m are cut by m, for m = 1 .. r; up to T - r it is the convolution of the whole history.

With v^(m) for "computed with the last m taps cut", all of it but the last r tokens is one SSD on delayed inputs:

    y_T = sum_(j <= T - r)  C^(r-1)_(T-1) . B^(0)_j dt_j exp(A sum_(j<k<T) dt_k) x^(0)_j
        + sum_(0 < m < r)   the same term for j = T - r + m, with B^(m)_j and x^(m)_j
        + (fc_D(x^(r)_T) + D) x^(r)_T

So a one-layer Hydra recommender is a causal state-space model behind a convolution that, at the newest tokens, looks
back only. `last_outputs` is this for all T; `last_output_step` for the next T, given the state of the tokens before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqrec_lib.ssm.convolution import convolution_step, cut_convolutions
from seqrec_lib.ssm.padding import Span, delayed
from seqrec_lib.ssm.ssd import ssd


def last_outputs(
    xBC: Tensor,
    weight: Tensor,
    bias: Tensor,
    dt: Tensor,
    A: Tensor,
    diagonal: Callable[[Tensor], Tensor],
    d_state: int,
    span: Span,
    backend: str,
    chunk: int,
) -> Tensor:
    """y of the equation above for every T.

    Args:
        xBC: (batch, length, d_inner + 2 N), the convolution's input for x and the forward B and C.
        weight, bias: the convolution's, (d_inner + 2 N, d_conv) and (d_inner + 2 N,).
        dt: (batch, length, heads), 0 at padded positions. A: (heads,).
        diagonal: fc_D(.) + D, from (..., d_inner) to (..., heads).
        span, backend, chunk: as in `ssd`.

    Returns:
        (batch, length, d_inner).
    """
    r = weight.shape[1] // 2
    widths = (xBC.shape[2] - 2 * d_state, d_state, d_state)
    x, B, C = cut_convolutions(xBC, weight, bias, r, widths, span, backend)
    x, B, C = x.unflatten(-1, (dt.shape[-1], -1)), B.unsqueeze(-2), C.unsqueeze(-2)  # one group of heads
    C_before = delayed(C[r - 1], 1)
    # since[m] = sum of dt_k over T - r + m < k < T
    since = [torch.zeros_like(dt)]
    for s in range(1, r):
        since.append(since[-1] + delayed(dt, s))
    since.reverse()
    main = ssd(delayed(x[0], r), delayed(dt, r), A, delayed(B[0], r), C_before, None, backend, chunk)
    y = torch.exp(A * since[0])[..., None] * main
    for m in range(1, r):
        match = (C_before * delayed(B[m], r - m)).sum(-1)
        y = y + (match * delayed(dt, r - m) * torch.exp(A * since[m]))[..., None] * delayed(x[m], r - m)
    newest = x[r]
    return (y + diagonal(newest.flatten(-2))[..., None] * newest).flatten(-2)


def last_output_step(
    xBC: Tensor,
    weight: Tensor,
    bias: Tensor,
    dt: Tensor,
    A: Tensor,
    diagonal: Callable[[Tensor], Tensor],
    d_state: int,
    state: dict[str, Tensor],
) -> tuple[Tensor, dict[str, Tensor]]:
    """y of the equation above for the next T, and the state after it.

    xBC (batch, d_inner + 2 N) and dt (batch, heads) belong to token T; `state` is `Hydra.init_state`'s. Before the
    first token dt is 0, which also silences the convolution's bias there. Returns y (batch, d_inner).
    """
    r = weight.shape[1] // 2
    conv = torch.cat([state["conv"][:, :, 1:], xBC[:, :, None]], dim=-1)
    newest_dt = state["dt"]  # (batch, r, heads): dt_(T-r) .. dt_(T-1)

    def parts(m: int) -> tuple[Tensor, Tensor, Tensor]:
        """x (batch, heads, P, 1), B and C (batch, 1, 1, N) at position T - r + m with m taps cut."""
        out = convolution_step(conv[:, :, m:], weight, bias)
        x, B, C = out.split([out.shape[1] - 2 * d_state, d_state, d_state], dim=-1)
        return x.unflatten(-1, (dt.shape[-1], -1))[..., None], B[:, None, None], C[:, None, None]

    C_before = parts(r - 1)[2]
    h = state["ssm"]
    y: Tensor | None = None
    for m in range(r):
        x, B, _ = parts(m)
        dt_m = newest_dt[:, m, :, None, None]
        if m == 0:
            h = torch.exp(dt_m * A[:, None, None]) * h + dt_m * x * B
            held = h
        else:
            held = dt_m * x * B
        decay = torch.exp(A * newest_dt[:, m + 1 :].sum(1))[:, :, None]
        term = decay * (held * C_before).sum(-1)
        y = term if y is None else y + term
    newest = parts(r)[0][..., 0]
    total = newest * diagonal(newest.flatten(-2))[..., None] + (0.0 if y is None else y)
    state = {"conv": conv, "dt": torch.cat([newest_dt[:, 1:], dt[:, None]], dim=1), "ssm": h}
    return total.flatten(-2), state

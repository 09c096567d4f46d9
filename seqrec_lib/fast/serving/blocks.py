"""State-space mixers with one decay per head for one user, as compiled loops: the last output, and one more item.

Only the last output is wanted, so that most of a forward pass falls away: the gate, the projection out and the
feed-forward network are computed once, not once per item. With one decay per head (Mamba-2, Hydra) the recurrence
itself is read with a single query, as attention without a softmax:

    y_T = sum_(j <= T) (C_T . B_j) dt_j exp(A sum_(j < k <= T) dt_k) x_j  + D x_T

which needs no state at all. Hydra's last output is the same sum over j < T with C_(T-1), its convolution looking ahead
as far as there are items (`seqrec_lib.ssm.prefixes`). Mamba has a decay for each channel and number of state: its
recurrence is run (`selective`).

Glossary: L items, D_in = expand d channels, N = d_state, H heads, P = headdim, K taps of the convolution.
``rows`` are the input projections of the items that the mixers convolve, (L, D_in [+ 2 N]).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from seqrec_lib.fast.kernels.elementary import f32, sigmoid32
from seqrec_lib.fast.serving.kernels import KERNEL, rms_norm


@njit(**KERNEL)
def convolved(rows, t, past, taps, bias, low, high, out):  # type: ignore[no-untyped-def]
    """out[low:high] = silu(bias + sum_k taps[k] rows[t + k - past]) for these channels; rows outside count as 0."""
    for c in range(low, high):
        out[c] = bias[c]
    for k in range(taps.shape[0]):
        s = t + k - past
        if 0 <= s < rows.shape[0]:
            row, tap = rows[s], taps[k]
            for c in range(low, high):
                out[c] += tap[c] * row[c]
    for c in range(low, high):
        out[c] = out[c] * sigmoid32(out[c])


@njit(**KERNEL)
def read_last(rows, dt, past, lag, taps, bias, A, y, newest):  # type: ignore[no-untyped-def]
    """The sum at the head of this module: y (D_in,) without its diagonal term, and x of the last item in ``newest``.

    Args:
        rows: (L, D_in + 2 N), columns x, B, C. dt: (L, H) positive. A: (H,) negative.
        past: taps of the convolution that look back; lag: 0, or 1 for Hydra's sum over j < T.
    """
    length, heads = dt.shape
    channels = y.size
    width, states = channels // heads, (rows.shape[1] - channels) // 2
    xBC = np.empty(rows.shape[1], np.float32)
    C = np.empty(states, np.float32)
    since = np.zeros(heads, np.float32)
    last = length - 1
    for c in range(channels):
        y[c] = f32(0.0)
    convolved(rows, last, past, taps, bias, 0, channels, xBC)
    for c in range(channels):
        newest[c] = xBC[c]
    if last < lag:
        return
    convolved(rows, last - lag, past, taps, bias, channels + states, channels + 2 * states, xBC)
    for n in range(states):
        C[n] = xBC[channels + states + n]
    for j in range(last - lag, -1, -1):
        convolved(rows, j, past, taps, bias, 0, channels + states, xBC)
        match = f32(0.0)
        B = xBC[channels : channels + states]
        for n in range(states):
            match += C[n] * B[n]
        for head in range(heads):
            weight = match * dt[j, head] * np.exp(A[head] * since[head])
            since[head] += dt[j, head]
            x, to = xBC[head * width : (head + 1) * width], y[head * width : (head + 1) * width]
            for p in range(width):
                to[p] += weight * x[p]


@njit(**KERNEL)
def run_states(rows, dt, past, stop, taps, bias, A, h):  # type: ignore[no-untyped-def]
    """The state h (H, P, N) after the items before ``stop``, each convolved with all that follow it in ``rows``."""
    heads, width, states = h.shape
    channels = heads * width
    xBC = np.empty(rows.shape[1], np.float32)
    for t in range(stop):
        convolved(rows, t, past, taps, bias, 0, channels + states, xBC)
        advance(h, np.exp(A * dt[t]), dt[t], xBC)


@njit(**KERNEL)
def advance(h, decay, dt, xB):  # type: ignore[no-untyped-def]
    """h (H, P, N) <- decay h + dt x B^T, with x and B the first columns of xB."""
    heads, width, states = h.shape
    B = xB[heads * width : heads * width + states]
    for head in range(heads):
        keep = f32(decay[head])
        for p in range(width):
            hp, a = h[head, p], dt[head] * xB[head * width + p]
            for n in range(states):
                hp[n] = keep * hp[n] + a * B[n]


@njit(**KERNEL)
def contract(h, C, factor, y):  # type: ignore[no-untyped-def]
    """y += factor (per head) h C: (H, P, N), (N,), (H,), (D_in,)."""
    heads, width, states = h.shape
    for head in range(heads):
        for p in range(width):
            hp, total = h[head, p], f32(0.0)
            for n in range(states):
                total += hp[n] * C[n]
            y[head * width + p] += factor[head] * total


@njit(**KERNEL)
def shift(window, row):  # type: ignore[no-untyped-def]
    """Move a window of the latest inputs (K, channels) on by one and put ``row`` at its end."""
    taps = window.shape[0]
    for k in range(taps - 1):
        for c in range(window.shape[1]):
            window[k, c] = window[k + 1, c]
    for c in range(window.shape[1]):
        window[taps - 1, c] = row[c]


@njit(**KERNEL)
def ssd_step(row, dt, window, taps, bias, A, D, h, y, xBC):  # type: ignore[no-untyped-def]
    """Mamba-2 for one more item with input row (D_in + 2 N,): y (D_in,) with its diagonal term; window, h move on."""
    heads, width, states = h.shape
    channels = heads * width
    shift(window, row)
    convolved(window, taps.shape[0] - 1, taps.shape[0] - 1, taps, bias, 0, row.size, xBC)
    advance(h, np.exp(A * dt), dt, xBC)
    for head in range(heads):
        for p in range(head * width, (head + 1) * width):
            y[p] = D[head] * xBC[p]
    contract(h, xBC[channels + states :], np.ones(heads, np.float32), y)


@njit(**KERNEL)
def hydra_step(row, dt, window, waiting, taps, bias, A, fc_D, D, h, y, xBC):  # type: ignore[no-untyped-def]
    """Hydra for one more item: as `ssd_step`; ``waiting`` (r, H) holds dt of the r items that h does not have yet.

    The oldest of them enters h now, as its convolution has all its taps; the others are added with those they have.
    """
    heads, width, states = h.shape
    channels, r = heads * width, waiting.shape[0]
    shift(window, row)
    C = np.empty(states, np.float32)
    convolved(window, 2 * r - 1, r, taps, bias, channels + states, channels + 2 * states, xBC)
    for n in range(states):
        C[n] = xBC[channels + states + n]
    for c in range(channels):
        y[c] = f32(0.0)
    since = np.zeros(heads, np.float32)
    for m in range(r - 1, 0, -1):
        convolved(window, r + m, r, taps, bias, 0, channels + states, xBC)
        match = f32(0.0)
        for n in range(states):
            match += C[n] * xBC[channels + n]
        for head in range(heads):
            weight = match * waiting[m, head] * np.exp(A[head] * since[head])
            for p in range(head * width, (head + 1) * width):
                y[p] += weight * xBC[p]
            since[head] += waiting[m, head]
    convolved(window, r, r, taps, bias, 0, channels + states, xBC)
    advance(h, np.exp(A * waiting[0]), waiting[0], xBC)
    contract(h, C, np.exp(A * since), y)
    shift(waiting, dt)
    convolved(window, 2 * r, r, taps, bias, 0, channels, xBC)
    hydra_diagonal(xBC, fc_D, D, y)


@njit(**KERNEL)
def hydra_diagonal(x, fc_D, D, y):  # type: ignore[no-untyped-def]
    """y += (fc_D(x) + D) x, a factor for each head: fc_D (D_in, H), D (H,)."""
    channels, heads = y.size, D.size
    width = channels // heads
    factor = D.copy()
    for c in range(channels):
        for head in range(heads):
            factor[head] += x[c] * fc_D[c, head]
    for head in range(heads):
        for p in range(head * width, (head + 1) * width):
            y[p] += factor[head] * x[p]


@njit(**KERNEL)
def gated_norm(y, z, weight, eps, norm_first):  # type: ignore[no-untyped-def]
    """y <- the gated RMSNorm of y with gate z, in the order that the mixer has."""
    if norm_first:
        rms_norm(y, weight, eps)
    for c in range(y.size):
        y[c] *= z[c] * sigmoid32(z[c])
    if not norm_first:
        rms_norm(y, weight, eps)

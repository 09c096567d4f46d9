"""The selective scan on the CPU: one fused loop forward, one backward, states recomputed instead of stored.

The state of d_inner x d_state numbers per token stays in the first-level cache: the forward loop keeps one per
`SEGMENT` tokens, the backward loop recomputes a segment's states from there and runs the adjoint recurrence

    g_t = dL/dh_t = C_t dy_t + exp(dt_{t+1} A) g_{t+1}

over them in reverse. The innermost loops run over channels, so that B_t and C_t are scalars there and only the
gradients of B and C need a sum across a vector.

Glossary: L length, d_inner channels, N d_state; u the input, h the state, y the output before the gate z.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray, cfunc, njit
from torch import Tensor

from seqrec_lib.fast.kernels.elementary import FAST, exp32, f32, sigmoid32, softplus32
from seqrec_lib.fast.kernels.threads import KERNEL, float32_at, int64_at, next_task, run

SEGMENT = 16  # tokens between two stored states
WIDTH = 64  # channels per task


@njit(**FAST)
def _clear(x, first, last, low, high):  # type: ignore[no-untyped-def]
    """x[first:last, low:high] = 0, in a loop: numba compiles that ten times as fast as the slice."""
    for t in range(first, last):
        for d in range(low, high):
            x[t, d] = f32(0.0)


@njit(**FAST)
def _load(block, x, low, high):  # type: ignore[no-untyped-def]
    """block[n, :] = x[n, low:high] for every row n of x."""
    for n in range(x.shape[0]):
        for d in range(high - low):
            block[n, d] = x[n, low + d]


@njit(**FAST)
def _store(x, block, low, high):  # type: ignore[no-untyped-def]
    """x[n, low:high] = block[n, :] for every row n of x."""
    for n in range(x.shape[0]):
        for d in range(high - low):
            x[n, low + d] = block[n, d]


@njit(**FAST)
def _advance(h, dt, x, A, b, c, y):  # type: ignore[no-untyped-def]
    """One token: h <- exp(dt A) h + x b; y <- sum_n c_n h_n. Shapes: h, A (N, w); dt, x, y (w,); b, c (N,)."""
    width = y.size
    for d in range(width):
        y[d] = f32(0.0)
    for n in range(A.shape[0]):
        hn, an, bn, cn = h[n], A[n], b[n], c[n]
        for d in range(width):
            state = exp32(dt[d] * an[d]) * hn[d] + bn * x[d]
            hn[d] = state
            y[d] += cn * state


@njit(**FAST)
def _advance_and_keep(h, new, decay, dt, x, A, b):  # type: ignore[no-untyped-def]
    """As `_advance`, but writes the new state and the decays beside the old state. All (N, w)."""
    width = dt.size
    for n in range(A.shape[0]):
        hn, new_n, decay_n, an, bn = h[n], new[n], decay[n], A[n], b[n]
        for d in range(width):
            e = exp32(dt[d] * an[d])
            decay_n[d] = e
            new_n[d] = e * hn[d] + bn * x[d]


@njit(**FAST)
def _retreat(g, h, previous, decay, dt, x, dy, A, b, c, dA, dx, ddt, db, dc):  # type: ignore[no-untyped-def]
    """One token of the adjoint: adds to dA, sets dx, ddt; adds to db, dc; leaves exp(dt A) g in g."""
    width = dt.size
    for d in range(width):
        dx[d] = f32(0.0)
        ddt[d] = f32(0.0)
    for n in range(A.shape[0]):
        gn, hn, pn, en, an, dan = g[n], h[n], previous[n], decay[n], A[n], dA[n]
        bn, cn = b[n], c[n]
        sum_b, sum_c = f32(0.0), f32(0.0)
        for d in range(width):
            grad = gn[d] + cn * dy[d]
            sum_c += dy[d] * hn[d]
            sum_b += grad * x[d]
            dx[d] += grad * bn
            grad = grad * en[d]
            gn[d] = grad
            grad = grad * pn[d]  # gradient of dt A
            dan[d] += grad * dt[d]
            ddt[d] += grad * an[d]
        db[n] += sum_b
        dc[n] += sum_c


@cfunc(KERNEL, cache=True, **FAST)
def _forward(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (20,))
    batch, length, channels, states, segments, blocks, keep = k[2], k[3], k[4], k[5], k[6], k[7], k[8]
    u = carray(float32_at(k[9]), (batch, length, channels))
    dt_raw = carray(float32_at(k[10]), (batch, length, channels))
    A = carray(float32_at(k[11]), (states, channels))
    B = carray(float32_at(k[12]), (batch, length, states))
    C = carray(float32_at(k[13]), (batch, length, states))
    D_bias = carray(float32_at(k[14]), (2, channels))
    z = carray(float32_at(k[15]), (batch, length, channels))
    lengths = carray(int64_at(k[16]), (batch,))
    out = carray(float32_at(k[17]), (batch, length, channels))
    y_kept = carray(float32_at(k[18]), (batch, length, channels))
    h_kept = carray(float32_at(k[19]), (batch, segments, states, channels))
    state = np.empty((states, WIDTH), np.float32)
    a_block = np.empty((states, WIDTH), np.float32)
    rows = np.empty((3, WIDTH), np.float32)
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        i, low = task // blocks, (task % blocks) * WIDTH
        high = min(low + WIDTH, channels)
        width = high - low
        h, a = state, a_block
        dt, x, y = rows[0, :width], rows[1, :width], rows[2, :width]
        _clear(h, 0, states, 0, WIDTH)
        _load(a, A, low, high)
        skip, bias = D_bias[0, low:high], D_bias[1, low:high]
        stop = lengths[i]
        _clear(out[i], stop, length, low, high)
        for t in range(stop):
            if keep and t % SEGMENT == 0:
                _store(h_kept[i, t // SEGMENT], h, low, high)
            ut, raw, ot, zt = u[i, t, low:high], dt_raw[i, t, low:high], out[i, t, low:high], z[i, t, low:high]
            for d in range(width):
                dt[d] = softplus32(raw[d] + bias[d])
                x[d] = dt[d] * ut[d]
            _advance(h, dt, x, a, B[i, t], C[i, t], y)
            if keep:
                yt = y_kept[i, t, low:high]
                for d in range(width):
                    yt[d] = y[d]
            for d in range(width):
                ot[d] = (y[d] + skip[d] * ut[d]) * zt[d] * sigmoid32(zt[d])


@cfunc(KERNEL, cache=True, **FAST)
def _backward(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (26,))
    batch, length, channels, states, segments, blocks = k[2], k[3], k[4], k[5], k[6], k[7]
    u = carray(float32_at(k[8]), (batch, length, channels))
    dt_raw = carray(float32_at(k[9]), (batch, length, channels))
    A = carray(float32_at(k[10]), (states, channels))
    B = carray(float32_at(k[11]), (batch, length, states))
    C = carray(float32_at(k[12]), (batch, length, states))
    D_bias = carray(float32_at(k[13]), (2, channels))
    z = carray(float32_at(k[14]), (batch, length, channels))
    lengths = carray(int64_at(k[15]), (batch,))
    y_kept = carray(float32_at(k[16]), (batch, length, channels))
    h_kept = carray(float32_at(k[17]), (batch, segments, states, channels))
    dout = carray(float32_at(k[18]), (batch, length, channels))
    du = carray(float32_at(k[19]), (batch, length, channels))
    ddt_raw = carray(float32_at(k[20]), (batch, length, channels))
    dA = carray(float32_at(k[21]), (batch, states, channels))
    dB = carray(float32_at(k[22]), (blocks, batch, length, states))
    dC = carray(float32_at(k[23]), (blocks, batch, length, states))
    dD_dbias = carray(float32_at(k[24]), (batch, 2, channels))
    dz = carray(float32_at(k[25]), (batch, length, channels))
    kept_h = np.empty((SEGMENT + 1, states, WIDTH), np.float32)
    kept_decay = np.empty((SEGMENT, states, WIDTH), np.float32)
    kept_rows = np.empty((3, SEGMENT, WIDTH), np.float32)
    blocks3 = np.empty((3, states, WIDTH), np.float32)
    rows = np.empty((4, WIDTH), np.float32)
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        i, block = task // blocks, task % blocks
        low = block * WIDTH
        high = min(low + WIDTH, channels)
        width = high - low
        g, a, da = blocks3[0], blocks3[1], blocks3[2]
        dx, ddt, dskip, dbias = rows[0, :width], rows[1, :width], rows[2, :width], rows[3, :width]
        _clear(g, 0, states, 0, WIDTH)
        _clear(da, 0, states, 0, WIDTH)
        _clear(rows, 0, 4, 0, WIDTH)
        _load(a, A, low, high)
        skip, bias = D_bias[0, low:high], D_bias[1, low:high]
        stop = lengths[i]
        _clear(du[i], stop, length, low, high)
        _clear(ddt_raw[i], stop, length, low, high)
        _clear(dB[block, i], stop, length, 0, states)
        _clear(dC[block, i], stop, length, 0, states)
        _clear(dz[i], stop, length, low, high)
        for segment in range((stop + SEGMENT - 1) // SEGMENT - 1, -1, -1):
            first = segment * SEGMENT
            tokens = min(SEGMENT, stop - first)
            _load(kept_h[0], h_kept[i, segment], low, high)
            for s in range(tokens):  # forward again, keeping states and decays of this segment
                t = first + s
                dt, x, dy = kept_rows[0, s, :width], kept_rows[1, s, :width], kept_rows[2, s, :width]
                ut, raw, dot = u[i, t, low:high], dt_raw[i, t, low:high], dout[i, t, low:high]
                for d in range(width):
                    dt[d] = softplus32(raw[d] + bias[d])
                    x[d] = dt[d] * ut[d]
                zt, dzt, yt = z[i, t, low:high], dz[i, t, low:high], y_kept[i, t, low:high]
                for d in range(width):
                    gate = sigmoid32(zt[d])
                    dy[d] = dot[d] * zt[d] * gate
                    dzt[d] = dot[d] * (yt[d] + skip[d] * ut[d]) * gate * (f32(1.0) + zt[d] * (f32(1.0) - gate))
                _advance_and_keep(kept_h[s], kept_h[s + 1], kept_decay[s], dt, x, a, B[i, t])
            for s in range(tokens - 1, -1, -1):
                t = first + s
                dt, x, dy = kept_rows[0, s, :width], kept_rows[1, s, :width], kept_rows[2, s, :width]
                ut, raw = u[i, t, low:high], dt_raw[i, t, low:high]
                dut, drt = du[i, t, low:high], ddt_raw[i, t, low:high]
                db, dc = dB[block, i, t], dC[block, i, t]
                for n in range(states):
                    db[n] = f32(0.0)
                    dc[n] = f32(0.0)
                _retreat(
                    g, kept_h[s + 1], kept_h[s], kept_decay[s],
                    dt, x, dy, a, B[i, t], C[i, t], da, dx, ddt, db, dc,
                )  # fmt: skip
                for d in range(width):
                    dut[d] = dx[d] * dt[d] + skip[d] * dy[d]
                    change = (dx[d] * ut[d] + ddt[d]) * sigmoid32(raw[d] + bias[d])
                    drt[d] = change
                    dbias[d] += change
                    dskip[d] += dy[d] * ut[d]
        _store(dA[i], da, low, high)
        for d in range(width):
            dD_dbias[i, 0, low + d] = dskip[d]
            dD_dbias[i, 1, low + d] = dbias[d]


class SelectiveScan(torch.autograd.Function):
    """y = (scan(u) + D u) silu(z) with dt = softplus(dt_raw + dt_bias); see `seqrec_lib.ssm.selective_scan`.

    Shapes: u, dt_raw, z (batch, length, d_inner); A (d_inner, d_state); B, C (batch, length, d_state); D, dt_bias
    (d_inner,); lengths (batch,) int64. All float32. Past a history's length outputs and gradients are 0.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        u: Tensor,
        dt_raw: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        dt_bias: Tensor,
        z: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        batch, length, channels = u.shape
        states = A.shape[1]
        u, dt_raw, z = u.contiguous(), dt_raw.contiguous(), z.contiguous()
        B, C = B.contiguous(), C.contiguous()
        A_rows, D_bias = A.t().contiguous(), torch.stack([D, dt_bias])
        segments, blocks = -(-length // SEGMENT), -(-channels // WIDTH)
        keep = any(ctx.needs_input_grad)
        out = torch.empty_like(u)
        y = torch.empty_like(u) if keep else out
        h = u.new_empty(batch, segments, states, channels) if keep else out
        sizes = (batch, length, channels, states, segments, blocks)
        run(_forward, batch * blocks, *sizes, int(keep), u, dt_raw, A_rows, B, C, D_bias, z, lengths, out, y, h)
        if keep:
            ctx.save_for_backward(u, dt_raw, A_rows, B, C, D_bias, z, lengths, y, h)
            ctx.sizes = sizes
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved = u, *_ = ctx.saved_tensors
        batch, length, channels, states, _, blocks = ctx.sizes
        du, ddt, dz = torch.empty_like(u), torch.empty_like(u), torch.empty_like(u)
        dA = u.new_empty(batch, states, channels)
        dBC = u.new_empty(2, blocks, batch, length, states)
        dD_bias = u.new_empty(batch, 2, channels)
        run(
            _backward, batch * blocks, *ctx.sizes, *saved, dout.contiguous(), du, ddt, dA, dBC[0], dBC[1], dD_bias, dz
        )  # fmt: skip
        dB, dC = dBC[:, 0] if blocks == 1 else dBC.sum(1)
        dD, dbias = dD_bias.sum(0)
        return du, ddt, dA.sum(0).t(), dB, dC, dD, dbias, dz, None

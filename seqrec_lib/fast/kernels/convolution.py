"""The short depthwise convolution and its SiLU on the CPU, as one pass over (batch, length, channels) rows.

`F.conv1d` wants channels before time and treats a depthwise convolution as many tiny ones; here a row of channels is
the vector, and the result is written straight into the separate x, B, C tensors that the mixers multiply.

With `cuts` > 0 the kernel returns, besides the full convolution, the ones whose last 1, 2, ... future taps are cut
off: what the convolution of a prefix sees near the prefix's end (Hydra's `forward_prefixes`). They are partial sums
of the same products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray, cfunc, njit
from torch import Tensor

from seqrec_lib.fast.kernels.elementary import FAST, f32, sigmoid32
from seqrec_lib.fast.kernels.threads import KERNEL, float32_at, int64_at, next_task, run

ROWS = 64  # time steps per task


@njit(**FAST)
def _add_taps(sums, v, w, t, past, first, last, stop):  # type: ignore[no-untyped-def]
    """sums += sum of w[tap] v[t + tap - past] over the taps first .. last - 1 that fall inside 0 .. stop - 1."""
    for tap in range(first, last):
        source = t + tap - past
        if 0 <= source < stop:
            vt, wt = v[source], w[tap]
            for c in range(sums.size):
                sums[c] += wt[c] * vt[c]


@cfunc(KERNEL, cache=True, **FAST)
def _forward(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (14,))
    batch, length, channels, taps, past, cuts, blocks = k[2], k[3], k[4], k[5], k[6], k[7], k[8]
    v_all = carray(float32_at(k[9]), (batch, length, channels))
    w = carray(float32_at(k[10]), (taps + 1, channels))  # the last row is the bias
    lengths = carray(int64_at(k[11]), (batch,))
    ends = carray(int64_at(k[12]), (k[13],))  # end column and address of each output
    sums = np.empty(channels, np.float32)
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        i, low = task // blocks, (task % blocks) * ROWS
        stop, v = lengths[i], v_all[i]
        for t in range(low, min(low + ROWS, length)):
            valid = t < stop
            if valid:
                bias = w[taps]
                for c in range(channels):
                    sums[c] = bias[c]
                _add_taps(sums, v, w, t, past, 0, taps - cuts, stop)
            for cut in range(cuts, -1, -1):
                if valid and cut < cuts:
                    _add_taps(sums, v, w, t, past, taps - cut - 1, taps - cut, stop)
                begin = 0
                for part in range(k[13] // 2):
                    end = ends[2 * part]
                    width = end - begin
                    y = carray(float32_at(ends[2 * part + 1]), (cuts + 1, batch, length, width))[cut, i, t]
                    if valid:
                        s = sums[begin:end]
                        for c in range(width):
                            y[c] = s[c] * sigmoid32(s[c])
                    else:
                        for c in range(width):
                            y[c] = f32(0.0)
                    begin = end


@cfunc(KERNEL, cache=True, **FAST)
def _backward(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (15,))
    batch, length, channels, taps, past, cuts = k[2], k[3], k[4], k[5], k[6], k[7]
    v_all = carray(float32_at(k[8]), (batch, length, channels))
    w = carray(float32_at(k[9]), (taps + 1, channels))
    lengths = carray(int64_at(k[10]), (batch,))
    ends = carray(int64_at(k[11]), (k[12],))
    dv_all = carray(float32_at(k[13]), (batch, length, channels))
    dw_all = carray(float32_at(k[14]), (batch, taps + 1, channels))
    sums = np.empty(channels, np.float32)
    # dsums[row]: gradients of all the partial sums whose last tap is the row's, summed over the cuts that contain it.
    dsums = np.empty((cuts + 1, channels), np.float32)
    while True:
        i = next_task(address)
        if i >= k[1]:
            break
        stop, v, dv, dw = lengths[i], v_all[i], dv_all[i], dw_all[i]
        for t in range(length):
            for c in range(channels):
                dv[t, c] = f32(0.0)
        for tap in range(taps + 1):
            for c in range(channels):
                dw[tap, c] = f32(0.0)
        for t in range(stop):
            bias = w[taps]
            for c in range(channels):
                sums[c] = bias[c]
            _add_taps(sums, v, w, t, past, 0, taps - cuts, stop)
            for cut in range(cuts, -1, -1):
                if cut < cuts:
                    _add_taps(sums, v, w, t, past, taps - cut - 1, taps - cut, stop)
                begin = 0
                for part in range(k[12] // 2):
                    end = ends[2 * part]
                    width = end - begin
                    dy = carray(float32_at(ends[2 * part + 1]), (cuts + 1, batch, length, width))[cut, i, t]
                    s, ds = sums[begin:end], dsums[cut, begin:end]
                    for c in range(width):
                        gate = sigmoid32(s[c])
                        ds[c] = dy[c] * gate * (f32(1.0) + s[c] * (f32(1.0) - gate))
                    begin = end
            # A tap that only the less cut sums contain gets their gradients; the taps before it get all of them.
            for cut in range(cuts + 1):
                ds = dsums[cut]
                if cut > 0:
                    before = dsums[cut - 1]
                    for c in range(channels):
                        ds[c] += before[c]
                first = 0 if cut == cuts else taps - cut - 1
                for tap in range(first, taps - cut):
                    source = t + tap - past
                    if 0 <= source < stop:
                        vt, wt, dvt, dwt = v[source], w[tap], dv[source], dw[tap]
                        for c in range(channels):
                            dvt[c] += ds[c] * wt[c]
                        for c in range(channels):  # a loop of its own: two sums in one take a quarter longer
                            dwt[c] += ds[c] * vt[c]
            ds, dbias = dsums[cuts], dw[taps]
            for c in range(channels):
                dbias[c] += ds[c]


class ConvolutionSiLU(torch.autograd.Function):
    """silu(bias + sum_tap w[:, tap] v[t + tap - past]), split into tensors of the given widths.

    Shapes: v (batch, length, channels); weight (channels, taps); bias (channels,); lengths (batch,) int64. Returns one
    tensor per width: (batch, length, width), or (cuts + 1, batch, length, width) when cuts > 0, index m = the last m
    taps cut. Positions past a history's length are read as 0 and written as 0.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        v: Tensor,
        weight: Tensor,
        bias: Tensor,
        lengths: Tensor,
        past: int,
        cuts: int,
        widths: tuple[int, ...],
    ) -> tuple[Tensor, ...]:
        batch, length, channels = v.shape
        taps = weight.shape[1]
        v = v.contiguous()
        w = torch.cat([weight.t(), bias[None]])
        shape = (cuts + 1, batch, length) if cuts else (batch, length)
        parts = tuple(v.new_empty(*shape, width) for width in widths)
        blocks = -(-length // ROWS)
        run(
            _forward, batch * blocks, batch, length, channels, taps, past, cuts, blocks, v, w, lengths,
            _ends(parts, widths), 2 * len(parts),
        )  # fmt: skip
        ctx.save_for_backward(v, w, lengths)
        ctx.past, ctx.cuts, ctx.widths = past, cuts, widths
        return parts

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        v, w, lengths = ctx.saved_tensors
        batch, length, channels = v.shape
        taps = w.shape[0] - 1
        gradients = tuple(g.contiguous() for g in gradients)
        dv, dw = torch.empty_like(v), v.new_empty(batch, taps + 1, channels)
        run(
            _backward, batch, batch, length, channels, taps, ctx.past, ctx.cuts, v, w, lengths,
            _ends(gradients, ctx.widths), 2 * len(gradients), dv, dw,
        )  # fmt: skip
        total = dw.sum(0)
        return dv, total[:-1].t(), total[-1], None, None, None, None


def _ends(parts: tuple[Tensor, ...], widths: tuple[int, ...]) -> Tensor:
    """End column and address of each part, as the kernels read them."""
    ends = np.cumsum(widths)
    return torch.tensor([[int(end), part.data_ptr()] for end, part in zip(ends, parts, strict=True)])

"""RMSNorm with a SiLU gate on the CPU, forward and backward in one pass each.

gate first (Mamba-2):  u = y silu(z),  out = w u / rms(u)
norm first (Hydra):    out = w y / rms(y) silu(z)
with rms(u) = sqrt(mean(u^2) + eps) over the channels of a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray, cfunc
from torch import Tensor

from seqrec_lib.fast.kernels.elementary import FAST, f32, sigmoid32
from seqrec_lib.fast.kernels.threads import KERNEL, float32_at, int64_at, next_task, run

ROWS = 128  # tokens per task


@cfunc(KERNEL, cache=True, **FAST)
def _forward(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (12,))
    batch, length, channels, norm_first = k[2], k[3], k[4], k[5]
    y_all = carray(float32_at(k[6]), (batch * length, channels))
    z_all = carray(float32_at(k[7]), (batch * length, channels))
    w = carray(float32_at(k[8]), (channels + 1,))  # the last number is eps
    lengths = carray(int64_at(k[9]), (batch,))
    out_all = carray(float32_at(k[10]), (batch * length, channels))
    scale = carray(float32_at(k[11]), (batch * length,))
    gate, u = np.empty(channels, np.float32), np.empty(channels, np.float32)
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        for row in range(task * ROWS, min((task + 1) * ROWS, batch * length)):
            i, t = row // length, row % length
            out = out_all[row]
            if t >= lengths[i]:
                scale[row] = f32(0.0)
                for c in range(channels):
                    out[c] = f32(0.0)
                continue
            y, z = y_all[row], z_all[row]
            for c in range(channels):
                gate[c] = z[c] * sigmoid32(z[c])
                u[c] = y[c] if norm_first else y[c] * gate[c]
            total = f32(0.0)
            for c in range(channels):
                total += u[c] * u[c]
            r = f32(1.0) / np.sqrt(total / f32(channels) + w[channels])
            scale[row] = r
            for c in range(channels):
                out[c] = u[c] * r * w[c] * (gate[c] if norm_first else f32(1.0))


@cfunc(KERNEL, cache=True, **FAST)
def _backward(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (14,))
    batch, length, channels, norm_first = k[2], k[3], k[4], k[5]
    y_all = carray(float32_at(k[6]), (batch * length, channels))
    z_all = carray(float32_at(k[7]), (batch * length, channels))
    w = carray(float32_at(k[8]), (channels + 1,))
    scale = carray(float32_at(k[9]), (batch * length,))
    dout_all = carray(float32_at(k[10]), (batch * length, channels))
    dy_all = carray(float32_at(k[11]), (batch * length, channels))
    dz_all = carray(float32_at(k[12]), (batch * length, channels))
    dw_all = carray(float32_at(k[13]), (k[1], channels))
    sigma, u, du = np.empty(channels, np.float32), np.empty(channels, np.float32), np.empty(channels, np.float32)
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        dw = dw_all[task]
        for c in range(channels):
            dw[c] = f32(0.0)
        for row in range(task * ROWS, min((task + 1) * ROWS, batch * length)):
            dy, dz, r = dy_all[row], dz_all[row], scale[row]
            if r == f32(0.0):  # padding
                for c in range(channels):
                    dy[c] = f32(0.0)
                    dz[c] = f32(0.0)
                continue
            y, z, dout = y_all[row], z_all[row], dout_all[row]
            total = f32(0.0)
            for c in range(channels):
                sigma[c] = sigmoid32(z[c])
                gate = z[c] * sigma[c]
                u[c] = y[c] if norm_first else y[c] * gate
                g = dout[c] * gate if norm_first else dout[c]  # gradient of w u / rms(u)
                dw[c] += g * u[c] * r
                du[c] = g * w[c]
                total += du[c] * u[c]
            shift = total * r * r / f32(channels)
            for c in range(channels):
                d_u = r * (du[c] - u[c] * shift)
                gate = z[c] * sigma[c]
                slope = sigma[c] * (f32(1.0) + z[c] * (f32(1.0) - sigma[c]))
                dy[c] = d_u if norm_first else d_u * gate
                dz[c] = slope * (dout[c] * w[c] * u[c] * r if norm_first else d_u * y[c])


class GatedNorm(torch.autograd.Function):
    """Gated RMSNorm of y with gate z, both (batch, length, channels); 0 past the lengths (batch,)."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, y: Tensor, z: Tensor, weight: Tensor, lengths: Tensor, eps: float, norm_first: bool
    ) -> Tensor:
        batch, length, channels = y.shape
        y, z = y.contiguous(), z.contiguous()
        w = torch.cat([weight, weight.new_tensor([eps])])
        out, scale = torch.empty_like(y), y.new_empty(batch, length)
        tasks = -(-batch * length // ROWS)
        run(_forward, tasks, batch, length, channels, int(norm_first), y, z, w, lengths, out, scale)
        ctx.save_for_backward(y, z, w, scale)
        ctx.norm_first, ctx.tasks = norm_first, tasks
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        y, z, w, scale = ctx.saved_tensors
        batch, length, channels = y.shape
        dy, dz, dw = torch.empty_like(y), torch.empty_like(y), y.new_empty(ctx.tasks, channels)
        sizes = (batch, length, channels, int(ctx.norm_first))
        run(_backward, ctx.tasks, *sizes, y, z, w, scale, dout.contiguous(), dy, dz, dw)
        return dy, dz, dw.sum(0), None, None, None

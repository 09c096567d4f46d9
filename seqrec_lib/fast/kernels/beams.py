"""One token of Mamba-2's recurrence for many beams in one pass over their states (`seqrec_lib.language.states`)."""

from __future__ import annotations

import torch
from numba import carray, cfunc
from torch import Tensor

from seqrec_lib.fast.kernels.elementary import FAST, f32
from seqrec_lib.fast.kernels.threads import KERNEL, float32_at, int64_at, next_task, run


def advance(
    state: Tensor, parents: Tensor, decay: Tensor, x: Tensor, b: Tensor, c: Tensor, out: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `seqrec_lib.language.states.advance`, of float32 tensors on a CPU."""
    B, m, H, P = x.shape
    N = state.shape[-1]
    if out is None or out.shape != (B, m, H, P, N):
        out = state.new_empty(B, m, H, P, N)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    inputs = [v.contiguous() for v in (state, parents, decay, x, b, c)]  # held while the kernel reads them
    run(_advance, B * m, m, state.shape[1], H, P, N, *inputs, out, y)
    return out, y


@cfunc(KERNEL, cache=True, **FAST)
def _advance(address):  # type: ignore[no-untyped-def]
    k = carray(int64_at(address), (15,))
    tasks, m, M, H, P, N = k[1], k[2], k[3], k[4], k[5], k[6]
    state = carray(float32_at(k[7]), (tasks // m * M, H, P, N))
    parents = carray(int64_at(k[8]), (tasks,))
    decay = carray(float32_at(k[9]), (tasks, H))
    x = carray(float32_at(k[10]), (tasks, H, P))
    b_all = carray(float32_at(k[11]), (tasks, N))
    c_all = carray(float32_at(k[12]), (tasks, N))
    out = carray(float32_at(k[13]), (tasks, H, P, N))
    y = carray(float32_at(k[14]), (tasks, H, P))
    while True:
        i = next_task(address)
        if i >= tasks:
            break
        b, c = b_all[i], c_all[i]
        before = state[i // m * M + parents[i]]
        for h in range(H):
            a = decay[i, h]
            for p in range(P):
                old, new, v, total = before[h, p], out[i, h, p], x[i, h, p], f32(0.0)
                for n in range(N):
                    s = a * old[n] + v * b[n]
                    new[n] = s
                    total += s * c[n]
                y[i, h, p] = total

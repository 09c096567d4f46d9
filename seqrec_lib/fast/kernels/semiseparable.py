"""Chunked multiplication by a semiseparable matrix on the CPU: the core of SSD (Mamba-2) and of Hydra.

Per head, over a history of L tokens cut into chunks of Q:

    y_i = sum_j W_ij x_j  +  (entry_i C_i) . h,     W_ij = (C_i . B_j) exp(sum_{j < k <= i} dt_k A) dt_j  for j <= i

W is the part inside a chunk, h the state at the chunk's beginning. The matrix products are PyTorch's; the loops here
fill the decays. A sum over a segment of dt A is built row by row, seg_ij = seg_(i-1)j + dt_i A, never as a difference
of cumulative sums: that cancels, and at dt A = -20 per token it has lost every digit of its gradient.
The backward pass runs the adjoint of the same recurrence.

`lag = 1` shifts the output by one token (row i holds y_(i-1); the caller shifts C), which makes the triangle strict;
`reverse` mirrors time: Hydra fills the upper triangle of the same W with its second direction, and its diagonal
with `delta`, so that one product applies both halves and the diagonal.

Glossary: M chunks of all histories, Q chunk length, H heads, P head width, N d_state, "before" = earlier in scan order.
"""

from __future__ import annotations

import numpy as np
from numba import carray, cfunc, njit

from seqrec_lib.fast.kernels.elementary import FAST, exp32, f32
from seqrec_lib.fast.kernels.threads import KERNEL, float32_at, int64_at, next_task


@njit(**FAST)
def _bounds(q, length, reverse):  # type: ignore[no-untyped-def]
    """Position of step q in scan order, and the half-open range of positions before it and up to it."""
    if reverse:
        position = length - 1 - q
        return position, position + 1, length, position
    return q, 0, q, 0


@njit(**FAST)
def _extend(seg, a, q, reverse):  # type: ignore[no-untyped-def]
    """Lets the segment sums end at step q: those that began before grow by a, the one that begins here is empty."""
    position, low, high, _ = _bounds(q, seg.size, reverse)
    part, step = seg[low:high], a[position]
    for j in range(high - low):
        part[j] += step
    seg[position] = f32(0.0)


@cfunc(KERNEL, cache=True, **FAST)
def weights_forward(address):  # type: ignore[no-untyped-def]
    """Task m: W of chunk m for all heads, and the decays on entry, on exit and over the whole chunk."""
    k = carray(int64_at(address), (16,))
    chunks, length, heads, lag, reverse, first = k[2], k[3], k[4], k[5], k[6], k[7]
    G_all = carray(float32_at(k[8]), (chunks, length, length))
    dt_all = carray(float32_at(k[9]), (chunks, length, heads))
    A = carray(float32_at(k[10]), (heads,))
    delta = carray(float32_at(k[11]), (chunks, length, heads))
    W_all = carray(float32_at(k[12]), (heads, chunks, length, length))
    entry = carray(float32_at(k[13]), (chunks, length, heads))
    exit_ = carray(float32_at(k[14]), (chunks, length, heads))
    total = carray(float32_at(k[15]), (chunks, heads))
    a, dt, seg = np.empty(length, np.float32), np.empty(length, np.float32), np.empty(length, np.float32)
    while True:
        m = next_task(address)
        if m >= k[1]:
            break
        for h in range(heads):
            for j in range(length):
                dt[j] = dt_all[m, j, h]
                a[j] = dt[j] * A[h]
                seg[j] = f32(0.0)
            entered = f32(0.0)
            for r in range(length + lag):
                q = r - lag
                if q >= 0:
                    _extend(seg, a, q, reverse)
                if r >= length:
                    entered += a[_bounds(q, length, reverse)[0]]
                    continue
                i = _bounds(r, length, reverse)[0]
                row = W_all[h, m, i]
                if first:
                    for j in range(length):
                        row[j] = f32(0.0)
                if q >= 0:
                    position, low, high, _ = _bounds(q, length, reverse)
                    entered += a[position]
                    if reverse:
                        low -= 1
                    else:
                        high += 1
                    g, w, s, d = G_all[m, i, low:high], row[low:high], seg[low:high], dt[low:high]
                    for j in range(high - low):
                        w[j] = g[j] * exp32(s[j]) * d[j]
                entry[m, i, h] = np.exp(entered)
                if first:
                    row[i] += delta[m, i, h]
            total[m, h] = np.exp(entered)
            for j in range(length):
                exit_[m, j, h] = exp32(seg[j]) * dt[j]


@cfunc(KERNEL, cache=True, **FAST)
def weights_backward(address):  # type: ignore[no-untyped-def]
    """Task m: gradients of G, dt, A and delta from those of W, exit and of the logarithms of entry and total."""
    k = carray(int64_at(address), (20,))
    chunks, length, heads, lag, reverse, first = k[2], k[3], k[4], k[5], k[6], k[7]
    G_all = carray(float32_at(k[8]), (chunks, length, length))
    dt_all = carray(float32_at(k[9]), (chunks, length, heads))
    A = carray(float32_at(k[10]), (heads,))
    dW_all = carray(float32_at(k[11]), (heads, chunks, length, length))
    dlog_entry = carray(float32_at(k[12]), (chunks, length, heads))
    dexit = carray(float32_at(k[13]), (chunks, length, heads))
    dlog_total = carray(float32_at(k[14]), (k[15], chunks, heads))
    dG_all = carray(float32_at(k[16]), (chunks, length, length))
    ddt_all = carray(float32_at(k[17]), (chunks, length, heads))
    dA = carray(float32_at(k[18]), (chunks, heads))
    ddelta = carray(float32_at(k[19]), (chunks, length, heads))
    a, dt, seg = np.empty(length, np.float32), np.empty(length, np.float32), np.empty(length, np.float32)
    da, ddt, dseg = np.empty(length, np.float32), np.empty(length, np.float32), np.empty(length, np.float32)
    decay = np.empty((length, length), np.float32)
    while True:
        m = next_task(address)
        if m >= k[1]:
            break
        for i in range(length):
            for j in range(length):
                dG_all[m, i, j] = f32(0.0)
        for h in range(heads):
            for j in range(length):
                dt[j] = dt_all[m, j, h]
                a[j] = dt[j] * A[h]
                seg[j] = f32(0.0)
                ddt[j] = f32(0.0)
            for r in range(length + lag):  # the decays again
                q = r - lag
                if q >= 0:
                    _extend(seg, a, q, reverse)
                    if r < length:
                        i = _bounds(r, length, reverse)[0]
                        position, low, high, _ = _bounds(q, length, reverse)
                        low, high = (low - 1, high) if reverse else (low, high + 1)
                        s, e = seg[low:high], decay[i, low:high]
                        for j in range(high - low):
                            e[j] = exp32(s[j])
            common = f32(0.0)  # what every step's a gets: the whole chunk's decay
            for part in range(k[15]):
                common += dlog_total[part, m, h]
            for j in range(length):
                e_exit = exp32(seg[j])
                ddt[j] += dexit[m, j, h] * e_exit
                dseg[j] = dexit[m, j, h] * e_exit * dt[j]
            entered = f32(0.0)
            for r in range(length + lag - 1, -1, -1):
                q = r - lag
                if r < length:
                    i = _bounds(r, length, reverse)[0]
                    entered += dlog_entry[m, i, h]
                    if first:
                        ddelta[m, i, h] = dW_all[h, m, i, i]
                if q < 0:
                    continue
                position, low, high, _ = _bounds(q, length, reverse)
                if r < length:
                    lo, hi = (low - 1, high) if reverse else (low, high + 1)
                    e, g, dw = decay[i, lo:hi], G_all[m, i, lo:hi], dW_all[h, m, i, lo:hi]
                    dg, d, ddt_part, ds = dG_all[m, i, lo:hi], dt[lo:hi], ddt[lo:hi], dseg[lo:hi]
                    for j in range(hi - lo):
                        change = dw[j] * e[j]
                        dg[j] += change * d[j]
                        change = change * g[j]
                        ddt_part[j] += change
                        ds[j] += change * d[j]
                ds = dseg[low:high]
                before = f32(0.0)
                for j in range(high - low):
                    before += ds[j]
                da[position] = before + entered + common
            d_A = f32(0.0)
            for j in range(length):
                d_A += da[j] * dt[j]
                ddt_all[m, j, h] = ddt[j] + da[j] * A[h]
            dA[m, h] = d_A


@cfunc(KERNEL, cache=True, **FAST)
def states_forward(address):  # type: ignore[no-untyped-def]
    """Task (history, part of d_state): turns what the giving chunk of each link adds into the state on the link."""
    k = carray(int64_at(address), (11,))
    links, states, heads, width, reverse, parts, batch = k[2], k[3], k[4], k[5], k[6], k[7], k[8]
    S = carray(float32_at(k[9]), (links, batch, states, heads, width))
    total = carray(float32_at(k[10]), (batch, links + 1, heads))
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        b, part = task // parts, task % parts
        for step in range(1, links):
            link = links - 1 - step if reverse else step
            before = link + 1 if reverse else link - 1
            giving = link + 1 if reverse else link
            for n in range(part * states // parts, (part + 1) * states // parts):
                for h in range(heads):
                    row, earlier, decay = S[link, b, n, h], S[before, b, n, h], total[b, giving, h]
                    for p in range(width):
                        row[p] += decay * earlier[p]


@cfunc(KERNEL, cache=True, **FAST)
def states_backward(address):  # type: ignore[no-untyped-def]
    """Task (history, part of d_state): turns gradients of the states on the links into those of what the giving chunks
    add, in place; sets the gradient of log(total), one partial sum per part."""
    k = carray(int64_at(address), (13,))
    links, states, heads, width, reverse, parts, batch = k[2], k[3], k[4], k[5], k[6], k[7], k[8]
    dS = carray(float32_at(k[9]), (links, batch, states, heads, width))
    total = carray(float32_at(k[10]), (batch, links + 1, heads))
    S = carray(float32_at(k[11]), (links, batch, states, heads, width))
    dlog_total = carray(float32_at(k[12]), (parts, batch, links + 1, heads))
    while True:
        task = next_task(address)
        if task >= k[1]:
            break
        b, part = task // parts, task % parts
        for c in range(links + 1):
            for h in range(heads):
                dlog_total[part, b, c, h] = f32(0.0)
        for step in range(links - 1, 0, -1):
            link = links - 1 - step if reverse else step
            before = link + 1 if reverse else link - 1
            giving = link + 1 if reverse else link
            for n in range(part * states // parts, (part + 1) * states // parts):
                for h in range(heads):
                    g, state, to = dS[link, b, n, h], S[before, b, n, h], dS[before, b, n, h]
                    decay, change = total[b, giving, h], f32(0.0)
                    for p in range(width):
                        change += g[p] * state[p]
                        to[p] += decay * g[p]
                    dlog_total[part, b, giving, h] += change * decay

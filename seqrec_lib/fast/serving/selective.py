"""Mamba's selective scan for one user: the state after a history, and after one more item.

The state of channel c and number n is the sum over the items t of a history of T

    h[c, n] = sum_t 2^(A2[c, n] since_t[c]) x_t[c] B_t[n],    x = dt u,    since_t = sum_(s > t) dt_s,

run as the recurrence h <- 2^(A2 dt_t) h + x_t B_t. Most of its time goes to the powers of 2, one per item, channel and
number of state; three things make them few and cheap:

* Lanes are numbers of state (`lanes`), so that dt_t and x_t are single numbers and a state stays in a register.
* Where an item is forgotten, the recurrence starts after it (`begin` below).
* Where a decay is slow, 2^(A2 dt) lies between 1/2 and 1 for all items, and is a polynomial without anything around it.

What is left out. In the exact sum the items before e have weights of at most 2^(A2 since), since = sum_(s >= e) dt_s:
together they add at most 2^(A2 since) sum_t |x_t| max_t |B_t|. They are left out where this is at most
2^-`LEFT_OUT_BITS` |x_T B_T|: a quarter of what float32 may lose in rounding x_T B_T, the last item's own term. This
holds for every single number of the state, whatever came before, since the inputs themselves are the measure: if the
latest are tiny beside an old one, the old one is kept, and where the last is 0 all are. What is left out decays with
the rest of the state in later steps, and enters an output times C_T, beside C_T x_T B_T.

Glossary: L items, K taps, D_in channels, N numbers of state, padded to G groups of `LANES`; A2 = A log2(e) < 0.
``mixed`` is x_proj's output in columns B (G LANES), dt's low rank (R, padded to a multiple of LANES), C (G LANES).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from seqrec_lib.fast.kernels.elementary import FAST, f32, sigmoid32, softplus32
from seqrec_lib.fast.serving.kernels import KERNEL, matvec
from seqrec_lib.fast.serving.lanes import (
    LANES,
    copy_transposed,
    exp2_any,
    exp2_unit,
    larger,
    largest_of,
    load,
    load_one,
    silu,
    softplus,
    spread,
    store,
    total_of,
    zeros,
)

LEFT_OUT_BITS = 26


def padded(size: int) -> int:
    """The next multiple of `LANES`."""
    return -(-size // LANES) * LANES


def rates(A2: np.ndarray) -> np.ndarray:
    """The slowest and the fastest decay of each group: (D_in, G LANES) negative -> (D_in, G, 2) positive."""
    groups = -A2.reshape(len(A2), -1, LANES)
    return np.ascontiguousarray(np.stack([groups.min(-1), groups.max(-1)], axis=-1))


@njit(inline="always", **FAST)
def weighted(source, at, stride, weights, c, start):  # type: ignore[no-untyped-def]
    """start + sum_k weights[k, c] source[at + k stride + (0, 1, ...)]."""
    total = spread(start)
    for k in range(weights.shape[0]):
        total = total + load(source, at + k * stride) * load_one(weights, k * weights.shape[1] + c)
    return total


@njit(**KERNEL)
def convolved_rows(rows, taps, bias):  # type: ignore[no-untyped-def]
    """u = silu(bias + causal convolution of rows (L, D_in)), transposed: (D_in, S), 0 after the L items, S >= L."""
    length, channels = rows.shape
    past = taps.shape[0] - 1
    blocks = (length + LANES - 1) // LANES
    # An odd number of groups: rows at a power of two from each other would share a few lines of the cache.
    stride = ((blocks + (past + LANES - 1) // LANES) // 2 * 2 + 1) * LANES
    u = np.empty((channels, stride), np.float32)
    for c in range(channels):
        for t in range(past):
            u[c, t] = f32(0.0)
        for t in range(past + length, stride):
            u[c, t] = f32(0.0)
    if min(length, channels) < LANES:
        for c in range(channels):
            for t in range(length):
                u[c, past + t] = rows[t, c]
    else:
        for i in range(0, length, LANES):
            for j in range(0, channels, LANES):
                t, c = min(i, length - LANES), min(j, channels - LANES)
                copy_transposed(rows, t * channels + c, channels, u, c * stride + past + t, stride)
    for c in range(channels):
        for t in range(c * stride, c * stride + blocks * LANES, LANES):  # no later block reads what one writes
            store(u, t, silu(weighted(u, t, 1, taps, c, bias[c])))
        for t in range(length, stride):
            u[c, t] = f32(0.0)
    return u


@njit(**KERNEL)
def projected(u, weight, columns, length):  # type: ignore[no-untyped-def]
    """The first columns of u^T weight for the L items: (D_in, S), (D_in, W) -> (columns / LANES, >= L, LANES)."""
    (channels, stride), width = u.shape, weight.shape[1]
    blocks = (length + LANES - 1) // LANES
    out = np.empty((columns // LANES, blocks * LANES, LANES), np.float32)
    for first in range(0, blocks * LANES, LANES):
        for group in range(columns // LANES):
            # eight sums at once, as each waits for its own last addition
            a, b, c, d, e, f, g, h = zeros(), zeros(), zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
            for i in range(channels):
                w, at = load(weight, i * width + group * LANES), i * stride + first
                a = a + w * load_one(u, at)
                b = b + w * load_one(u, at + 1)
                c = c + w * load_one(u, at + 2)
                d = d + w * load_one(u, at + 3)
                e = e + w * load_one(u, at + 4)
                f = f + w * load_one(u, at + 5)
                g = g + w * load_one(u, at + 6)
                h = h + w * load_one(u, at + 7)
            at = (group * out.shape[1] + first) * LANES
            store(out, at, a)
            store(out, at + LANES, b)
            store(out, at + 2 * LANES, c)
            store(out, at + 3 * LANES, d)
            store(out, at + 4 * LANES, e)
            store(out, at + 5 * LANES, f)
            store(out, at + 6 * LANES, g)
            store(out, at + 7 * LANES, h)
    return out


@njit(**KERNEL)
def needed_bits(B, states, length, out):  # type: ignore[no-untyped-def]
    """For each group of B (G, >= L, LANES): LEFT_OUT_BITS + log2(max_t |B_t| / |B_T|), the most of its numbers."""
    for group in range(out.size):
        most = f32(-np.inf)
        for n in range(min(LANES, states - group * LANES)):
            largest = f32(0.0)
            for t in range(length):
                size = abs(B[group, t, n])
                largest = largest if largest > size else size
            bits = np.log2(largest / abs(B[group, length - 1, n]))
            most = most if most > bits else bits
        out[group] = most + f32(LEFT_OUT_BITS)


@njit(**KERNEL)
def remember(c, dt, inputs, B, bits, A2, rates, length, since, largest, h):  # type: ignore[no-untyped-def]
    """Channel c's state h[c] after its items, from nothing.

    Args:
        dt: (S,), inputs: (D_in, S), x; both 0 after the L items, S a multiple of LANES. B: (G, >= L, LANES).
        bits: (G,), `needed_bits`. A2, h: (D_in, G LANES). rates: (D_in, G, 2).
        since, largest: (L / LANES,) rounded up, working space.

    Returns:
        How many powers of 2 were taken for it.
    """
    x, blocks = c * inputs.shape[1], since.size
    magnitude, total, most = zeros(), zeros(), zeros()
    for block in range(blocks - 1, -1, -1):
        values, steps = load(inputs, x + block * LANES), load(dt, block * LANES)
        magnitude = magnitude + larger(values, zeros() - values)
        total = total + steps
        most = larger(most, steps)
        since[block], largest[block] = total_of(total), largest_of(most)
    own = np.log2(total_of(magnitude) / abs(inputs[c, length - 1]))
    taken, begin = 0, 0
    for group in range(bits.size):
        slowest, fastest = rates[c, group, 0], rates[c, group, 1]
        enough = bits[group] + own
        # The items before block ``begin`` are left out. With NaN no comparison holds: all are kept.
        while begin > 0 and not slowest * since[begin] >= enough:
            begin -= 1
        while begin + 1 < blocks and slowest * since[begin + 1] >= enough:
            begin += 1
        place = c * h.shape[1] + group * LANES
        a, state = load(A2, place), zeros()
        first, at = begin * LANES, group * B.shape[1] * LANES
        if fastest * largest[begin] <= f32(1.0):
            for t in range(first, length):
                state = exp2_unit(a * load_one(dt, t)) * state + load(B, at + t * LANES) * load_one(inputs, x + t)
        else:
            for t in range(first, length):
                state = exp2_any(a * load_one(dt, t)) * state + load(B, at + t * LANES) * load_one(inputs, x + t)
        store(h, place, state)
        taken += (length - first) * LANES
    return taken


@njit(**KERNEL)
def scan(rows, taps, bias, x_proj, dt_weight, dt_bias, A2, rates, states, h, u, mixed):  # type: ignore[no-untyped-def]
    """Read a history: h (D_in, G LANES) becomes the state after it, u (D_in,) and mixed (W,) its last item's inputs.

    Args:
        rows: (L, D_in), L >= 1. taps: (K, D_in). x_proj: (D_in, W). dt_weight: (R, D_in). A2: as h. rates: of A2.

    Returns:
        How many powers of 2 were taken; L G LANES D_in if nothing is left out.
    """
    length, channels = rows.shape
    groups, rank = h.shape[1] // LANES, dt_weight.shape[0]
    inputs = convolved_rows(rows, taps, bias)
    for c in range(channels):
        u[c] = inputs[c, length - 1]
    for i in range(mixed.size):
        mixed[i] = f32(0.0)
    matvec(u, x_proj, mixed)
    B = projected(inputs, x_proj, mixed.size - groups * LANES, length)
    span = B.shape[1]
    low = np.empty((rank, span), np.float32)
    for r in range(rank):
        for t in range(span):
            low[r, t] = B[groups + r // LANES, t, r % LANES]
    dt, bits = np.empty(span, np.float32), np.empty(groups, np.float32)
    since, largest = np.empty(span // LANES, np.float32), np.empty(span // LANES, np.float32)
    needed_bits(B, states, length, bits)
    taken = 0
    for c in range(channels):
        for t in range(0, span, LANES):
            steps, at = softplus(weighted(low, t, span, dt_weight, c, dt_bias[c])), c * inputs.shape[1] + t
            store(dt, t, steps)
            store(inputs, at, load(inputs, at) * steps)
        for t in range(length, span):
            dt[t] = f32(0.0)
        taken += remember(c, dt, inputs, B, bits, A2, rates, length, since, largest, h)
    return taken


@njit(**KERNEL)
def advance(u, x_proj, dt_weight, dt_bias, A2, h, mixed):  # type: ignore[no-untyped-def]
    """One more item, u (D_in,) after its convolution: h moves on, ``mixed`` becomes its inputs; see `scan`."""
    groups, width = h.shape[1] // LANES, h.shape[1]
    for i in range(mixed.size):
        mixed[i] = f32(0.0)
    matvec(u, x_proj, mixed)
    dt = dt_bias.copy()
    matvec(mixed[width : width + dt_weight.shape[0]], dt_weight, dt)
    for c in range(u.size):
        dt[c] = softplus32(dt[c])
    for c in range(u.size):
        x = dt[c] * u[c]
        for n in range(0, groups * LANES, LANES):
            at = c * width + n
            store(h, at, exp2_any(load(A2, at) * dt[c]) * load(h, at) + load(mixed, n) * x)


@njit(**KERNEL)
def readout(u, z, D, C, h, y):  # type: ignore[no-untyped-def]
    """y = (C . h + D u) silu(z): (D_in,)."""
    for c in range(u.size):
        total = D[c] * u[c]
        for n in range(C.size):
            total += C[n] * h[c, n]
        y[c] = total * z[c] * sigmoid32(z[c])

"""The pieces of one user's forward pass as compiled loops: products with a vector, norms, GELU, the ten best items.

At batch 1 a model of this size does a few hundred thousand multiplications, which take less time than calling a dozen
tensor operations: a forward pass that is one call has no such overhead. All arrays are float32, contiguous; weight
matrices are stored transposed, (inputs, outputs), so that the innermost loop runs along memory and is vectorised.

Glossary: d = d_model, V = n_items + 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from seqrec_lib.fast.kernels.elementary import FAST, f32, float_of_bits

# The compiled code lets go of the interpreter's lock, so that threads can serve several users at once.
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, **FAST}
LOG2_E = 1.4426950408889634


@intrinsic
def _bits_of(typing_context: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), code


@njit(inline="always", **FAST)
def exp2_negative(x):  # type: ignore[no-untyped-def]
    """2^x for x <= 0, below -125 as at -125; relative error below 3e-7.

    2^x = 2^k 2^r with |r| <= 1/2: a polynomial for 2^r, and k added to the exponent's bits.
    """
    x = f32(-125.0) if x < f32(-125.0) else x
    k = np.floor(x + f32(0.5))
    r = x - k
    p = f32(1.5353362e-4)
    p = p * r + f32(1.3398874e-3)
    p = p * r + f32(9.6184372e-3)
    p = p * r + f32(5.5503324e-2)
    p = p * r + f32(2.4022648e-1)
    p = p * r + f32(6.9314720e-1)
    p = p * r + f32(1.0)
    return float_of_bits(_bits_of(p) + (np.int32(k) << np.int32(23)))


@njit(**KERNEL)
def matvec(x, weight, out):  # type: ignore[no-untyped-def]
    """out = x weight + out: (n,), (n, m), (m,)."""
    n, m = x.size, out.size
    for i in range(0, n - 3, 4):
        a, b, c, e = x[i], x[i + 1], x[i + 2], x[i + 3]
        wa, wb, wc, we = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for j in range(m):
            out[j] += a * wa[j] + b * wb[j] + c * wc[j] + e * we[j]
    for i in range(n - n % 4, n):
        a, wa = x[i], weight[i]
        for j in range(m):
            out[j] += a * wa[j]


@njit(inline="always", **FAST)
def two_rows(xa, xb, weight, n, m, oa, ob):  # type: ignore[no-untyped-def]
    """oa += xa weight and ob += xb weight over the first n of inputs and m of outputs: each weight is read once for
    both."""
    for i in range(0, n - 3, 4):
        a, b, c, e = xa[i], xa[i + 1], xa[i + 2], xa[i + 3]
        f, g, h, k = xb[i], xb[i + 1], xb[i + 2], xb[i + 3]
        wa, wb, wc, we = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for j in range(m):
            p, q, r, s = wa[j], wb[j], wc[j], we[j]
            oa[j] += a * p + b * q + c * r + e * s
            ob[j] += f * p + g * q + h * r + k * s
    for i in range(n - n % 4, n):
        a, f, wa = xa[i], xb[i], weight[i]
        for j in range(m):
            oa[j] += a * wa[j]
            ob[j] += f * wa[j]


@njit(**KERNEL)
def project(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """out = x weight + bias: (n,), (n, m), (m,), (m,)."""
    for i in range(out.size):
        out[i] = bias[i]
    matvec(x, weight, out)


@njit(**KERNEL)
def project_rows(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """out = x weight + bias for every row: (L, n), (n, m), (m,), (L, m)."""
    length, m = out.shape
    for t in range(length):
        for j in range(m):
            out[t, j] = bias[j]
    for t in range(0, length - 1, 2):
        two_rows(x[t], x[t + 1], weight, x.shape[1], m, out[t], out[t + 1])
    if length % 2:
        matvec(x[length - 1], weight, out[length - 1])


@njit(inline="always", **FAST)
def gelu(x):  # type: ignore[no-untyped-def]
    """x Phi(x), by erf's formula 7.1.26 in Abramowitz and Stegun (1964): absolute error of erf below 2e-7.

    Unlike the library's erf it has no branches, so that a loop over it is vectorised.
    """
    z = abs(x) * f32(0.70710678)
    t = f32(1.0) / (f32(1.0) + f32(0.3275911) * z)
    p = f32(1.061405429)
    p = p * t + f32(-1.453152027)
    p = p * t + f32(1.421413741)
    p = p * t + f32(-0.284496736)
    p = p * t + f32(0.254829592)
    erf = f32(1.0) - p * t * exp2_negative(-z * z * f32(LOG2_E))
    return f32(0.5) * (x + abs(x) * erf)


@njit(**KERNEL)
def layer_norm(x, weight, bias, eps, out):  # type: ignore[no-untyped-def]
    """(x - mean) / sqrt(variance + eps) weight + bias; x and out may be one array."""
    n = x.size
    mean, square = f32(0.0), f32(0.0)
    for i in range(n):
        mean += x[i]
    mean /= f32(n)
    for i in range(n):
        square += (x[i] - mean) * (x[i] - mean)
    scale = f32(1.0) / np.sqrt(square / f32(n) + eps)
    for i in range(n):
        out[i] = (x[i] - mean) * scale * weight[i] + bias[i]


@njit(**KERNEL)
def feed_forward(x, w1, b1, w2, b2, hidden, out):  # type: ignore[no-untyped-def]
    """out = GELU(x w1 + b1) w2 + b2; hidden (4 d,) is working space."""
    project(x, w1, b1, hidden)
    for i in range(hidden.size):
        hidden[i] = gelu(hidden[i])
    project(hidden, w2, b2, out)


@njit(**KERNEL)
def rms_norm(u, weight, eps):  # type: ignore[no-untyped-def]
    """u <- weight u / sqrt(mean(u^2) + eps), in place."""
    total = f32(0.0)
    for i in range(u.size):
        total += u[i] * u[i]
    scale = f32(1.0) / np.sqrt(total / f32(u.size) + eps)
    for i in range(u.size):
        u[i] *= scale * weight[i]


@njit(**KERNEL)
def scores(embedding, encoded, out):  # type: ignore[no-untyped-def]
    """out[i] = embedding[i] . encoded, and -inf for the padding item 0: (V, d), (d,), (V,)."""
    d = encoded.size
    for i in range(embedding.shape[0]):
        row, total = embedding[i], f32(0.0)
        for j in range(d):
            total += row[j] * encoded[j]
        out[i] = total
    out[0] = -np.inf


@njit(**KERNEL)
def top_k(values, left_out, ids, best):  # type: ignore[no-untyped-def]
    """The k largest of values (V,) in falling order, without the items of left_out; of equals the smaller id first.

    Args:
        values: scores; those of ``left_out`` become -inf. ids, best: (k,), filled with items and scores.

    Returns:
        How many there are: fewer than k where only -inf is left.
    """
    for i in left_out:
        values[i] = -np.inf
    k, found = ids.size, 0
    floor = f32(-np.inf)
    for i in range(values.size):
        value = values[i]
        if value <= floor:  # most items end here
            continue
        place = found if found < k else k - 1
        while place > 0 and best[place - 1] < value:
            if place < k:
                best[place], ids[place] = best[place - 1], ids[place - 1]
            place -= 1
        best[place], ids[place] = value, i
        if found < k:
            found += 1
        if found == k:
            floor = best[k - 1]
    return found


@njit(**KERNEL)
def top_k_rows(values, left_out, stops, first, last, ids, best):  # type: ignore[no-untyped-def]
    """`top_k` for the rows first..last - 1 of values (B, V), into ids and best (B, k).

    Args:
        left_out: items of all rows one after another; stops: (B,), where those of each row end.
    """
    for row in range(first, last):
        begin = stops[row - 1] if row else 0
        for j in range(ids.shape[1]):
            ids[row, j], best[row, j] = 0, f32(-np.inf)
        top_k(values[row], left_out[begin : stops[row]], ids[row], best[row])

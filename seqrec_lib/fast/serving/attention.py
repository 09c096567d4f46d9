"""SASRec's server, and its key-value cache: the keys and values of the items so far, so that one more costs O(L).

Positions are counted from the oldest item of the window. Once a history fills ``max_length``, each new item moves all
the others by one position, and no cached key is right any more: the window has to be read again.

A short history is read by compiled loops. The layers below the top are computed at every item, two rows at a time, and
attention over what came before each of them only; the top layer is computed at the last item alone. Long histories, and
many at once, are read by matrix products (`products`), from the size on at which these are faster.

Glossary: L items, d = d_model, H heads of width P. A `State` has one array, (layers, 2, max_length, d): keys, values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit

from seqrec_lib.fast.kernels.elementary import FAST, f32
from seqrec_lib.fast.serving.kernels import (
    KERNEL,
    LOG2_E,
    exp2_negative,
    gelu,
    layer_norm,
    project,
    project_rows,
    two_rows,
)
from seqrec_lib.fast.serving.state_space import State, finish, packed, packed_rest, transposed
from seqrec_lib.models.sasrec import SASRec, TransformerLayer
from seqrec_lib.serving.base import SteppingServer
from seqrec_lib.serving.batches import padded, read_in_batches
from seqrec_lib.serving.products import SASRecProducts, is_large


@njit(inline="always", **FAST)
def softmax(row, stop, scale):  # type: ignore[no-untyped-def]
    """row[:stop] <- softmax(scale row[:stop]), in place; scale holds log2(e)."""
    top, total = f32(-np.inf), f32(0.0)
    for j in range(stop):
        top = max(top, row[j])
    for j in range(stop):
        row[j] = exp2_negative((row[j] - top) * scale)
        total += row[j]
    for j in range(stop):
        row[j] /= total


@njit(**KERNEL)
def attend(q, keys, values, heads, mixed):  # type: ignore[no-untyped-def]
    """softmax(q k / sqrt(P)) v over all L keys, for each head: (d,), (L, d), (L, d) -> mixed (d,)."""
    length, d = keys.shape
    width = d // heads
    weights = np.empty(length, np.float32)
    for head in range(heads):
        low, high = head * width, (head + 1) * width
        own, to = q[low:high], mixed[low:high]
        for t in range(length):
            key, match = keys[t, low:high], f32(0.0)
            for p in range(width):
                match += own[p] * key[p]
            weights[t] = match
        softmax(weights, length, f32(LOG2_E / np.sqrt(f32(width))))
        for p in range(width):
            to[p] = f32(0.0)
        for t in range(length):
            value, weight = values[t, low:high], weights[t]
            for p in range(width):
                to[p] += weight * value[p]


@njit(**KERNEL)
def layer_at(x, q, keys, values, heads, wo, bo, g1, b1, w1, c1, w2, c2, g2, b2, eps):  # type: ignore[no-untyped-def]
    """A transformer layer at one position with input x (d,), which becomes its output, given its query and all keys."""
    d = x.size
    mixed, residual = np.empty(d, np.float32), np.empty(d, np.float32)
    attend(q, keys, values, heads, mixed)
    for i in range(d):
        residual[i] = bo[i] + x[i]
    finish(mixed, residual, wo, g1, b1, w1, c1, w2, c2, g2, b2, eps, x)


@njit(**KERNEL)
def attend_causally(qkv, heads, mixed):  # type: ignore[no-untyped-def]
    """softmax(Q K^T / sqrt(P)) V, each row over itself and the rows before it: (L, 3 d) -> mixed (L, d)."""
    length, d = mixed.shape
    width = d // heads
    scale = f32(LOG2_E / np.sqrt(f32(width)))
    keys, values = np.empty((width, length), np.float32), np.empty((length, width), np.float32)
    weights = np.empty((2, length + 1), np.float32)
    a, b = weights[0], weights[1]
    spare = np.empty(width, np.float32)  # takes the second row of a pair that has none
    for head in range(heads):
        low, high = head * width, (head + 1) * width
        for t in range(length):
            for p in range(width):
                keys[p, t], values[t, p] = qkv[t, d + low + p], qkv[t, 2 * d + low + p]
        for t in range(0, length, 2):
            after = min(t + 1, length - 1)
            stop = after + 1
            for j in range(stop):
                a[j] = b[j] = f32(0.0)
            two_rows(qkv[t, low:high], qkv[after, low:high], keys, width, stop, a, b)
            softmax(a, t + 1, scale)
            softmax(b, stop, scale)
            if after > t:
                a[after] = f32(0.0)  # no row sees the one after it
            to, beside = mixed[t, low:high], mixed[after, low:high]
            if after == t:
                beside = spare
            for p in range(width):
                to[p] = beside[p] = f32(0.0)
            two_rows(a, b, values, stop, width, to, beside)


@njit(**KERNEL)
def layer_everywhere(x, qkv, heads, wo, bo, g1, b1, w1, c1, w2, c2, g2, b2, eps):  # type: ignore[no-untyped-def]
    """A transformer layer at every position: x (L, d) becomes its output, given its queries, keys and values."""
    length, d = x.shape
    mixed, out = np.empty((length, d), np.float32), np.empty((length, d), np.float32)
    hidden = np.empty((length, c1.size), np.float32)
    attend_causally(qkv, heads, mixed)
    project_rows(mixed, wo, bo, out)
    for t in range(length):
        for i in range(d):
            x[t, i] += out[t, i]
        layer_norm(x[t], g1, b1, eps, x[t])
    project_rows(x, w1, c1, hidden)
    for t in range(length):
        for i in range(c1.size):
            hidden[t, i] = gelu(hidden[t, i])
    project_rows(hidden, w2, c2, out)
    for t in range(length):
        for i in range(d):
            x[t, i] += out[t, i]
        layer_norm(x[t], g2, b2, eps, x[t])


@njit(**KERNEL)
def embed(items, embedding, positions, weight, bias, eps):  # type: ignore[no-untyped-def]
    """LN(item + position): (L,) -> (L, d)."""
    x = np.empty((items.size, embedding.shape[1]), np.float32)
    for t in range(items.size):
        item, position = embedding[items[t]], positions[t]
        for i in range(x.shape[1]):
            x[t, i] = item[i] + position[i]
        layer_norm(x[t], weight, bias, eps, x[t])
    return x


class SASRecServer(SteppingServer):
    """SASRec with any number of layers."""

    path = "compiled loops"

    def __init__(self, model: SASRec) -> None:
        (embedding,) = packed(model.item_embedding.weight)
        super().__init__(model.n_items, model.window, embedding)
        self._positions, *norm = packed(model.position_embedding.weight, model.norm.weight, model.norm.bias)
        self._norm, self._eps = norm, np.float32(model.norm.eps)
        layers = [layer for layer in model.layers if isinstance(layer, TransformerLayer)]
        self._heads = layers[0].attention.n_heads
        self._qkv = [packed(transposed(layer.attention.qkv), layer.attention.qkv.bias) for layer in layers]
        self._rest = [_packed_layer(layer) for layer in layers]
        weight, bias = layers[-1].attention.qkv.weight, layers[-1].attention.qkv.bias
        d = embedding.shape[1]
        self._top_q, self._top_kv = packed(weight[:d].T, bias[:d]), packed(weight[d:].T, bias[d:])
        self._products = SASRecProducts(
            embedding, self._positions, norm, float(self._eps), self._qkv, self._rest, self._heads
        )

    def encode(self, history: np.ndarray) -> np.ndarray:
        x, kv = self._read(history)[-1]
        d = self.embedding.shape[1]
        out, q = x[-1].copy(), np.empty(d, np.float32)
        project(out, *self._top_q, q)
        keys, values = np.ascontiguousarray(kv[:, :d]), np.ascontiguousarray(kv[:, d:])
        layer_at(out, q, keys, values, self._heads, *self._rest[-1], self._eps)
        return out

    def encode_many(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        d = self.embedding.shape[1]
        if len(histories) == 1 or not is_large(sum(map(len, histories)), d):
            return super().encode_many(histories)
        return read_in_batches(histories, lambda part: self._products.encode(*padded(part)).numpy())

    def _read(self, history: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For every layer its input (L, d), of the top layer only, and keys and values side by side (L, 2 d)."""
        if is_large(len(history), self.embedding.shape[1]):
            read = self._products.read(torch.from_numpy(history)[None])
            return [(x[0].numpy(), kv[0].numpy()) for x, kv in read]
        x = embed(history, self.embedding, self._positions, *self._norm, self._eps)
        (length, d), found = x.shape, []
        for projection, rest in zip(self._qkv[:-1], self._rest[:-1], strict=True):
            qkv = np.empty((length, 3 * d), np.float32)
            project_rows(x, *projection, qkv)
            layer_everywhere(x, qkv, self._heads, *rest, self._eps)
            found.append((x, qkv[:, d:]))
        kv = np.empty((length, 2 * d), np.float32)
        project_rows(x, *self._top_kv, kv)
        return [*found, (x, kv)]

    def _begin(self, history: np.ndarray) -> State:
        layers, length, d = len(self._qkv), len(history), self.embedding.shape[1]
        assert self.max_length is not None
        entries = np.zeros((layers, 2, self.max_length, d), np.float32)
        if length:
            for layer, (_, kv) in enumerate(self._read(history)):
                entries[layer, 0, :length], entries[layer, 1, :length] = kv[:, :d], kv[:, d:]
        return State((entries,), length)

    def _follow(self, state: State, item: int) -> np.ndarray:
        d, t = self.embedding.shape[1], state.length
        (entries,) = state.arrays
        x = self.embedding[item] + self._positions[t]
        layer_norm(x, *self._norm, self._eps, x)
        qkv = np.empty(3 * d, np.float32)
        for (keys, values), projection, rest in zip(entries, self._qkv, self._rest, strict=True):
            project(x, *projection, qkv)
            keys[t], values[t] = qkv[d : 2 * d], qkv[2 * d :]
            layer_at(x, qkv[:d], keys[: t + 1], values[: t + 1], self._heads, *rest, self._eps)
        return x

    def state_bytes(self, length: int) -> int:
        return 2 * len(self._qkv) * length * self.embedding.shape[1] * 4


def _packed_layer(layer: TransformerLayer) -> tuple[np.ndarray, ...]:
    out, rest = layer.attention.out, packed_rest(layer.attention_norm, layer.feed_forward, layer.feed_forward_norm)
    return (*packed(transposed(out), out.bias), *rest)

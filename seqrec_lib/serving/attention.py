"""SASRec's server, and its key-value cache: the keys and values of the items so far, so that one more costs O(L).

Positions are counted from the oldest item of the window. Once a history fills ``max_length``, each new item moves all
the others by one position, and no cached key is right any more: the window has to be read again. A state-space model
has no such limit.

Glossary: L items, d = d_model, H heads; the cache is (layers, 2, max_length, d), keys then values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch.nn import functional as F

from seqrec_lib.errors import SeqRecError
from seqrec_lib.models.sasrec import SASRec, TransformerLayer
from seqrec_lib.serving.base import SteppingServer
from seqrec_lib.serving.kernels import KERNEL, feed_forward, layer_norm, matvec
from seqrec_lib.serving.state_space import packed, transposed
from seqrec_lib.ssm.cpu.elementary import exp32, f32


@dataclass
class Cache:
    """One user's keys and values; ``length`` items of them are filled."""

    entries: np.ndarray  # (layers, 2, max_length, d)
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of the filled part."""
        return self.entries[:, :, : self.length].nbytes

    def copy(self) -> Cache:
        """An independent copy."""
        return Cache(self.entries.copy(), self.length)


@njit(**KERNEL)
def attend(q, keys, values, heads, mixed):  # type: ignore[no-untyped-def]
    """softmax(q k / sqrt(P)) v over all L keys, for each head: (d,), (L, d), (L, d) -> mixed (d,)."""
    length, d = keys.shape
    width = d // heads
    weights = np.empty(length, np.float32)
    for head in range(heads):
        low, high = head * width, (head + 1) * width
        own, to = q[low:high], mixed[low:high]
        top, total = f32(-np.inf), f32(0.0)
        for t in range(length):
            key, match = keys[t, low:high], f32(0.0)
            for p in range(width):
                match += own[p] * key[p]
            weights[t] = match / np.sqrt(f32(width))
            top = max(top, weights[t])
        for t in range(length):
            weights[t] = exp32(weights[t] - top)
            total += weights[t]
        for p in range(width):
            to[p] = f32(0.0)
        for t in range(length):
            value, weight = values[t, low:high], weights[t] / total
            for p in range(width):
                to[p] += weight * value[p]


@njit(**KERNEL)
def layer_at(x, q, keys, values, heads, wo, bo, g1, b1, w1, c1, w2, c2, g2, b2, eps):  # type: ignore[no-untyped-def]
    """A transformer layer at one position with input x (d,), which becomes its output, given its query and all keys."""
    d = x.size
    mixed, out, hidden = np.empty(d, np.float32), np.empty(d, np.float32), np.empty(c1.size, np.float32)
    attend(q, keys, values, heads, mixed)
    for i in range(d):
        out[i] = bo[i] + x[i]
    matvec(mixed, wo, out)
    layer_norm(out, g1, b1, eps, x)
    feed_forward(x, w1, c1, w2, c2, hidden, out)
    for i in range(d):
        out[i] += x[i]
    layer_norm(out, g2, b2, eps, x)


@njit(**KERNEL)
def project(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """out = x weight + bias."""
    for i in range(out.size):
        out[i] = bias[i]
    matvec(x, weight, out)


class SASRecServer(SteppingServer):
    """The layers below the top by tensor operations; the top layer, and every cached step, by compiled loops."""

    path = "tensor operations, top layer compiled"

    def __init__(self, model: SASRec) -> None:
        (embedding,) = packed(model.item_embedding.weight)
        super().__init__(model.n_items, model.max_length, embedding)
        self._positions, *norm = packed(model.position_embedding.weight, model.norm.weight, model.norm.bias)
        self._norm, self._eps = norm, np.float32(model.norm.eps)
        layers = [layer for layer in model.layers if isinstance(layer, TransformerLayer)]
        self._heads = layers[0].attention.n_heads
        self._qkv = [packed(transposed(layer.attention.qkv), layer.attention.qkv.bias) for layer in layers]
        self._rest = [_packed_layer(layer) for layer in layers]
        self._tensors = _Tensors(model, layers)

    @torch.inference_mode()
    def encode(self, history: np.ndarray) -> np.ndarray:
        x, kv = self._tensors.below_and_kv(history)
        d = self.embedding.shape[1]
        out, q = x[-1].numpy().copy(), np.empty(d, np.float32)
        weight, bias = self._qkv[-1]
        project(out, np.ascontiguousarray(weight[:, :d]), bias[:d], q)
        keys, values = np.ascontiguousarray(kv[:, :d]), np.ascontiguousarray(kv[:, d:])
        layer_at(out, q, keys, values, self._heads, *self._rest[-1], self._eps)
        return out

    @torch.inference_mode()
    def start(self, history: np.ndarray) -> Cache:
        """As the base class.

        Raises:
            SeqRecError: the history leaves no room for one more item.
        """
        layers, length, d = len(self._qkv), len(history), self.embedding.shape[1]
        self._room(length)
        assert self.max_length is not None
        entries = np.zeros((layers, 2, self.max_length, d), np.float32)
        if length:
            for layer, (keys, values) in enumerate(self._tensors.all_kv(history)):
                entries[layer, 0, :length], entries[layer, 1, :length] = keys, values
        return Cache(entries, length)

    def step(self, state: Cache, item: int) -> np.ndarray:
        """As the base class.

        Raises:
            SeqRecError: the window is full: the next item would move all positions.
        """
        self._room(state.length)
        d, t = self.embedding.shape[1], state.length
        x = self.embedding[item] + self._positions[t]
        layer_norm(x, *self._norm, self._eps, x)
        qkv = np.empty(3 * d, np.float32)
        for (keys, values), projection, rest in zip(state.entries, self._qkv, self._rest, strict=True):
            project(x, *projection, qkv)
            keys[t], values[t] = qkv[d : 2 * d], qkv[2 * d :]
            layer_at(x, qkv[:d], keys[: t + 1], values[: t + 1], self._heads, *rest, self._eps)
        state.length += 1
        return x

    def state_bytes(self, length: int) -> int:
        return 2 * len(self._qkv) * length * self.embedding.shape[1] * 4

    def _room(self, length: int) -> None:
        if self.max_length is not None and length >= self.max_length:
            raise SeqRecError(
                f"a cache of {length} items is full at max_length {self.max_length}: one more item moves every "
                f"position; "
                "encode the window again"
            )


def _packed_layer(layer: TransformerLayer) -> tuple[np.ndarray, ...]:
    attention, ffn = layer.attention, layer.feed_forward
    return packed(
        *(transposed(attention.out), attention.out.bias),
        *(layer.attention_norm.weight, layer.attention_norm.bias),
        *(transposed(ffn.w1), ffn.w1.bias, transposed(ffn.w2), ffn.w2.bias),
        *(layer.feed_forward_norm.weight, layer.feed_forward_norm.bias),
    )


class _Tensors:
    """The part of SASRec that reads a whole history: a frozen copy of the model, run by tensor operations."""

    def __init__(self, model: SASRec, layers: list[TransformerLayer]) -> None:
        def frozen(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().cpu().float().clone()

        self._embedding, self._positions = frozen(model.item_embedding.weight), frozen(model.position_embedding.weight)
        self._norm = (frozen(model.norm.weight), frozen(model.norm.bias), model.norm.eps)
        self._layers = [
            {name: frozen(value) for name, value in layer.named_parameters()} | {"eps": layer.attention_norm.eps}
            for layer in layers
        ]
        self._heads = layers[0].attention.n_heads

    def _embed(self, history: np.ndarray) -> torch.Tensor:
        x = self._embedding[torch.from_numpy(history)] + self._positions[: len(history)]
        return self._normed(x, *self._norm)

    @staticmethod
    def _normed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)

    def _qkv(self, x: torch.Tensor, p: dict[str, Any], low: int, high: int) -> torch.Tensor:
        return F.linear(x, p["attention.qkv.weight"][low:high], p["attention.qkv.bias"][low:high])

    def _layer(self, x: torch.Tensor, qkv: torch.Tensor, p: dict[str, Any]) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (self._heads, -1)).transpose(0, 1)[None] for part in qkv.chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1).flatten(1)
        mixed = F.linear(mixed, p["attention.out.weight"], p["attention.out.bias"])
        x = self._normed(x + mixed, p["attention_norm.weight"], p["attention_norm.bias"], p["eps"])
        hidden = F.gelu(F.linear(x, p["feed_forward.w1.weight"], p["feed_forward.w1.bias"]))
        out = F.linear(hidden, p["feed_forward.w2.weight"], p["feed_forward.w2.bias"])
        return self._normed(x + out, p["feed_forward_norm.weight"], p["feed_forward_norm.bias"], p["eps"])

    def below_and_kv(self, history: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """The top layer's input (L, d), and its keys and values side by side (L, 2 d)."""
        x = self._embed(history)
        d = x.shape[1]
        for p in self._layers[:-1]:
            x = self._layer(x, self._qkv(x, p, 0, 3 * d), p)
        return x, self._qkv(x, self._layers[-1], d, 3 * d).numpy()

    def all_kv(self, history: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keys and values (L, d) of every layer."""
        x = self._embed(history)
        d, found = x.shape[1], []
        for number, p in enumerate(self._layers):
            last = number == len(self._layers) - 1
            qkv = self._qkv(x, p, d if last else 0, 3 * d)
            found.append((qkv[:, -2 * d : -d].numpy(), qkv[:, -d:].numpy()))
            if not last:
                x = self._layer(x, qkv, p)
        return found

"""SASRec's pass over many positions as matrix products of PyTorch: long histories, and several histories at once.

Compiled loops answer a short history fastest, since they start no tensor operation. They read a weight anew for every
two positions, though, and attend to the past two rows at a time, while a matrix product of MKL or oneDNN keeps blocks
of both factors in registers and caches: on one core the whole pass is three times as fast at 8,000 items. So past
`is_large` the layers below the top are computed here. Weights are the server's own arrays, shared and not copied.

Positions are independent but for attention, so that projections and feed-forward networks go block of rows by block of
rows: what they write in between stays in the cache, and no memory is asked for that grows with the history.

Shapes: B histories, L positions, R = B L rows, d = d_model, H heads of width P, F = 4 d.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LARGE = 10_000  # rows times d from which products are faster than loops on one core; measured at d = 32, 64 and 256
BLOCK, FEWEST_ROWS = 2**19, 1024  # numbers of a block's hidden layer (2 MiB), and rows that a product needs at least

Arrays = Sequence[np.ndarray]


def is_large(rows: int, d: int) -> bool:
    """Whether this many positions of width d are computed faster by matrix products than by compiled loops.

    Several threads share a product and not a loop; beyond two the products of this size gain little.
    """
    return rows * d >= LARGE // min(2, torch.get_num_threads())


class SASRecProducts:
    """SASRec with the weights of a server.

    Args:
        embedding: (V, d); positions: (max_length, d); norm: weight and bias of the embeddings' LayerNorm, with ``eps``.
        qkv: for each layer (d, 3 d) and (3 d,). rest: for each layer out (d, d), its bias, two of LayerNorm, w1 (d, F),
            its bias, w2 (F, d), its bias, two of LayerNorm. heads: H.
    """

    def __init__(
        self,
        embedding: np.ndarray,
        positions: np.ndarray,
        norm: Arrays,
        eps: float,
        qkv: Sequence[Arrays],
        rest: Sequence[Arrays],
        heads: int,
    ) -> None:
        self._embedding, self._positions = torch.from_numpy(embedding), torch.from_numpy(positions)
        self._norm_weight, self._norm_bias = (torch.from_numpy(part) for part in norm)
        self._eps, self._heads = float(eps), heads
        self._qkv = [[torch.from_numpy(part) for part in layer] for layer in qkv]
        self._rest = [[torch.from_numpy(part) for part in layer] for layer in rest]
        self._d = embedding.shape[1]

    @torch.inference_mode()
    def read(self, items: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Every layer's input (B, L, d), and keys and values side by side (B, L, 2 d).

        Args:
            items: (B, L) int64, padded on the right: no position sees a later one, so that padding changes none.
        """
        B, L = items.shape
        d, H = self._d, self._heads
        x = F.embedding(items, self._embedding) + self._positions[:L]
        x = F.layer_norm(x, (d,), self._norm_weight, self._norm_bias, self._eps).view(B * L, d)
        found = []
        for (weight, bias), rest in zip(self._qkv[:-1], self._rest[:-1], strict=True):
            qkv = torch.addmm(bias, x, weight).view(B, L, 3 * d)
            q, k, v = (part.unflatten(-1, (H, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))  # (B, H, L, P)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B * L, d)
            found.append((x.view(B, L, d), qkv[..., d:]))
            x = self._after_attention(x, mixed, rest)
        weight, bias = self._qkv[-1]
        kv = torch.addmm(bias[d:], x, weight[:, d:])
        return [*found, (x.view(B, L, d), kv.view(B, L, 2 * d))]

    @torch.inference_mode()
    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The model's output at each history's last item: (B, L) int64, (B,) -> (B, d)."""
        x, kv = self.read(items)[-1]
        (B, L, d), H = x.shape, self._heads
        weight, bias = self._qkv[-1]
        last = x[torch.arange(B), lengths - 1]
        q = torch.addmm(bias[:d], last, weight[:, :d]).view(B, H, 1, d // H)
        k, v = (part.unflatten(-1, (H, -1)).transpose(1, 2) for part in kv.chunk(2, dim=-1))
        seen = None  # histories of one length need no mask
        if int(lengths.min()) < L:
            seen = (torch.arange(L) < lengths[:, None])[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).view(B, d)
        return self._after_attention(last, mixed, self._rest[-1])

    def _after_attention(self, x: Tensor, mixed: Tensor, rest: Sequence[Tensor]) -> Tensor:
        """The rest of a layer for rows x (R, d) and what attention gave for them (R, d): its output (R, d)."""
        out, out_bias, g1, b1, w1, c1, w2, c2, g2, b2 = rest
        size = max(FEWEST_ROWS, BLOCK // len(c1))
        if len(x) > size:
            done = torch.empty_like(x)
            for rows, heads, to in zip(x.split(size), mixed.split(size), done.split(size), strict=True):
                to.copy_(self._after_attention(rows, heads, rest))
            return done
        h = F.layer_norm(torch.addmm(out_bias, mixed, out).add_(x), (self._d,), g1, b1, self._eps)
        wide = F.gelu(torch.addmm(c1, h, w1))
        return F.layer_norm(torch.addmm(c2, wide, w2).add_(h), (self._d,), g2, b2, self._eps)

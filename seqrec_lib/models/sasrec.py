"""SASRec (Kang & McAuley 2018): causal self-attention over the history; the study's baseline.

Size and layout follow RecBole's SASRec, which the paper's parameter counts match: learned absolute positions counted
from the window's oldest item, LayerNorm after each residual (post-norm), GELU feed-forward of 4 d, biases everywhere.

Shapes: B histories, L positions, d = d_model, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrec_lib.models.base import SequentialRecommender, initialise, last_position
from seqrec_lib.models.layers import Dropout, FeedForward

LAYER_NORM_EPS = 1e-12  # RecBole's value


class SelfAttention(nn.Module):
    """Causal multi-head attention: (B, L, d) -> (B, L, d), or (B, 1, d) for the last positions only."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, L, d) -> (B, H, L, d/H)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def at_last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The output at position length - 1 alone: (B, L, d) -> (B, 1, d), at a fraction of the cost."""
        d = x.shape[-1]
        weight_q, weight_kv = self.qkv.weight.split([d, 2 * d])
        bias_q, bias_kv = self.qkv.bias.split([d, 2 * d])
        q = self._heads(F.linear(last_position(x, lengths).unsqueeze(1), weight_q, bias_q))
        k, v = (self._heads(part) for part in F.linear(x, weight_kv, bias_kv).chunk(2, dim=-1))
        seen = torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)  # (B, L)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
        return self.out(mixed.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Attention and feed-forward network, each with dropout, residual and LayerNorm."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(d_model, n_heads)
        self.attention_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.feed_forward = FeedForward(d_model, dropout)
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); with ``last`` = lengths (B,), the layer's output at the last positions, (B, 1, d)."""
        mixed = self.attention(x) if last is None else self.attention.at_last(x, last)
        residual = x if last is None else last_position(x, last).unsqueeze(1)
        x = self.attention_norm(residual + self.dropout(mixed))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class SASRec(SequentialRecommender):
    """Two transformer layers over item and position embeddings.

    Args:
        n_items: catalogue size; max_length: longest history that is read, later items win; repeats: see the base class.
    """

    causal = True

    def __init__(
        self,
        n_items: int,
        max_length: int,
        *,
        d_model: int = 64,
        n_layers: int = 2,
        n_heads: int = 2,
        dropout: float = 0.2,
        repeats: bool = False,
    ) -> None:
        super().__init__(n_items, d_model, max_length, repeats=repeats)
        self.position_embedding = nn.Embedding(max_length, d_model)
        self.norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(d_model, n_heads, dropout) for _ in range(n_layers))
        initialise(self)

    def _embed(self, items: Tensor) -> Tensor:
        length = items.shape[1]
        if length > (most := self.position_embedding.num_embeddings):
            raise ValueError(f"a history of {length} items exceeds max_length {most}; cut it first")
        x = self.item_embedding(items) + self.position_embedding.weight[:length]
        return self.dropout(self.norm(x))

    def hidden(self, items: Tensor, lengths: Tensor) -> Tensor:
        x = self._embed(items)
        for layer in self.layers:
            x = layer(x)
        return x

    def last_hidden(self, items: Tensor, lengths: Tensor) -> Tensor:
        x = self._embed(items)
        *below, top = self.layers
        for layer in below:
            x = layer(x)
        return top(x, last=lengths).squeeze(1)

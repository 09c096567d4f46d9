"""The titles that a query may be, as a tree of tokens: constrained decoding writes nothing else.

A node is a beginning of some title; its edges are the tokens that may follow. Titles end with the end of text, so one
title may be the beginning of another ("Pale Fog", "Pale Fog II"). Nodes are numbers, the root is 0; edges are kept
sorted by node and token in flat arrays, so that a whole batch of beams is looked up at once, on any device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class TitleTrie:
    """The tree of given token sequences (equal ones count once).

    Args:
        rows: token ids, each ending with the end of text.
        vocabulary: number of token ids.
    """

    def __init__(self, rows: Sequence[Sequence[int]], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        edges: dict[int, int] = {}  # node * vocabulary + token -> node
        for row in rows:
            node = 0
            for token in row:
                node = edges.setdefault(node * vocabulary + token, len(edges) + 1)
        keys = torch.tensor(sorted(edges), dtype=torch.int64)
        self.keys = keys
        self.targets = torch.tensor([edges[key] for key in keys.tolist()], dtype=torch.int64)
        nodes = torch.arange(len(edges) + 2)
        self.starts = torch.searchsorted(keys, nodes * vocabulary)  # node -> its first edge
        self.longest = max((len(row) for row in rows), default=0)

    def to(self, device: torch.device | str) -> TitleTrie:
        """Move to a device."""
        self.keys, self.targets, self.starts = (x.to(device) for x in (self.keys, self.targets, self.starts))
        return self

    def forbid(self, logits: Tensor, nodes: Tensor) -> Tensor:
        """Logits or log-probabilities (n, V) with -inf at every token that may not follow the nodes (n,)."""
        first, last = self.starts[nodes], self.starts[nodes + 1]
        counts = last - first
        rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        begins = torch.repeat_interleave(first - counts.cumsum(0) + counts, counts)
        edges = self.keys[begins + torch.arange(len(rows), device=nodes.device)]
        tokens = edges % self.vocabulary
        kept = torch.full_like(logits, -torch.inf)
        kept[rows, tokens] = logits[rows, tokens]
        return kept

    def advance(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The nodes after one more token each; a token that may not follow leads to the root."""
        keys = nodes * self.vocabulary + tokens
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, self.targets[place], 0)

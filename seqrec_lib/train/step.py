"""One training step's loss, whoever feeds it: batches gathered on the host, or filled up and resident on a GPU.

Glossary: R rows, L positions, P targets of a batch, V rows of the item embeddings, d width.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqrec_lib.models.base import SequentialRecommender
from seqrec_lib.train.losses import catalogue_cross_entropy, sampled_cross_entropy


class Batch(NamedTuple):
    """Windows and what they train.

    items (R, L) int64, lengths (R,), at (P,) flat positions in ascending order and their targets (P,). In a batch that
    is filled up to a shape, counted (P,) says which targets are there (the others stand at position 0, with item 1 as
    the target) and n () is their number; else counted is None and n is P.
    """

    items: Tensor
    lengths: Tensor
    at: Tensor
    targets: Tensor
    counted: Tensor | None
    n: Tensor | int

    @property
    def positions(self) -> int:
        """Positions that are computed, padding included."""
        return self.items.numel()


class TrainingStep(nn.Module):
    """Model and loss as one module, which a step calls."""

    def __init__(self, model: SequentialRecommender, softmax_dtype: torch.dtype, negatives: int = 0) -> None:
        super().__init__()
        self.model, self.softmax_dtype, self.negatives = model, softmax_dtype, negatives

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss over the targets that count, (); needs nothing from the device before it is computed."""
        hidden = self.model.hidden(batch.items, batch.lengths).flatten(0, 1)
        chosen = hidden.index_select(0, batch.at).to(torch.promote_types(hidden.dtype, torch.float32))
        bias, biased = self.model.bias(batch.items, batch.at) or (None, None)
        loss = (
            partial(sampled_cross_entropy, negatives=self.negatives)
            if self.negatives
            else partial(catalogue_cross_entropy, counted=batch.counted)
        )
        weight = self.model.item_embedding.weight
        return loss(chosen, weight, batch.targets, dtype=self.softmax_dtype, bias=bias, biased=biased)

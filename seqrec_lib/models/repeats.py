"""The study's models with a repeat bias: one learned number, added to the logits of items already in the history.

Few data sets repeat items, and the unmasked protocol leaves a user's own history among the candidates. Through tied
embeddings a model can hardly learn that: the items that resemble the last ones are the best guesses, and the last ones
themselves resemble them most. Each published model therefore spends its first places on items that cannot come. One
parameter says it: logit(i) = h . E_i + b [i in history], learned with everything else, so that a data set which does
repeat its items keeps them (a simple case of RepeatNet's repeat and explore modes, Ren et al. 2019).

Training sees the items of the window up to each position; scoring, the whole history, of which the encoder reads the
latest ``window`` items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqrec_lib.models.base import SequentialRecommender
from seqrec_lib.models.hydra4rec import Hydra4Rec
from seqrec_lib.models.mamba4rec import Mamba4Rec, TwoMamba4Rec
from seqrec_lib.models.sasrec import SASRec

SCALE = 10.0
"""Logits per unit of the parameter: AdamW moves every parameter by about its rate, too little for a logit."""


class RepeatBias(SequentialRecommender):
    """Adds the bias to a model that is named after it in a class's bases.

    Attributes:
        repeats: () the bias in units of ``SCALE``. window: items that the encoder reads. max_length: None, since
            :meth:`encode` and :meth:`score` take whole histories.
    """

    max_length: int | None  # type: ignore[assignment]

    def __init__(self, n_items: int, max_length: int, **architecture: Any) -> None:
        super().__init__(n_items, max_length=max_length, **architecture)
        self.window, self.max_length = max_length, None
        self.repeats = nn.Parameter(torch.zeros(()))

    def bias(self, items: Tensor, at: Tensor) -> tuple[Tensor, Tensor] | None:
        return SCALE * self.repeats, earlier_items(items, at)

    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        skipped = (lengths - self.window).clamp_min(0)
        read = torch.arange(min(self.window, items.shape[1]), device=items.device) + skipped.unsqueeze(1)
        recent = items.gather(1, read.clamp_max(items.shape[1] - 1))
        return super().encode(recent, lengths - skipped)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        scores = super().score(items, lengths)
        return scores.scatter(1, items, scores.gather(1, items) + SCALE * self.repeats)


class RepeatSASRec(RepeatBias, SASRec):
    """SASRec with the repeat bias."""


class RepeatMamba4Rec(RepeatBias, Mamba4Rec):
    """Mamba4Rec with the repeat bias."""


class RepeatTwoMamba4Rec(RepeatBias, TwoMamba4Rec):
    """2Mamba4Rec with the repeat bias."""


class RepeatHydra4Rec(RepeatBias, Hydra4Rec):
    """Hydra4Rec with the repeat bias."""


def earlier_items(items: Tensor, at: Tensor) -> Tensor:
    """Items of each position's history, its own included, each once and 0 in all other places.

    Args:
        items: (B, L) ids. at: (P,) positions of the flattened (B, L).

    Returns:
        (P, L) ids.

    >>> earlier_items(torch.tensor([[7, 8, 7, 9]]), torch.tensor([2, 3]))
    tensor([[7, 8, 0, 0],
            [7, 8, 0, 9]])
    """
    length = items.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=items.device).tril(-1)
    again = ((items.unsqueeze(2) == items.unsqueeze(1)) & earlier).any(2)  # (B, L): the item came before
    row, place = at // length, at % length
    later = torch.arange(length, device=items.device) > place.unsqueeze(1)
    return items.masked_fill(again, 0)[row].masked_fill(later, 0)

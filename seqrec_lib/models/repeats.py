"""The repeat bias, a setting of every model: one learned number, added to the logits of items already in the history.

Few data sets repeat items, and the unmasked protocol leaves a user's own history among the candidates. Through tied
embeddings a model can hardly learn that: the items that resemble the last ones are the best guesses, and the last ones
themselves resemble them most. Each published model therefore spends its first places on items that cannot come. One
parameter says it: logit(i) = h . E_i + b [i in history], learned with everything else, so that a data set which does
repeat its items keeps them (a simple case of RepeatNet's repeat and explore modes, Ren et al. 2019).

Training sees the items of the window up to each position; scoring, the whole history, of which the encoder reads the
latest ``window`` items.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = 10.0
"""Logits per unit of the parameter: AdamW moves every parameter by about its rate, too little for a logit."""


def latest(items: Tensor, lengths: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """The last ``window`` items of each history, and how many these are: (B, L), (B,) -> (B, min(L, window)), (B,)."""
    skipped = (lengths - window).clamp_min(0)
    read = torch.arange(min(window, items.shape[1]), device=items.device) + skipped.unsqueeze(1)
    return items.gather(1, read.clamp_max(items.shape[1] - 1)), lengths - skipped


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
    later = torch.arange(length, device=items.device) > place.unsqueeze(1)  # (P, L)
    return items.masked_fill(again, 0)[row].masked_fill(later, 0)

"""Mamba4Rec (Liu et al. 2024) and 2Mamba4Rec (the paper's: the same with the Mamba-2 block)."""

from __future__ import annotations

from typing import Any

from seqrec_lib.models.state_space import StateSpaceRecommender
from seqrec_lib.ssm import Mamba, Mamba2


class Mamba4Rec(StateSpaceRecommender):
    """Layers of Mamba and feed-forward network; see :class:`StateSpaceRecommender` for the common arguments.

    With one layer, d_model 64 and d_state 32 it has 72,256 parameters beside the item embedding; with d_state 64,
    84,544 (the paper prints 80k).
    """

    def __init__(self, n_items: int, max_length: int, *, d_state: int = 32, **settings: Any) -> None:
        super().__init__(n_items, max_length, Mamba, d_state=d_state, **settings)


class TwoMamba4Rec(StateSpaceRecommender):
    """Layers of Mamba-2 and feed-forward network; see :class:`StateSpaceRecommender` for the common arguments.

    With one layer, d_model 64, d_state 128 and headdim 64 it has 76,614 parameters beside the item embedding.
    """

    def __init__(self, n_items: int, max_length: int, **settings: Any) -> None:
        super().__init__(n_items, max_length, Mamba2, **settings)

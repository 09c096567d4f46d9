"""Hydra4Rec (the paper, section 3): layers of the bidirectional Hydra mixer and a feed-forward network.

Hydra sees the whole history in both directions, so in general a sample must be a prefix with its next item as target.
Yet with one layer, read at the last position, the backward half contributes nothing there, and only the centred
convolution looks past a position. :meth:`Hydra.forward_prefixes` cuts those taps and so gives every prefix's last
output in one pass, exactly: a one-layer Hydra4Rec is a causal model and is trained on all positions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqrec_lib.models.state_space import State, StateSpaceRecommender
from seqrec_lib.ssm import Hydra


class Hydra4Rec(StateSpaceRecommender):
    """Layers of Hydra and feed-forward network; see :class:`StateSpaceRecommender` for the common arguments.

    With one layer, d_model 64, d_state 32, headdim 64 and d_conv 7 it has 68,934 parameters beside the item embedding.
    """

    def __init__(self, n_items: int, max_length: int, *, d_state: int = 32, **settings: Any) -> None:
        super().__init__(n_items, max_length, Hydra, d_state=d_state, **settings)
        self.causal = len(self.layers) == 1

    def mix(self, mixer: Any, x: Tensor, lengths: Tensor) -> Tensor:
        """With one layer, each position's output is that of the prefix which ends there; else it is bidirectional."""
        return mixer.forward_prefixes(x, lengths) if self.causal else mixer(x, lengths)

    def step(self, items: Tensor, state: State) -> tuple[Tensor, State]:
        """As the base class; with one layer only: a new item changes the earlier outputs that a second layer reads.

        Raises:
            ValueError: the model has several layers.
        """
        if not self.causal:
            raise ValueError(f"Hydra4Rec with {len(self.layers)} layers has no step(): encode the whole history")
        return super().step(items, state)

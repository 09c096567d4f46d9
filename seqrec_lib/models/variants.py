"""The state-space recommenders with one decision changed, for the ablation; each is a row of its own."""

from __future__ import annotations

from typing import Any

from seqrec_lib.models.hydra4rec import Hydra4Rec
from seqrec_lib.models.mamba4rec import Mamba4Rec, TwoMamba4Rec
from seqrec_lib.models.state_space import StateSpaceRecommender


class _Residual(StateSpaceRecommender):
    """A residual connection around the mixer also where there is one layer, which the published layout leaves out."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for layer in self.stack:
            layer.residual = True


class ResidualMamba4Rec(_Residual, Mamba4Rec):
    """Mamba4Rec with the residual."""


class ResidualTwoMamba4Rec(_Residual, TwoMamba4Rec):
    """2Mamba4Rec with the residual."""


class ResidualHydra4Rec(_Residual, Hydra4Rec):
    """Hydra4Rec with the residual."""

"""Both variants at once: the residual around the mixer of `variants`, and the repeat bias of `repeats`.

On short histories the residual is what one-layer state space recommenders lack (the book's ablation on Amazon 2014
Beauty): the last item reaches the output through the mixer alone.
"""

from __future__ import annotations

from seqrec_lib.models.repeats import RepeatBias
from seqrec_lib.models.variants import ResidualHydra4Rec, ResidualMamba4Rec, ResidualTwoMamba4Rec


class BothMamba4Rec(RepeatBias, ResidualMamba4Rec):
    """Mamba4Rec with residual and repeat bias."""


class BothTwoMamba4Rec(RepeatBias, ResidualTwoMamba4Rec):
    """2Mamba4Rec with residual and repeat bias."""


class BothHydra4Rec(RepeatBias, ResidualHydra4Rec):
    """Hydra4Rec with residual and repeat bias."""

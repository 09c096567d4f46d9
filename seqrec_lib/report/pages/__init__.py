"""What chapters name: each module registers the statements, values and exhibits of one chapter."""

from seqrec_lib.report.pages import (
    cards,
    cells,
    evening,
    findings,
    front,
    orders,
    robustness,
    scale,
    verdicts,
    which_model,
)

__all__ = ["cards", "cells", "evening", "findings", "front", "orders", "robustness", "scale", "verdicts", "which_model"]

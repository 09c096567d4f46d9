"""What chapters name: each module registers the statements, values and exhibits of one chapter, or of opening pages."""

from seqrec_lib.report.pages import cards, cells, evening, findings, orders, robustness, scale, verdicts, which_model

__all__ = ["cards", "cells", "evening", "findings", "orders", "robustness", "scale", "verdicts", "which_model"]

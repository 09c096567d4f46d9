"""What chapters name: each module registers the statements, values and exhibits of one chapter."""

from seqrec_lib.report.pages import cells, evening, findings, front, orders, robustness, verdicts, which_model

__all__ = ["cells", "evening", "findings", "front", "orders", "robustness", "verdicts", "which_model"]

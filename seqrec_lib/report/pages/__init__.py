"""What chapters name: each module registers the statements, values and exhibits of one chapter, or of opening pages."""

from pathlib import Path

from seqrec_lib.report.judges import read_statements
from seqrec_lib.report.pages import cards, cells, evening, findings, orders, robustness, scale, verdicts, which_model

read_statements(Path(__file__).parent / "statements.yml")

__all__ = ["cards", "cells", "evening", "findings", "orders", "robustness", "scale", "verdicts", "which_model"]

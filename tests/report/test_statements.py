"""Judges that statements share, on values whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from seqrec_lib.report.statements import change_of_lead


def test_a_change_of_lead_is_paired_by_user_and_held_where_it_is_above_zero() -> None:
    """Two models on two data sets: in the first a leads by 0.3 for each user, in the second by 0.1."""
    spread = np.random.default_rng(0).uniform(0.0, 0.2, 400)
    users = {("x", "a"): spread + 0.3, ("x", "b"): spread, ("y", "a"): spread + 0.1, ("y", "b"): spread}

    class Fixed:
        def users(self, dataset: str, model: str, metric: str) -> np.ndarray:
            return users[dataset, model]

        def ids(self, models: object) -> tuple[str, ...]:
            return ()

    pair = {name: ((name, "a"), (name, "b")) for name in "xy"}
    larger = change_of_lead(Fixed(), pair["x"], pair["y"], "ndcg@10")  # type: ignore[arg-type]
    assert larger.held and larger.estimate == pytest.approx(0.2) and larger.n == 400
    assert not change_of_lead(Fixed(), pair["y"], pair["x"], "ndcg@10").held  # type: ignore[arg-type]

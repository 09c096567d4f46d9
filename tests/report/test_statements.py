"""Judges that statements share, on values whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from seqrec_lib.report.judges import change_of_lead, is_held
from seqrec_lib.report.statements import Evidence, of_several


def test_a_change_of_lead_is_paired_by_user_and_held_where_it_is_above_zero() -> None:
    """Two models on two data sets: in the first a leads by 0.3 for each user, in the second by 0.1."""
    spread = np.random.default_rng(0).uniform(0.0, 0.2, 400)
    users = {("x", "a"): spread + 0.3, ("x", "b"): spread, ("y", "a"): spread + 0.1, ("y", "b"): spread}

    class Fixed:
        def users(self, dataset: str, model: str, metric: str) -> np.ndarray:
            return users[dataset, model]

        def ids(self, models: object) -> tuple[str, ...]:
            return ()

    x, y = "x/a minus x/b", "y/a minus y/b"
    larger = change_of_lead(Fixed(), x, y, "ndcg@10", "low > 0")
    assert larger.held and larger.estimate == pytest.approx(0.2) and larger.n == 400
    assert not change_of_lead(Fixed(), y, x, "ndcg@10", "low > 0").held


def test_a_rule_has_to_hold_in_all_its_parts_and_to_be_one() -> None:
    numbers = {"estimate": 0.5, "low": 0.25, "high": 0.75}
    assert is_held("low > 0 and high < 1", numbers) and is_held("low >= 0.25 and high <= 0.75", numbers)
    assert not is_held("low > 0 and high < 0.75", numbers)
    assert not is_held("estimate > -1 and low <= 0", numbers)
    for rule in ("low", "low > a", "low > 0 or high < 1", "low>0"):
        with pytest.raises(ValueError, match="no rule"):
            is_held(rule, numbers)


def test_of_several_parts_all_have_to_be_held_and_one_is_shown() -> None:
    parts = [Evidence(True, estimate, None, None, 1, (f"{estimate}", "both")) for estimate in (-3.0, 1.0, 2.0)]
    assert [of_several(parts, show).estimate for show in ("least", "greatest", "largest")] == [-3.0, 2.0, -3.0]
    assert of_several(parts, "least").held
    assert of_several(parts, "least").run_ids == ("-3.0", "both", "1.0", "2.0")
    assert not of_several([*parts, Evidence(False, 0.0, None, None, 1, ())], "least").held

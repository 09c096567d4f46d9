from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.experiments import llamarec, orpo
from seqrec_lib.experiments.base import execute, key
from seqrec_lib.language import ranker_recipes
from seqrec_lib.language.objectives import OBJECTIVES
from seqrec_lib.language.pairings import KINDS
from seqrec_lib.report import floors, preferences
from seqrec_lib.results import RunStore
from tests.conftest import make_sequences, random_sequences
from tests.experiments.test_llamarec import QUICK


def parameters(**changes: Any) -> dict[str, Any]:
    return {"dataset": "demo", "retriever": "sasrec", "arms": ["orpo"], "seeds": [0], "overrides": QUICK} | changes


def test_a_plan_starts_every_arm_of_a_seed_from_one_ranker() -> None:
    configs = orpo.plan(parameters(arms=list(orpo.ARMS), seeds=[0, 1]))
    assert len({key(orpo, c) for c in configs}) == 2 * len(orpo.ARMS)
    assert len({orpo.parents(c) for c in configs}) == 2
    assert {c.model for c in configs} == {f"llamarec+{name}" for name in orpo.ARMS}
    paper = next(c.preference for c in configs if c.arm == "orpo-paper")
    assert (paper.learning_rate, paper.lambda_, paper.schedule, paper.warmup_steps) == (5e-6, 0.05, "inverse-sqrt", 100)


def test_arms_cover_every_objective_and_kind_and_have_a_name_on_the_page() -> None:
    assert {arm.objective for arm in orpo.ARMS.values()} == set(OBJECTIVES)
    assert {arm.negatives for arm in orpo.ARMS.values()} == set(KINDS)
    assert list(preferences.LABELS) == list(orpo.ARMS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Sequences:
    data = random_sequences(0, n_users=20, n_items=40, longest=10)
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: data)
    monkeypatch.setitem(ranker_recipes.RETRIEVER, "demo", {"epochs": 1})
    return data


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("orpo-lower-rated", "no ratings"),
        ("orpo-lightfm", "LightFM is missing"),
        ("orpo-lightfm-pool", "LightFM is missing"),
        ("orpo-paper", "LightFM is missing"),
    ],
)
def test_what_an_arm_lacks_is_said_before_any_training(
    store: RunStore, small: Sequences, monkeypatch: pytest.MonkeyPatch, arm: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "lightfm", None)
    (record,) = execute(orpo, orpo.plan(parameters(arms=[arm])), store=store, progress=False, device="cpu")
    assert record is not None and record.error is not None and message in record.error
    assert store.records() == [record]


def test_arms_share_what_they_start_from_and_a_missing_part_fails_that_arm_alone(
    store: RunStore, small: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightfm", None)  # as where it is not installed
    configs = orpo.plan(
        parameters(arms=["sft", "orpo-paper-random", "orpo-lightfm", "orpo-lower-rated"], tuning={"batch": 10})
    )
    records = execute(orpo, configs, store=store, progress=False, device="cpu")
    sft, paper, lightfm, rated = records
    assert sft.error is None and paper.error is None
    assert lightfm.error is not None and "LightFM is missing" in lightfm.error
    assert rated.error is not None and "no ratings" in rated.error
    (base,) = sft.parents
    assert paper.parents == (base,)
    fine = store.find(base)
    assert fine is not None and fine.experiment == llamarec.NAME
    first = store.table(fine, "ranks")["rank"].to_numpy()
    for record in (sft, paper):
        assert (store.table(record, "ranks")["before_rank"].to_numpy() == first).all()
        assert record.metrics["before_ndcg@10"] == pytest.approx(fine.metrics["ndcg@10"])
        assert record.cost["steps"] == 2 and record.environment["precision"] == "fp32"
    assert paper.metrics["kl"] < sft.metrics["kl"]  # a rate of 5e-6, in its warm-up
    runs = preferences.named(floors.gather("orpo", configs, records, store)[0])
    changes = preferences.changes(runs, store).set_index("label")
    assert changes.loc[list(runs["label"]), "gap"].isna().tolist() == [False, False, True, True]


def test_changes_by_hand() -> None:
    data = make_sequences([[1, 1, 1, 2, 3, 4], [2, 2, 3, 1, 1, 4]], 4)  # training: item 1 four times, 2 three, 3 once
    items = np.array([[1, 4]])
    found = orpo.changes(data, items, np.array([[0.0, 0.0]]), np.array([[np.log(3.0), 0.0]]))
    assert found["kl"] == pytest.approx(np.log(0.5) - (np.log(0.75) + np.log(0.25)) / 2)
    assert found["changed"] == 0.0
    assert found["popularity"] == found["before_popularity"] == pytest.approx((1.0 + 0.25) / 2)

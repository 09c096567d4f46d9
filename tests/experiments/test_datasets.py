"""The data sets experiment: its plan, its tables checked by hand, and that a record holds numbers only."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqrec_lib.data import load
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import datasets
from seqrec_lib.experiments.base import Context
from seqrec_lib.experiments.datasets import Config, length_histogram, plan, popularity_curve


def test_plan_names_each_data_set_once():
    assert plan({"dataset": "demo"}) == [Config("demo")]
    assert plan({"datasets": ["ml-1m", "demo", "ml-1m"]}) == [Config("ml-1m"), Config("demo")]
    with pytest.raises(SeqRecError, match="unknown data set 'dmo'; did you mean demo"):
        plan({"datasets": ["dmo"]})


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 6, 7, 8, 700, 701, 2314], list(range(3, 90)), [1, 1000]])
def test_every_user_is_in_one_bin(lengths):
    table = length_histogram(np.array(lengths), bins=6).to_pydict()
    assert sum(table["users"]) == len(lengths)
    assert len(table["users"]) <= 6
    assert table["from"][0] == min(lengths)
    assert table["to"][-1] == max(lengths)
    assert all(first <= last for first, last in zip(table["from"], table["to"], strict=True))
    assert table["from"][1:] == [last + 1 for last in table["to"][:-1]]
    for first, last, users in zip(table["from"], table["to"], table["users"], strict=True):
        assert users == sum(first <= length <= last for length in lengths)


def test_the_popularity_curve_of_ten_items_by_hand():
    counts = np.array([1, 1, 1, 1, 1, 1, 1, 1, 2, 10])
    table = popularity_curve(counts).to_pydict()
    curve = dict(zip(table["rank_share"], table["interaction_share"], strict=True))
    assert curve[0.0] == 0.0
    assert curve[0.1] == 0.5  # the first item has 10 of 20
    assert curve[0.2] == 0.6
    assert curve[1.0] == 1.0
    assert table["interaction_share"] == sorted(table["interaction_share"])


def test_a_run_describes_the_data_in_numbers_only(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    outcome = datasets.run(Config("demo"), Context(tmp_path, progress=False))
    sequences = load("demo")
    assert outcome.dataset == {
        "name": "demo",
        "n_users": sequences.n_users,
        "n_items": sequences.n_items,
        "n_interactions": sequences.n_interactions,
        "split_sha256": sequences.split_hash,
        "verified": True,
    }
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in outcome.metrics.values())
    assert outcome.metrics["length_50%"] == np.median(sequences.lengths)
    assert outcome.tables.keys() == {"lengths", "popularity"}
    assert sum(outcome.tables["lengths"]["users"].to_pylist()) == sequences.n_users
    tables = [table.to_pydict() for table in outcome.tables.values()]
    text = json.dumps([outcome.dataset, outcome.metrics, tables])
    assert not any(title in text for title in sequences.titles[1:])

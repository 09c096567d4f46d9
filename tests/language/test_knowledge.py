"""Accuracy by groups of targets: a ranker that knows only old films shows there alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from seqrec_lib.language import knowledge
from tests.conftest import random_sequences


def test_groups_hold_every_user_that_was_asked_once_and_show_what_a_ranker_knows() -> None:
    data = random_sequences(0, n_users=200, n_items=40, longest=10)
    titles = ("", *(f"Film {n} (a part) ({1950 + n})" for n in range(1, 40)), "Without a year")
    data = replace(data, titles=titles)
    years = knowledge.release_years(data)
    assert years[1] == 1951 and years[40] == 0 and years[0] == 0
    targets = data.split("test").targets
    rng = np.random.default_rng(0)
    place = np.where(rng.random(200) < 0.7, rng.integers(0, 20, 200), -1)
    old = years[targets] <= 1970
    ranks = pd.DataFrame(
        {"place": place, "rank": np.where(old, 1, 11), "retriever_rank": place + 1, "popularity_rank": 2}
    )
    found = knowledge.by_year(ranks, data)
    asked = (place >= 0) & (years[targets] > 0)
    assert found["users"].sum() == asked.sum() and len(found) == 4
    assert (found["from"].to_numpy()[1:] > found["to"].to_numpy()[:-1]).all()
    assert found["rank"].iloc[0] == 1 and found["rank"].iloc[-1] == 0
    total = (found["rank"] * found["users"]).sum() / found["users"].sum()
    assert total == pytest.approx(old[asked].mean())
    popular = knowledge.by_popularity(ranks, data)
    assert popular["users"].sum() == (place >= 0).sum()
    assert popular["popularity_rank"].tolist() == pytest.approx([1 / np.log2(3)] * len(popular))


def test_nobody_asked_is_an_empty_table() -> None:
    ranks = pd.DataFrame({"place": [-1], "rank": [3], "retriever_rank": [3], "popularity_rank": [3]})
    assert knowledge.in_groups(ranks, np.array([1990]), 4).empty

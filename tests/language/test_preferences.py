"""Preference pairs by hand: ties, held-out items, LightFM's worst, and what the leaky reading takes."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.preferences import by_factors, by_rating, fit_factors, last_items, pool_of
from tests.conftest import make_sequences, random_sequences

HISTORIES = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 1, 2], [3, 4, 5, 6, 7], [1, 2, 3, 4]]
RATINGS = [[5, 1, 4, 2, 3], [1, 5, 5, 2, 1, 5], [4, 3, 3, 5, 1], [3, 4, 5, 1]]


def rated():
    return dataclasses.replace(make_sequences(HISTORIES, 9), ratings=np.concatenate(RATINGS).astype(np.float32))


def test_the_higher_rated_of_the_last_two_training_items_wins() -> None:
    pairs = by_rating(rated())
    # user 0 trains on 1 2 3: 2 is rated 1, 3 is rated 4; user 1 on 6 7 8 9: 8 beats 9; user 2 ties; user 3 is too short
    assert pairs.histories.targets.tolist() == [3, 8] and pairs.losers.tolist() == [2, 9]
    assert (pairs.histories.stop - pairs.histories.start).tolist() == [1, 2]
    assert (pairs.ties, pairs.short) == (1, 1)


def test_the_leaky_reading_takes_the_test_item_and_the_other_never_does() -> None:
    data = rated()
    assert last_items(data, leaky=True)[1].targets.tolist() == [5, 2, 7, 4]
    users, own = last_items(data)
    assert users.tolist() == [0, 1, 2, 3] and own.targets.tolist() == [3, 9, 5, 2]
    assert (own.stop < data.offsets[1:] - 2).all()


def test_no_ratings_and_only_ties_are_clear_errors() -> None:
    with pytest.raises(SeqRecError, match="tiny has no ratings"):
        by_rating(make_sequences(HISTORIES, 9))
    with pytest.raises(SeqRecError, match="tie for every user"):
        by_rating(dataclasses.replace(rated(), ratings=np.ones(20, np.float32)))


def test_the_loser_is_the_worst_that_the_user_does_not_have() -> None:
    data = rated()
    scores = np.array([0.0, -9, -8, -7, 6, 5, -6, 3, 2], dtype=np.float32)  # of items 1 to 9
    model = SimpleNamespace(user_embeddings=np.zeros((4, 2)), item_embeddings=np.zeros((9, 2)), item_biases=scores)
    # user 0 has 1 2 3, user 1 has 6 7 8 9, user 2 has 3 4 5, user 3 has 1 2
    assert by_factors(data, model).losers.tolist() == [4, 2, 2, 3]


def test_lightfm_learns_what_it_is_given_and_repeats_itself() -> None:
    pytest.importorskip("lightfm", reason="lightfm-next needs a C compiler: make setup says where it was not built")
    rng = np.random.default_rng(0)
    two_tastes = [(rng.permutation(10)[:8] + 1 + 10 * (user % 2)).tolist() for user in range(40)]
    data = make_sequences(two_tastes, 20)
    model = fit_factors(data, components=4, epochs=30)
    losers = by_factors(data, model).losers
    other = np.where(np.arange(40) % 2 == 0, losers > 10, losers <= 10)
    assert other.mean() > 0.9  # the worst is of the other taste
    again = fit_factors(data, components=4, epochs=30)
    assert (again.item_embeddings == model.item_embeddings).all()


def test_without_lightfm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightfm", None)
    with pytest.raises(SeqRecError, match=r"LightFM is missing .* pip install 'lightfm-next>=1.19' .*C compiler"):
        fit_factors(make_sequences([[1, 2, 3, 4]], 4))


def test_a_pool_holds_both_items_of_its_pair_where_it_says() -> None:
    pytest.importorskip("lightfm", reason="lightfm-next needs a C compiler: make setup says where it was not built")
    data = random_sequences(4, n_users=30, n_items=40, longest=12)
    pairs = by_factors(data, fit_factors(data, components=4, epochs=2))
    items, chosen, rejected = pool_of(pairs, data, 6, np.random.default_rng(0))
    rows = np.arange(len(pairs))
    assert (items[rows, chosen] == pairs.histories.targets).all() and (items[rows, rejected] == pairs.losers).all()
    assert all(len(set(row)) == 6 for row in items.tolist())
    assert len(set(chosen.tolist())) == 6

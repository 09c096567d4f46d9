"""The demo data set: deterministic, of the promised size, with order to learn at short and long range."""

from __future__ import annotations

import re

import numpy as np
import pytest

from seqrec_lib.data import process, simulate
from seqrec_lib.data.registry import get, verification
from seqrec_lib.data.sequences import Sequences


@pytest.fixture(scope="module")
def demo() -> Sequences:
    return process(get("demo"), simulate.simulate())


def test_the_seed_gives_the_data_set_that_the_registry_knows(demo):
    assert verification(demo) == "verified"
    assert (demo.n_users, demo.n_items, demo.n_interactions) == get("demo").counts
    other = process(get("demo"), simulate.simulate(seed=1))
    assert other.split_hash != demo.split_hash


def test_size_is_as_promised(demo):
    assert demo.n_users == pytest.approx(1000, rel=0.02)
    assert demo.n_items == pytest.approx(500, rel=0.05)
    assert demo.n_interactions == pytest.approx(30_000, rel=0.05)


def test_rows_are_in_time_order_with_ties_and_without_repeats():
    rows = simulate.simulate(users=50, items=80, interactions=1000)
    users = np.asarray(rows.users)
    same_user = users[1:] == users[:-1]
    steps = np.diff(rows.timestamps)[same_user]
    assert (steps >= 0).all()
    assert 0.2 < (steps == 0).mean() < 0.5
    pairs = set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
    assert len(pairs) == len(rows)
    assert len(rows) == pytest.approx(1000, rel=0.1)


def test_ratings_span_the_stars_and_follow_no_single_value():
    rows = simulate.simulate()
    stars, counts = np.unique(rows.ratings, return_counts=True)
    assert stars.tolist() == [1, 2, 3, 4, 5]
    assert counts.max() < 0.5 * counts.sum()


def test_titles_are_distinct_made_up_and_name_their_genre():
    films = simulate.make_films(np.random.default_rng(simulate.SEED), simulate.ITEMS)
    assert len(set(films.titles)) == len(films.titles) == simulate.ITEMS
    invented = [onset + ending for onset in simulate._ONSETS for ending in simulate._ENDINGS]
    for title, genres in zip(films.titles, films.genres, strict=True):
        assert re.fullmatch(r".+ \(\d{4}\)", title)
        assert any(name in title for name in invented)
        adjectives, nouns = simulate._GENRES[genres[0]]
        assert any(word in title for word in adjectives)
        assert any(word in title for word in nouns)


def test_a_film_leads_to_its_sequel_first():
    films = simulate.make_films(np.random.default_rng(0), 60)
    assert np.allclose(films.transition.sum(axis=1), 1)
    has = np.flatnonzero(films.sequel >= 0)
    assert len(has) > 10
    assert (films.transition[has].argmax(axis=1) == films.sequel[has]).all()
    stem = [re.sub(r"( II| III| IV| V)? \(\d{4}\)$", "", title) for title in films.titles]
    assert all(stem[film] == stem[films.sequel[film]] for film in has)


@pytest.mark.parametrize(("users", "items", "interactions"), [(10, 60, 200), (200, 1000, 3000)])
def test_other_sizes_work(users, items, interactions):
    rows = simulate.simulate(3, users=users, items=items, interactions=interactions)
    assert len(rows) == pytest.approx(interactions, rel=0.2)
    assert len(set(rows.titles.values())) == items


# ---- what there is to learn --------------------------------------------------------------------------------


def hit_rate(scores: np.ndarray, targets: np.ndarray) -> float:
    """HT@10 with ties counted against the model."""
    mine = scores[np.arange(len(targets)), targets][:, None]
    return float(((scores >= mine).sum(axis=1) <= 10).mean())


@pytest.fixture(scope="module")
def learnt(demo: Sequences) -> dict[str, np.ndarray]:
    """Counts from the training sequences: popularity, transitions, co-occurrence."""
    size = demo.n_items + 1
    popularity, follow, together = np.zeros(size), np.zeros((size, size)), np.zeros((size, size))
    train = demo.split("train")
    for start, stop in zip(train.start, train.stop + 1, strict=True):
        items = demo.items[start:stop]
        popularity[items] += 1
        np.add.at(follow, (items[:-1], items[1:]), 1)
        together[np.ix_(items, items)] += 1
    together /= np.sqrt(np.outer(popularity + 1, popularity + 1))
    return {"popularity": popularity, "follow": follow, "together": together}


def test_a_markov_chain_beats_popularity_well_over_twice_and_needs_the_order(demo, learnt):
    test = demo.split("test")
    popularity = hit_rate(np.tile(learnt["popularity"], (demo.n_users, 1)), test.targets)
    tie_break = 1e-6 * learnt["popularity"]
    markov = hit_rate(learnt["follow"][demo.items[test.stop - 1]] + tie_break, test.targets)
    rng = np.random.default_rng(0)
    shuffled_last = demo.items[rng.integers(test.start, test.stop)]
    shuffled = hit_rate(learnt["follow"][shuffled_last] + tie_break, test.targets)
    assert markov > 4 * popularity
    assert shuffled < 0.5 * markov


def test_a_longer_history_tells_more_than_the_last_item(demo, learnt):
    """Among targets that no training transition from the last item explains, co-occurrence with the whole
    history (an order-free view of taste) still beats popularity."""
    test = demo.split("test")
    last = demo.items[test.stop - 1]
    unexplained = np.flatnonzero(learnt["follow"][last, test.targets] == 0)
    assert len(unexplained) > 0.2 * demo.n_users
    taste = np.zeros((len(unexplained), demo.n_items + 1))
    popular = np.tile(learnt["popularity"], (len(unexplained), 1))
    for row, user in enumerate(unexplained):
        history = demo.items[test.start[user] : test.stop[user]]
        taste[row] = learnt["together"][history].sum(axis=0)
        taste[row, history] = popular[row, history] = -1
    targets = test.targets[unexplained]
    assert hit_rate(taste, targets) > 1.5 * hit_rate(popular, targets)

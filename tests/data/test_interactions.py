"""k-core, cleaning, ids, order and statistics, against brute force and hand-counted examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.data.interactions import (
    Interactions,
    core_rounds,
    drop_duplicates,
    drop_untitled,
    gini,
    k_core,
    statistics,
    to_sequences,
)
from seqrec_lib.errors import SeqRecError

Row = tuple[Any, Any, int]


def make(rows: Sequence[Row], ratings: list[float] | None = None, titles: dict | None = None) -> Interactions:
    def column(values: list) -> np.ndarray:
        if values and isinstance(values[0], str):
            array = np.empty(len(values), dtype=object)
            array[:] = values
            return array
        return np.array(values, dtype=np.int64)

    users, items, times = (list(part) for part in zip(*rows, strict=True)) if rows else ([], [], [])
    rated = None if ratings is None else np.array(ratings, dtype=np.float32)
    return Interactions(column(users), column(items), np.array(times, dtype=np.int64), rated, titles or {})


def rows_of(interactions: Interactions) -> list[Row]:
    columns = (interactions.users, interactions.items, interactions.timestamps)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def brute_k_core(rows: list[Row], k: int) -> list[Row]:
    """Remove one offending user or item at a time."""
    while True:
        for position in (0, 1):
            labels = [row[position] for row in rows]
            rare = next((label for label in labels if labels.count(label) < k), None)
            if rare is not None:
                rows = [row for row in rows if row[position] != rare]
                break
        else:
            return rows


ints = st.integers(0, 7)
rows_int = st.lists(st.tuples(ints, ints, st.integers(0, 5)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(rows=rows_int, k=st.integers(1, 4), text=st.booleans())
def test_k_core_is_what_removing_one_by_one_leaves(rows, k, text):
    if text:
        rows = [(f"u{user}", f"ü{item}", time) for user, item, time in rows]
    expected = brute_k_core(rows, k)
    if expected:
        assert rows_of(k_core(make(rows), k)) == expected
    else:
        with pytest.raises(SeqRecError, match=f"no interactions are left of {len(rows)} after {k}-core"):
            k_core(make(rows), k)


def test_the_error_of_a_k_core_that_leaves_too_little_has_the_counts_of_each_round():
    chain = [(user, item, 0) for user in range(5) for item in (user, user + 1)]  # each round takes off both ends
    assert core_rounds(make(chain), 2) == [(10, 5, 6), (8, 5, 4), (6, 3, 4), (4, 3, 2), (2, 1, 2), (0, 0, 0)]
    with pytest.raises(
        SeqRecError, match=r"no interactions .*: 10 of 5 users and 6 items; 8 of 5 users and 4 items; .*; 0 of"
    ):
        k_core(make(chain), 2)
    pairs = [(user, item, 0) for user in range(3) for item in range(3)]
    assert len(k_core(make(pairs), 3, least=3)) == 9
    with pytest.raises(SeqRecError, match=r"fewer than 4 users or items are left of 9 .*: 9 of 3 users and 3 items\)"):
        k_core(make(pairs), 3, least=4)


def test_k_core_counts_repeated_pairs_and_keeps_ratings_aligned():
    rows = [(1, 1, 0), (9, 9, 0), (1, 1, 1), (1, 1, 2)]
    core = k_core(make(rows, [1, 2, 3, 4]), 3)
    assert rows_of(core) == [(1, 1, 0), (1, 1, 1), (1, 1, 2)]
    assert core.ratings.tolist() == [1, 3, 4]


@settings(max_examples=100, deadline=None)
@given(rows=rows_int)
def test_exact_duplicates_go_and_the_first_stays(rows):
    # The rating marks each row's place in the file.
    kept = drop_duplicates(make(rows, list(range(len(rows)))))
    first = list(dict.fromkeys(rows))
    assert rows_of(kept) == first
    assert kept.ratings.tolist() == [rows.index(row) for row in first]


def test_untitled_items_go():
    rows = [(1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 0)]
    assert rows_of(drop_untitled(make(rows, titles={1: "one", 2: "", 3: " \n"}))) == [(1, 1, 0)]


def brute_sequences(rows: list[Row]) -> tuple[list[list[int]], list]:
    labels = sorted({item for _, item, _ in rows})
    sequences = []
    for user in sorted({user for user, _, _ in rows}):
        mine = [row for row in rows if row[0] == user]
        mine.sort(key=lambda row: row[2])  # Python's sort is stable
        sequences.append([1 + labels.index(item) for _, item, _ in mine])
    return sequences, labels


@settings(max_examples=150, deadline=None)
@given(
    histories=st.dictionaries(
        st.integers(-5, 30),
        st.lists(st.tuples(st.integers(-3, 40), st.integers(0, 4)), min_size=3),
        min_size=1,
        max_size=6,
    ),
    text=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_ids_follow_sorted_labels_and_ties_keep_file_order(histories, text, random):
    rows: list[Row] = [(user, item, time) for user, history in histories.items() for item, time in history]
    random.shuffle(rows)
    if text:  # "10" < "2" as text, and an umlaut after z
        rows = [(f"{user}", f"{'ä' if item % 2 else 'z'}{item}", time) for user, item, time in rows]
    expected, labels = brute_sequences(rows)
    sequences = to_sequences("test", make(rows, [row[2] for row in rows], {labels[0]: "first"}))
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    assert [sequences.items[a:b].tolist() for a, b in bounds] == expected
    assert sequences.item_labels == ("", *map(str, labels))
    assert sequences.titles == ("", "first", *[""] * (len(labels) - 1))
    assert sequences.items.dtype == np.int32
    assert sequences.offsets.dtype == np.int64
    assert sequences.ratings.tolist() == sequences.timestamps.tolist()  # each rating stays with its row


def test_no_interactions_is_an_error():
    with pytest.raises(SeqRecError, match="'test' has no interactions"):
        to_sequences("test", make([]))


def test_statistics_of_a_data_set_counted_by_hand():
    rows = [
        *[(1, 10, 0), (1, 11, 5), (1, 10, 5)],  # the last two tie; item 10 twice
        *[(2, 10, 0), (2, 11, 1), (2, 12, 2), (2, 13, 3), (2, 10, 4)],  # no tie; item 10 twice
    ]
    numbers = statistics(to_sequences("test", make(rows, titles={10: "ten"})))
    assert (numbers["users"], numbers["items"], numbers["interactions"]) == (2, 4, 8)
    assert (numbers["users_with_padding"], numbers["items_with_padding"]) == (3, 5)
    assert numbers["density"] == 1.0
    assert numbers["length_mean"] == 4.0
    assert numbers["length_quantiles"]["0%"] == 3.0
    assert numbers["length_quantiles"]["50%"] == 4.0
    assert numbers["tied_pairs"] == 1 / 6  # six consecutive pairs; the step from user 1 to user 2 is none
    assert numbers["tied_last_two"] == 0.5
    assert numbers["repeated_pairs"] == 2
    assert (numbers["first_timestamp"], numbers["last_timestamp"]) == (0, 5)
    assert numbers["popularity_gini"] == gini(np.array([4, 2, 1, 1]))
    assert (numbers["has_titles"], numbers["has_ratings"]) == (True, False)


def test_ties_across_two_users_are_not_counted():
    rows = [(1, 1, 5), (1, 2, 6), (1, 3, 7), (2, 1, 7), (2, 2, 8), (2, 3, 9)]
    assert statistics(to_sequences("test", make(rows)))["tied_pairs"] == 0.0


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_gini_is_the_mean_absolute_difference_over_twice_the_mean(counts):
    n = len(counts)
    expected = sum(abs(a - b) for a in counts for b in counts) / (2 * n * n * (sum(counts) / n))
    assert gini(np.array(counts)) == pytest.approx(expected, abs=1e-12)

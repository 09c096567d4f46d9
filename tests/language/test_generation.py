"""From queries to lists: floors, ranks, what is passed over, and titles that two items share."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from seqrec_lib.language import generation
from seqrec_lib.language.generation import Catalogue
from tests.conftest import make_sequences
from tests.language.conftest import TITLES

POPULARITY = np.array([0, 5, 2, 4, 1, 1, 1, 9, 1, 1])


def test_lists_of_titles_hold_the_items_of_each_title_the_popular_one_first() -> None:
    catalogue = Catalogue(TITLES, POPULARITY)
    queries = [["Pale Fog", "no title", "???", "Pale Fog"], []]
    assert generation.searched(catalogue.find, queries, 10, each=10) == [[7, 2, 9], []]
    assert generation.searched(catalogue.find, queries, 2, each=2) == [[7, 2], []]
    assert generation.searched(catalogue.find, queries, 10, each=10, seen=[{7}, set()]) == [[2, 9], []]


def test_lists_by_search_pass_over_seen_items_and_go_deeper_instead() -> None:
    catalogue = Catalogue(TITLES, POPULARITY)
    find = catalogue.engine().find
    assert generation.searched(find, [["Pale Fog", "Comet"]], 3) == [[7, 1, 2]]
    assert generation.searched(find, [["Pale Fog", "Comet"]], 3, each=2) == [[7, 2, 1]]
    assert generation.searched(find, [["Pale Fog", "Comet"]], 3, seen=[{7}]) == [[2, 1, 3]]
    found = generation.searched(find, [["Comet"]], 4, each=4)[0]
    deeper = generation.searched(find, [["Comet"]], 2, each=2, seen=[set(found[:2])])[0]
    assert deeper == found[2:4], "with two seen items before them, the third and fourth"


def test_a_target_outside_its_list_ranks_below_the_catalogue() -> None:
    ranks = generation.list_ranks([[4, 2, 9], [3], []], np.array([9, 1, 1]), 9)
    assert ranks.tolist() == [3, 10, 10]


def test_seen_items_leave_the_target_in() -> None:
    data = make_sequences([[1, 2, 3, 2], [4, 5, 6, 7]], 7)
    assert generation.seen_items(data, data.split("test")) == [{1, 3}, {4, 5, 6}]


def test_counts_and_followers_see_training_items_only() -> None:
    data = make_sequences([[1, 2, 1, 2, 3, 1], [1, 4, 5, 2], [2, 4, 3, 1]], 5)
    assert generation.training_counts(data).tolist() == [0, 3, 3, 0, 2, 0]
    titles = ("", "a", "b", "c", "d", "e")
    test = data.split("test")
    assert generation.last_titles(data, test, titles) == [["c"], ["e"], ["c"]]
    # nothing followed c or e in training: by popularity, a and b before d
    assert generation.following_titles(data, test, titles, 3) == [["a", "b", "d"]] * 3
    valid = data.split("valid")  # histories end in b, d, d
    # after b: a and d once each, a is more popular; after d nothing, as what follows it there is held out
    assert generation.following_titles(data, valid, titles, 2) == [["a", "d"], ["a", "b"], ["a", "b"]]


def test_items_of_one_title_count_together() -> None:
    data = make_sequences([[1, 2, 1, 1], [1, 3, 1, 1], [1, 4, 1, 1]], 4)
    titles = ("", "start", "same", "same", "other")
    queries = generation.following_titles(data, data.split("test"), titles, 2)
    assert queries[0][0] == "same"


def test_diversity_and_coverage_against_their_definitions() -> None:
    catalogue = Catalogue(TITLES, POPULARITY)
    lists = [[1, 2, 3], [2, 7], [4]]
    expected = []
    for own in lists[:2]:
        bags = [set(TITLES[i].casefold().replace("(", "").replace(")", "").split()) for i in own]
        expected.append(np.mean([1 - len(a & b) / len(a | b) for a, b in combinations(bags, 2)]))
    assert generation.diversity(catalogue, lists, 10) == pytest.approx(np.mean(expected))
    assert generation.diversity(catalogue, [[4]], 10) == 0.0
    assert generation.coverage(lists, 2, 9) == pytest.approx(4 / 9)

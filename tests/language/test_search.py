"""BM25 against its formula in float64, ties, and the merging rule against a naive one."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.language.search import TitleSearch, merged, words
from tests.language.conftest import TITLES


def bm25(query: list[str], texts: list[list[str]], k1: float, b: float) -> list[float]:
    """Lucene's BM25, term by term; its constant factor k1 + 1 left out, as it changes no order."""
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        counts, score = Counter(text), 0.0
        for word in query:
            having = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            tf = counts[word]
            score += idf * tf / (tf + k1 * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.6, 0.0), (2.0, 1.0)])
def test_titles_are_ranked_as_the_formula_ranks_them(k1: float, b: float) -> None:
    rng = np.random.default_rng(0)
    vocabulary = ["comet", "fog", "it", "2", "ii", "the", "дозор", "千", "1995"]
    titles = ("", *(" ".join(rng.choice(vocabulary, rng.integers(1, 6))) for _ in range(60)))
    popularity = rng.integers(0, 5, len(titles))
    engine = TitleSearch(titles, popularity, k1, b)
    for _ in range(40):
        query = " ".join(rng.choice([*vocabulary, "unknown"], rng.integers(1, 5)))
        scores = [0.0, *bm25(words(query), [words(title) for title in titles[1:]], k1, b)]
        expected = sorted(
            (item for item in range(1, len(titles)) if scores[item] > 0),
            key=lambda item: (-round(scores[item], 5), -popularity[item], item),
        )
        assert engine.find(query, 100).tolist() == expected
        assert engine.find(query, 7).tolist() == expected[:7]


def test_equal_titles_stand_in_order_of_popularity_and_any_script_is_found() -> None:
    popularity = np.array([0, 1, 2, 9, 1, 1, 1, 5, 1, 1])
    engine = TitleSearch(TITLES, popularity)
    assert engine.find("pale FOG", 3).tolist() == [7, 2, 3]  # two of one text, the more popular first
    assert engine.find("дозор", 5).tolist() == [4]
    assert engine.find("千と千尋の神隠し", 5).tolist() == [5]
    assert engine.find("???", 5).tolist() == [] == engine.find("", 5).tolist() == engine.find("nowhere", 5).tolist()


def test_a_catalogue_without_a_word_finds_nothing() -> None:
    assert TitleSearch(("", "???", "!"), np.zeros(3)).find("anything", 3).tolist() == []


def test_constants_can_be_changed() -> None:
    titles = ("", "fog", "fog " * 3 + "a b c d e f")
    engine = TitleSearch(titles, np.zeros(3), k1=1.5, b=1.0)
    assert engine.find("fog", 2).tolist() == [1, 2]
    engine.tune(5.0, 0.0)
    assert engine.find("fog", 2).tolist() == [2, 1]


def naive(results: list[list[int]], length: int, each: int, without: set[int]) -> list[int]:
    listed: list[int] = []
    while len(listed) < length:
        before = len(listed)
        for result in results:
            new = [item for item in result if item not in listed and item not in without][:each]
            listed += new
        if len(listed) == before:
            break
    return listed[:length]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 12), unique=True, max_size=8), max_size=6),
    st.integers(1, 12),
    st.integers(1, 4),
    st.sets(st.integers(1, 12), max_size=4),
)
def test_merging_goes_in_rounds(results: list[list[int]], length: int, each: int, without: set[int]) -> None:
    arrays = [np.array(result, dtype=np.int64) for result in results]
    assert merged(arrays, length, each=each, without=without) == naive(results, length, each, without)

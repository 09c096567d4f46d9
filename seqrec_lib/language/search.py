"""The search engine of GPT4Rec and MamRec: a query in words, the catalogue's titles ranked by BM25.

A title scores sum over the query's words of idf(w) tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length)), Lucene's
form, whose idf is positive: every title with a word of the query scores above zero, the others are not found. Where
scores tie, the item with more training interactions comes first, then the lower id. Words are runs of letters and
digits in any script, without case; no word is left out, as "It" is a film.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence

import bm25s
import numpy as np

Results = np.ndarray  # item ids, best first
LARGE = 20_000  # titles from which on compiling the scorer (a second for each index) is repaid


def words(text: str) -> list[str]:
    """The words of a text.

    >>> words("Se7en (1995): Дозор")
    ['se7en', '1995', 'дозор']
    """
    return re.findall(r"\w+", text.casefold())


class TitleSearch:
    """BM25 over titles.

    Args:
        titles: (n_items + 1,), index 0 unused. popularity: (n_items + 1,) training interactions, for ties.
        k1, b: BM25's saturation and length normalisation.
    """

    def __init__(self, titles: Sequence[str], popularity: np.ndarray, k1: float = 1.5, b: float = 0.75) -> None:
        ids = np.arange(1, len(titles))
        self.items = ids[np.lexsort((ids, -popularity[1:]))]  # document -> item: documents stand as ties are broken
        self.texts = [words(titles[item]) for item in self.items]
        self.tune(k1, b)

    def tune(self, k1: float, b: float) -> None:
        """Index again with other constants."""
        self.k1, self.b = k1, b
        self.index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numba")
        # An index without a single word cannot be made: then nothing is ever found.
        self.empty = not any(self.texts)
        if not self.empty:
            self.index.index(self.texts, show_progress=False)
            if len(self.texts) > LARGE:
                self.index.activate_numba_scorer()
        self._found: dict[tuple[str, int], Results] = {}

    def find(self, query: str, depth: int) -> Results:
        """Items for a query, best first, at most ``depth``; fewer where fewer titles share a word with it."""
        if (query, depth) not in self._found:
            asked = words(query)
            known = self.index.get_tokens_ids(asked) if asked and not self.empty else []
            scores = self.index.get_scores_from_ids(known) if known else np.zeros(0)
            found = np.flatnonzero(scores > 0)
            if len(found) > depth:
                found = found[scores[found] >= np.partition(scores[found], -depth)[-depth]]
            self._found[query, depth] = self.items[found[np.argsort(-scores[found], kind="stable")[:depth]]]
        return self._found[query, depth]


def merged(results: Sequence[Results], length: int, *, each: int = 1, without: Collection[int] = ()) -> list[int]:
    """One list of at most ``length`` items from the results of several queries.

    In rounds, until it is full: in each, every query in its turn gives its best ``each`` items that are not in the list
    yet. Items of ``without`` are passed over.

    >>> merged([np.array([4, 7]), np.array([4, 9, 2])], 3)
    [4, 9, 7]
    >>> merged([np.array([4, 7]), np.array([4, 9, 2])], 4, each=2)
    [4, 7, 9, 2]
    """
    taken: dict[int, None] = {}
    passed = set(without)
    waiting = [iter([item for item in result.tolist() if item not in passed]) for result in results]
    while waiting and len(taken) < length:
        still = []
        for queue in waiting:
            best = list(itertools.islice((item for item in queue if item not in taken), each))
            taken |= dict.fromkeys(best)
            if len(best) == each:
                still.append(queue)
        waiting = still
    return list(taken)[:length]

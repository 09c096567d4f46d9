"""From histories to lists of items by way of queries: what GPT4Rec, MamRec and their floors share.

A *writer* gives each user some queries, best first: a language model's beams, the last title, or the titles that most
often followed it. `TitleSearch` finds items for each, and `merged` makes one list. With constrained beams every query
is a title, and the list holds the items of that title.

A list ranks its own items only. A target that is not in the list has rank n_items + 1, one place below the catalogue.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np

from seqrec_lib.data.sequences import Histories, Sequences
from seqrec_lib.evaluate.metrics import CUTOFFS, rank_metrics
from seqrec_lib.language.recipes import Writing
from seqrec_lib.language.search import Results, TitleSearch, merged, words
from seqrec_lib.models.popularity import Popularity


class Catalogue:
    """Items by what is written of them.

    Args:
        titles: (n_items + 1,) as a model writes them (`Encoder.titles`, cut where they are too long).
        popularity: (n_items + 1,) training interactions; the more popular of two items with one title comes first.
    """

    def __init__(self, titles: Sequence[str], popularity: np.ndarray) -> None:
        self.titles, self.popularity = tuple(titles), popularity
        self.items: dict[str, list[int]] = {}
        for item in sorted(range(1, len(titles)), key=lambda item: (-popularity[item], item)):
            self.items.setdefault(titles[item], []).append(item)
        self.words = [frozenset(words(title)) for title in titles]

    def engine(self, k1: float = 1.5, b: float = 0.75) -> TitleSearch:
        """BM25 over the titles."""
        return TitleSearch(self.titles, self.popularity, k1, b)

    def find(self, title: str, depth: int) -> Results:
        """The items of a title, at most ``depth``; none where there is no such title."""
        return np.array(self.items.get(title, [])[:depth], dtype=np.int64)


def training_counts(sequences: Sequences) -> np.ndarray:
    """(n_items + 1,) training interactions of each item; padding has none."""
    return Popularity(sequences).counts.clamp(min=0).long().numpy()


def last_titles(sequences: Sequences, histories: Histories, titles: Sequence[str]) -> list[list[str]]:
    """One query for each history: its last title."""
    return [[titles[item]] for item in sequences.items[histories.stop - 1]]


def following_titles(sequences: Sequences, histories: Histories, titles: Sequence[str], count: int) -> list[list[str]]:
    """``count`` queries for each history: the titles that followed its last one most often in training.

    Ties, and what is missing, by popularity. A title that two items share counts for both.
    """
    texts = {text: number for number, text in enumerate(dict.fromkeys(titles))}
    names = list(texts)
    code = np.array([texts[title] for title in titles])  # item -> number of its title
    popularity = np.bincount(code, weights=training_counts(sequences), minlength=len(names))
    popular = np.lexsort((np.arange(len(names)), -popularity))
    popular = popular[popularity[popular] > 0]
    followers: list[dict[int, int]] = [{} for _ in names]
    for begin, end in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        own = code[sequences.items[begin : end - 2]].tolist()
        for item, next_ in itertools.pairwise(own):
            followers[item][next_] = followers[item].get(next_, 0) + 1
    ranked: dict[int, list[str]] = {}
    queries = []
    for item in code[sequences.items[histories.stop - 1]].tolist():
        if item not in ranked:
            order = sorted(followers[item], key=lambda other: (-followers[item][other], -popularity[other], other))
            ranked[item] = [names[other] for other in dict.fromkeys([*order, *popular.tolist()[: 2 * count]])][:count]
        queries.append(ranked[item])
    return queries


def searched(
    find: Callable[[str, int], Results],
    queries: Sequence[Sequence[str]],
    length: int,
    *,
    each: int = 1,
    seen: Sequence[Collection[int]] | None = None,
) -> list[list[int]]:
    """Each user's list of at most ``length`` items, without the items ``seen``, from what is found for each query.

    Args:
        find: `TitleSearch.find`, or `Catalogue.find` where queries are titles. each: see `merged`.
    """
    passed = seen if seen is not None else [()] * len(queries)
    depth = length + max(map(len, passed), default=0)
    return [
        merged([find(query, depth) for query in own], length, each=each, without=without)
        for own, without in zip(queries, passed, strict=True)
    ]


def list_ranks(lists: Sequence[Sequence[int]], targets: np.ndarray, n_items: int) -> np.ndarray:
    """The place of each target in its list, from 1; n_items + 1 where it is not there. (n_users,) int32."""
    ranks = [
        own.index(target) + 1 if target in own else n_items + 1
        for own, target in zip(map(list, lists), targets.tolist(), strict=True)
    ]
    return np.array(ranks, dtype=np.int32)


def seen_items(sequences: Sequences, histories: Histories) -> list[set[int]]:
    """The items of each history, without its target (which stays a candidate, as in the other models' ranking)."""
    return [
        set(sequences.items[start:stop].tolist()) - {target}
        for start, stop, target in zip(histories.start, histories.stop, histories.targets.tolist(), strict=True)
    ]


def diversity(catalogue: Catalogue, lists: Sequence[Sequence[int]], k: int) -> float:
    """How different the titles of a list are: the mean over users of the mean Jaccard distance of two titles' words.

    GPT4Rec measures this over categories and brands. Users with fewer than two items are left out.
    """
    means = []
    for own in lists:
        bags = [catalogue.words[item] for item in own[:k]]
        distances = [1 - len(a & b) / len(a | b) if a | b else 0.0 for i, a in enumerate(bags) for b in bags[i + 1 :]]
        if distances:
            means.append(sum(distances) / len(distances))
    return float(np.mean(means)) if means else 0.0


def coverage(lists: Sequence[Sequence[int]], k: int, n_items: int) -> float:
    """The share of the catalogue that somebody's first ``k`` items contain."""
    return len({item for own in lists for item in own[:k]}) / n_items


class Lists:
    """Collects the lists of a run's test users: their metrics and ranks, under a prefix each."""

    def __init__(self, sequences: Sequences, titles: Sequence[str], setting: Writing) -> None:
        self.catalogue, self.setting = Catalogue(titles, training_counts(sequences)), setting
        self.n_items, self.test = sequences.n_items, sequences.split("test")
        self.engine = self.catalogue.engine(setting.k1[0], setting.b[0])
        self.seen = seen_items(sequences, self.test)
        self.metrics: dict[str, float] = {}
        self.columns: dict[str, np.ndarray] = {}

    def choose_constants(self, queries: Sequence[Sequence[str]], targets: np.ndarray, each: int) -> dict[str, float]:
        """Give BM25 the constants with which these validation users have the best NDCG@10 (the first of equals)."""
        scores = {}
        for k1, b in itertools.product(self.setting.k1, self.setting.b):
            self.engine.tune(k1, b)
            lists = searched(self.engine.find, queries, self.setting.length, each=each)
            scores[k1, b] = rank_metrics(list_ranks(lists, targets, self.n_items), (10,))["ndcg@10"]
        k1, b = max(scores, key=lambda pair: scores[pair])
        self.engine.tune(k1, b)
        return {"bm25_k1": k1, "bm25_b": b, "valid_ndcg@10": scores[k1, b]}

    def search(self, prefix: str, queries: Sequence[Sequence[str]], each: int) -> None:
        """Lists by BM25."""
        self.add(prefix, partial(searched, self.engine.find, queries, self.setting.length, each=each))

    def add(self, prefix: str, make: Callable[..., list[list[int]]]) -> None:
        """The lists that ``make`` gives, and those that it gives with the items to pass over, ``seen``."""
        plain = make()
        cutoffs = [k for k in CUTOFFS if k <= self.setting.length]  # a list of 10 says nothing about the first 20
        for mask, lists in (("", plain), ("masked_", make(seen=self.seen))):
            ranks = list_ranks(lists, self.test.targets, self.n_items)
            self.columns[f"{prefix}{mask}rank"] = ranks
            self.metrics |= {f"{prefix}{mask}{name}": value for name, value in rank_metrics(ranks, cutoffs).items()}
        self.metrics |= {
            f"{prefix}diversity@10": diversity(self.catalogue, plain, 10),
            f"{prefix}coverage@10": coverage(plain, 10, self.n_items),
            f"{prefix}list_length": float(np.mean([len(own) for own in plain])),
        }

"""Prompts with a chosen and a rejected letter, by the kind of the rejected item.

    random        any other candidate
    retriever     the retriever's first ones are the candidates, its best wrong one is rejected
    own-error     the candidate that the ranker, as it is now, likes best among the wrong ones
    lightfm       LightFM's worst of the catalogue (part 2 of the paper)
    lightfm-pool  LightFM's worst of the candidates
    lower-rated   of the user's last two items, the lower rated one (part 1 of the paper)
    paper         both parts of the paper; part 2 alone where there are no ratings
    leaky         random, and the chosen item is the TEST item: what the paper's words can be read as, and no result

In all but the last, nothing behind the training sequence is read. Candidates are drawn anew each time that a pair
comes back; every kind has as many prompts, so that all are equal in steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqrec_lib.data.sequences import Histories, Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import preferences
from seqrec_lib.language.candidates import training_pools
from seqrec_lib.language.ranker_training import Examples

if TYPE_CHECKING:
    from seqrec_lib.evaluate.ranking import Recommender
    from seqrec_lib.language.ranking import LetterRanker

KINDS = ("random", "retriever", "own-error", "lightfm", "lightfm-pool", "lower-rated", "paper", "leaky")


@dataclass(frozen=True)
class Pairing:
    """Examples, and where they come from: pairs (different ones), ties and short (users left out, see `Pairs`)."""

    examples: Examples
    counts: dict[str, int]


def check(kind: str, sequences: Sequences) -> None:
    """Raises SeqRecError where `pairing` would, for an unknown kind or what data and packages lack: before training."""
    if kind not in KINDS:
        raise SeqRecError(f"unknown kind of negatives {kind!r}; there are {', '.join(KINDS)}")
    if _is_rated(kind, sequences):
        preferences.by_rating(sequences)
    if kind in ("lightfm", "lightfm-pool", "paper"):
        preferences.lightfm_class()


def pairing(
    kind: str,
    ranker: LetterRanker,
    sequences: Sequences,
    retriever: Recommender,
    prompts: int,
    rng: np.random.Generator,
) -> Pairing:
    """``prompts`` prompts with pairs of a kind; SeqRecError where `check` says so."""
    check(kind, sequences)
    if kind in ("lightfm", "lower-rated", "paper"):
        return _of_pairs(kind, ranker, sequences, prompts, rng)
    users, histories = preferences.last_items(sequences, leaky=kind == "leaky")
    rows = _rows(len(users), prompts, rng)
    some = histories.take(rows)
    hard = "retriever" if kind == "retriever" else "random"
    pools = training_pools(retriever, sequences, some, ranker.candidates, rng, negatives=hard)
    texts = ranker.prompts(sequences, some, pools.items)
    if kind == "lightfm-pool":
        scores = -preferences.factor_scores(preferences.fit_factors(sequences), users[rows], pools.items)
    elif kind == "retriever":
        scores = pools.scores.copy()
    elif kind == "own-error":
        scores = ranker.scores(texts)
    else:
        scores = rng.random(pools.items.shape)
    np.put_along_axis(scores, pools.place[:, None], -np.inf, 1)
    return Pairing(Examples(texts, pools.place, scores.argmax(1)), {"pairs": len(users)})


def _is_rated(kind: str, sequences: Sequences) -> bool:
    return kind == "lower-rated" or (kind == "paper" and sequences.ratings is not None)


def _of_pairs(kind: str, ranker: LetterRanker, sequences: Sequences, prompts: int, rng: np.random.Generator) -> Pairing:
    """Of items that are paired before there are candidates."""
    parts = [preferences.by_rating(sequences)] if _is_rated(kind, sequences) else []
    if kind != "lower-rated":
        parts.append(preferences.by_factors(sequences, preferences.fit_factors(sequences)))
    start, stop, targets = (
        np.concatenate([getattr(p.histories, name) for p in parts]) for name in ("start", "stop", "targets")
    )
    losers = np.concatenate([p.losers for p in parts])
    rows = _rows(len(losers), prompts, rng)
    drawn = preferences.Pairs(Histories(start, stop, targets).take(rows), losers[rows])
    items, chosen, rejected = preferences.pool_of(drawn, sequences, ranker.candidates, rng)
    counts = {"pairs": len(losers), "ties": sum(p.ties for p in parts), "short": sum(p.short for p in parts)}
    return Pairing(Examples(ranker.prompts(sequences, drawn.histories, items), chosen, rejected), counts)


def _rows(n: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """``wanted`` indices below n: each as often as the others, but for one."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-wanted // n))])[:wanted]

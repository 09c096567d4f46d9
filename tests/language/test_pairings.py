"""Kinds of rejected items: each by its definition, equal in number, and blind to what is held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import preferences
from seqrec_lib.language.pairings import KINDS, Pairing, pairing
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.ranker_recipes import Setting
from seqrec_lib.language.ranking import LetterRanker
from seqrec_lib.language.title_tokens import TITLES, names, title_model
from seqrec_lib.models.popularity import Markov
from tests.conftest import random_sequences

ITEMS, K, PROMPTS = 40, 5, 70


class Factors:
    """What is read of a LightFM model."""

    def __init__(self, users: int, items: int) -> None:
        rng = np.random.default_rng(0)
        self.user_embeddings, self.item_embeddings = rng.standard_normal((users, 3)), rng.standard_normal((items, 3))
        self.item_biases = rng.standard_normal(items)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Sequences:
    found = random_sequences(5, n_users=30, n_items=ITEMS, longest=12)
    factors = Factors(found.n_users, ITEMS)
    monkeypatch.setattr(preferences, "fit_factors", lambda sequences: factors)
    return replace(found, ratings=np.random.default_rng(1).integers(1, 6, found.n_interactions).astype(np.float32))


@pytest.fixture(scope="module")
def ranker() -> LetterRanker:
    language = title_model(ITEMS, Size(d_model=16, n_layers=2, heads=2, positions=64), 0)
    language.model.eval()
    return LetterRanker(language, TITLES, names(ITEMS), Setting(candidates=K, history=6))


def make(kind: str, ranker: LetterRanker, data: Sequences, seed: int = 0) -> Pairing:
    return pairing(kind, ranker, data, Markov(data), PROMPTS, np.random.default_rng(seed))


def read(ranker: LetterRanker, prompt: list[int]) -> tuple[list[int], list[int]]:
    """(candidates, history) that a prompt shows."""
    words = ranker.tokenizer.convert_ids_to_tokens(prompt)
    cut = words.index("History")
    both = (words[2:cut:2], words[cut + 1 : -1])
    pool, history = ([int(word[1:-1]) for word in part] for part in both)
    return pool, history


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_as_many_prompts_and_only_the_leak_reads_what_is_held_out(kind, ranker, data) -> None:
    found = make(kind, ranker, data).examples
    assert len(found.prompts) == PROMPTS and (found.chosen != found.rejected).all()
    for prompt in found.prompts:
        pool, _ = read(ranker, prompt)
        assert len(set(pool)) == K
    held_out = np.zeros(data.n_interactions, dtype=bool)
    held_out[data.offsets[1:] - 1] = held_out[data.offsets[1:] - 2] = True
    items = np.where(held_out, data.items % ITEMS + 1, data.items).astype(np.int32)
    other = replace(data, items=items, ratings=np.where(held_out, 6 - data.ratings, data.ratings))
    again = make(kind, ranker, other).examples
    same = again.prompts == found.prompts and (again.rejected == found.rejected).all()
    assert same == (kind != "leaky")


def test_chosen_is_the_last_training_item_and_rejected_is_what_the_kind_says(ranker, data) -> None:
    factors, retriever = preferences.fit_factors(data), Markov(data)
    users, histories = preferences.last_items(data)
    by_text = {
        tuple(data.items[max(b - 6, a) : b].tolist()): u
        for u, a, b in zip(users, histories.start, histories.stop, strict=True)
    }
    assert len(by_text) == len(users)  # a prompt's history says whose it is
    for kind in ("random", "retriever", "own-error", "lightfm-pool"):
        found = make(kind, ranker, data).examples
        logits = ranker.scores(found.prompts)
        for row, prompt in enumerate(found.prompts):
            pool, history = read(ranker, prompt)
            user = by_text[tuple(history)]
            assert pool[found.chosen[row]] == data.items[data.offsets[user + 1] - 3]
            wrong = [place for place in range(K) if place != found.chosen[row]]
            if kind == "own-error":
                assert found.rejected[row] == max(wrong, key=lambda place: logits[row, place])
            if kind == "retriever":
                scores = retriever.score(torch.tensor([[history[-1]]]), torch.tensor([1]))[0]
                assert scores[pool[found.rejected[row]]] == max(scores[pool[place]] for place in wrong)
    found = make("lightfm-pool", ranker, data).examples
    for row, prompt in enumerate(found.prompts):
        pool, history = read(ranker, prompt)
        user = by_text[tuple(history)]
        likings = {
            i: factors.user_embeddings[user] @ factors.item_embeddings[i - 1] + factors.item_biases[i - 1] for i in pool
        }
        wrong = [item for item in pool if item != pool[found.chosen[row]]]
        assert pool[found.rejected[row]] == min(wrong, key=likings.__getitem__)


def test_the_papers_pairs_are_both_parts_and_part_two_alone_without_ratings(ranker, data) -> None:
    parts = [make(kind, ranker, data).counts for kind in ("lower-rated", "lightfm", "paper")]
    assert parts[2]["pairs"] == parts[0]["pairs"] + parts[1]["pairs"] and parts[2]["ties"] == parts[0]["ties"]
    bare = replace(data, ratings=None)
    assert make("paper", ranker, bare).counts["pairs"] == parts[1]["pairs"]
    with pytest.raises(SeqRecError, match="no ratings"):
        make("lower-rated", ranker, bare)
    with pytest.raises(SeqRecError, match="unknown kind of negatives 'worst'"):
        make("worst", ranker, data)

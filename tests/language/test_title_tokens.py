"""Title tokens: what a prompt looks like, what the induction head does before any training, and what it is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.data.sequences import Histories, Sequences
from seqrec_lib.language.pretrained import Size, load
from seqrec_lib.language.ranker_recipes import Setting
from seqrec_lib.language.ranker_training import Examples, tune
from seqrec_lib.language.ranking import LetterRanker
from seqrec_lib.language.title_tokens import TITLES, names, title_model
from tests.conftest import random_sequences
from tests.language.conftest import once

SIZE = Size(d_model=32, n_layers=2, heads=2, positions=64)
ITEMS, K = 30, 5


@pytest.fixture(scope="module")
def data() -> Sequences:
    return random_sequences(3, n_users=60, n_items=ITEMS, longest=12)


def make(seed: int = 0, vectors: np.ndarray | None = None) -> LetterRanker:
    return LetterRanker(title_model(ITEMS, SIZE, seed, vectors), TITLES, names(ITEMS), Setting(candidates=K, history=4))


def test_a_prompt_has_a_token_for_each_title_and_letter(data: Sequences) -> None:
    ranker = make()
    users = Histories(data.offsets[:2], data.offsets[:2] + 3, data.items[data.offsets[:2] + 3])
    (ids, _) = ranker.prompts(data, users, np.array([[5, 6, 7, 8, 9]] * 2))
    words = ranker.tokenizer.convert_ids_to_tokens(ids)
    history = [f"<{item}>" for item in data.items[:3]]
    pool = [word for letter, item in zip("ABCDE", range(5, 10), strict=True) for word in (letter, f"<{item}>")]
    assert words == ["Pool", *pool, "History", *history, "Answer"]
    assert ranker.tokenizer.convert_ids_to_tokens(ranker.letter_ids) == list("ABCDE")


def test_before_any_training_the_first_head_reads_the_token_before() -> None:
    ranker = make()
    ranker.model.set_attn_implementation("eager")
    ids = torch.randint(1, ITEMS, (1, 20), generator=torch.Generator().manual_seed(0))
    weights = ranker.model(ids, output_attentions=True).attentions[0][0]
    for position in range(2, 20):
        assert int(weights[0, position].argmax()) == position - 1
        assert weights[0, position, position - 1] > 0.6
    assert (weights[1, 19] < 0.2).all()  # the other head is as any head with random weights


def lessons(ranker: LetterRanker, data: Sequences, seed: int) -> tuple[Examples, np.ndarray]:
    """Prompts whose history ends in the answer, and the places of the answers."""
    rng = np.random.default_rng(seed)
    histories = data.split("train")
    pools = np.array([rng.permutation(np.arange(1, ITEMS + 1))[:K] for _ in range(10 * len(histories))])
    place = rng.integers(0, K, len(pools))
    rows = np.arange(len(pools)) % len(histories)
    items = data.items.copy()
    texts = []
    for row, pool, answer in zip(rows, pools, place, strict=True):
        items[histories.stop[row]] = pool[answer]
        shown = Histories(histories.start[[row]], histories.stop[[row]] + 1, pool[[answer]])
        changed = replace(data, items=items)
        texts += ranker.prompts(changed, shown, pool[None])
    return Examples(texts, place, (place + 1) % K), place


def test_a_short_training_finds_letters_and_without_the_head_it_does_not(data: Sequences) -> None:
    reached = []
    for head in (True, False):
        ranker = make()
        if not head:  # the same model as transformers makes it
            torch.manual_seed(0)
            ranker.model = type(ranker.model)(ranker.model.config)
        examples, _ = lessons(ranker, data, 0)
        tune(ranker, examples, once("letters", learning_rate=5e-3, schedule="constant", warmup_steps=5, batch=20))
        unseen, place = lessons(ranker, data, 1)
        reached.append(float((ranker.scores(unseen.prompts).argmax(1) == place).mean()))
    assert reached[0] > 0.6
    assert reached[1] < 0.4  # chance is 0.2


def test_vectors_are_centred_and_scaled() -> None:
    vectors = np.random.default_rng(0).standard_normal((ITEMS + 1, 8)).astype(np.float32) + 3
    found = make(vectors=vectors).model.get_input_embeddings().weight.detach().numpy()
    own = vectors[1:] - vectors[1:].mean(0)
    own = own / np.linalg.norm(own, axis=1, keepdims=True) * np.sqrt(32)
    np.testing.assert_allclose(found[1 : ITEMS + 1, :8], own, rtol=1e-4, atol=1e-5)
    assert (found[1 : ITEMS + 1, 8:] == 0).all()


def test_a_kept_model_comes_back_the_same(tmp_path: Any, data: Sequences) -> None:
    ranker = make(seed=4)
    ranker.model.save_pretrained(tmp_path)
    ranker.tokenizer.save_pretrained(tmp_path)
    again = LetterRanker(load(str(tmp_path)), TITLES, names(ITEMS), Setting(candidates=K, history=4))
    texts = lessons(ranker, data, 2)[0].prompts[:20]
    np.testing.assert_allclose(again.scores(texts), ranker.scores(texts), atol=1e-6)
    assert ranker.letter_ids == again.letter_ids
    assert (make(seed=5).scores(texts) != ranker.scores(texts)).any()

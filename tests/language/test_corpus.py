from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import corpus
from seqrec_lib.language.corpus import GPT4REC, LLAMAREC, PAPER_RANKING, Encoder
from seqrec_lib.language.title_tokens import TITLES as TITLE_TOKENS
from tests.conftest import make_sequences
from tests.language.conftest import TITLES


def test_the_prompts_are_those_of_their_papers() -> None:
    assert GPT4REC.render(["A", "B"]) == (
        "Previously, the customer has bought: A. B. In the future, the customer wants to buy"
    )
    assert GPT4REC.complete("C") == " C"
    assert PAPER_RANKING.render(["A"], ["B", "C"]).endswith(
        "Input: User history: (1) A; Candidate pool: (A) B (B) C; Answer:"
    )
    text = LLAMAREC.render(["A", "B"], ["C", "D"]) + LLAMAREC.complete("B")
    assert "User history: (1) A \n (2) B; \n Candidate pool: (A) C \n (B) D\n\n### Response:\nB" in text


def test_a_prompt_leaves_the_space_to_the_answer_and_titles_may_hold_braces() -> None:
    assert not [prompt.name for prompt in (GPT4REC, LLAMAREC, PAPER_RANKING, TITLE_TOKENS) if prompt.text.endswith(" ")]
    assert "{braces} and 100 %." in GPT4REC.render(["{braces} and 100 %"])


def test_every_item_has_a_title_of_one_line() -> None:
    data = dataclasses.replace(
        make_sequences([[1, 2, 3]], 3), titles=("", " Two\n lines\x00", "", "Zo\u00eb"), item_labels=("", "a", "b", "c")
    )
    assert corpus.item_titles(data) == ("", "Two lines", "item b", "Zo\u00eb")


def test_encoded_text_is_that_of_the_tokenizer_and_comes_back(tiny) -> None:
    tokenizer = tiny["gpt2"].tokenizer
    encoder = Encoder(tokenizer, GPT4REC, TITLES, prompt_tokens=120)
    histories = [[1, 4], [5, 6, 9]]
    answers = [TITLES[5], TITLES[9]]
    for history, answer, example in zip(histories, answers, encoder.examples(histories, answers), strict=True):
        whole = GPT4REC.render([TITLES[i] for i in history]) + " " + answer
        assert tokenizer.decode(example.ids[:-1]) == whole  # any script: no token is unknown
        assert example.ids[:-1] == tokenizer(whole)["input_ids"]  # prompt and answer meet at a token's edge
        assert example.ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(example.ids[example.start : -1]) == " " + answer


@pytest.mark.parametrize("budget", [40, 60, 90])
def test_a_long_history_keeps_its_newest_titles_and_fits(tiny, budget: int) -> None:
    tokenizer = tiny["gpt2"].tokenizer
    encoder = Encoder(tokenizer, GPT4REC, TITLES, prompt_tokens=budget)
    rng = np.random.default_rng(budget)
    for length in (1, 3, 30):
        history = rng.integers(1, len(TITLES), length).tolist()
        ids = encoder.prompts([history])[0]
        kept = next(
            n
            for n in range(length, 0, -1)
            if len(tokenizer(GPT4REC.render([TITLES[i] for i in history[-n:]]))["input_ids"]) <= budget
        )
        longest = GPT4REC.render([TITLES[i] for i in history[-kept:]])
        # At most one title fewer than could fit: sizes are summed title by title first.
        shorter = GPT4REC.render([TITLES[i] for i in history[-max(kept - 1, 1) :]])
        assert tokenizer.decode(ids) in (longest, shorter)
        assert len(ids) <= budget


def test_a_title_longer_than_the_window_is_cut_at_a_character(tiny) -> None:
    tokenizer = tiny["gpt2"].tokenizer
    titles = ("", "word " * 300 + "end", "千" * 200)
    encoder = Encoder(tokenizer, GPT4REC, titles, prompt_tokens=60, title_tokens=10)
    for original, short in zip(titles[1:], encoder.titles[1:], strict=True):
        assert original.startswith(short) and 0 < len(tokenizer(short)["input_ids"]) <= 10
    assert all(len(ids) <= 60 for ids in encoder.prompts([[1, 2, 1, 2]]))
    with pytest.raises(SeqRecError, match="more than 12 tokens with one title"):
        Encoder(tokenizer, GPT4REC, titles, prompt_tokens=12).prompts([[1]])


def test_letters_are_the_tokens_that_follow_the_prompt(tiny) -> None:
    tokenizer = tiny["gpt2"].tokenizer
    for prompt in (PAPER_RANKING, LLAMAREC):
        ids = corpus.answer_ids(tokenizer, prompt, list(corpus.letters(20)))
        assert len(set(ids)) == 20
        encoder = Encoder(tokenizer, prompt, TITLES, prompt_tokens=400)
        assert [trained[0] for trained in encoder.answers(["A", "T"])] == [ids[0], ids[19]]


def test_a_letter_of_several_tokens_and_too_many_letters_are_errors(tiny) -> None:
    with pytest.raises(SeqRecError, match=re.escape("'錆' is ")):
        corpus.answer_ids(tiny["gpt2"].tokenizer, LLAMAREC, ["A", "錆"])
    with pytest.raises(SeqRecError, match="one token; use another"):
        corpus.answer_ids(tiny["gpt2"].tokenizer, LLAMAREC, ["A", "A"])
    with pytest.raises(SeqRecError, match="30 candidates"):
        corpus.letters(30)


def test_a_batch_is_padded_on_the_right_and_its_loss_falls_on_what_was_asked() -> None:
    examples = [corpus.Encoded([5, 6, 7, 0], 2), corpus.Encoded([8, 0], 1)]
    batch = corpus.collate(examples, 0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7, 0], [-100, 0, -100, -100]]
    assert corpus.collate(examples, 0, loss_on="all")["labels"].tolist() == [[5, 6, 7, 0], [8, 0, -100, -100]]
    assert torch.equal(corpus.pad([[1], [2, 3]], 9).ids, torch.tensor([[1, 9], [2, 3]]))

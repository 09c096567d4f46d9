"""Beam search against transformers' own, free and constrained, and against trying out every title."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import beams
from seqrec_lib.language.beams import Search
from seqrec_lib.language.corpus import GPT4REC, Encoder
from seqrec_lib.language.states import states_of
from seqrec_lib.language.trie import TitleTrie
from tests.language.conftest import TITLES


def prompts_of(made: Any, count: int = 5) -> list[list[int]]:
    encoder = Encoder(made.tokenizer, GPT4REC, TITLES, prompt_tokens=90)
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 2, 9, 3, 5]
    histories = [torch.randint(1, len(TITLES), (n,), generator=generator).tolist() for n in lengths[:count]]
    return encoder.prompts(histories)


def trie_of(made: Any) -> tuple[TitleTrie, dict[tuple[int, ...], str]]:
    rows = Encoder(made.tokenizer, GPT4REC, TITLES, prompt_tokens=90).answers(TITLES[1:])
    return TitleTrie(rows, made.model.config.vocab_size), {
        tuple(row[:-1]): title for row, title in zip(rows, TITLES[1:], strict=True)
    }


def same(ours: list[list[beams.Query]], theirs: list[list[beams.Query]]) -> None:
    for own, other in zip(ours, theirs, strict=True):
        assert [query.tokens for query in own] == [query.tokens for query in other]
        assert [query.score for query in own] == pytest.approx([query.score for query in other], abs=2e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2"])
@pytest.mark.parametrize("setting", [Search(6, 9, 0.0), Search(4, 12, 1.0), Search(1, 5, 0.0)])
def test_free_beams_are_those_of_generate(architecture: str, setting: Search, tiny) -> None:
    made = tiny[architecture]
    end = made.tokenizer.eos_token_id
    prompts = prompts_of(made)
    # An end that is likely, so that queries of several lengths compete.
    bias = 8.0 if architecture == "gpt2" else 2.0
    head = made.model.lm_head
    hook = head.register_forward_hook(lambda module, args, out: out + bias * (torch.arange(out.shape[-1]) == end))
    try:
        ours = beams.search(made.model, prompts, setting, end)
        theirs = [beams._generate(made.model, [prompt], setting, end, None)[0] for prompt in prompts]
    finally:
        hook.remove()
    same(ours, theirs)
    lengths = {len(query.tokens) for own in ours for query in own}
    assert len(lengths) > 1 or setting.beams == 1


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2"])
def test_constrained_beams_are_those_of_generate_and_real_titles(architecture: str, tiny) -> None:
    made = tiny[architecture]
    end, prompts = made.tokenizer.eos_token_id, prompts_of(made)
    trie, titles = trie_of(made)
    setting = Search(4, trie.longest)
    ours = beams.search(made.model, prompts, setting, end, trie=trie)
    same(ours, [beams._generate(made.model, [prompt], setting, end, trie)[0] for prompt in prompts])
    for own in ours:
        assert len({titles[query.tokens] for query in own}) == len(own) == 4


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2"])
def test_with_beams_for_all_titles_the_order_is_that_of_their_probabilities(architecture: str, tiny) -> None:
    made = tiny[architecture]
    end, prompts = made.tokenizer.eos_token_id, prompts_of(made, 2)
    trie, titles = trie_of(made)
    for prompt, own in zip(
        prompts, beams.search(made.model, prompts, Search(12, trie.longest), end, trie=trie), strict=True
    ):
        scores = {}
        for row in titles:
            text = torch.tensor([[*prompt, *row, end]])
            with torch.inference_mode():
                logp = made.model(input_ids=text).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            scores[row] = float(logp.gather(1, text[0, len(prompt) :, None]).sum())
        assert [query.tokens for query in own] == sorted(scores, key=lambda row: -scores[row])
        assert [query.score for query in own] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2", "llama"])
def test_a_users_queries_do_not_depend_on_the_batch(architecture: str, tiny, monkeypatch) -> None:
    made = tiny[architecture]
    end, prompts, setting = made.tokenizer.eos_token_id, prompts_of(made), Search(3, 6)
    assert (states_of(made.model) is None) == (architecture == "llama")
    together = beams.search(made.model, prompts, setting, end)
    monkeypatch.setattr(beams, "PROMPTS_AT_A_TIME", 1)  # one user at a time
    same(together, beams.search(made.model, prompts, setting, end))


def test_one_title_and_more_beams_than_titles(tiny) -> None:
    made = tiny["gpt2"]
    trie = TitleTrie([[7, 8, 0]], made.model.config.vocab_size)
    found = beams.search(made.model, prompts_of(made), Search(5, 3), 0, trie=trie)
    assert [[query.tokens for query in own] for own in found] == [[(7, 8)]] * 5
    # a title that does not fit into the steps is not written at all
    assert beams.search(made.model, prompts_of(made), Search(5, 2), 0, trie=trie) == [[]] * 5


def test_prompt_and_query_beyond_the_positions_are_an_error(tiny) -> None:
    with pytest.raises(SeqRecError, match="exceed the model's 128 positions"):
        beams.search(tiny["gpt2"].model, [[1] * 120], Search(2, 20), 0)


def test_the_trie_knows_what_may_follow() -> None:
    trie = TitleTrie([[5, 6, 0], [5, 6, 7, 0], [8, 0], [8, 0]], 10)
    assert trie.longest == 4
    logits = torch.zeros(3, 10)
    nodes = torch.zeros(3, dtype=torch.long)
    allowed = trie.forbid(logits, nodes)
    assert torch.isfinite(allowed).nonzero()[:, 1].tolist() == [5, 8] * 3
    nodes = trie.advance(nodes, torch.tensor([5, 8, 9]))
    assert nodes[2] == 0  # 9 may not follow
    nodes = trie.advance(nodes, torch.tensor([6, 0, 5]))
    follow = torch.isfinite(trie.forbid(logits, nodes))
    assert follow[0].nonzero()[:, 0].tolist() == [0, 7]
    assert not follow[1].any()  # a whole title
    assert follow[2].nonzero()[:, 0].tolist() == [6]


def test_batches_hold_every_prompt_once_within_the_limits() -> None:
    lengths = torch.randint(1, 300, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    found = beams.batches(lengths, 20, 500)
    assert sorted(i for batch in found for i in batch) == list(range(200))
    for batch in found:
        assert len(batch) * 20 <= beams.BEAMS_AT_A_TIME
        assert len(batch) * max(lengths[i] for i in batch) <= beams.PROMPTS_AT_A_TIME
    assert max(map(len, beams.batches(lengths, 20, 2**18))) == beams.LOGITS_AT_A_TIME // 2**18 // 20


def test_search_leaves_the_mode_of_the_model(tiny) -> None:
    made = tiny["gpt2"]
    made.model.train()
    beams.search(made.model, [[1, 2]], replace(Search(), beams=2, steps=2), 0)
    assert made.model.training
    made.model.eval()

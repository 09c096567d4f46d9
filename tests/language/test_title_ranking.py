"""Ranking by the likelihood of titles: the same as the whole model on whole texts, whatever the candidates' order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.corpus import GPT4REC, item_titles
from seqrec_lib.language.logits import SHORTEST, SharedPrefix, continuation_log_probabilities
from seqrec_lib.language.pretrained import LanguageModel, Size, from_scratch, prompt_texts
from seqrec_lib.language.ranker_recipes import Setting, resolve
from seqrec_lib.language.ranking import TitleRanker
from tests.conftest import random_sequences


def whole(model: Any, head: list[int], tail: list[int]) -> float:
    """The log-probability of the tail, from one pass over head and tail without padding, cache or blocks."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([head + tail])).logits[0].double()
    rows = torch.log_softmax(logits, 1)[len(head) - 1 : -1]
    return float(rows[torch.arange(len(tail)), torch.tensor(tail)].sum())


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mamba2"])
@pytest.mark.parametrize("length", [1, 2, SHORTEST + 1, 40])
def test_of_whole_texts_it_is_the_sum_over_their_tokens(tiny: Any, architecture: str, length: int) -> None:
    model, rng = tiny[architecture].model, np.random.default_rng(length)
    head = rng.integers(3, 200, length).tolist()
    tails = [rng.integers(3, 200, size).tolist() for size in (1, 7, 3, 12)]
    for block in (2, 64):
        got = continuation_log_probabilities(model, head, tails, block)
        np.testing.assert_allclose(got, [whole(model, head, tail) for tail in tails], rtol=1e-4, atol=1e-4)


def test_what_a_model_does_to_its_logits_is_done_here_too() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Gemma2Config(vocab_size=200, head_dim=8, num_key_value_heads=1, final_logit_softcapping=0.5, **sizes)
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).eval()
    head, tails = list(range(3, 40)), [[7, 8, 9], [11]]
    got = continuation_log_probabilities(model, head, tails)
    np.testing.assert_allclose(got, [whole(model, head, tail) for tail in tails], rtol=1e-4, atol=1e-4)


def test_the_head_is_read_once_where_keys_and_values_are_kept(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    model = tiny["llama"].model
    body = type(model.base_model)
    forward = body.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(kwargs["input_ids"].numel())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(body, "forward", counted)
    continuation_log_probabilities(model, [5] * 40, [[7, 8], [9]])
    assert read == [39, 2 * 3]
    assert SharedPrefix.of(tiny["mamba2"].model, [[5] * 40, [5] * 40]) is None


def test_candidates_have_their_titles_mean_whatever_their_order_and_company() -> None:
    data = random_sequences(7, n_users=9, n_items=30, longest=12)
    texts = prompt_texts(item_titles(data)[1:], GPT4REC.render(["a"]))
    made = from_scratch("llama", texts, Size(d_model=16, n_layers=2, heads=2, positions=256, vocabulary=500), 0)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.2)
    own = LanguageModel(made.model.eval(), made.tokenizer, made.provenance)
    ranker = TitleRanker(own, GPT4REC, item_titles(data), Setting(candidates=4, history=3, prompt_tokens=100))
    histories = data.split("test")
    items = np.array([np.random.default_rng(i).permutation(np.arange(1, 31))[:4] for i in range(len(histories))])
    scores = ranker.scores(ranker.prompts(data, histories, items))
    turned = ranker.scores(ranker.prompts(data, histories, items[:, ::-1]), batch_tokens=1)
    np.testing.assert_allclose(scores, turned[:, ::-1], rtol=1e-5, atol=1e-5)

    row, tokens = 4, made.tokenizer
    last = data.items[histories.start[row] : histories.stop[row]][-3:]
    text = GPT4REC.render([item_titles(data)[item] for item in last])
    head = tokens(text, add_special_tokens=False)["input_ids"]
    for k, item in enumerate(items[row]):
        tail = tokens(" " + item_titles(data)[item], add_special_tokens=False)["input_ids"]
        assert scores[row, k] == pytest.approx(whole(made.model, head, tail) / len(tail), abs=1e-4)


def test_it_is_not_tuned_and_asks_for_no_orders() -> None:
    _, setting, teaching = resolve("ml-100k", "some/model", {"prompt": "gpt4rec"})
    assert (setting.orders, teaching.prompts, setting.lora_rank) == (0, 0, 0)
    for more in ({"prompts": 64}, {"orders": 2}):
        with pytest.raises(SeqRecError, match="both are 0"):
            resolve("ml-100k", "some/model", {"prompt": "gpt4rec", **more})

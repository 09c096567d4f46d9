"""Ranking by the likelihood of titles: the same as the whole model on whole texts, whatever the candidates' order."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import ranker_training
from seqrec_lib.language.corpus import GPT4REC, NEXT_TITLE, item_titles, pad
from seqrec_lib.language.logits import SHORTEST, SharedPrefix, continuation_log_probabilities, row_losses
from seqrec_lib.language.pretrained import LanguageModel, Size, from_scratch, prompt_texts
from seqrec_lib.language.ranker_recipes import Setting, Teaching, resolve
from seqrec_lib.language.ranker_training import teach
from seqrec_lib.language.ranking import TitleRanker
from seqrec_lib.language.title_tokens import SOURCE
from tests.conftest import make_sequences, random_sequences


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


def softcapped() -> Any:
    """A model that bends its logits."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = Gemma2Config(vocab_size=200, head_dim=8, num_key_value_heads=1, final_logit_softcapping=0.5, **sizes)
    torch.manual_seed(0)
    return Gemma2ForCausalLM(config).eval()


def test_what_a_model_does_to_its_logits_is_done_here_too() -> None:
    model = softcapped()
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


def test_candidates_have_their_titles_mean_whatever_their_order_and_company(made: tuple[Any, LanguageModel]) -> None:
    data, own = made
    ranker = TitleRanker(own, GPT4REC, item_titles(data), Setting(candidates=4, history=3, prompt_tokens=100))
    histories = data.split("test")
    items = np.array([np.random.default_rng(i).permutation(np.arange(1, 31))[:4] for i in range(len(histories))])
    scores = ranker.scores(ranker.prompts(data, histories, items))
    turned = ranker.scores(ranker.prompts(data, histories, items[:, ::-1]), batch_tokens=1)
    np.testing.assert_allclose(scores, turned[:, ::-1], rtol=1e-5, atol=1e-5)

    row, tokens = 4, own.tokenizer
    last = data.items[histories.start[row] : histories.stop[row]][-3:]
    text = GPT4REC.render([item_titles(data)[item] for item in last])
    head = tokens(text, add_special_tokens=False)["input_ids"]
    for k, item in enumerate(items[row]):
        tail = tokens(" " + item_titles(data)[item], add_special_tokens=False)["input_ids"]
        assert scores[row, k] == pytest.approx(whole(own.model, head, tail) / len(tail), abs=1e-4)


@pytest.fixture
def made() -> tuple[Any, LanguageModel]:
    """Sequences with titles, and a model from scratch that tells them apart."""
    data = random_sequences(7, n_users=9, n_items=30, longest=12)
    texts = prompt_texts(item_titles(data)[1:], GPT4REC.render(["a"]))
    made = from_scratch("llama", texts, Size(d_model=16, n_layers=2, heads=2, positions=256, vocabulary=500), 0)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.2)
    return data, LanguageModel(made.model.eval(), made.tokenizer, made.provenance)


def among(model: Any, ids: list[int], columns: list[int]) -> list[tuple[float, bool, float]]:
    """For each token of ``columns`` behind the first: minus log-probability among them, likeliest, margin."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    found = []
    for before, token in enumerate(ids[1:]):
        if token in columns:
            row = {column: logits[before, column] for column in columns}
            own = row.pop(token)
            best = max(row.values())
            found.append((np.logaddexp.reduce([own, *row.values()]) - own, own > best, own - best))
    return found


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mamba2", "softcapped"])
def test_a_row_is_told_token_by_token_among_the_catalogues_tokens(tiny: Any, architecture: str) -> None:
    model = softcapped() if architecture == "softcapped" else tiny[architecture].model
    rng = np.random.default_rng(3)
    columns = sorted(rng.permutation(np.arange(3, 200))[:60].tolist())
    texts = [rng.choice([*columns, *range(3, 30)], size).tolist() for size in (2, 19, 7)]
    ids, lengths = pad(texts, 0)
    got = row_losses(model, ids, lengths, torch.tensor(columns))
    for row, text in zip(got.detach().numpy(), texts, strict=True):
        np.testing.assert_allclose(row, np.mean(among(model, text, columns), 0), rtol=1e-3, atol=1e-4)
    got[:, 0].sum().backward()
    output = model.get_output_embeddings().weight.grad
    assert output.abs().sum() > 0
    model.zero_grad()


def test_the_sum_is_a_likelihood_among_the_catalogues_tokens(made: tuple[Any, LanguageModel]) -> None:
    data, own = made
    setting = Setting(candidates=4, history=3, prompt_tokens=100)
    ranker = TitleRanker(own, NEXT_TITLE, item_titles(data), setting)
    columns = ranker.vocabulary.tolist()
    assert len(columns) < own.model.config.vocab_size
    histories = data.split("test").take(np.arange(1))
    scores = ranker.scores(ranker.prompts(data, histories, np.array([[1, 2, 3, 4]])))
    head = ranker.encoder.prompts([data.items[histories.start[0] : histories.stop[0]][-3:].tolist()])[0]
    for k in range(4):
        tail = own.tokenizer(f" {item_titles(data)[k + 1]}.", add_special_tokens=False)["input_ids"]
        told = among(own.model, head + tail, columns)[-len(tail) :]
        assert scores[0, k] == pytest.approx(-sum(one[0] for one in told), abs=1e-3)


def test_a_ranker_learns_what_follows_what_and_goes_on_after_a_kill(
    made: tuple[Any, LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every item is followed by the next one; the model is killed in the middle once, and tuned in one go once."""
    monkeypatch.setattr(ranker_training, "SECONDS", 0.0)
    _, own = made
    rng = np.random.default_rng(0)
    rows = [(np.arange(start, start + 12) % 20 + 1).tolist() for start in rng.integers(0, 20, 60)]
    data = make_sequences(rows, 20)
    setting = Setting(candidates=5, history=8, prompt_tokens=200)
    teaching = Teaching(objective="titles", learning_rate=1e-2, batch=8, epochs=15, warmup_steps=5)

    def ranker(folder: Path) -> TitleRanker:
        made = TitleRanker(copy.deepcopy(own), NEXT_TITLE, item_titles(data), setting)
        made.folder = folder
        return made

    whole, killed = ranker(tmp_path / "a"), ranker(tmp_path / "b")
    history = teach(whole, data, None, teaching, seed=1)
    assert history[-1]["loss"] < history[0]["loss"] / 2

    def kill(share: float, line: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    killed.report_share = kill
    with pytest.raises(KeyboardInterrupt):
        teach(killed, data, None, teaching, seed=1)
    again = ranker(tmp_path / "b")
    assert teach(again, data, None, teaching, seed=1) == history
    test = data.split("test")
    items = np.array([[(target + shift) % 20 + 1 for shift in (3, -1, 6, 9, 12)] for target in test.targets])
    first, second = (one.scores(one.prompts(data, test, items)) for one in (whole, again))
    np.testing.assert_array_equal(first, second)
    assert (first.argmax(1) == 1).mean() > 0.9


def test_the_prompt_decides_what_a_ranker_by_titles_is_tuned_on() -> None:
    _, setting, teaching = resolve("ml-100k", "some/model", {"prompt": "gpt4rec"})
    assert (setting.orders, teaching.prompts, setting.lora_rank) == (0, 0, 0)
    _, setting, teaching = resolve("ml-100k", "some/model", {"prompt": "next-title"})
    assert (setting.orders, teaching.objective) == (0, "titles")
    for overrides, message in (
        ({"prompt": "gpt4rec", "prompts": 64}, "prompts is 64"),
        ({"prompt": "gpt4rec", "orders": 2}, "orders is 2"),
        ({"prompt": "next-title", "orders": 2}, "orders is 2"),
        ({"prompt": "next-title", "objective": "letters"}, "objective 'letters'"),
        ({"prompt": "llamarec", "objective": "titles"}, "objective 'titles'"),
    ):
        with pytest.raises(SeqRecError, match=message):
            resolve("ml-100k", "some/model", overrides)
    with pytest.raises(SeqRecError, match="objective 'titles' with prompt 'titles'"):
        resolve("ml-100k", SOURCE, {"objective": "titles"})

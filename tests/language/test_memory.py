"""The bound on memory: what is counted, what follows from it, and that parts of a step add up to the step."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.language import memory, ranker_training
from seqrec_lib.language.adapters import with_adapter
from seqrec_lib.language.corpus import PAPER_RANKING, item_titles, letters, pad
from seqrec_lib.language.logits import SHORTEST, SharedPrefix, next_token_logits
from seqrec_lib.language.pretrained import LanguageModel, Size, from_scratch, prompt_texts
from seqrec_lib.language.ranker_recipes import Setting
from seqrec_lib.language.ranker_training import Examples, Meter, tune
from seqrec_lib.language.ranking import LetterRanker
from tests.conftest import random_sequences
from tests.language.conftest import once
from tests.language.gguf import gemma

K = 4


@pytest.fixture(scope="module")
def data() -> Sequences:
    return random_sequences(3, n_users=12, n_items=30, longest=12)


def make(data: Sequences, **more: Any) -> LetterRanker:
    texts = prompt_texts(item_titles(data)[1:], PAPER_RANKING.render([], []), " " + " ".join(letters(20)), "(A) (1)")
    made = from_scratch("llama", texts, Size(d_model=32, n_layers=4, heads=2, positions=256, vocabulary=500), 0)
    setting = Setting(candidates=K, history=5, prompt_tokens=200, **more)
    return LetterRanker(made, PAPER_RANKING, item_titles(data), setting)


def examples(ranker: LetterRanker, data: Sequences) -> Examples:
    histories = data.split("train")
    items = np.array([np.random.default_rng(n).permutation(30)[:K] + 1 for n in range(len(histories))], np.int32)
    chosen = np.arange(len(histories)) % K
    return Examples(ranker.prompts(data, histories, items), chosen, (chosen + 1) % K)


def loss_of(ranker: LetterRanker, prompt: list[int]) -> torch.Tensor:
    batch = pad([prompt], ranker.tokenizer.pad_token_id)
    return next_token_logits(ranker.model, batch.ids, batch.lengths, ranker.letter_tokens).sum()


def test_what_a_prompt_keeps_grows_with_its_tokens_and_ends_where_nothing_is_trained(data: Sequences) -> None:
    ranker = make(data)
    long = examples(ranker, data).prompts[0]
    kept, flops = memory.probe(ranker.model, lambda: loss_of(ranker, long))
    half, fewer = memory.probe(ranker.model, lambda: loss_of(ranker, long[: len(long) // 2]))
    assert kept / half == pytest.approx(2, rel=0.2) and 1.9 < flops / fewer < 2.6
    assert all(p.grad is None for p in ranker.model.parameters())
    # At least each layer's inputs, and far less than all that was ever computed.
    assert kept > 4 * 4 * 32 * len(long)
    upper = with_adapter(copy.deepcopy(ranker.model), targets="all-linear", layers=0.5, dropout=0.0)
    everywhere = with_adapter(copy.deepcopy(ranker.model), targets="all-linear", dropout=0.0)
    sizes = {}
    for name, model in (("upper", upper), ("everywhere", everywhere)):
        ranker.model = model
        sizes[name], _ = memory.probe(model, lambda: loss_of(ranker, long))
    assert 0.4 < sizes["upper"] / sizes["everywhere"] < 0.6
    trained = {name.split(".layers.")[1][0] for name, p in upper.named_parameters() if p.requires_grad}
    assert trained == {"2", "3"}


def test_a_probe_leaves_no_trace_in_random_numbers(data: Sequences) -> None:
    ranker = make(data)
    ranker.model = with_adapter(ranker.model, dropout=0.5).train()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    memory.probe(ranker.model, lambda: loss_of(ranker, examples(ranker, data).prompts[0]))
    assert torch.equal(torch.rand(1), expected)


def test_the_plan_keeps_the_bound_by_fewer_tokens_and_then_by_checkpointing(
    data: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "OVERHEAD", 0)
    monkeypatch.setattr(memory, "ENOUGH", 10**9)
    ranker = make(data)
    prompt = examples(ranker, data).prompts[0]
    fixed = 16 * sum(p.numel() for p in ranker.model.parameters())
    kept, _ = memory.probe(ranker.model, lambda: loss_of(ranker, prompt))
    each = memory.GROWTH * kept / len(prompt)

    def plan(tokens: float) -> memory.StepPlan:
        return memory.plan_steps(
            ranker.model.train(), lambda: loss_of(ranker, prompt), len(prompt), int(fixed + tokens * each) + 1
        )

    for tokens in (len(prompt), 10 * len(prompt)):
        found = plan(tokens)
        assert (found.tokens, found.checkpointing, found.kept) == (tokens, False, True)
    monkeypatch.setattr(memory, "ENOUGH", 3 * len(prompt))
    assert plan(10 * len(prompt)).tokens == 3 * len(prompt)
    tight = plan(0.8 * len(prompt))
    assert tight.checkpointing and tight.kept and tight.tokens >= len(prompt)
    assert not ranker.model.is_activation_checkpointing
    none = plan(0.01)
    assert none.checkpointing and not none.kept and none.tokens == len(prompt)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_micro_batches_add_up_to_the_step(checkpointing: bool, data: Sequences, monkeypatch: Any) -> None:
    weights, meters = [], []
    for tokens in (10**6, 1, 250):
        plan = memory.StepPlan(tokens, checkpointing and tokens < 10**6, 1, True, 1.0)
        monkeypatch.setattr(ranker_training, "plan_steps", lambda *_, plan=plan: plan)
        ranker = make(data)
        torch.manual_seed(1)
        ranker.model = with_adapter(ranker.model, dropout=0.0)
        meter = Meter()
        history = tune(
            ranker, examples(ranker, data), once("letters", learning_rate=1e-2, warmup_steps=1, batch=6), meter=meter
        )
        meters.append((history[0]["loss"], meter.tokens))
        weights.append([p.detach().clone() for p in ranker.model.parameters() if p.requires_grad])
        assert not ranker.model.get_base_model().is_activation_checkpointing
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=1e-3, atol=1e-5)
    assert meters[1] == pytest.approx(meters[0], rel=1e-5)


def test_products_in_bfloat16_give_nearly_the_same_ranker(data: Sequences, monkeypatch: Any) -> None:
    monkeypatch.setattr("seqrec_lib.language.ranking.usable_precision", lambda asked, device: asked)
    scores, losses = {}, {}
    for precision in ("fp32", "bf16"):
        ranker = make(data, precision=precision)
        prompts = examples(ranker, data).prompts
        before, meter = ranker.scores(prompts), Meter()
        (epoch,) = tune(ranker, examples(ranker, data), once("letters", warmup_steps=1, batch=6), meter=meter)
        assert meter.precision == precision and {p.dtype for p in ranker.model.parameters()} == {torch.float32}
        scores[precision], losses[precision] = before, epoch["loss"]
    exact, rounded = (torch.from_numpy(scores[precision]) for precision in ("fp32", "bf16"))
    difference = (rounded - exact).abs().max() / exact.std()
    assert 1e-5 < difference < 0.05
    assert 0 < abs(losses["bf16"] - losses["fp32"]) < 0.02
    ranker = make(data, precision="bf16")  # weights are rounded once for all prompts, and are as they were afterwards
    for parameter in ranker.model.parameters():
        parameter.requires_grad_(False)
    kept, alone = ranker.scores(prompts), []
    for prompt in prompts:
        with torch.no_grad(), ranker.products():
            alone.append(ranker.score_batch([prompt], None))
    np.testing.assert_allclose(kept, torch.cat(alone).numpy(), atol=0.02)
    assert not any(p.requires_grad for p in ranker.model.parameters())
    # The letters' logits are float32 products: rounded to bfloat16, they would be other numbers.
    assert (rounded.bfloat16().float() != rounded).float().mean() > 0.9


def test_a_device_without_bfloat16_multiplies_in_float32(data: Sequences, monkeypatch: Any) -> None:
    monkeypatch.setattr("seqrec_lib.train.loop.torch.cpu.get_capabilities", lambda: {"avx2": True})
    ranker = make(data, precision="bf16")
    assert ranker.precision == "fp32"
    prompts = examples(ranker, data).prompts
    np.testing.assert_array_equal(ranker.scores(prompts), make(data).scores(prompts))


def test_a_prompt_that_cannot_fit_is_tuned_and_said(data: Sequences, monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "BOUND", 1)
    ranker = make(data)
    lines: list[str] = []
    ranker.report = lines.append
    tune(ranker, examples(ranker, data), once("letters", batch=6))
    assert len(lines) == 1 and "may take more than 1 bytes" in lines[0]


@pytest.mark.parametrize("architecture", ["gemma3", "llama", "gpt2", "mamba2"])
def test_a_prefix_that_is_read_once_changes_nothing(architecture: str, tiny: dict[str, Any]) -> None:
    """Gemma's sliding window (16 tokens) is shorter than the prefix, and than the rest."""
    model = gemma() if architecture == "gemma3" else tiny[architecture].model
    generator = torch.Generator().manual_seed(0)
    shared = torch.randint(5, 300, (24,), generator=generator).tolist()
    texts = [shared + torch.randint(5, 300, (n,), generator=generator).tolist() for n in (1, 33, 7)]
    prefix = SharedPrefix.of(model, texts)
    if architecture == "mamba2":
        assert prefix is None  # it keeps a state, which `next_token_logits` does not go on from
        return
    assert prefix is not None and prefix.tokens == 24
    batch, columns = pad(texts, 0), torch.tensor([9, 3, 11])
    for _ in range(2):  # what is kept of the prefix is not written to
        with torch.no_grad():
            found = next_token_logits(model, batch.ids, batch.lengths, columns, prefix)
            whole = next_token_logits(model, batch.ids, batch.lengths)[:, columns]
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
    assert SharedPrefix.of(model, [text[: SHORTEST - 1] for text in texts]) is None
    assert SharedPrefix.of(model, texts[:1]) is None


def test_ranking_goes_on_where_it_was_cut(data: Sequences, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrec_lib.language import ranking

    monkeypatch.setattr(ranking, "SECONDS", -1.0)
    ranker = make(data)
    prompts = examples(ranker, data).prompts
    expected = ranker.scores(prompts, batch_tokens=1)
    ranker.folder, ranker.report_share = tmp_path, Mock(side_effect=[*[None] * 4, KeyboardInterrupt])
    with pytest.raises(KeyboardInterrupt):
        ranker.scores(prompts, batch_tokens=1)
    again = make(data)
    again.folder, again.report_share = tmp_path, (calls := Mock())
    found, reading = again.read(prompts, batch_tokens=1)
    assert (found == expected).all() and 5 + calls.call_count == len(prompts)
    assert reading.tokens == sum(map(len, prompts))
    again.stage = "other"  # other weights: nothing is taken from those before
    again.scores(prompts, batch_tokens=1)
    assert 5 + calls.call_count == 2 * len(prompts)


def test_letter_rows_alone_are_those_of_the_whole_output_layer(tiny: dict[str, LanguageModel]) -> None:
    for made in tiny.values():
        layer = made.model.get_output_embeddings()
        batch, columns = pad([[5, 6, 7], [8, 9]], 0), torch.tensor([4, 2])
        loss = next_token_logits(made.model, batch.ids, batch.lengths, columns).square().sum()
        whole = next_token_logits(made.model, batch.ids, batch.lengths)[:, columns].square().sum()
        assert made.model.get_output_embeddings() is layer
        found, expected = (torch.autograd.grad(own, layer.weight)[0] for own in (loss, whole))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

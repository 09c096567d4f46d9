"""LlamaRec's ranker: letters, one forward pass, batching, floors and identities; tuning, adapters and checkpoints."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.data.sequences import Histories, Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import assessment, ranker_training, ranking
from seqrec_lib.language.adapters import with_adapter
from seqrec_lib.language.candidates import Pools
from seqrec_lib.language.corpus import LLAMAREC, PAPER_RANKING, item_titles, letters
from seqrec_lib.language.objectives import OBJECTIVES
from seqrec_lib.language.pretrained import LanguageModel, Size, from_scratch, load, prompt_texts
from seqrec_lib.language.ranker_recipes import Setting
from seqrec_lib.language.ranker_training import Examples, rate, tune
from tests.conftest import random_sequences
from tests.language.conftest import once

K = 5


@pytest.fixture(scope="module")
def data() -> Sequences:
    return random_sequences(7, n_users=12, n_items=30, longest=12)


@pytest.fixture(scope="module")
def language(data: Sequences) -> LanguageModel:
    shells = [prompt.render([], []) for prompt in (PAPER_RANKING, LLAMAREC)]
    texts = prompt_texts(item_titles(data)[1:], *shells, " " + " ".join(letters(20)), "(A) (B) (1) (2)")
    made = from_scratch("llama", texts, Size(d_model=16, n_layers=2, heads=2, positions=256, vocabulary=500), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return made


def make_ranker(language: LanguageModel, data: Sequences, prompt: Any = PAPER_RANKING) -> ranking.LetterRanker:
    own = LanguageModel(copy.deepcopy(language.model), language.tokenizer, language.provenance)
    return ranking.LetterRanker(own, prompt, item_titles(data), Setting(candidates=K, history=4, prompt_tokens=200))


def make_pools(data: Sequences, histories: Histories, seed: int = 0) -> Pools:
    rng = np.random.default_rng(seed)
    items = np.array([rng.permutation(np.arange(1, 31))[:K] for _ in range(len(histories))], dtype=np.int32)
    hit = items == histories.targets[:, None]
    return Pools(items, rng.standard_normal(items.shape).astype(np.float32), np.where(hit.any(1), hit.argmax(1), -1))


@pytest.mark.parametrize("prompt", [PAPER_RANKING, LLAMAREC], ids=lambda p: p.name)
def test_scores_are_the_whole_models_logits_whatever_the_batch(language, data, prompt) -> None:
    ranker, histories = make_ranker(language, data, prompt), data.split("test")
    prompts = ranker.prompts(data, histories, make_pools(data, histories).items)
    found = ranker.scores(prompts)
    small = ranker.scores(prompts, batch_tokens=1)
    np.testing.assert_allclose(found, small, atol=2e-5)
    for row in (0, 5, 11):
        text = ranker.tokenizer.decode(prompts[row])
        ids = [ranker.tokenizer(text + prompt.complete(name))["input_ids"][-1] for name in letters(K)]
        with torch.no_grad():
            whole = ranker.model(input_ids=torch.tensor([prompts[row]])).logits[0, -1]
        np.testing.assert_allclose(found[row], whole[ids].numpy(), atol=2e-5)


def test_letters_are_distinct_tokens_behind_the_prompt(language, data) -> None:
    behind_space, behind_line = (make_ranker(language, data, p).letter_ids for p in (PAPER_RANKING, LLAMAREC))
    assert len(set(behind_space)) == K
    assert not set(behind_space) & set(behind_line)  # " A" and "A" are two tokens: looking letters up alone is wrong


def test_ranks_in_pools_and_overall_by_hand() -> None:
    scores = np.array([[0.1, 0.5, 0.3], [0.2, 0.2, 0.2], [1.0, 2.0, 3.0]])
    place, by_retriever = np.array([2, 0, -1]), np.array([3, 1, 8])
    assert assessment.pool_ranks(scores, place).tolist() == [2, 3, 0]  # a tie counts against
    found = assessment.Assessment(Pools(np.ones((3, 3), np.int32), np.zeros((3, 3), np.float32), place), by_retriever)
    found.add("", scores)
    assert found.columns["rank"].tolist() == [2, 3, 8]
    with pytest.raises(ValueError, match="NaN"):
        assessment.pool_ranks(np.array([[np.nan, 1.0]]), np.array([0]))


def test_a_blend_weighs_the_ranker_by_what_it_adds() -> None:
    rng = np.random.default_rng(1)
    place = rng.integers(0, 20, 500)
    truth = np.eye(20)[place]
    noise = rng.standard_normal((500, 20))
    assert assessment.best_blend(truth, noise, place) == 0.0
    assert assessment.best_blend(noise, truth, place) > 0.5
    mixed = assessment.blend(truth + noise, truth + rng.standard_normal((500, 20)), 0.5)
    assert assessment.pool_ranks(mixed, place).mean() < assessment.pool_ranks(truth + noise, place).mean()


def some_examples(ranker: ranking.LetterRanker, data: Sequences) -> Examples:
    histories = data.split("train")
    chosen = np.arange(len(histories)) % K
    return Examples(ranker.prompts(data, histories, make_pools(data, histories).items), chosen, (chosen + 1) % K)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_its_examples(language, data, objective: str) -> None:
    ranker = make_ranker(language, data)
    examples = some_examples(ranker, data)
    history = tune(
        ranker,
        examples,
        once(objective, lambda_=1.0, learning_rate=1e-2, schedule="constant", warmup_steps=1, batch=6, epochs=6),
    )
    assert history[-1]["loss"] < history[0]["loss"]
    logits = ranker.scores(examples.prompts)
    rows = np.arange(len(logits))
    assert (logits[rows, examples.chosen] > logits[rows, examples.rejected]).mean() >= history[0]["accuracy"]
    assert history[-1]["margin"] > history[0]["margin"]


def test_the_same_seed_tunes_the_same_ranker_and_bad_pairs_are_refused(language, data) -> None:
    logits = []
    for _ in range(2):
        ranker = make_ranker(language, data)
        examples = some_examples(ranker, data)
        tune(ranker, examples, once(learning_rate=1e-3, warmup_steps=1, batch=6))
        logits.append(ranker.scores(examples.prompts))
    assert (logits[0] == logits[1]).all()
    with pytest.raises(SeqRecError, match="same"):
        Examples(examples.prompts, examples.chosen, examples.chosen)


@pytest.mark.parametrize("stop", [1, 5, 6, 11])
def test_tuning_goes_on_exactly_where_it_was_cut(stop: int, language, data, tmp_path, monkeypatch) -> None:
    """With adapters, whose dropout takes random numbers at every step, and a reference of the model before."""
    monkeypatch.setattr(ranker_training, "SECONDS", 0.0)
    config = once("dpo", learning_rate=1e-2, warmup_steps=1, batch=2, epochs=2)

    def run(name: str, cut: int | None = None) -> tuple[Any, Any, int]:
        ranker, steps = make_ranker(language, data), 0
        torch.manual_seed(3)  # of the adapters
        ranker.model = with_adapter(ranker.model, dropout=0.3)

        def report(share: float, line: str) -> None:
            nonlocal steps
            steps += line.startswith("epoch")
            if steps == cut:
                raise KeyboardInterrupt

        ranker.folder, ranker.report_share = tmp_path, report
        history = tune(ranker, some_examples(ranker, data), config, name=name)
        return history, ranker.scores(some_examples(ranker, data).prompts), steps

    whole, logits, steps = run("whole")
    assert steps == 12
    with pytest.raises(KeyboardInterrupt):
        run("cut", stop)
    resumed, again, rest = run("cut")
    assert (resumed, rest) == (whole, steps - stop)
    assert (again == logits).all()
    assert run("cut")[2] == 0  # what is finished is only read


def test_a_checkpoint_of_another_tuning_is_refused(language, data, tmp_path) -> None:
    ranker = make_ranker(language, data)
    ranker.folder = tmp_path
    tune(ranker, some_examples(ranker, data), once(batch=6))
    with pytest.raises(SeqRecError, match="written by another run; delete its folder"):
        tune(ranker, some_examples(ranker, data), once(batch=4))
    (tmp_path / "tuning.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SeqRecError, match="is not a checkpoint"):
        tune(ranker, some_examples(ranker, data), once(batch=6))


def test_rates_follow_the_papers_schedule_and_llamarecs() -> None:
    from torch.optim import SGD
    from transformers import get_inverse_sqrt_schedule, get_linear_schedule_with_warmup

    for config, make in (
        (once(schedule="inverse-sqrt"), lambda o: get_inverse_sqrt_schedule(o, 100)),
        (once(), lambda o: get_linear_schedule_with_warmup(o, 100, 400)),
    ):
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        for step in range(399):  # transformers counts from 0, so that its first step has rate 0; ours is one ahead
            optimizer.step()
            schedule.step()
            if config.schedule == "inverse-sqrt" or step < 99:
                assert rate(config, step, 400) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
            else:
                assert rate(config, step, 400) == pytest.approx(schedule.get_last_lr()[0], abs=1 / 250)


def test_a_checkpoint_in_the_hubs_format_ranks_and_takes_an_adapter(language, data, tmp_path) -> None:
    language.model.save_pretrained(tmp_path)
    language.tokenizer.save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    assert loaded.provenance["kind"] == "folder"
    plain = ranking.LetterRanker(
        loaded, PAPER_RANKING, item_titles(data), Setting(candidates=K, history=4, prompt_tokens=200)
    )
    examples = some_examples(plain, data)
    before = plain.scores(examples.prompts)
    np.testing.assert_allclose(before, make_ranker(language, data).scores(examples.prompts), atol=1e-5)
    weights = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    plain.model = with_adapter(loaded.model)
    np.testing.assert_allclose(plain.scores(examples.prompts), before, atol=1e-6)  # B starts at zero
    tune(plain, examples, once(learning_rate=1e-2, warmup_steps=1, batch=6, epochs=2))
    assert np.abs(plain.scores(examples.prompts) - before).max() > 1e-3
    merged = plain.model.unload()
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)  # the base is as it was
    with pytest.raises(SeqRecError, match="no adapter on nothing"):
        with_adapter(merged, targets=("nothing",))

"""Fine-tuning: what is trained on, that it learns, goes on after a kill, and that adapters train little."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import adapters, tuning
from seqrec_lib.language.corpus import GPT4REC, Encoder, item_titles
from seqrec_lib.language.logits import answer_loss_in_blocks, next_token_logits
from seqrec_lib.language.pretrained import LanguageModel, Size, from_scratch, prompt_texts
from seqrec_lib.language.recipes import Tuning
from seqrec_lib.language.tuning import training_batches, tune, validation_batches
from tests.conftest import make_sequences, random_sequences

SIZE = Size(d_model=16, n_layers=1, heads=2, d_state=8, positions=96, vocabulary=330, dropout=0.1)
QUICK = Tuning(epochs=3, history=6, prompt_tokens=60, title_tokens=8, tokens_per_batch=400, learning_rate=1e-2)


def cycle(n_users: int = 24) -> Any:
    """Users who go round five titles: the next one is certain."""
    return make_sequences([[(u + t) % 5 + 1 for t in range(12)] for u in range(n_users)], 5)


def prepared(data: Any, architecture: str = "gpt2", setting: Tuning = QUICK) -> tuple[LanguageModel, Encoder]:
    titles = item_titles(data)
    made = from_scratch(architecture, prompt_texts(titles[1:], GPT4REC.render(["a"])), SIZE, 0)
    encoder = Encoder(
        made.tokenizer, GPT4REC, titles, prompt_tokens=setting.prompt_tokens, title_tokens=setting.title_tokens
    )
    return made, encoder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor], list[float]]:
    """A tuning that nothing disturbed: its folder, its weights, and the losses of its epochs."""
    folder = tmp_path_factory.mktemp("tunings") / "tuned"
    made, encoder = prepared(cycle())
    model, tuned = tune(made, cycle(), encoder, QUICK, 0, folder, device="cpu")
    shutil.copytree(folder, folder.with_name("kept"))
    return folder, model.state_dict(), [entry["loss"] for entry in tuned.history]


def test_each_epoch_predicts_every_training_interaction_and_never_a_held_out_one() -> None:
    data = random_sequences(3, n_users=12, longest=20)
    _, encoder = prepared(data)
    batches = training_batches(data, encoder, QUICK, 0)
    assert sorted(i for batch in batches.batches for i in batch) == list(range(len(batches.tasks)))
    predicted = sum(len(history) for history, _ in batches.tasks)  # all but its first title, and the answer
    wanted = QUICK.epochs * int((data.lengths - 3).sum())
    assert wanted <= predicted <= wanted + QUICK.epochs * data.n_users * QUICK.history
    held_out = {tuple(data.items[data.offsets[u] : data.offsets[u + 1] - 2].tolist()) for u in range(data.n_users)}
    for history, target in batches.tasks:
        text = [*history.tolist(), target]
        assert any(str(text)[1:-1] in str(list(own))[1:-1] for own in held_out)


def test_a_batch_is_text_with_its_answer() -> None:
    data = cycle()
    made, encoder = prepared(data)
    batches = training_batches(data, encoder, dataclasses.replace(QUICK, loss_on="answer"), 0)
    item = batches[0]
    for row, labels, (history, target) in zip(
        item["input_ids"], item["labels"], [batches.tasks[i] for i in batches.batches[0]], strict=True
    ):
        answer = made.tokenizer.decode(labels[labels >= 0])
        assert answer == f" Title {target}<|endoftext|>"
        assert made.tokenizer.decode(row).startswith(GPT4REC.render([f"Title {i}" for i in history]) + answer)
    valid = validation_batches(data, encoder, QUICK, 0)
    assert sum(len(batch) for batch in valid.batches) == data.n_users
    assert [target for _, target in valid.tasks] == data.split("valid").targets.tolist()


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2"])
def test_it_learns_what_comes_next(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SIZE", dataclasses.replace(SIZE, dropout=0.0))
    data = cycle()
    made, encoder = prepared(data, architecture)
    setting = dataclasses.replace(QUICK, epochs=40, learning_rate=2e-2, tokens_per_batch=200)
    model, tuned = tune(made, data, encoder, setting, 0, tmp_path, device="cpu")
    assert [entry["epoch"] for entry in tuned.history] == list(range(1, 41))
    assert tuned.history[-1]["valid_loss"] < 0.2 * math.log(5) / 3  # a third: knows all but which title comes
    (prompt,), wanted = encoder.prompts([[1, 2, 3]]), encoder.answers(["Title 4"])[0]
    for place, token in enumerate(wanted):  # " Title", which any of them begins with, and " 4", which one has
        text = [*prompt, *wanted[:place]]
        with torch.inference_mode():
            logits = next_token_logits(model, torch.tensor([text]), torch.tensor([len(text)]))
        assert int(logits.argmax()) == token


def test_a_run_that_was_killed_goes_on_to_the_same_weights(whole: Any, tmp_path: Path) -> None:
    data, (_, weights, losses) = cycle(), whole

    def run(report: Mock) -> Any:
        made, encoder = prepared(data)
        return tune(made, data, encoder, QUICK, 0, tmp_path, device="cpu", report=report)

    with pytest.raises(KeyboardInterrupt):  # after the second epoch's validation, before its checkpoint
        run(Mock(side_effect=[None, KeyboardInterrupt]))
    resumed, again = run(Mock())  # goes back to the first
    assert [entry["loss"] for entry in again.history] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(resumed.state_dict(), weights, rtol=1e-5, atol=1e-6)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damaged", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json", "scheduler.pt", ""]
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damaged: str, whole: Any) -> None:
    data, lines = cycle(), []  # type: ignore[var-annotated]
    folder, weights, losses = whole
    shutil.rmtree(folder)  # in its own place again: a checkpoint names the best one by its path
    shutil.copytree(folder.with_name("kept"), folder)

    def run() -> Any:
        made, encoder = prepared(data)
        return tune(made, data, encoder, QUICK, 0, folder, device="cpu", report=lines.append)

    _, last = sorted(folder.glob("tuning/*/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in (last,) if damaged else ():
        flipped(path / damaged)
    if not damaged:  # a kill while it was written
        (last / "SHA256SUMS").unlink()
        (last / "optimizer.pt").unlink()
    resumed, again = run()
    assert sum("damaged" in line for line in lines) == 1 and str(last) in lines[0]
    assert [entry["loss"] for entry in again.history] == losses
    torch.testing.assert_close(resumed.state_dict(), weights, rtol=1e-5, atol=1e-6)
    for path in folder.glob("tuning/*/checkpoint-*"):
        flipped(path / "model.safetensors")
    with pytest.raises(SeqRecError, match=r"delete .* to start afresh"):
        run()


def test_fewer_epochs_or_other_data_are_another_tuning(tmp_path: Path) -> None:
    data = cycle()

    def run(folder: str, epochs: int, data: Any) -> Any:
        made, encoder = prepared(data)
        setting = dataclasses.replace(QUICK, epochs=epochs)
        return tune(made, data, encoder, setting, 0, tmp_path / folder, device="cpu")

    run("a", 2, data)
    for epochs, other in ((1, data), (2, cycle(20))):
        (resumed, _), (fresh, expected) = run("a", epochs, other), run(f"{epochs} {other.n_users}", epochs, other)
        assert [entry["epoch"] for entry in expected.history] == list(range(1, epochs + 1))
        assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2"])
def test_adapters_train_few_weights_and_are_merged(architecture: str, tmp_path: Path) -> None:
    data = cycle()
    made, encoder = prepared(data, architecture)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    setting = dataclasses.replace(QUICK, epochs=1, lora_rank=2)
    model, tuned = tune(made, data, encoder, setting, 0, tmp_path, device="cpu")
    after = model.state_dict()
    assert set(after) == set(before)
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed <= set(adapters.NAMES[architecture]) and changed
    assert np.isfinite(tuned.history[-1]["loss"])


def test_too_long_a_prompt_for_the_model_is_one_clear_line(tmp_path: Path) -> None:
    data = cycle()
    made, encoder = prepared(data)
    with pytest.raises(SeqRecError, match="need 109 positions, the model has 96"):
        tune(made, data, encoder, dataclasses.replace(QUICK, prompt_tokens=100), 0, tmp_path)


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_a_loss_in_blocks_is_the_models_own_and_so_is_its_gradient(loss_on: Any) -> None:
    data = cycle()
    made, encoder = prepared(data)
    setting = dataclasses.replace(QUICK, loss_on=loss_on)
    item = training_batches(data, encoder, setting, 0)[0]
    ids, mask, labels = (item[name] for name in ("input_ids", "attention_mask", "labels"))
    model = made.model.eval()  # GPT-2 drops at random in training
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    weights = list(model.parameters())
    gradients = torch.autograd.grad(expected, weights)
    for block in (1, 5, 10**6):
        found = answer_loss_in_blocks(model, ids, mask, labels, block)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.autograd.grad(found, weights), gradients, rtol=1e-4, atol=1e-5)


def test_a_large_vocabulary_is_tuned_in_blocks_to_the_same_weights(tmp_path: Path, monkeypatch: Any) -> None:
    losses = []
    for name, large in (("whole", 10**9), ("blocks", 1)):
        monkeypatch.setattr(tuning, "LARGE", large)
        monkeypatch.setattr(sys.modules[__name__], "SIZE", dataclasses.replace(SIZE, dropout=0.0))
        made, encoder = prepared(cycle())
        setting = dataclasses.replace(QUICK, epochs=1, loss_on="answer")
        _, tuned = tune(made, cycle(), encoder, setting, 0, tmp_path / name, device="cpu")
        losses.append([(entry["loss"], entry["valid_loss"]) for entry in tuned.history])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from seqrec_lib.data.sequences import Sequences, WindowDataset, cut_windows
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.ranking import rank_split
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.train.checkpoint import WeightAverage
from seqrec_lib.train.contracts import Progress
from seqrec_lib.train.loop import _Batches, _rate_factor, choose_loop, matmul_rate, train, usable_precision
from seqrec_lib.train.recipes import TrainingConfig
from tests.conftest import make_sequences, random_sequences

CONFIG = TrainingConfig(max_length=12, tokens_per_batch=60, epochs=3, average=0.9)


def small_model(dropout: float = 0.2) -> SASRec:
    torch.manual_seed(0)
    return SASRec(20, 12, d_model=16, n_layers=1, n_heads=2, dropout=dropout)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_learns_a_rule_that_counting_last_items_cannot(tmp_path: Path) -> None:
    """Users walk a cycle of 10 items forwards or backwards: the next item needs the last two."""
    rng = np.random.default_rng(0)
    histories = [((rng.integers(10) + rng.choice([-1, 1]) * np.arange(14)) % 10 + 1).tolist() for _ in range(300)]
    sequences = make_sequences(histories, 10)
    torch.manual_seed(0)
    model = SASRec(10, 4, d_model=32, n_layers=1, n_heads=2, dropout=0.0)
    config = TrainingConfig(max_length=4, tokens_per_batch=200, epochs=12, learning_rate=5e-3, average=0.0, patience=0)
    train(model, sequences, config, tmp_path)
    ranks = rank_split(model, sequences, sequences.split("test")).rank
    assert (ranks == 1).mean() > 0.95


def test_history_says_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrec_lib.train.loop.matmul_rate", matmul_rate)  # as measured
    heard: list[Progress] = []
    sequences = random_sequences(0)
    result = train(small_model(), sequences, CONFIG, tmp_path, listen=heard.append)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    targets = int((sequences.lengths - 3).sum())
    assert result.samples == 3 * targets
    for entry in result.history:
        assert entry["loss"] > 0 and 0 < entry["valid_ndcg@10"] < 1 and 0 <= entry["padding"] < 1
        assert entry["samples_per_second"] == pytest.approx(targets / entry["seconds"])
        assert 0 < entry["matmul_fraction"] < 1
        assert 0 < entry["valid_loss"] < 2 * np.log(20)
    assert sum(progress.epoch_entry is not None for progress in heard) == 3
    assert {progress.epoch for progress in heard} == {1, 2, 3}


def test_same_seed_same_bits_other_seed_other_bits(tmp_path: Path) -> None:
    sequences = random_sequences(0)
    found = []
    for run, seed in enumerate((0, 0, 1)):
        model = small_model()
        train(model, sequences, replace(CONFIG, seed=seed), tmp_path / str(run))
        found.append(weights(model))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


MANY = random_sequences(0, n_users=200)
SCRIPT = """
    import sys, torch
    from pathlib import Path
    from tests.train.test_loop import CONFIG, MANY, small_model, train
    torch.set_num_threads(1)
    say = lambda progress: print("step", flush=True)
    train(small_model(), MANY, CONFIG, Path(sys.argv[1]), checkpoint_seconds=0.0, listen=say)
"""


def test_kill_9_and_resume_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    an_epoch = len(_batches(MANY))
    for steps in (7, an_epoch + 9):  # in the first epoch, and in a later one
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "cut")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert all(process.stdout.readline() for _ in range(steps))
            time.sleep(0.01)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    threads, heard = torch.get_num_threads(), []  # type: ignore[var-annotated]
    torch.set_num_threads(1)
    try:
        undisturbed, resumed = small_model(), small_model()
        train(undisturbed, MANY, CONFIG, tmp_path / "whole")
        train(resumed, MANY, CONFIG, tmp_path / "cut", listen=heard.append)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert 0 < len(heard) < 2 * (an_epoch + 1), "the last process went back to the first epoch"


def _batches(sequences: Sequences) -> _Batches:
    batches = _Batches(sequences, CONFIG, torch.device("cpu"), (0, 1))
    batches.start_epoch(0)
    return batches


def test_a_batch_holds_the_windows_targets() -> None:
    sequences, found = random_sequences(0), []
    batches = _batches(sequences)
    for step in range(len(batches)):
        items, lengths, at, targets, *_ = batches.load(step)
        rows, columns = at // items.shape[1], at % items.shape[1]
        assert (columns < lengths[rows]).all() and len(at) == len(targets)
        inner = columns + 1 < lengths[rows]  # where the next input is in the batch, it is the target
        assert torch.equal(items[rows[inner], columns[inner] + 1], targets[inner])
        found += targets.tolist()
    expected = np.concatenate(
        [sequences.items[a + 1 : b - 2] for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)]
    )
    assert sorted(found) == sorted(expected.tolist())


def test_gradient_equals_a_plain_loop_over_an_unmodified_loader(tmp_path: Path) -> None:
    """One step on everything: same loss as torch's cross-entropy on right-padded rows of a DataLoader."""
    sequences = random_sequences(0)
    config = replace(CONFIG, tokens_per_batch=10_000, epochs=1, max_length=25, average=0.0, clip=1e9)
    torch.manual_seed(0)
    model = SASRec(20, 25, d_model=16, n_layers=1, n_heads=2, dropout=0.0)
    windows = cut_windows(sequences, 25)
    data: Any = WindowDataset(sequences, windows, 25)
    inputs, targets = next(iter(DataLoader(data, batch_size=100)))
    hidden = model.hidden(inputs, torch.from_numpy(windows.lengths))
    logits = hidden @ model.item_embedding.weight[1:].T
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten() - 1, ignore_index=-1)
    result = train(model, sequences, config, tmp_path)
    assert result.history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


class ThreeAtATime:
    """A batch rule: three batches a step; remembers what it saw."""

    micro_batches = 3

    def __init__(self) -> None:
        self.before: list[torch.Tensor] = []
        self.after = self.epochs = 0

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.before.append(torch.cat([p.grad.flatten() for p in parameters]).clone())

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.after += 1

    def end_epoch(self) -> None:
        self.epochs += 1

    def state_dict(self) -> dict[str, int]:
        return {"after": self.after, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.after, self.epochs = state["after"], state["epochs"]


def test_a_batch_rule_sums_batches_into_the_gradient_of_their_mean(tmp_path: Path) -> None:
    sequences = random_sequences(0)
    config = replace(CONFIG, epochs=1, average=0.0, clip=1e9)
    batches = _Batches(sequences, config, torch.device("cpu"), (0, 1))
    batches.start_epoch(0)
    rule: Any = ThreeAtATime()
    model = small_model(dropout=0.0)
    targets_of_step, loss = [], torch.zeros(())
    for step in range(3):
        items, lengths, at, targets, *_ = batches.load(step)
        logits = model.hidden(items, lengths).flatten(0, 1)[at] @ model.item_embedding.weight[1:].T
        loss = loss + F.cross_entropy(logits, targets - 1, reduction="sum")
        targets_of_step += targets.tolist()
    (loss / len(targets_of_step)).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])

    result = train(small_model(dropout=0.0), sequences, config, tmp_path, batch_rule=rule)
    torch.testing.assert_close(rule.before[0], expected, rtol=1e-4, atol=1e-7)
    assert rule.after == len(rule.before) == -(-len(batches) // 3) and rule.epochs == 1
    assert result.samples == int((sequences.lengths - 3).sum()), "the last step takes what is left"

    resumed: Any = ThreeAtATime()
    train(small_model(dropout=0.0), sequences, replace(config, epochs=2), tmp_path, batch_rule=resumed)
    assert resumed.epochs == 2 and resumed.after > rule.after, "the rule's state is in the checkpoint"


def test_the_rate_rises_then_stays_or_falls_to_zero() -> None:
    config = replace(CONFIG, warmup_steps=9, epochs=4)
    assert [_rate_factor(config, step, 0.0) for step in (0, 4, 9, 500)] == [0.1, 0.5, 1.0, 1.0]
    cosine = replace(config, schedule="cosine")
    assert [_rate_factor(cosine, 500, epochs) for epochs in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize(("has", "used"), [(True, "softmax-bf16"), (False, "fp32")])
def test_bfloat16_only_where_the_processor_has_it(
    has: bool, used: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has})
    assert usable_precision("fp32", torch.device("cpu")) == "fp32"
    config = replace(CONFIG, epochs=1, precision="softmax-bf16")
    assert train(small_model(), random_sequences(0), config, tmp_path).precision == used


def test_prefixes_train_the_same_targets(tmp_path: Path) -> None:
    sequences = random_sequences(0)
    config = replace(CONFIG, objective="prefixes", epochs=1)
    result = train(small_model(), sequences, config, tmp_path)
    assert result.samples == int((sequences.lengths - 3).sum())


def test_a_step_over_random_samples_is_adams_step_over_plain_padded_rows(tmp_path: Path) -> None:
    """The public code's way: rows of prefixes as they come, one loss over them all, Adam, nothing clipped."""
    sequences = random_sequences(0)
    config = replace(
        CONFIG, objective="prefixes", samples_per_step=70, epochs=1, average=0.0, clip=0.0, learning_rate=1e-2
    )
    batches = _Batches(sequences, config, torch.device("cpu"), (0, 1))
    batches.start_epoch(0)
    assert batches.step_ends is not None and len(batches) > len(batches.step_ends) > 2
    model = small_model(dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = 0
    for end in batches.step_ends:
        rows = np.concatenate(batches.batches[first:end])
        assert len(rows) == 70 or end == len(batches)
        windows = [slice(batches.windows.start[row], batches.windows.stop[row]) for row in rows]
        padded = torch.zeros(len(rows), 12, dtype=torch.int64)
        for row, window in enumerate(windows):
            padded[row, : window.stop - window.start] = torch.from_numpy(sequences.items[window])
        lengths = torch.tensor([window.stop - window.start for window in windows])
        targets = torch.from_numpy(sequences.items[[window.stop for window in windows]]).long()
        last = model.hidden(padded, lengths)[torch.arange(len(rows)), lengths - 1]
        optimizer.zero_grad()
        F.cross_entropy(last @ model.item_embedding.weight[1:].T, targets - 1).backward()
        optimizer.step()
        first = end

    trained = small_model(dropout=0.0)
    result = train(trained, sequences, config, tmp_path)
    torch.testing.assert_close(weights(trained), weights(model), rtol=1e-3, atol=1e-4)
    assert result.samples == int((sequences.lengths - 3).sum())


def test_random_samples_go_neither_with_a_rule_of_batches_nor_with_graphs(tmp_path: Path) -> None:
    config = replace(CONFIG, samples_per_step=70)
    rule: Any = ThreeAtATime()
    with pytest.raises(ValueError, match="batch_rule"):
        train(small_model(), random_sequences(0), config, tmp_path, batch_rule=rule)
    assert choose_loop("auto", torch.device("cuda"), 1, True, 70) == "ordinary"


def test_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    sequences = random_sequences(0)
    model = small_model()
    config = replace(CONFIG, epochs=60, patience=2, learning_rate=0.01)
    result = train(model, sequences, config, tmp_path)
    values = [entry["valid_ndcg@10"] for entry in result.history]
    assert len(values) == result.best_epoch + 2
    assert result.best_valid == max(values) == values[result.best_epoch - 1]
    found = rank_split(model, sequences, sequences.split("valid")).metrics()["ndcg@10"]
    assert found == pytest.approx(result.best_valid)


def test_average_of_weights_is_an_exponential_mean() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, 0.9)
    expected = layer.weight.item()
    for step in range(1, 30):
        with torch.no_grad():
            layer.weight.fill_(step)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.values[0].item() == pytest.approx(expected, rel=1e-5)
    average.swap()
    assert layer.weight.item() == pytest.approx(expected, rel=1e-5) and average.values[0].item() == 29


def test_divergence_is_one_clear_line(tmp_path: Path) -> None:
    config = replace(CONFIG, learning_rate=1e30, clip=1e30, average=0.0)
    with pytest.raises(SeqRecError, match=r"training diverged in epoch 1.*lower learning_rate \(now 1e\+30\)"):
        train(small_model(), random_sequences(0), config, tmp_path)


def test_models_that_see_the_future_need_prefixes(tmp_path: Path) -> None:
    model = small_model()
    model.causal = False
    with pytest.raises(ValueError, match="objective='prefixes'"):
        train(model, random_sequences(0), CONFIG, tmp_path)

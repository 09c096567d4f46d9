"""The loop that replays steps: on the CPU with stand-ins for CUDA graphs, on a GPU with the graphs themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.fast import cuda_graphs as captured
from seqrec_lib.fast.resident_batches import Shape, rounded
from seqrec_lib.models import build
from seqrec_lib.models.base import SequentialRecommender
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.train import loop as training
from seqrec_lib.train.checkpoint import TrainingState, WeightAverage
from seqrec_lib.train.contracts import Progress, TrainingResult
from seqrec_lib.train.loop import CHECKPOINT, choose_loop, make_accelerator, train
from seqrec_lib.train.recipes import TrainingConfig
from seqrec_lib.train.step import TrainingStep
from tests.conftest import random_sequences

CONFIG = TrainingConfig(
    max_length=12, stride=6, tokens_per_batch=60, epochs=2, average=0.9, warmup_steps=5, schedule="cosine"
)
SEQUENCES = random_sequences(0)
MANY = random_sequences(0, n_users=300)  # enough for shapes to come again
CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "sasrec": {"d_model": 16, "n_layers": 1},
    "mamba4rec": {"d_model": 16, "d_state": 8},
    "2mamba4rec": {"d_model": 16, "d_state": 8, "headdim": 16},
    "hydra4rec": {"d_model": 16, "d_state": 8, "headdim": 16},
    "sasrec+repeats": {"d_model": 16, "n_layers": 1},
    "2mamba4rec+residual+repeats": {"d_model": 16, "d_state": 8, "headdim": 16},
}


def model_of(name: str = "sasrec", dropout: float = 0.0, seed: int = 0) -> SequentialRecommender:
    torch.manual_seed(seed)
    return build(name, 20, 12, SMALL[name] | {"dropout": dropout})


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().cpu() for value in model.state_dict().values()])


def losses(result: TrainingResult) -> list[float]:
    return [entry["loss"] for entry in result.history]


class Replayed:
    """Records nothing: a replay is the step again. Counts both."""

    def __init__(self, device: torch.device) -> None:
        self.recorded = self.replays = 0
        made.append(self)

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replays += 1
            step()

        return replay


class Refusing(Replayed):
    """Fails at the second recording, in the midst of the step."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        if self.recorded:
            raise RuntimeError("AcceleratorError: CUDA error: operation not permitted when stream is capturing")
        return super().record(step)


made: list[Replayed] = []


def with_recorder(monkeypatch: pytest.MonkeyPatch, recorder: type[Replayed]) -> None:
    """Let the loop on a CPU use a stand-in for CUDA graphs."""
    made.clear()
    monkeypatch.setattr(captured, "GraphRecorder", recorder)
    monkeypatch.setattr(training, "choose_loop", lambda asked, *others: asked)


@pytest.mark.parametrize(("name", "objective"), [(name, "all-positions") for name in SMALL] + [("sasrec", "prefixes")])
def test_without_dropout_both_loops_train_the_same(name: str, objective: Any, tmp_path: Path) -> None:
    """To float32's rounding: the sums of a filled batch run in another order."""
    config = replace(CONFIG, objective=objective, tokens_per_batch=60 if objective == "all-positions" else 200)
    models, results = [], []
    for loop in ("ordinary", "resident"):
        models.append(model_of(name))
        results.append(train(models[-1], SEQUENCES, config, tmp_path / loop, loop=loop))
    ordinary, resident = results
    assert (ordinary.loop, resident.loop) == ("ordinary", "resident")
    assert losses(resident) == pytest.approx(losses(ordinary), rel=2e-5)
    assert resident.samples == ordinary.samples
    assert resident.best_epoch == ordinary.best_epoch and resident.best_valid == pytest.approx(ordinary.best_valid)
    torch.testing.assert_close(weights(models[1]), weights(models[0]), rtol=1e-3, atol=2e-5)
    for a, b in zip(resident.history, ordinary.history, strict=True):
        assert a["padding"] > b["padding"] and a["valid_loss"] == pytest.approx(b["valid_loss"], rel=1e-4)
        assert a["matmul_fraction"] > 0


@pytest.mark.parametrize("name", ["sasrec", "sasrec+repeats"])
def test_filling_up_adds_nothing_to_loss_and_gradients(name: str) -> None:
    """One step on a batch that is half empty, in float64 where nothing hides in the rounding."""
    config = replace(CONFIG, average=0.0, clip=1e9)
    batches = training._Batches(SEQUENCES, config, CPU, (0, 1), resident=True)
    batches.start_epoch(0)
    epoch, model = batches.resident, model_of(name).double()
    if model.repeats is not None:
        torch.nn.init.constant_(model.repeats, -0.3)  # else it would add nothing
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step = TrainingStep(model, torch.float32)
    steps = captured.ResidentTraining(step, optimizer, None, epoch, config, "fp32", lambda *_: 1.0, [1e-3], None)
    found = []
    exact = epoch.shapes[0]
    for shape in (exact, Shape(exact.rows + 7, 12, 2 * exact.targets)):
        model.zero_grad(set_to_none=True)
        loss = steps.step_module(epoch.gather(shape))
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    (loss, gradient), (filled_loss, filled_gradient) = found
    assert filled_loss.item() == pytest.approx(loss.item(), rel=1e-6)  # positions are encoded in float32
    torch.testing.assert_close(filled_gradient, gradient, rtol=1e-5, atol=1e-8)


class Killed(Exception):
    pass


def killed_after(steps: int) -> Callable[[Progress], None]:
    heard = 0

    def listen(progress: Progress) -> None:
        nonlocal heard
        heard += 1
        if heard > steps:
            raise Killed

    return listen


@pytest.mark.parametrize(("first", "second"), [("ordinary", "resident"), ("resident", "ordinary")])
@pytest.mark.parametrize("steps", [4, 17])  # in the first epoch, and in a later one
def test_a_run_goes_on_in_the_other_loop(
    first: Any, second: Any, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "LOOK_SECONDS", 0.0)
    undisturbed, model = model_of(), model_of()
    expected = train(undisturbed, SEQUENCES, CONFIG, tmp_path / "whole", loop="ordinary")
    with pytest.raises(Killed):
        train(model, SEQUENCES, CONFIG, tmp_path / "cut", loop=first, listen=killed_after(steps), checkpoint_seconds=0)
    saved = torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)
    assert saved["place"]["step"] > 0
    (group,) = saved["parts"]["optimizer"]["param_groups"]
    assert type(group["lr"]) is float and group["capturable"] is False
    resumed = model_of()
    found = train(resumed, SEQUENCES, CONFIG, tmp_path / "cut", loop=second)
    assert losses(found) == pytest.approx(losses(expected), rel=2e-5) and found.samples == expected.samples
    torch.testing.assert_close(weights(resumed), weights(undisturbed), rtol=1e-3, atol=2e-5)


def test_killed_and_resumed_it_ends_bit_for_bit_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "LOOK_SECONDS", 0.0)
    undisturbed, model = model_of(dropout=0.3), model_of(dropout=0.3)
    expected = train(undisturbed, SEQUENCES, CONFIG, tmp_path / "whole", loop="resident")
    for steps in (4, 9):
        with pytest.raises(Killed):
            train(
                model, SEQUENCES, CONFIG, tmp_path / "cut", loop="resident", listen=killed_after(steps),
                checkpoint_seconds=0,
            )  # fmt: skip
    resumed = model_of(dropout=0.3, seed=1)
    found = train(resumed, SEQUENCES, CONFIG, tmp_path / "cut", loop="resident")
    assert torch.equal(weights(resumed), weights(undisturbed)) and losses(found) == losses(expected)


def test_steps_are_replayed_and_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_recorder(monkeypatch, Replayed)
    models, results = [], []
    for loop in ("resident", "graphs"):
        models.append(model_of(dropout=0.3))
        results.append(train(models[-1], MANY, replace(CONFIG, epochs=1), tmp_path / loop, loop=loop))
    (recorder,) = made
    assert results[1].loop == "graphs" and recorder.replays > recorder.recorded > 1
    assert torch.equal(weights(models[0]), weights(models[1])) and losses(results[0]) == losses(results[1])


def test_where_capturing_fails_one_line_says_so_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_recorder(monkeypatch, Refusing)
    expected, model = model_of(dropout=0.3), model_of(dropout=0.3)
    train(expected, MANY, replace(CONFIG, epochs=1), tmp_path / "resident", loop="resident")
    with pytest.warns(RuntimeWarning, match=r"kernel by kernel.*rows=\d+.*not permitted when stream") as heard:
        result = train(model, MANY, replace(CONFIG, epochs=1), tmp_path / "graphs", loop="graphs")
    assert len(heard) == 1 and "\n" not in str(heard[0].message)
    (recorder,) = made
    assert recorder.recorded == 1 and recorder.replays > 0  # what was recorded before is given up too
    assert result.loop == "resident" and torch.equal(weights(model), weights(expected))


def test_larger_buffers_are_recorded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch's buffers have no slack here, and cuts of windows differ from epoch to epoch."""
    with_recorder(monkeypatch, Replayed)
    monkeypatch.setattr("seqrec_lib.fast.resident_batches._SLACK", 10**9)
    config = replace(CONFIG, epochs=4, schedule="constant", stride=2)
    models = []
    for loop in ("resident", "graphs"):
        models.append(model_of())
        train(models[-1], SEQUENCES, config, tmp_path / loop, loop=loop)
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_it_looks_up_seldom_but_at_each_epochs_end(tmp_path: Path) -> None:
    heard: list[Progress] = []
    train(model_of(), SEQUENCES, CONFIG, tmp_path, loop="resident", listen=heard.append)
    within = [progress for progress in heard if progress.epoch_entry is None]
    assert within[0].steps > 5 and len(within) < within[0].steps
    assert [progress.epoch for progress in within if progress.step == progress.steps] == [1, 2]
    assert sum(progress.epoch_entry is not None for progress in heard) == 2


def test_divergence_is_noticed_at_the_epochs_end(tmp_path: Path) -> None:
    config = replace(CONFIG, learning_rate=1e30, clip=1e30, average=0.0, warmup_steps=0, schedule="constant")
    with pytest.raises(SeqRecError, match="training diverged in epoch 1"):
        train(model_of(), SEQUENCES, config, tmp_path, loop="resident")


def test_the_average_blends_as_it_updates() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    averages = [WeightAverage(layer, 0.9) for _ in range(2)]
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(torch.randn_like(parameter))
        averages[0].update(step)
        averages[1].blend(torch.tensor(averages[1].share(step)))
    for a, b in zip(*(average.values for average in averages), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_which_loop_trains() -> None:
    gpu = torch.device("cuda", 0)
    assert choose_loop("auto", gpu, 1, True) == "graphs"
    assert choose_loop("auto", CPU, 1, True) == "ordinary"
    assert choose_loop("resident", CPU, 1, True) == "resident"
    for other in ((gpu, 2, True), (gpu, 1, False)):
        assert choose_loop("auto", *other) == choose_loop("ordinary", *other) == "ordinary"
        with pytest.raises(SeqRecError, match=r"loop 'resident' cannot train this run \(.+\); use 'auto'"):
            choose_loop("resident", *other)
    with pytest.raises(SeqRecError, match="cpu has no CUDA graphs"):
        train(model_of(), SEQUENCES, CONFIG, Path("nowhere"), accelerator=make_accelerator("cpu"), loop="graphs")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible to torch")
class TestOnAGPU:
    """Graphs against the same steps kernel by kernel. Sums by atomics differ in order: float32's rounding grows with
    the steps, so that short trainings are compared. TRITON_F32_DEFAULT=ieee makes Triton's products exact."""

    @pytest.mark.parametrize("precision", ["fp32", "softmax-bf16", "bf16"])
    @pytest.mark.parametrize("name", list(SMALL))
    def test_graphs_train_as_steps_do(
        self, name: str, precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorded, record = [], captured.GraphRecorder.record

        def counting(recorder: Any, step: Callable[[], None]) -> Callable[[], None]:
            recorded.append(record(recorder, step))
            return recorded[-1]

        monkeypatch.setattr(captured.GraphRecorder, "record", counting)
        config = replace(CONFIG, precision=precision)
        models, results = [], []
        for loop in ("resident", "graphs"):
            models.append(model_of(name, dropout=0.3))  # equal draws: a replay goes on where the generator stands
            results.append(train(models[-1], MANY, config, tmp_path / loop, loop=loop))
        assert [result.loop for result in results] == ["resident", "graphs"], "a capture has failed"
        assert len(recorded) > 3, "hardly anything was replayed"
        tolerance = 1e-4 if precision == "fp32" else 1e-2
        assert losses(results[1]) == pytest.approx(losses(results[0]), rel=tolerance)
        assert results[0].samples == results[1].samples

    @pytest.mark.parametrize("name", list(SMALL))
    def test_without_dropout_the_ordinary_loop_does_the_same(self, name: str, tmp_path: Path) -> None:
        models, results = [], []
        for loop in ("ordinary", "graphs"):
            models.append(model_of(name))
            results.append(train(models[-1], MANY, CONFIG, tmp_path / loop, loop=loop))
        assert losses(results[1]) == pytest.approx(losses(results[0]), rel=1e-3)

    def test_dropout_differs_from_replay_to_replay(self) -> None:
        device = torch.device("cuda", torch.cuda.current_device())
        recorder = captured.GraphRecorder(device)
        ones, out = torch.ones(4096, device=device), torch.empty(4096, device=device)

        def step() -> None:
            out.copy_(torch.nn.functional.dropout(ones, 0.5))

        with recorder.running():
            torch.nn.functional.dropout(ones, 0.5)
            replay = recorder.record(step)
            seen = []
            for _ in range(3):
                replay()
                seen.append(out.clone())
        torch.cuda.synchronize()
        assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
        assert 0.4 < (seen[2] > 0).float().mean() < 0.6

    def test_a_broken_capture_leaves_a_usable_device(self) -> None:
        device = torch.device("cuda", torch.cuda.current_device())
        recorder = captured.GraphRecorder(device)
        x = torch.ones(64, device=device)

        def waits() -> None:
            torch.nn.functional.dropout(x, 0.5).sum().item()

        def adds() -> None:
            x.add_(1)

        torch.cuda.manual_seed(3)
        expected = torch.nn.functional.dropout(x, 0.5)
        torch.cuda.manual_seed(3)
        with recorder.running():
            with pytest.raises(RuntimeError, match="captur"):
                recorder.record(waits)
            assert torch.equal(torch.nn.functional.dropout(x, 0.5), expected), "the generator stands where it stood"
            replay = recorder.record(adds)
            replay()
        torch.cuda.synchronize()
        assert x.eq(2).all()

    def test_a_capture_that_fails_falls_back(self, tmp_path: Path) -> None:
        class Waiting(SASRec):
            def hidden(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
                assert int(lengths.max()) > 0  # waits for the device
                return super().hidden(items, lengths)

        torch.manual_seed(0)
        model = Waiting(20, 12, d_model=16, n_layers=1, dropout=0.3)
        with pytest.warns(RuntimeWarning, match="kernel by kernel"):
            result = train(model, MANY, CONFIG, tmp_path)
        expected = model_of(dropout=0.3)
        plain = train(expected, MANY, CONFIG, tmp_path / "resident", loop="resident")
        assert result.loop == "resident" and losses(result) == pytest.approx(losses(plain), rel=1e-4)

    def test_killed_and_resumed_it_ends_as_if_nothing_had_been(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(captured, "LOOK_SECONDS", 0.0)
        undisturbed = train(model_of(dropout=0.3), MANY, CONFIG, tmp_path / "whole")
        with pytest.raises(Killed):
            train(
                model_of(dropout=0.3), MANY, CONFIG, tmp_path / "cut", listen=killed_after(150),
                checkpoint_seconds=0,
            )  # fmt: skip
        found = train(model_of(dropout=0.3, seed=1), MANY, CONFIG, tmp_path / "cut")
        assert undisturbed.loop == found.loop == "graphs"
        assert losses(found) == pytest.approx(losses(undisturbed), rel=1e-4)

    def test_no_step_waits_for_the_device(self) -> None:
        """torch reports every call that makes the host wait; the steps of an epoch make none."""
        device = torch.device("cuda", torch.cuda.current_device())
        model = model_of(dropout=0.3).to(device)
        batches = training._Batches(MANY, CONFIG, device, (0, 1), resident=True)
        batches.start_epoch(0)
        epoch = batches.resident
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        step = TrainingStep(model, torch.float32)
        steps = captured.ResidentTraining(
            step, optimizer, WeightAverage(model, 0.9), epoch, CONFIG, "fp32", lambda *_: 1.0, [1e-3], None
        )
        steps._prepare(TrainingState())
        shape = rounded(epoch.shapes[0], CONFIG.max_length, CONFIG.tokens_per_batch)
        steps._step(shape)  # allocates
        torch.cuda.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            steps._step(shape)
            epoch.load(0)
        finally:
            torch.cuda.set_sync_debug_mode("default")

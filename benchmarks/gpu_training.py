"""How fast does training go on a GPU, and how far is it from what the GPU could do?

    python -m benchmarks.gpu_training --out FOLDER       # needs an NVIDIA GPU and MovieLens-1M (SEQREC_DATA)
    MAMBA_DETERMINISTIC=1 python -m benchmarks.gpu_training --out FOLDER      # spares the tuning of Triton's kernels,
                                                         # about a minute for each precision and size of state

Four parts, each written as it ends, none begun when the time is up (``--minutes``):

ceilings    bytes/s of a copy, FLOP/s of large matrix products in float32 and bfloat16, here and now
mixer       mamba-ssm's own `Mamba2` module and ours, forward and backward, the same weights, inputs and shapes, in
            turns, each launched kernel by kernel and as a CUDA graph
loops       seconds of an epoch of each model in the ordinary loop, with resident data, and with CUDA graphs, beside
            two floors: the least bytes and the operations of its matrix products, at the ceilings
goal        seconds until NDCG@10 of the validation split reaches the goal, by the recipe, validation included

The floor of bytes counts what no implementation can avoid while the state does not fit on the chip: weights, gradients,
both moments and the average, read and written once a step, and each layer's input and its gradient, written and read
once. Scans and convolutions are custom kernels and not among the operations. The item softmax is not fused: it passes
over its logits `LOSS_PASSES` times, and `loss_bytes` says what a kernel that keeps them on the chip would save.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.conditions import RESULTS, Conditions, keep
from benchmarks.mixer_speed import mixer_step
from benchmarks.ssm_speed import ratio
from seqrec_lib.data import load
from seqrec_lib.data.sequences import Sequences
from seqrec_lib.fast.cuda_graphs import GraphRecorder
from seqrec_lib.fast.resident_batches import Shape, rounded
from seqrec_lib.models import build
from seqrec_lib.models.base import SequentialRecommender
from seqrec_lib.ssm import Mamba2, preflight
from seqrec_lib.train.contracts import Loop, Progress
from seqrec_lib.train.loop import _Batches, make_accelerator, train
from seqrec_lib.train.recipes import TrainingConfig, resolve
from seqrec_lib.train.step import TrainingStep

NAME = "gpu_training"
MODELS = ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")
HURRIED = ("2mamba4rec", "mamba4rec+repeats", "2mamba4rec+repeats", "hydra4rec+repeats")  # towards the goal
LOOPS: tuple[Loop, ...] = ("ordinary", "resident", "graphs")
SHAPES = ((8, 200), (64, 200), (8, 1000))  # (histories, length) of the mixer alone
GOAL = 0.17
STATE_PASSES = 10  # over the parameters: weight, gradient, two moments and average, each read and written
LOSS_PASSES = 9  # over the logits: product; maximum; subtract and exponentiate, both in place; sum; two products
WARM_SECONDS, PATIENCE_SECONDS = 2.0, 60.0
LOOKS = 5  # stretches of steps, at least, whose median counts


class Enough(Exception):
    """What was to be measured has been."""


def rate_of_copies(device: torch.device, numbers: int = 2**28) -> float:
    """Bytes read and written per second, the best of five."""
    a = torch.randn(numbers, device=device)
    b = torch.empty_like(a)
    return 8 * numbers / min(seconds_of(lambda: b.copy_(a), device, 5))


def rate_of_products(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """FLOP/s of a size^3 matrix product, the best of five. Constant matrices draw less power and run faster than any
    real ones."""
    a = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / min(seconds_of(lambda: a @ a, device, 5))


def seconds_of(step: Callable[[], Any], device: torch.device, rounds: int, warm_up: int = 2) -> list[float]:
    """Of each round, the device waited for; the warm-up rounds do not count."""
    found = []
    for turn in range(-warm_up, rounds):
        wait(device)
        began = time.perf_counter()
        step()
        wait(device)
        if turn >= 0:
            found.append(time.perf_counter() - began)
    return found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def least_bytes(parameters: int, shapes: list[Shape], d_model: int, n_layers: int) -> int:
    """Of an epoch's steps, in float32; see the module's text.

    >>> least_bytes(1000, [Shape(2, 5, 10)], 4, 1)  # 10 times the weights; 4 times 10 x 4 x 2 numbers
    41280
    """
    positions = sum(shape.positions for shape in shapes)
    return 4 * (STATE_PASSES * parameters * len(shapes) + 4 * positions * d_model * (n_layers + 1))


def loss_bytes(shapes: list[Shape], rows: int, size: int) -> int:
    """Of an epoch's logits: ``rows`` items, ``size`` bytes a number. A fused kernel moves none of them.

    >>> loss_bytes([Shape(1, 8, 8)], 100, 2)
    14400
    """
    return LOSS_PASSES * size * rows * sum(shape.targets for shape in shapes)


def operations(model: SequentialRecommender, batches: _Batches, config: TrainingConfig) -> tuple[float, float]:
    """FLOP of an epoch's matrix products: (of the item softmax, of everything else, from one step's count)."""
    resident = batches.resident
    assert resident is not None
    step = TrainingStep(model, torch.float32)
    middle = len(resident.shapes) // 2
    with FlopCounterMode(display=False) as counter:
        step(resident.load(middle)).backward()
    model.zero_grad(set_to_none=True)
    rows, d = model.item_embedding.weight.shape
    columns = -(-rows // 16) * 16
    softmax = 6 * columns * d
    shape = resident.shapes[middle]
    rest = max(0.0, counter.get_total_flops() - softmax * (-(-shape.targets // 64) * 64)) / shape.positions
    return (
        float(softmax * sum(one.targets for one in resident.shapes)),
        rest * sum(one.positions for one in resident.shapes),
    )


def floors(model: SequentialRecommender, sequences: Sequences, config: TrainingConfig, rates: dict[str, float]) -> Any:
    """The two floors of an epoch in seconds, and what they are made of."""
    device = model.item_embedding.weight.device
    batches = _Batches(sequences, config, device, (0, 1), resident=True)
    batches.start_epoch(0)
    assert batches.resident is not None
    shapes = batches.resident.shapes
    filled = [rounded(shape, config.max_length, config.tokens_per_batch) for shape in shapes]
    softmax, rest = operations(model, batches, config)
    half = config.precision != "fp32"
    total, _ = model.parameter_counts()
    moved = least_bytes(total, shapes, model.d_model, len(list(getattr(model, "layers", [0]))))
    logits = loss_bytes(shapes, model.n_items + 1, 2 if half else 4)
    rate = {True: rates["bf16_flops"], False: rates["fp32_flops"]}
    return {
        "steps": len(shapes),
        "shapes": len(set(filled)),
        "filled_positions": sum(s.positions for s in filled) / sum(s.positions for s in shapes),
        "filled_targets": sum(s.targets for s in filled) / sum(s.targets for s in shapes),
        "least_bytes": moved,
        "loss_bytes": logits,
        "softmax_flop": softmax,
        "other_flop": rest,
        "bytes_floor_seconds": moved / rates["bytes"],
        "loss_bytes_seconds": logits / rates["bytes"],
        "operations_floor_seconds": softmax / rate[half] + rest / rate[config.precision == "bf16"],
    }


class Turn:
    """A listener that times training: the fastest whole epoch from the second on, or the median step once the warm-up
    is over. Both leave out kernels that are compiled, and graphs captured, for a shape that comes late."""

    def __init__(self, seconds: float, epochs: int) -> None:
        self.seconds, self.epochs, self.ended = seconds, epochs, 0
        self.began: float | None = None
        self.mark: tuple[float, int, int] | None = None  # time, epoch, step
        self.steps: list[float] = []  # seconds of a step, by stretches between two looks
        self.spent = 0.0
        self.epoch_seconds = math.inf

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()  # the loss was read: the device is up to date
        self.began = self.began or now
        if progress.epoch_entry is not None:
            self.ended, self.mark = self.ended + 1, None
            if self.ended > 1:
                self.epoch_seconds = min(self.epoch_seconds, progress.epoch_entry["seconds"])
            if self.ended >= self.epochs:
                raise Enough
            return
        if self.mark is not None and self.mark[1] == progress.epoch and progress.step > self.mark[2]:
            self.steps.append((now - self.mark[0]) / (progress.step - self.mark[2]))
            self.spent += now - self.mark[0]
        if now - self.began >= WARM_SECONDS:
            self.mark = (now, progress.epoch, progress.step)
        if self.spent >= self.seconds and len(self.steps) >= LOOKS and math.isinf(self.epoch_seconds):
            self.epoch_seconds = progress.steps * statistics.median(self.steps)
            raise Enough


def epoch_seconds(name: str, loop: Loop, sequences: Sequences, config: TrainingConfig, seconds: float) -> float:
    """Of an epoch of training: the fastest of the first, or from its median step where an epoch takes too long."""
    turn = Turn(seconds, epochs=8 if loop == "graphs" else 3)  # shapes, each captured once, come for several epochs
    run(name, sequences, config, loop, turn)
    return turn.epoch_seconds


def run(
    name: str, sequences: Sequences, config: TrainingConfig, loop: Loop, listen: Callable[[Progress], None]
) -> str | None:
    """Train until the listener has had enough; the loop that was used where it has not."""
    torch.manual_seed(config.seed)
    model = build(name, sequences.n_items, config.max_length, resolve(sequences.name, name, config.seed)[0])
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = train(
                model, sequences, config, Path(folder), accelerator=make_accelerator("auto"), listen=listen,
                checkpoint_seconds=math.inf, loop=loop,
            )  # fmt: skip
        except Enough:
            return None
    return result.loop


def compare_loops(
    sequences: Sequences, name: str, rates: dict[str, float], device: torch.device, seconds: float
) -> Any:
    """One model's epoch in each loop, and its floors."""
    architecture, config = resolve(sequences.name, name, 0)
    assert config is not None
    model = build(name, sequences.n_items, config.max_length, architecture).to(device)
    row: dict[str, Any] = {"model": name} | floors(model, sequences, config, rates)
    for loop in LOOPS if device.type == "cuda" else LOOPS[:2]:
        row[f"{loop}_epoch_seconds"] = epoch_seconds(name, loop, sequences, config, seconds)
    fastest = row.get("graphs_epoch_seconds", row["resident_epoch_seconds"])
    row["times_the_floor"] = fastest / max(row["bytes_floor_seconds"], row["operations_floor_seconds"])
    return row


def time_to_goal(sequences: Sequences, name: str, goal: float, patience: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """Seconds from building the model to the first validation that reaches the goal, and what became of it."""
    _, config = resolve(sequences.name, name, 0)
    assert config is not None
    row: dict[str, Any] = {"model": name, "goal": goal, "reached": False, "best": 0.0, "epochs": 0}
    began = time.perf_counter()

    def listen(progress: Progress) -> None:
        row["seconds"] = time.perf_counter() - began
        if (entry := progress.epoch_entry) is not None:
            row["epochs"] = progress.epoch
            row["training_seconds"] = row.get("training_seconds", 0.0) + entry["seconds"]
            row["best"] = max(row["best"], entry.get("valid_ndcg@10", 0.0))
            row["reached"] = row["best"] >= goal
        if row["reached"] or row["seconds"] > patience:
            raise Enough

    run(name, sequences, config, "auto", listen)
    return row


def mixers(batch: int, length: int, device: torch.device) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """(name, what makes it): ours and mamba-ssm's Mamba-2 with our weights, by its fused path; its plain one refuses
    these sizes, whose rows are no multiple of eight numbers apart."""
    from mamba_ssm.modules.mamba2 import Mamba2 as Theirs

    ours = Mamba2(64, 128).to(device)
    lengths = torch.full((batch,), length, device=device)
    yield "ours", lambda: _Full(ours, lengths)

    def theirs() -> nn.Module:
        module = Theirs(d_model=64, d_state=128, d_conv=4, expand=2, headdim=64, device=device)
        module.load_state_dict(ours.state_dict())
        return module

    yield "theirs, fused", theirs


class _Full(nn.Module):
    """A mixer of histories that are all of full length, said by a tensor on the device: a capture allows no copy."""

    def __init__(self, mixer: nn.Module, lengths: torch.Tensor) -> None:
        super().__init__()
        self.mixer, self.lengths = mixer, lengths

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.mixer(x, self.lengths)
        return mixed


def contestants(
    batch: int, length: int, device: torch.device, recorder: GraphRecorder
) -> tuple[dict[str, Callable[[], None]], dict[str, str]]:
    """Steps by name, kernel by kernel and as graphs, and the errors of those that cannot run these sizes."""
    x = torch.randn(batch, length, 64, device=device)
    steps: dict[str, Callable[[], None]] = {}
    errors: dict[str, str] = {}
    for name, make in mixers(batch, length, device):
        now = name
        try:
            step = mixer_step(make(), x)
            for _ in range(3):
                step()
            steps[now] = step
            now = f"{name}, graph"
            steps[now] = recorder.record(step)
        except Exception as error:  # a peer that cannot is a result
            errors[now] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return steps, errors


def compare_mixers(batch: int, length: int, device: torch.device, half: bool, rounds: int = 30) -> dict[str, Any]:
    """Milliseconds of forward and backward in turns, and our graph's time in units of each other's."""
    recorder = GraphRecorder(device)
    row: dict[str, Any] = {"histories": batch, "length": length, "precision": "bf16" if half else "fp32"}
    with recorder.running(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False) if half else nullcontext():
        steps, row["errors"] = contestants(batch, length, device, recorder)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                seconds[name] += seconds_of(step, device, 1, warm_up=0)
    row["milliseconds"] = {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()}
    best = "ours, graph" if "ours, graph" in seconds else "ours"
    row["ours_times_as_fast"] = {name: ratio(taken, seconds[best]) for name, taken in seconds.items()}
    return row


def main(
    out: Annotated[Path, typer.Option(help="folder of the record, written part by part")] = RESULTS,
    dataset: Annotated[str, typer.Option(help="data set")] = "ml-1m",
    minutes: Annotated[float, typer.Option(min=0.1, help="no part begins when these are over")] = 8.0,
    turn: Annotated[float, typer.Option(min=0.1, help="seconds for which the steps of a slow loop are timed")] = 4.0,
) -> None:
    """Measure training on this machine's GPU."""
    if not torch.cuda.is_available():
        raise SystemExit(f"error: {NAME} needs a GPU, and torch {torch.__version__} sees none")
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    device = make_accelerator("cuda").device
    conditions = Conditions()
    sequences = load(dataset)
    rates: dict[str, float] = {}
    tuned = os.environ.get("MAMBA_DETERMINISTIC", "0") in ("", "0")
    measured: dict[str, Any] = {"dataset": dataset, "kernels_tuned": tuned, "ceilings": rates}
    measured |= {"mixers": [], "loops": [], "goals": []}

    def part(label: str, measure: Callable[[], Any], into: list[Any] | dict[str, Any]) -> None:
        """One measurement: its failure is written down and stops no other."""
        if time.monotonic() - began > 60 * minutes:
            print(f"{label}: left out, the time is up", flush=True)
            return
        at = time.monotonic()
        try:
            found = measure()
        except Exception as error:
            found = {"failed": label, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        if isinstance(into, list):
            into.append(found)
        else:
            into.update(found)
        print(f"{label} ({time.monotonic() - at:.0f} s): {found}", flush=True)
        keep(conditions.record(NAME, ("torch", "triton", "mamba-ssm", "causal-conv1d"), **measured), folder=out)

    def ceilings() -> dict[str, float]:
        return {
            "bytes": rate_of_copies(device),
            "fp32_flops": rate_of_products(device, torch.float32),
            "bf16_flops": rate_of_products(device, torch.bfloat16),
        }

    part("ceilings", ceilings, rates)
    part("kernels against float64", lambda: {"preflight": preflight("cuda")}, measured)
    for batch, length in SHAPES:
        for half in (False, True):
            label = f"mixer {batch} x {length} {'bf16' if half else 'fp32'}"
            part(label, lambda b=batch, n=length, h=half: compare_mixers(b, n, device, h), measured["mixers"])  # type: ignore[misc]
    for name in MODELS:
        part(f"loops {name}", lambda m=name: compare_loops(sequences, m, rates, device, turn), measured["loops"])  # type: ignore[misc]
    for name in HURRIED:
        part(f"goal {name}", lambda m=name: time_to_goal(sequences, m, GOAL), measured["goals"])  # type: ignore[misc]


if __name__ == "__main__":
    typer.run(main)

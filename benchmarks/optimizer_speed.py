"""What does an optimizer step cost? USGM's beside Adam's, as ratios to PyTorch's fused and foreach Adam.

    python -m benchmarks.optimizer_speed [--threads 1] [--rounds 60] [--weights 1000000] [--save]

The parameters are those of a recommender: an embedding with most of the weights, and small matrices and vectors. The
contestants take turns on gradients of their own; seconds are CPU seconds of the process, which other jobs do not count
into; a row is the median over rounds, its ratio the median of the rounds' ratios. PyTorch's optimizers are unmodified.
Goals for plain USGM: at most 1.2 times fused Adam, at most half of foreach Adam.

Both are bound by memory. Fused Adam is one pass: it reads weight, gradient and both moments and writes three of them.
USGM cannot be one pass, as its step size depends on inner products of the whole gradient, and the gradient has to be
kept for the next step: it copies it, takes two inner products, and moves the weights. Its bytes alone put the ratio
above 1; the passes being four, and the arithmetic of H being some fifteen operations on single numbers, do the rest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import nn

from benchmarks.conditions import Conditions, keep
from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize
from seqrec_lib.optim.probing import ProbingUSGM
from seqrec_lib.optim.usgm import UniversalSGM

GOALS = {"fused": 1.2, "foreach": 0.5}
WIDTH = 64
# Bytes read and written per weight in float32, where a step is few enough passes to count them.
BYTES = {
    "fused": 16 + 12,  # weight, gradient, two moments; all but the gradient are written
    "sgd": 8 + 4,  # weight, gradient; weight
    "usgm": 8 + 4 + 8 + 12,  # copy g; <g, g>; <g, u>; move
}


def shapes(weights: int) -> list[tuple[int, ...]]:
    """About ``weights`` weights: an embedding of width 64 beside one layer's 20 parameters."""
    layer = [(4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,), (388, WIDTH), (WIDTH, 2 * WIDTH)]
    layer += [(WIDTH,)] * 14
    used = sum(torch.Size(shape).numel() for shape in layer)
    return [(max(1, (weights - used) // WIDTH), WIDTH), *layer]


def contestants() -> dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]]:
    """Each makes an optimizer for the parameters that it is given."""
    return {
        "fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
        "foreach": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, foreach=True),
        "usgm": lambda p: UniversalSGM(p, lr=1e-3),
        "usgm, ball": lambda p: UniversalSGM(p, lr=1e-3, radius=10.0),
        "usgm, adam's norm": lambda p: UniversalSGM(p, lr=1e-3, norm="adam"),
        "probing": lambda p: ProbingUSGM(p),
        "usgm, adaptive batching": lambda p: UniversalSGM(p, lr=1e-3),
    }


def measure(weights: int, rounds: int, warm_up: int = 15) -> dict[str, list[float]]:
    """CPU seconds of a step of every contestant in every round."""
    steps: dict[str, Callable[[], None]] = {}
    for name, make in contestants().items():
        torch.manual_seed(0)
        parameters = [nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes(weights)]
        for p in parameters:
            p.grad = 0.01 * torch.randn_like(p)
        optimizer = make(parameters)
        rule = AdaptiveBatchSize("noise") if "batching" in name else None
        steps[name] = _step(optimizer, rule)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-warm_up, rounds):
        for name, step in steps.items():
            begin = time.process_time()
            for _ in range(5):
                step()
            if turn >= 0:
                seconds[name].append((time.process_time() - begin) / 5)
    return seconds


def _step(optimizer: torch.optim.Optimizer, rule: AdaptiveBatchSize | None) -> Callable[[], None]:
    if rule is None:
        return lambda: optimizer.step() and None

    def both() -> None:
        rule.before_step(optimizer)
        optimizer.step()
        rule.after_step(optimizer)

    return both


def summaries(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds of a step, and its ratios to both Adams."""
    return {
        name: {"milliseconds": 1e3 * statistics.median(taken)}
        | {f"to_{peer}": statistics.median(a / b for a, b in zip(taken, seconds[peer], strict=True)) for peer in GOALS}
        for name, taken in seconds.items()
    }


def main(
    threads: Annotated[int, typer.Option(min=1, help="threads of every optimizer")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="turns of each optimizer")] = 60,
    weights: Annotated[int, typer.Option(min=1, help="weights of the model, about")] = 1_000_000,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Time a step of each optimizer, in turns."""
    conditions = Conditions(threads)
    torch.set_num_threads(threads)
    rows = summaries(measure(weights, rounds))
    print(f"{'optimizer':28}{'ms':>8}{'x fused':>10}{'x foreach':>11}")
    for name, row in rows.items():
        print(f"{name:28}{row['milliseconds']:8.3f}{row['to_fused']:10.2f}{row['to_foreach']:11.2f}")
    for peer, goal in GOALS.items():
        got = rows["usgm"][f"to_{peer}"]
        print(f"usgm, at most {goal:g} times {peer} Adam: {'reached' if got <= goal else 'missed'} ({got:.2f})")
    if save:
        setting = {"weights": weights, "rounds": rounds, "clock": "cpu"}
        measured: dict[str, Any] = {"setting": setting, "goals": GOALS, "bytes_per_weight": BYTES, "rows": rows}
        keep(conditions.record("optimizer_speed", **measured))


if __name__ == "__main__":
    typer.run(main)

"""How fast are the state-space models on this CPU? Ratios to SASRec (`mixer_speed` has transformers' mixers).

    python -m benchmarks.ssm_speed [--threads 2] [--rounds 15] [--save]

Every row is a forward and backward pass of a training step without the softmax over items: embedding, layers with
dropout 0.2, output at every position. The contestants take turns (A B C A B C ...), so that another job on the
machine slows all of them alike; a row's time is the median over rounds, its ratio the median of the rounds' ratios.
`attained` compares the matrix products of a pass with the rate of a large float32 one that takes its turn in the same
rounds. Rows marked bf16 run under `torch.autocast("cpu", dtype=torch.bfloat16)`, SASRec included.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from benchmarks.conditions import Conditions, keep
from seqrec_lib.models.layers import Dropout, FeedForward
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.report.benchmarks import SSM_GOALS
from seqrec_lib.ssm import Hydra, Mamba, Mamba2

N_ITEMS, D_MODEL, DROPOUT = 3416, 64, 0.2
SHAPES = ((200, 16), (1000, 4))  # (length, batch)


class OneLayer(nn.Module):
    """Mamba4Rec's layout around a mixer: embedding, mixer, feed-forward network."""

    def __init__(self, mixer: nn.Module, read: str = "forward") -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_ITEMS + 1, D_MODEL)
        self.mixer, self.read = mixer, read
        self.feed_forward = FeedForward(D_MODEL, DROPOUT)
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL, eps=1e-12) for _ in range(3))
        self.dropout = Dropout(DROPOUT)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        x = self.norms[0](self.dropout(self.embedding(items)))
        x = self.norms[1](self.dropout(getattr(self.mixer, self.read)(x, lengths)))
        return self.norms[2](x + self.dropout(self.feed_forward(x)))


def training_step(model: nn.Module, items: Tensor, lengths: Tensor) -> Callable[[], None]:
    """Forward and backward of a recommender."""
    g = torch.randn(*items.shape, D_MODEL)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(items, lengths).backward(g)

    return step


def in_bfloat16(step: Callable[[], Any]) -> Callable[[], Any]:
    """The same step with matrix products in bfloat16."""

    def half() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step()

    return half


def interleaved(steps: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of every step in every round, the steps taking turns; the warm-up rounds do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-warm_up, rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(a: list[float], b: list[float]) -> float:
    """Median over rounds of a's time in units of b's."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def against_sasrec(length: int, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and ratios of the study's one-layer models and of a two-layer SASRec."""
    items = torch.randint(1, N_ITEMS + 1, (batch, length))
    lengths = torch.full((batch,), length)
    models: dict[str, nn.Module] = {
        "sasrec": SASRec(N_ITEMS, length, dropout=DROPOUT),
        "mamba4rec": OneLayer(Mamba(D_MODEL, 32)),
        "2mamba4rec": OneLayer(Mamba2(D_MODEL, 128)),
        "hydra4rec": OneLayer(Hydra(D_MODEL, 32)),
        "hydra4rec-all-positions": OneLayer(Hydra(D_MODEL, 32), "forward_prefixes"),
    }
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    steps: dict[str, Callable[[], Any]] = {name: training_step(model, items, lengths) for name, model in models.items()}
    for name in list(models):
        steps[f"{name}, bf16"] = in_bfloat16(steps[name])
    steps["product"] = lambda: torch.mm(left, right)
    seconds = interleaved(steps, rounds)
    rate = 2 * 1024**3 / statistics.median(seconds.pop("product"))
    rows = {}
    for name, taken in seconds.items():
        flops = product_flops(steps[name.removesuffix(", bf16")])
        rows[name] = {
            "milliseconds": 1e3 * statistics.median(taken),
            "ratio": ratio(taken, seconds["sasrec"]),  # to SASRec in float32
            "product_gflop": flops / 1e9,
            "attained": flops / statistics.median(taken) / rate,
        }
    return rows


def product_flops(step: Callable[[], Any]) -> int:
    """Floating-point operations in the matrix products of one step."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def main(
    threads: Annotated[int, typer.Option(min=0, help="0: all cores")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="turns of each model")] = 15,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Time training steps of the state-space models, in turns with SASRec's."""
    conditions = Conditions(threads)
    torch.set_num_threads(conditions.threads)
    torch.manual_seed(0)
    shapes = []
    for length, batch in SHAPES:
        rows = against_sasrec(length, batch, rounds)
        print(f"\n{batch} histories of {length}, d = {D_MODEL}, {conditions.threads} threads")
        print(f"{'model':30}{'ms':>8}{'x SASRec':>10}{'goal':>7}{'GFLOP':>8}{'attained':>10}")
        targets = SSM_GOALS[length]
        for name, row in rows.items():
            goal = f"{targets[name]:.1f}" if name in targets else ""
            print(
                f"{name:30}{row['milliseconds']:8.1f}{row['ratio']:10.2f}{goal:>7}"
                f"{row['product_gflop']:8.2f}{row['attained']:10.0%}"
            )
        shapes.append({"length": length, "batch": batch, "models": rows})
    if save:
        keep(conditions.record("ssm_speed", ("torch", "numba"), rounds=rounds, shapes=shapes))


if __name__ == "__main__":
    typer.run(main)

"""What one process and two train: `accelerate launch` runs this file, and the tests call its functions themselves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator

from seqrec_lib.evaluate.ranking import rank_split
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize
from seqrec_lib.optim.usgm import UniversalSGM
from seqrec_lib.train import epoch, loop
from seqrec_lib.train.contracts import Progress
from seqrec_lib.train.processes import seed_step
from seqrec_lib.train.recipes import TrainingConfig
from tests.conftest import random_sequences

SEQUENCES = random_sequences(0, n_users=91)
# The smallest batches have one window, of which one of two processes gets nothing.
CONFIG = TrainingConfig(max_length=12, stride=6, tokens_per_batch=60, epochs=4, average=0.9, patience=0)
RESUMED = replace(CONFIG, epochs=2)
WAYS: dict[str, TrainingConfig] = {
    "float64": replace(CONFIG, validate_every=4),
    "float32": replace(CONFIG, epochs=1),
    "one window a batch": replace(CONFIG, tokens_per_batch=8, epochs=1),
    "samples": replace(CONFIG, objective="prefixes", samples_per_step=70, epochs=1),
    "paper": replace(CONFIG, epochs=2),
    "noise": replace(CONFIG, epochs=2),
}


def model_of(seed: int, dtype: torch.dtype, dropout: float = 0.0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(20, 12, d_model=16, n_layers=1, n_heads=2, dropout=dropout).to(dtype)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def train(way: str, folder: Path, accelerator: Accelerator) -> dict[str, Any]:
    """Losses after each step, the weights and the ranks at the end, and what a rule of batches decided."""
    losses: list[float] = []
    decisions: list[int] = []
    rule = AdaptiveBatchSize(way, start=2) if way in ("paper", "noise") else None  # type: ignore[arg-type]

    def hear(progress: Progress) -> None:
        losses.append(progress.loss)
        decisions.append(rule.micro_batches if rule else 1)

    # What the first process starts from is what all start from.
    model = model_of(accelerator.process_index, torch.float32 if way == "float32" else torch.float64)
    loop.train(
        model,
        SEQUENCES,
        WAYS[way],
        folder / way,
        accelerator=accelerator,
        listen=hear,
        batch_rule=rule,
        make_optimizer=(lambda parameters: UniversalSGM(parameters, lr=0.1, D=1.0)) if rule else None,
    )
    ranks = rank_split(model, SEQUENCES, SEQUENCES.split("test"), processes=accelerator, loss=True)
    return {
        "losses": losses,
        "decisions": decisions,
        "weights": weights(model),
        "ranks": torch.from_numpy(ranks.rank),
        "masked": torch.from_numpy(ranks.masked_rank),
        "loss": ranks.loss,
        "users": len(ranks.rank),
    }


def resume(folder: Path, accelerator: Accelerator) -> torch.Tensor:
    """The weights after the last epoch, with what the folder has as the start."""
    model = model_of(accelerator.process_index, torch.float64)
    loop.train(model, SEQUENCES, RESUMED, folder, accelerator=accelerator)
    return weights(model)


def with_dropout(folder: Path, accelerator: Accelerator, stop_after: int | None = None) -> torch.Tensor | None:
    """The weights with dropout; broken off in every process after ``stop_after`` steps, and then None."""
    steps = 0

    def count(*numbers: int) -> None:
        nonlocal steps
        steps += 1
        if stop_after is not None and steps > stop_after:
            raise KeyboardInterrupt
        seed_step(*numbers)

    model = model_of(accelerator.process_index, torch.float64, dropout=0.3)
    try:
        with patch.object(epoch, "seed_step", count):
            loop.train(model, SEQUENCES, RESUMED, folder, accelerator=accelerator, checkpoint_seconds=0.0)
    except KeyboardInterrupt:
        return None
    return weights(model)


def main(folder: Path) -> None:
    """Everything that the tests compare, by all processes; the first one saves it."""
    loop.matmul_rate = lambda device, dtype=None: 1e11  # a measurement that the tests do not need
    accelerator = loop.make_accelerator("cpu")
    results: dict[str, Any] = {way: train(way, folder, accelerator) for way in WAYS}
    results["resumed"] = resume(folder / "from one", accelerator)
    model = model_of(0, torch.float64)
    loop.train(model, SEQUENCES, replace(RESUMED, epochs=1), folder / "from two", accelerator=accelerator)
    results["dropout"] = with_dropout(folder / "whole", accelerator)
    assert with_dropout(folder / "broken", accelerator, stop_after=7) is None
    results["dropout, broken off"] = with_dropout(folder / "broken", accelerator)
    results["processes"] = accelerator.num_processes
    torch.save(results, folder / f"process {accelerator.process_index}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

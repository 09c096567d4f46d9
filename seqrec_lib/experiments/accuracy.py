"""How well a model ranks: train it, rank every user's held-out item among all items, keep each user's rank.

One run is one (data set, model, seed) with a recipe (:mod:`seqrec_lib.train.recipes`). The kept weights stay beside the
run's checkpoints for :mod:`seqrec_lib.recommend`; they are never part of a record.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seqrec_lib import data
from seqrec_lib.checksums import seal
from seqrec_lib.data import registry
from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.models import build, load_class
from seqrec_lib.progress import duration
from seqrec_lib.train.recipes import Recipe, TrainingConfig, overrides_by_model, resolve
from seqrec_lib.validation import Checked, Names, Seed, Seeds, Settings, plans

if TYPE_CHECKING:
    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.evaluate.ranking import Ranks
    from seqrec_lib.train.contracts import Progress

NAME = "accuracy"
WEIGHTS = "weights.safetensors"

# Tiny runs on made-up data whose numbers the tests hold (tests/golden): every branch that decides numbers is in one.
_TINY: dict[str, Any] = {
    "d_model": 16,
    "dropout": 0.1,
    "max_length": 20,
    "tokens_per_batch": 300,
    "epochs": 2,
    "learning_rate": 5e-3,
    "average": 0.9,
    "precision": "fp32",
}


def tiny(*models: str, **overrides: Any) -> dict[str, Any]:
    """Parameters of a plan of tiny runs."""
    return {"dataset": "ml-latest-small", "models": list(models), "seeds": [0], "overrides": _TINY | overrides}


GOLDEN: dict[str, dict[str, Any]] = {
    "counting": tiny("popularity", "markov") | {"overrides": {}},
    "sasrec": tiny("sasrec"),
    "sasrec-windows": tiny("sasrec", max_length=50, stride=10, n_layers=1),
    "sasrec-prefixes": tiny(
        "sasrec", objective="prefixes", schedule="cosine", warmup_steps=3, average=0.0, clip=0.5, weight_decay=0.1
    ),
    "sasrec-stops-early": tiny("sasrec", epochs=8, patience=1, learning_rate=0.03),
    "mamba4rec-long": tiny("mamba4rec", max_length=140),
    "mamba4rec-layers": tiny("mamba4rec", n_layers=2),
    "2mamba4rec-long": tiny("2mamba4rec", headdim=16, d_state=16, max_length=140),
    "2mamba4rec-layers": tiny("2mamba4rec", headdim=16, d_state=16, n_layers=2),
    "hydra4rec-long": tiny("hydra4rec", headdim=16, d_state=16, max_length=140),
    "hydra4rec-layers": tiny("hydra4rec", headdim=16, d_state=16, n_layers=2, max_length=10),
    "blanket": tiny("mamba4rec", initialisation="blanket"),
    "blanket-heads": tiny("2mamba4rec", "hydra4rec", d_model=32, initialisation="blanket"),
    "blanket-but-dt": tiny("mamba4rec", initialisation="blanket-but-dt"),
    "residual": tiny("mamba4rec+residual"),
    "residual-heads": tiny("2mamba4rec+residual", "hydra4rec+residual", d_model=32),
    "repeats": tiny("sasrec+repeats", "mamba4rec+repeats"),
    "repeats-heads": tiny("2mamba4rec+repeats", "hydra4rec+repeats", d_model=32),
    "public-recipe": tiny("sasrec", "mamba4rec", samples_per_step=256, epochs=1, average=0.0) | {"recipe": "public"},
    "sampled-softmax": tiny("sasrec", "sasrec+repeats", negatives=50),
    "residual-and-repeats": tiny("2mamba4rec+residual+repeats", d_model=32),
}


def revision(config: Any) -> int:
    """Raised for the configurations whose results a change alters."""
    return 1


@dataclass(frozen=True)
class Config(Checked):
    """One run. ``architecture`` holds the model's own settings; counting models have no ``training``."""

    dataset: str
    model: str
    seed: Seed
    architecture: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig | None = None


@plans(dataset=str, models=Names, seeds=Seeds, recipe=Recipe, overrides=Settings)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """Runs for ``dataset``, each of ``models`` and each of ``seeds``, by a ``recipe`` ("study" or "public") with those
    ``overrides`` that it has.

    Counting models are deterministic: they run once, whatever the seeds.

    Raises:
        SeqRecError: an unknown data set or model, an override that no model has, or a value that is not allowed.
    """
    dataset, recipe = parameters["dataset"], parameters.get("recipe", "study")
    registry.get(dataset)
    configs = []
    for model, overrides in overrides_by_model(parameters["models"], parameters.get("overrides", {})).items():
        for seed in parameters["seeds"]:
            architecture, training = resolve(dataset, model, seed, overrides, recipe)
            configs.append(Config(dataset, model, seed if training else 0, architecture, training))
    return configs


def run(config: Config, context: Context) -> Outcome:
    """Train (resuming from ``context.workdir``), rank the test split; give metrics and every user's rank."""
    from seqrec_lib.evaluate.ranking import rank_split

    sequences = data.load(config.dataset)
    if config.training is None:
        model = load_class(config.model)(sequences)
        ranks = rank_split(model, sequences, sequences.split("test"))
        valid = rank_split(model, sequences, sequences.split("valid")).metrics()["ndcg@10"]
        return _outcome(sequences, ranks, valid, [], {"parameters": 0, "parameters_without_embeddings": 0})
    return _train_and_rank(config, config.training, sequences, context)


def _train_and_rank(config: Config, training: TrainingConfig, sequences: Sequences, context: Context) -> Outcome:
    import torch
    from safetensors.torch import save_file

    from seqrec_lib.evaluate.ranking import rank_split
    from seqrec_lib.train.contracts import rounded
    from seqrec_lib.train.loop import make_accelerator, train

    accelerator = make_accelerator(context.device)
    kernels = load_class(config.model).kernels(accelerator.device.type)
    torch.manual_seed(config.seed)
    model = build(config.model, sequences.n_items, training.max_length, config.architecture)
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    result = train(
        model,
        sequences,
        training,
        context.workdir,
        accelerator=accelerator,
        listen=lambda progress: _report(context, progress),
        report=context.report,
    )
    ranks = rank_split(model, sequences, sequences.split("test"), device=accelerator.device)
    keep = context.workdir / "keep"
    keep.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, keep / WEIGHTS)
    seal(keep)
    total, body = model.parameter_counts()
    cost = {
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "train_seconds": result.seconds,
        "samples_per_second": result.samples / result.seconds,
        "peak_memory_bytes": peak_memory(accelerator.device.type),
        "parameters": total,
        "parameters_without_embeddings": body,
    }
    outcome = _outcome(sequences, ranks, result.best_valid, rounded(result.history), cost)
    outcome.environment |= {"precision": result.precision, "loop": result.loop} | kernels
    return outcome


def _outcome(
    sequences: Sequences, ranks: Ranks, valid: float, history: list[dict[str, Any]], cost: dict[str, Any]
) -> Outcome:
    import pyarrow as pa

    return Outcome(
        dataset=sequences.description(),
        metrics=ranks.metrics() | {"valid_ndcg@10": valid},
        history=history,
        cost=cost,
        tables={"ranks": pa.table({"rank": ranks.rank, "masked_rank": ranks.masked_rank})},
    )


def _report(context: Context, progress: Progress) -> None:
    """One line per epoch; within an epoch, a bar where there is a screen to draw it on."""
    entry = progress.epoch_entry
    if entry is None:
        context.report_share(progress.share, str(progress))
        return
    valid = entry.get("valid_ndcg@10")
    context.report(
        str(progress)
        + (f", valid NDCG@10 {valid:.4f}" if valid is not None else "")
        + f", {entry['samples_per_second']:,.0f} targets/s, {entry['matmul_fraction']:.0%} of the matmul rate"
        + f", at most {duration((progress.epochs - progress.epoch) * entry['seconds'])} left"
    )


def peak_memory(device: str) -> int:
    """Peak bytes: allocated on the GPU, else resident in this process (which may have done other work before)."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

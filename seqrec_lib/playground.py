"""Try a mixer: a module that mixes a history's items, trained in the study's state space recommender and put beside it.

A mixer is a class whose instances are made from ``d_model`` and map (B, L, d) to (B, L, d), where position t sees the
items up to t only. What it does at places beyond a history's length does not matter. With ``init_state(batch)`` and
``step(x, state)``, as the mixers of `seqrec_lib.ssm` have them, it also takes one more event.

Nothing is recorded: the code in a notebook has no name by which its results could be found again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from seqrec_lib.data import load
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.ranking import Ranks, rank_split
from seqrec_lib.evaluate.statistics import bootstrap_interval, metric_values
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute
from seqrec_lib.latency.clock import Clock
from seqrec_lib.latency.contestants import Module, make_model
from seqrec_lib.models.state_space import StateSpaceRecommender
from seqrec_lib.progress import Reporter
from seqrec_lib.report import kit
from seqrec_lib.report.frames import frame as frame_of
from seqrec_lib.report.html import Html
from seqrec_lib.report.kit import Column
from seqrec_lib.results import RunStore
from seqrec_lib.train.loop import make_accelerator, train
from seqrec_lib.train.recipes import resolve

if TYPE_CHECKING:
    import pandas as pd

    from seqrec_lib.data.sequences import Sequences

RECIPE = "mamba4rec"  # whose settings of training and of the layers around the mixer a new one gets
METRIC = "ndcg@10"
ROUNDS = 30  # requests that are timed of each model, in turns
Mixer = Callable[[int], nn.Module]


def recommender(mixer: Mixer, n_items: int, max_length: int, dropout: float = 0.2) -> StateSpaceRecommender:
    """One layer of the mixer with the study's embedding, feed-forward network and tied scores (d_model is 64).

    Raises:
        SeqRecError: the mixer lets a position see later items, or changes the shape.
    """
    net = StateSpaceRecommender(n_items, max_length, mixer, dropout=dropout)
    _check(net.stack[0].mixer)
    return net


@torch.no_grad()
def _check(mixer: Any) -> None:
    x = torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(0))
    mixed, prefix = mixer(x, torch.tensor([6, 6])), mixer(x[:, :4], torch.tensor([4, 4]))
    if mixed.shape != x.shape:
        raise SeqRecError(f"the mixer maps (2, 6, 64) to {tuple(mixed.shape)}; it should keep the shape")
    if not torch.allclose(mixed[:, :4], prefix, atol=1e-4):
        raise SeqRecError("the mixer's output at an item depends on later items; it would see what it has to predict")


def try_mixer(
    mixer: Mixer, dataset: str = "demo", *, seed: int = 0, overrides: Mapping[str, Any] | None = None
) -> tuple[StateSpaceRecommender, Ranks, float]:
    """Train a recommender with this mixer: (the model, every user's rank of the test item, seconds of training).

    Raises:
        SeqRecError: an unknown data set or override, or as `recommender`.
    """
    sequences = load(dataset)
    architecture, training = resolve(dataset, RECIPE, seed, overrides)
    assert training is not None
    torch.manual_seed(seed)
    net = recommender(mixer, sequences.n_items, training.max_length, architecture["dropout"])
    name, start = getattr(mixer, "__name__", "mixer"), time.perf_counter()
    with Reporter() as reporter, tempfile.TemporaryDirectory(prefix="seqrec-") as folder:
        reporter.start(name)
        train(
            net,
            sequences,
            training,
            Path(folder),
            accelerator=make_accelerator("cpu"),
            listen=lambda progress: reporter.report_share(progress.share, str(progress)),
            report=reporter.report,
        )
        seconds = time.perf_counter() - start
    return net.eval(), rank_split(net, sequences, sequences.split("test")), seconds


def rows(
    mixers: Sequence[Mixer],
    dataset: str = "demo",
    *,
    beside: Sequence[str] = (),
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    missing: str = "run",
    store: RunStore | None = None,
) -> pd.DataFrame:
    """One row for each mixer, and for each of the study's models ``beside``, the best first.

    Columns: model, ndcg (low, high), masked (seen items left out), request (milliseconds of one user's ten best by the
    model's own tensor operations, the median over requests in turns), state (KiB that one more event needs),
    parameters, training (seconds). None: there is none, or it was not run.

    Args:
        overrides: of the training of all.
        missing: run | skip, for the study's models, which are read from their records.
    """
    import pandas as pd

    store = store or RunStore()
    configs = accuracy.plan({"dataset": dataset, "models": list(beside), "seeds": [seed], "overrides": overrides or {}})
    known = frame_of(execute(accuracy, configs, missing=missing, store=store), configs, store)
    found: list[dict[str, Any]] = []
    nets: list[Any] = []
    for mixer in mixers:
        net, ranks, seconds = try_mixer(mixer, dataset, seed=seed, overrides=overrides)
        name = getattr(mixer, "__name__", "mixer")
        row = {"model": name, "parameters": net.parameter_counts()[0], "training": seconds}
        found.append(row | _quality(ranks.rank, ranks.masked_rank))
        nets.append(net)
    sequences = load(dataset) if mixers else None
    config_of = {config.model: config for config in configs}
    for run in known.to_dict("records"):  # of edited code, a model has two rows
        config = config_of[run["model"]]
        row = {"model": run["label"], "parameters": run.get("parameters"), "training": run.get("train_seconds")}
        found.append(row | _recorded(store, run["run_id"]))
        other: Any = None
        if sequences is not None and config.training is not None:
            shape = sequences.n_items, config.training.max_length
            other = make_model(config.model, *shape, config.architecture, seed)
        nets.append(other)
    times = [None] * len(nets) if sequences is None else _requests(nets, sequences)
    for row, net, milliseconds in zip(found, nets, times, strict=True):
        row |= {"request": milliseconds, "state": _state(net)}
    return pd.DataFrame(found).sort_values("ndcg", ascending=False, ignore_index=True)


def table(frame: pd.DataFrame) -> Html:
    """The rows as a page shows them."""
    columns = [
        Column("model", "Model"),
        Column("ndcg", "NDCG@10", ".4f", ("low", "high")),
        Column("masked", "NDCG@10, seen items left out", ".4f"),
        Column("request", "One request, ms", ".3g", missing="–"),
        Column("state", "State, KiB", ".1f", missing="–"),
        Column("parameters", "Parameters", ",.0f", missing="–"),
        Column("training", "Training, s", ".1f", missing="–"),
    ]
    return kit.table(
        frame, columns, caption="A mixer of your own beside the study's models; tensor operations, one core"
    )


def _recorded(store: RunStore, run_id: str | None) -> dict[str, float | None]:
    """The quality of a run of the study; None where there is no such run."""
    record = store.find(run_id) if run_id else None
    if record is None or not record.complete:
        return dict.fromkeys(("ndcg", "low", "high", "masked"))
    ranks = store.table(record, "ranks")
    return _quality(ranks["rank"].to_numpy(), ranks["masked_rank"].to_numpy())


def _quality(ranks: np.ndarray, masked: np.ndarray) -> dict[str, float | None]:
    """Of every user's rank among all items, and with seen items left out."""
    found = bootstrap_interval(metric_values(ranks, METRIC))
    masked_ndcg = float(metric_values(masked, METRIC).mean())
    return {"ndcg": found.estimate, "low": found.low, "high": found.high, "masked": masked_ndcg}


def _requests(nets: Sequence[Any], sequences: Sequences) -> list[float | None]:
    """Milliseconds of one request of each model, None where there is none: the median over users, all in turns."""
    contestants = {place: Module("", net) for place, net in enumerate(nets) if net is not None}
    rng, clock, threads = np.random.default_rng(0), Clock(), torch.get_num_threads()
    times: dict[int, list[float]] = {place: [] for place in contestants}
    torch.set_num_threads(1)
    try:
        for turn in range(-3, ROUNDS):  # the first few warm up
            user = int(rng.integers(sequences.n_users))
            history = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1] - 1].astype(np.int64)
            for place in rng.permutation(list(contestants)):
                stages = contestants[place].serve(history, 10, clock)
                times[place] += [stages.total] if turn >= 0 else []
    finally:
        torch.set_num_threads(threads)
    return [1e3 * float(np.median(times[place])) if place in times else None for place in range(len(nets))]


def _state(net: Any) -> float | None:
    """KiB of one user's state; None for a model that keeps none of a fixed size."""
    mixer = net.stack[0].mixer if isinstance(net, StateSpaceRecommender) else None
    if not hasattr(mixer, "init_state"):
        return None
    parts = [part for layer in net.init_state(1) for name, part in layer.items() if name != "length"]
    return sum(part.nbytes for part in parts) / 1024

"""One process of a latency run: times all contestants on the same users, in blocks that come in random order.

    python -m seqrec_lib.latency.worker SETTINGS.json RESULT.npz

Clocks drift, caches fill, other jobs come and go: what is timed later is timed in another world. So the contestants
take turns within each block of users, in an order drawn anew for each block. Warm-up, with what is compiled or captured
on the way, comes before and is reported apart.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_lib.latency.statistics import without_outliers

STAGES = ("encode", "score", "top_k", "device")


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        dataset: whose histories are read. models, architectures: ids, and each model's settings.
        paths, twin: see `contestants.contestants`.
        max_length, k, threads, device, seed: as in the experiment's configuration; seed is the process's own.
        blocks, block_users: turns of each contestant, and users in each.
        samples, sample_users, sample_paths: the paper's protocol, the part of it that this process does.
        batches, batch_rounds: sizes of batches for the model's own pass, and how often each is timed.
        memory: whether peak memory is measured.
    """

    dataset: str
    models: tuple[str, ...]
    architectures: dict[str, dict[str, Any]]
    paths: tuple[str, ...]
    twin: str | None
    max_length: int
    k: int
    threads: int
    device: str
    seed: int
    blocks: int
    block_users: int
    samples: int
    sample_users: int
    sample_paths: tuple[str, ...]
    batches: tuple[int, ...] = ()
    batch_rounds: int = 0
    memory: bool = False


@dataclass
class Timed:
    """What came out: one entry per contestant in ``names`` (model, path), then columns by call."""

    names: list[tuple[str, str]]
    facts: list[dict[str, Any]]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    paper: list[list[float]] = field(default_factory=list)
    batch: list[list[float]] = field(default_factory=list)


def work(job: Job) -> Timed:
    """Do the job in this process."""
    import torch

    from seqrec_lib.data import load
    from seqrec_lib.latency.clock import clock_of
    from seqrec_lib.latency.contestants import contestants, make_model

    torch.set_num_threads(job.threads)
    sequences = load(job.dataset, progress=False)
    n_items = sequences.n_items
    rng = np.random.default_rng(job.seed)
    test = sequences.split("test")
    histories = [sequences.items[a:b].astype(np.int64) for a, b in zip(test.start, test.stop, strict=True)]
    models = {
        name: make_model(name, n_items, job.max_length, job.architectures.get(name, {}), 0, sequences)
        for name in job.models
    }
    if job.device == "cuda":
        models = {name: model.to("cuda") if hasattr(model, "to") else model for name, model in models.items()}
    field_ = contestants(models, n_items, job.paths, job.twin)
    clock = clock_of(job.device)
    timed = Timed([(c.model, c.path) for c in field_], [])
    for contestant in field_:
        timed.facts.append(_warm_up(contestant, histories, job, clock, rng))
    _measure_memory(field_, histories, job, timed)
    _blocks(field_, histories, job, clock, rng, timed)
    _samples(field_, histories, job, clock, rng, timed)
    _batches(models, histories, job, clock, rng, timed)
    return timed


def _warm_up(
    contestant: Any, histories: Sequence[np.ndarray], job: Job, clock: Any, rng: np.random.Generator
) -> dict[str, Any]:
    """Serve users until the median of twenty calls is no longer falling; what the first call took stands apart."""
    start = time.perf_counter()
    contestant.serve(contestant.prepare(histories[0]), job.k, clock)
    first = time.perf_counter() - start
    before, calls = np.inf, 1
    while calls < 400:
        drawn = rng.integers(len(histories), size=20)
        now = float(np.median([contestant.serve(contestant.prepare(histories[u]), job.k, clock).total for u in drawn]))
        calls += 20
        if now > 0.95 * before:
            break
        before = now
    return {"first_call_seconds": first, "warm_up_calls": calls}


def _measure_memory(field_: Sequence[Any], histories: Sequence[np.ndarray], job: Job, timed: Timed) -> None:
    from seqrec_lib.latency.clock import clock_of, peak_memory
    from seqrec_lib.latency.contestants import held_bytes

    if not job.memory:
        return
    longest = max(histories, key=len)
    for contestant, facts in zip(field_, timed.facts, strict=True):
        facts["held_bytes"] = held_bytes(contestant)
        prepared = contestant.prepare(longest)
        facts["peak_memory_bytes"] = peak_memory(
            lambda c=contestant, p=prepared: c.serve(p, job.k, clock_of(job.device)),  # type: ignore[misc]
            job.device,
        )


def _blocks(
    field_: Sequence[Any], histories: Sequence[np.ndarray], job: Job, clock: Any, rng: np.random.Generator, timed: Timed
) -> None:
    """A/B/A/B in random blocks: the same users for everyone, in an order of contestants drawn for each block."""
    columns: dict[str, list[Any]] = {name: [] for name in ("contestant", "block", "length", *STAGES)}
    for block in range(job.blocks):
        users = rng.integers(len(histories), size=job.block_users)
        for place in rng.permutation(len(field_)):
            contestant = field_[place]
            for user in users:
                stages = contestant.serve(contestant.prepare(histories[user]), job.k, clock)
                device = np.nan if stages.device is None else stages.device
                row = (place, block, min(len(histories[user]), job.max_length))
                for name, value in zip(columns, (*row, stages.encode, stages.score, stages.top_k, device), strict=True):
                    columns[name].append(value)
    timed.columns = columns


def _samples(
    field_: Sequence[Any], histories: Sequence[np.ndarray], job: Job, clock: Any, rng: np.random.Generator, timed: Timed
) -> None:
    """The paper's samples: rows of (contestant, mean, mean without outliers, share removed)."""
    chosen = [place for place, c in enumerate(field_) if c.path in job.sample_paths]
    replace = len(histories) < job.sample_users
    for _ in range(job.samples):
        users = rng.choice(len(histories), size=job.sample_users, replace=replace)
        for place in rng.permutation(chosen):
            contestant = field_[place]
            times = np.array([contestant.serve(contestant.prepare(histories[u]), job.k, clock).total for u in users])
            kept = without_outliers(times)
            timed.paper.append([place, times.mean(), kept.mean(), 1 - len(kept) / len(times)])


def _batches(
    models: dict[str, Any],
    histories: Sequence[np.ndarray],
    job: Job,
    clock: Any,
    rng: np.random.Generator,
    timed: Timed,
) -> None:
    """Seconds per user of the model's own pass by batch size: rows of (model, batch, seconds)."""
    import torch

    nets = [(place, model) for place, model in enumerate(models.values()) if isinstance(model, torch.nn.Module)]
    cells = [(place, net, size) for place, net in nets for size in job.batches]
    for turn in range(job.batch_rounds + 1):  # the first turn warms up
        users = rng.integers(len(histories), size=max(job.batches, default=0))
        for index in rng.permutation(len(cells)):
            place, net, size = cells[index]
            chosen = [histories[u][-job.max_length :] for u in users[:size]]
            lengths = torch.tensor([len(h) for h in chosen])
            items = torch.zeros(size, int(lengths.max()), dtype=torch.int64)
            for row, history in enumerate(chosen):
                items[row, : len(history)] = torch.from_numpy(history)
            with torch.inference_mode():
                start = clock.mark()
                scores = net.score(items.to(job.device), lengths.to(job.device))
                scores.topk(job.k).indices.tolist()
                seconds = clock.mark() - start
                clock.device_seconds()
            if turn:
                timed.batch.append([place, size, seconds / size])


def save(timed: Timed, path: Path) -> None:
    """Write what came out; no pickle."""
    arrays: dict[str, Any] = {f"column_{name}": np.array(values) for name, values in timed.columns.items()}
    arrays["paper"] = np.array(timed.paper, float).reshape(-1, 4)
    arrays["batch"] = np.array(timed.batch, float).reshape(-1, 3)
    arrays["about"] = np.array(json.dumps({"names": timed.names, "facts": timed.facts}))
    np.savez(path, **arrays)


def main() -> None:
    """Read the job, do it, write what came out."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    job = Job(**values)
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    save(work(job), Path(sys.argv[2]))


if __name__ == "__main__":
    main()

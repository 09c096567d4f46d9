"""One process of a latency run: times all contestants on the same users, in blocks that come in random order.

    python -m seqrec_lib.latency.worker SETTINGS.json RESULT.npz

Clocks drift, caches fill, other jobs come and go: what is timed later is timed in another world. So the contestants
take turns within each block of users, in an order drawn anew for each block. Warm-up, with what is compiled or captured
on the way, comes before and is reported apart.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_lib.latency.clock import clock_of, peak_memory
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
    models: Sequence[str]
    architectures: dict[str, dict[str, Any]]
    paths: Sequence[str]
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
    sample_paths: Sequence[str]
    batches: Sequence[int] = ()
    batch_rounds: int = 0
    memory: bool = False


class Timed:
    """What one process times, once it is made: one entry per contestant in ``names`` (model, path) and ``facts``.

    Attributes:
        columns: of the calls, by name.
        paper: rows of (contestant, mean, mean without outliers, share removed).
        batch: rows of (model, size, seconds per user).
    """

    def __init__(self, job: Job) -> None:
        import torch

        from seqrec_lib.data import load
        from seqrec_lib.latency.contestants import contestants, make_model

        torch.set_num_threads(job.threads)
        sequences = load(job.dataset, progress=False)
        test = sequences.split("test")
        self.job, self.rng, self.clock = job, np.random.default_rng(job.seed), clock_of(job.device)
        self.histories = [sequences.items[a:b].astype(np.int64) for a, b in zip(test.start, test.stop, strict=True)]
        models = {
            name: make_model(name, sequences.n_items, job.max_length, job.architectures.get(name, {}), 0, sequences)
            for name in job.models
        }
        if job.device == "cuda":
            models = {name: model.to("cuda") if hasattr(model, "to") else model for name, model in models.items()}
        self.models = list(models.values())
        self.contestants = contestants(models, sequences.n_items, job.paths, job.twin)
        self.names = [(contestant.model, contestant.path) for contestant in self.contestants]
        self.facts = [self._warm_up(contestant) for contestant in self.contestants]
        if job.memory:
            self._measure_memory()
        self.columns: dict[str, list[Any]] = {name: [] for name in ("contestant", "block", "length", *STAGES)}
        self.paper: list[list[float]] = []
        self.batch: list[list[float]] = []
        self._time_blocks()
        self._time_samples()
        self._time_batches()

    def _serve(self, contestant: Any, user: int) -> Any:
        return contestant.serve(contestant.prepare(self.histories[user]), self.job.k, self.clock)

    def _warm_up(self, contestant: Any) -> dict[str, Any]:
        """Serve users until the median of twenty calls is no longer falling; what the first call took stands apart."""
        start = time.perf_counter()
        self._serve(contestant, 0)
        first = time.perf_counter() - start
        before, calls = np.inf, 1
        while calls < 400:
            drawn = self.rng.integers(len(self.histories), size=20)
            now = float(np.median([self._serve(contestant, user).total for user in drawn]))
            calls += 20
            if now > 0.95 * before:
                break
            before = now
        return {"first_call_seconds": first, "warm_up_calls": calls}

    def _measure_memory(self) -> None:
        from seqrec_lib.latency.contestants import held_bytes

        def serve(contestant: Any, prepared: Any) -> None:
            contestant.serve(prepared, self.job.k, clock_of(self.job.device))

        longest = max(self.histories, key=len)
        for contestant, facts in zip(self.contestants, self.facts, strict=True):
            facts["held_bytes"] = held_bytes(contestant)
            call = partial(serve, contestant, contestant.prepare(longest))
            facts["peak_memory_bytes"] = peak_memory(call, self.job.device)

    def _time_blocks(self) -> None:
        """A/B/A/B in random blocks: the same users for everyone, in an order of contestants drawn for each block."""
        for block in range(self.job.blocks):
            users = self.rng.integers(len(self.histories), size=self.job.block_users)
            for place in self.rng.permutation(len(self.contestants)):
                for user in users:
                    stages = self._serve(self.contestants[place], user)
                    row = (place, block, min(len(self.histories[user]), self.job.max_length), *astuple(stages))
                    for column, value in zip(self.columns.values(), row, strict=True):
                        column.append(np.nan if value is None else value)

    def _time_samples(self) -> None:
        """The paper's samples."""
        job = self.job
        chosen = [place for place, (_, path) in enumerate(self.names) if path in job.sample_paths]
        replace = len(self.histories) < job.sample_users
        for _ in range(job.samples):
            users = self.rng.choice(len(self.histories), size=job.sample_users, replace=replace)
            for place in self.rng.permutation(chosen):
                times = np.array([self._serve(self.contestants[place], user).total for user in users])
                kept = without_outliers(times)
                self.paper.append([place, times.mean(), kept.mean(), 1 - len(kept) / len(times)])

    def _time_batches(self) -> None:
        """The models' own pass by the size of the batch."""
        import torch

        from seqrec_lib.serving.batches import padded

        job, nets = self.job, [(i, model) for i, model in enumerate(self.models) if isinstance(model, torch.nn.Module)]
        cells = [(place, net, size) for place, net in nets for size in job.batches]
        for turn in range(job.batch_rounds + 1):  # the first turn warms up
            users = self.rng.integers(len(self.histories), size=max(job.batches, default=0))
            for index in self.rng.permutation(len(cells)):
                place, net, size = cells[index]
                items, lengths = padded([self.histories[user][-job.max_length :] for user in users[:size]])
                with torch.inference_mode():
                    start = self.clock.mark()
                    scores = net.score(items.to(job.device), lengths.to(job.device))
                    scores.topk(job.k).indices.tolist()
                    seconds = self.clock.mark() - start
                    self.clock.device_seconds()
                if turn:
                    self.batch.append([place, size, seconds / size])

    def save(self, path: Path) -> None:
        """Write what came out; no pickle."""
        arrays: dict[str, Any] = {f"column_{name}": np.array(values) for name, values in self.columns.items()}
        arrays["paper"] = np.array(self.paper, float).reshape(-1, 4)
        arrays["batch"] = np.array(self.batch, float).reshape(-1, 3)
        arrays["about"] = np.array(json.dumps({"names": self.names, "facts": self.facts, "models": self.job.models}))
        np.savez(path, **arrays)


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Timed(Job(**settings)).save(Path(sys.argv[2]))

"""One process of a latency run: times all contestants on the same users, in blocks that come in random order.

    python -m seqrec_lib.latency.worker SETTINGS.json RESULT.json

Clocks drift, caches fill, other jobs come and go: what is timed later is timed in another world. So the contestants
take turns within each block of users, in an order drawn anew for each block. Warm-up, with what is compiled or captured
on the way, comes before and is reported apart.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_lib.latency.clock import clock_of, peak_memory
from seqrec_lib.latency.statistics import without_outliers

RESULTS = ("facts", "calls", "paper", "batches")


@dataclass(frozen=True)
class Job:
    """What one process does: fields of `experiments.latency.Config`, of which models, paths, seed and samples are this
    process's own; twin: see `contestants.contestants`; sample_paths: of the paper's protocol; memory: whether peak
    memory is measured."""

    dataset: str
    models: Sequence[str]
    architectures: dict[str, dict[str, Any]]
    max_length: int
    device: str
    threads: int
    paths: Sequence[str]
    twin: str | None
    seed: int
    k: int
    blocks: int
    block_users: int
    samples: int
    sample_users: int
    sample_paths: Sequence[str]
    batches: Sequence[int]
    batch_rounds: int
    memory: bool


class Timed:
    """What one process times by its ``job``, once it is made; rows hold seconds.

    Attributes:
        facts: of each contestant, in the order of ``contestants``.
        calls: model, path, block, length and the fields of `contestants.Stages`.
        paper: model, path, mean, trimmed_mean (without outliers), removed (share of calls).
        batches: model, size, user (of the model's own pass).
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
        self.models = models
        self.contestants = contestants(models, sequences.n_items, job.paths, job.twin)
        self.facts = [{"model": own.model, "path": own.path} | self._warm_up(own) for own in self.contestants]
        if job.memory:
            self._measure_memory()
        self.calls: list[dict[str, Any]] = []
        self.paper: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
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
            for contestant in self._shuffled(self.contestants):
                for user in users:
                    stages = asdict(self._serve(contestant, user))
                    length = min(len(self.histories[user]), self.job.max_length)
                    where = {"model": contestant.model, "path": contestant.path}
                    self.calls.append(where | {"block": block, "length": length} | stages)

    def _shuffled(self, things: Sequence[Any]) -> list[Any]:
        return [things[place] for place in self.rng.permutation(len(things))]

    def _time_samples(self) -> None:
        """The paper's samples."""
        job = self.job
        chosen = [own for own in self.contestants if own.path in job.sample_paths]
        replace = len(self.histories) < job.sample_users
        for _ in range(job.samples):
            users = self.rng.choice(len(self.histories), size=job.sample_users, replace=replace)
            for contestant in self._shuffled(chosen):
                times = np.array([self._serve(contestant, user).total for user in users])
                kept = without_outliers(times)
                means = {"mean": float(times.mean()), "trimmed_mean": float(kept.mean())}
                removed = 1 - len(kept) / len(times)
                self.paper.append({"model": contestant.model, "path": contestant.path} | means | {"removed": removed})

    def _time_batches(self) -> None:
        """The models' own pass by the size of the batch."""
        import torch

        from seqrec_lib.serving.batches import padded

        job, nets = self.job, {name: net for name, net in self.models.items() if isinstance(net, torch.nn.Module)}
        cells = [(name, net, size) for name, net in nets.items() for size in job.batches]
        for turn in range(job.batch_rounds + 1):  # the first turn warms up
            users = self.rng.integers(len(self.histories), size=max(job.batches, default=0))
            for name, net, size in self._shuffled(cells):
                items, lengths = padded([self.histories[user][-job.max_length :] for user in users[:size]])
                with torch.inference_mode():
                    start = self.clock.mark()
                    scores = net.score(items.to(job.device), lengths.to(job.device))
                    scores.topk(job.k).indices.tolist()
                    seconds = self.clock.mark() - start
                    self.clock.device_seconds()
                if turn:
                    self.batches.append({"model": name, "size": size, "user": seconds / size})

    def save(self, path: Path) -> None:
        """Write what came out."""
        path.write_text(json.dumps({name: getattr(self, name) for name in RESULTS}), encoding="utf-8")


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Timed(Job(**settings)).save(Path(sys.argv[2]))

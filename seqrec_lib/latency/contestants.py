"""What is timed: one model on one path, from a user's item ids to the ten best, by stages.

Paths on a CPU:
    served   `seqrec_lib.serving.serve(model)`: what `seqrec recommend` uses
    module   the model's own tensor operations, eager, in inference mode
    step     the state of the history is at hand and one more event comes (a cache of keys and values for SASRec)
On a GPU: eager (= module), compiled (`torch.compile`), graph (a CUDA graph).

Language models are timed in turns with the models as served by `benchmarks/query_latency.py`: their time per user, and
their tokens per second in a column of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqrec_lib.latency.clock import Clock
from seqrec_lib.models import COUNTED, build, load_class
from seqrec_lib.serving import SteppingServer, serve
from seqrec_lib.serving.base import select

ROOMS = (50, 100, 200, 400)  # lengths that compiled histories are filled up to, below the model's longest
PROGRAMS = 64  # compiled at most of one function: rooms times models


@dataclass(frozen=True)
class Stages:
    """Seconds of one user's request; ``device`` on the GPU's clock."""

    encode: float
    score: float
    top_k: float
    device: float | None = None

    @property
    def total(self) -> float:
        """The whole request."""
        return self.encode + self.score + self.top_k


@dataclass
class Served:
    """By a server: encode, score, the k best without the items seen."""

    model: str
    server: Any
    path: str = "served"

    def __post_init__(self) -> None:
        self._space = np.empty(self.server.n_items + 1, np.float32)

    def prepare(self, history: np.ndarray) -> Any:
        """What is at hand before the clock starts: of (L,) int64 ids."""
        return history

    def _encode(self, prepared: Any) -> tuple[np.ndarray, np.ndarray]:
        """The encoding, and the items seen."""
        return self.server.encode(self.server.cut(prepared)), prepared

    def serve(self, prepared: Any, k: int, clock: Clock) -> Stages:
        """One request, timed."""
        start = clock.mark()
        encoded, seen = self._encode(prepared)
        read = clock.mark()
        scores = self.server.score(encoded, self._space)
        scored = clock.mark()
        select(scores, k, seen)
        done = clock.mark()
        return Stages(read - start, scored - read, done - scored, clock.device_seconds())


@dataclass
class Stepping(Served):
    """One more event for a user whose state is at hand."""

    path: str = "step"

    def prepare(self, history: np.ndarray) -> Any:
        return self.server.start(self.server.cut(history)[:-1]), history

    def _encode(self, prepared: Any) -> tuple[np.ndarray, np.ndarray]:
        state, history = prepared
        return self.server.step(state, int(history[-1])), history


@dataclass
class Module:
    """By the model's own tensor operations; on a GPU with the copy to the device and back.

    `torch.compile` makes a program for each length of history and gives up after a few of them: compiled histories are
    filled up to one of few lengths, all of which are compiled here.
    """

    model: str
    net: Any
    path: str = "module"

    def __post_init__(self) -> None:
        self._device = self.net.item_embedding.weight.device
        self._encode = self.net.encode
        self._rooms: tuple[int, ...] = ()
        if self.path == "compiled":
            torch._dynamo.config.recompile_limit = PROGRAMS
            self._encode = torch.compile(self.net.encode, dynamic=False)
            longest = int(self.net.window)
            self._rooms = (*(n for n in ROOMS if n < longest), longest)
            with torch.inference_mode():
                for room in self._rooms:
                    self._read(np.ones(room, np.int64))

    def prepare(self, history: np.ndarray) -> np.ndarray:
        return history

    @torch.inference_mode()
    def serve(self, prepared: np.ndarray, k: int, clock: Clock) -> Stages:
        start = clock.mark()
        encoded = self._read(prepared[-self.net.window :])
        middle = clock.mark()
        scores = self.net.scores(encoded)[0]
        scored = clock.mark()
        scores[torch.from_numpy(prepared).to(self._device)] = -torch.inf
        scores.topk(k).indices.tolist()
        done = clock.mark()
        return Stages(middle - start, scored - middle, done - scored, clock.device_seconds())

    def _read(self, history: np.ndarray) -> torch.Tensor:
        row = history
        if self._rooms:
            row = np.zeros(next(room for room in self._rooms if room >= len(history)), np.int64)
            row[: len(history)] = history
        items = torch.from_numpy(row)[None].to(self._device)
        encoded: torch.Tensor = self._encode(items, torch.tensor([len(history)], device=self._device))
        return encoded


@dataclass
class Graphed(Served):
    """By a CUDA graph, which is one launch: its stages are not apart, all of it counts as ``encode``."""

    path: str = "graph"

    def serve(self, prepared: Any, k: int, clock: Clock) -> Stages:
        start = clock.mark()
        ids, _ = self.server.replay(self.server.cut(prepared), k, prepared)
        ids.tolist()
        return Stages(clock.mark() - start, 0.0, 0.0, clock.device_seconds())


Contestant = Served | Module


def make_model(
    model: str, n_items: int, max_length: int, architecture: Mapping[str, Any], seed: int, sequences: Any = None
) -> Any:
    """A model with random weights (time does not depend on them); a counting model is fitted to ``sequences``."""
    if model in COUNTED:
        return load_class(model)(sequences)
    torch.manual_seed(seed)
    return build(model, n_items, max_length, architecture).eval()


def contestants(
    models: Mapping[str, Any], n_items: int, paths: Sequence[str], twin: str | None = None
) -> list[Contestant]:
    """Every model on every path that it has; ``twin`` enters its served path twice, as the A/A control ("again").

    Args:
        models: id -> model, on the device to be timed. paths: of `seqrec_lib.latency.PATHS`.
    """
    found: list[Contestant] = []
    for name, model in models.items():
        server = serve(model, n_items)
        if "served" in paths:
            found.append(Served(name, server))
        if name == twin:
            found.append(Served(name, server, "again"))
        if isinstance(model, torch.nn.Module):
            found += [Module(name, model, path) for path in ("module", "eager", "compiled") if path in paths]
        if "step" in paths and isinstance(server, SteppingServer):
            found.append(Stepping(name, server))
        if "graph" in paths and hasattr(server, "replay"):
            found.append(Graphed(name, server))
    return found


def held_bytes(contestant: Any) -> int:
    """Bytes of the weights and tables that a contestant keeps, each array once."""
    seen: dict[int, int] = {}

    def visit(thing: Any) -> None:
        parts: Iterable[Any] = ()
        if isinstance(thing, torch.Tensor):
            seen[thing.data_ptr()] = thing.nbytes
        elif isinstance(thing, np.ndarray):
            seen[thing.ctypes.data] = thing.nbytes
        elif isinstance(thing, torch.nn.Module):
            parts = (*thing.parameters(), *thing.buffers())
        elif isinstance(thing, (list, tuple)):
            parts = thing
        elif isinstance(thing, Mapping) or hasattr(thing, "__dict__"):
            parts = (thing if isinstance(thing, Mapping) else vars(thing)).values()
        for part in parts:
            visit(part)

    visit(getattr(contestant, "server", None) or getattr(contestant, "net", None))
    return sum(seen.values())

"""How time and memory grow: with the history's length, for one more event, with the batch and with the catalogue.

One run is all models with random weights on random histories; of the data set only the size of its catalogue is used.
In each round every cell (a model on a path at one size) is timed once, in an order drawn anew, so that rounds are
paired over cells.

Tables:
    times: ``kind`` (length | event | batch | catalogue), ``model``, ``path``, ``size`` (items read, histories of a
        batch, or items of the catalogue), ``round``, ``time`` (microseconds per user)
    memory: ``model``, ``path``, ``length``, ``peak`` (bytes by which memory rose while encoding), ``state`` (bytes that
        a user's state takes after that many items; 0 where there is none)

Paths on a CPU: ``module`` the model's own pass, ``served`` its server's, ``step`` one more event from a kept state
(SASRec: a cache). Kind "event" compares ``step`` with reading the whole history again, which is kind "length", path
"served".

On a GPU: ``module``, and ``graph``, the whole request from ids to the ten best as one CUDA graph, whatever the kind;
each call brings its result to the host. There is no kind "event" there, and no state is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.models import MODELS
from seqrec_lib.results import ADDED_LATER
from seqrec_lib.results.limits import check_threads, timing_limits
from seqrec_lib.validation import Checked, Count, Length, Seed, Several, plans, refuse_unknown

NAME = "scaling"
TIMED = True
SHORTEST = 1e-3  # seconds that a cell is timed for in a round, at least
K = 10


@dataclass(frozen=True)
class Config(Checked):
    """One run.

    Attributes:
        dataset: whose number of items the catalogue has, where it is not what varies.
        models: ids of trained models, at their default architectures.
        lengths: items read, for one history.
        batches: histories of ``batch_length`` items each. catalogues: items, `K` at least; histories of
            ``catalogue_length``.
        rounds: how often each cell is timed. threads: of the CPU. seed: of weights, histories and orders.
        device: cpu | cuda.
    """

    dataset: str
    models: Annotated[tuple[str, ...], *Several]
    lengths: Annotated[tuple[Length, ...], *Several]
    batches: Annotated[tuple[Count, ...], *Several]
    batch_length: Length
    catalogues: Annotated[tuple[Annotated[int, Field(ge=K, le=10**9)], ...], *Several]
    catalogue_length: Length
    rounds: Count
    threads: Count
    seed: Seed = 0
    device: Literal["cpu", "cuda"] = field(default="cpu", metadata=ADDED_LATER)


@dataclass
class _Results:
    rows: list[tuple[str, str, str, int, int, float]] = field(default_factory=list)
    memory: list[tuple[str, str, int, int, int]] = field(default_factory=list)


Cell = tuple[str, str, str, int, Callable[[], Any], int]  # kind, model, path, size, call, users


def revision(config: Config) -> int:
    """Raised when what is timed changes. 3: the kernels' products are PyTorch's, and windows are given by lengths."""
    return 3


@plans(Config)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """The one run of these parameters.

    Raises:
        SeqRecError: an unknown data set, a model without parameters, a value that is not allowed, or more threads than
            cores that this process can use.
    """
    from seqrec_lib.data import registry

    registry.get(parameters["dataset"])
    check_threads(parameters["threads"])
    refuse_unknown(parameters["models"], MODELS, "trained model")
    given = {field.name: parameters[field.name] for field in fields(Config) if field.name in parameters}
    sizes = {name: tuple(sorted(given[name])) for name in ("lengths", "batches", "catalogues")}
    return [Config(**given | sizes)]


def run(config: Config, context: Context) -> Outcome:
    """Time all cells.

    Raises:
        SeqRecError: a GPU is asked for and there is none.
    """
    import pyarrow as pa
    import torch

    from seqrec_lib.data import load

    if config.device == "cuda" and not torch.cuda.is_available():
        raise SeqRecError("device is cuda but no GPU is visible here; use device cpu")
    sequences = load(config.dataset, progress=context.progress)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    rng = np.random.default_rng(config.seed)
    results = _Results()
    try:
        context.report("by the history's length")
        _lengths(config, sequences.n_items, rng, results)
        context.report("by the batch")
        _batches(config, sequences.n_items, rng, results)
        for items in config.catalogues:
            context.report(f"a catalogue of {items:,} items")
            _catalogue(config, items, rng, results)
    finally:
        torch.set_num_threads(before)
    kind, model, path, size, turn, seconds = zip(*results.rows, strict=True)
    times = pa.table(
        {
            "kind": list(kind),
            "model": list(model),
            "path": list(path),
            "size": np.array(size, np.int32),
            "round": np.array(turn, np.int16),
            "time": (np.array(seconds) * 1e6).astype(np.float32),
        }
    )
    columns = ("model", "path", "length", "peak", "state")
    memory = pa.table(dict(zip(columns, map(list, zip(*results.memory, strict=True)), strict=True)))
    return Outcome(
        dataset=sequences.description(),
        metrics={"cells": len({row[:4] for row in results.rows}), "rounds": config.rounds},
        tables={"times": times, "memory": memory},
        environment={"threads": config.threads, "device_type": config.device} | timing_limits(),
    )


def _models(config: Config, n_items: int, max_length: int) -> dict[str, Any]:
    from seqrec_lib.latency.contestants import make_model

    return {
        name: make_model(name, n_items, max_length, MODELS[name].architecture, config.seed).to(config.device)
        for name in config.models
    }


def _history(rng: np.random.Generator, length: int, n_items: int) -> np.ndarray:
    return rng.integers(1, n_items + 1, size=length)


def _time(cells: Sequence[Cell], rounds: int, rng: np.random.Generator, results: _Results) -> None:
    """Warm every cell up, then time all of them in each round, in an order drawn anew."""
    repeats = []
    for _, _, _, _, call, _ in cells:
        call()
        start = time.perf_counter()
        call()
        repeats.append(int(np.clip(SHORTEST / max(time.perf_counter() - start, 1e-9), 1, 100)))
    for turn in range(rounds):
        for index in rng.permutation(len(cells)):
            kind, model, path, size, call, users = cells[index]
            start = time.perf_counter()
            for _ in range(repeats[index]):
                call()
            seconds = (time.perf_counter() - start) / repeats[index] / users
            results.rows.append((kind, model, path, size, turn, seconds))


def _lengths(config: Config, n_items: int, rng: np.random.Generator, results: _Results) -> None:
    from seqrec_lib.latency.clock import peak_memory
    from seqrec_lib.serving import SteppingServer, serve

    models = _models(config, n_items, max(config.lengths) + 1)
    servers = {name: serve(model) for name, model in models.items()}
    cells: list[Cell] = []
    for length in config.lengths:
        history = _history(rng, length, n_items)
        for name, model in models.items():
            server, path = servers[name], "served" if config.device == "cpu" else "graph"
            calls: dict[str, Callable[[], Any]] = {"module": _module_pass(model, history[None])}
            calls[path] = partial(server.encode, history) if path == "served" else _request(server, history)
            cells += [("length", name, way, length, call, 1) for way, call in calls.items()]
            state = 0
            if isinstance(server, SteppingServer):
                cells.append(("event", name, "step", length, _one_event(server, history), 1))
                state = server.state_bytes(length)
            for way, call in calls.items():
                if way == "graph":
                    call()  # its capture is no part of what a request takes
                results.memory.append((name, way, length, peak_memory(call, config.device) or 0, state))
    _time(cells, config.rounds, rng, results)


def _request(server: Any, history: np.ndarray) -> Callable[[], Any]:
    """A request to a GPU's server by its replayed graph, down to the ten best on the host."""
    return lambda: server.replay(history, K, history)[0].tolist()


def _module_pass(model: Any, histories: np.ndarray, scored: bool = False) -> Callable[[], Any]:
    """The model's own pass over histories of one length (B, L); with ``scored``, on to the ten best items.

    On a GPU the histories are copied to it, and what is asked for is brought back, which waits for it.
    """
    import torch

    items = torch.from_numpy(histories)
    lengths = torch.full((len(items),), items.shape[1])
    device = next(model.parameters()).device

    @torch.inference_mode()
    def call() -> Any:
        return model.score(items, lengths).topk(K) if scored else model.encode(items, lengths)

    @torch.inference_mode()
    def call_on_gpu() -> Any:
        read, long = items.to(device), lengths.to(device)
        return (model.score(read, long).topk(K).indices if scored else model.encode(read, long)).cpu()

    return call if device.type == "cpu" else call_on_gpu


def _one_event(server: Any, history: np.ndarray) -> Callable[[], Any]:
    """The next event after ``history``. The state moves on with each call; its length is set back, as streams end."""
    state = server.start(history)
    length = state.length

    def call() -> Any:
        state.length = length
        return server.step(state, int(history[-1]))

    return call


def _batches(config: Config, n_items: int, rng: np.random.Generator, results: _Results) -> None:
    models = _models(config, n_items, config.batch_length)
    cells: list[Cell] = []
    for size in config.batches:
        histories = _history(rng, size * config.batch_length, n_items).reshape(size, -1)
        for name, model in models.items():
            cells.append(("batch", name, "module", size, _module_pass(model, histories, scored=True), size))
    _time(cells, config.rounds, rng, results)


def _catalogue(config: Config, n_items: int, rng: np.random.Generator, results: _Results) -> None:
    """From ids to the ten best, by the server and by the model's own pass; on a CPU also scores and selection alone."""
    from seqrec_lib.serving import serve

    history = _history(rng, config.catalogue_length, n_items)
    cells: list[Cell] = []
    space = np.empty(n_items + 1, np.float32)
    for name, model in _models(config, n_items, config.catalogue_length).items():
        server, path = serve(model), "served" if config.device == "cpu" else "graph"
        call = partial(_served, server, history, space) if path == "served" else _request(server, history)
        if path == "graph":
            call()  # a capture frees cached memory, which the calls after it have to take again
        cells.append(("catalogue", name, path, n_items, call, 1))
        cells.append(("catalogue", name, "module", n_items, _module_pass(model, history[None], scored=True), 1))
        if path == "served" and name == config.models[0]:
            selection = partial(server.best, server.encode(history), K, history, space)
            cells.append(("catalogue", "any", "scores and top 10", n_items, selection, 1))
    _time(cells, config.rounds, rng, results)


def _served(server: Any, history: np.ndarray, space: np.ndarray) -> Any:
    return server.best(server.encode(history), K, history, space)

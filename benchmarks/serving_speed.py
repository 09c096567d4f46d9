"""Is a served model ever slower than its own module? The ratio of both times by length, batch, catalogue and threads.

    python -m benchmarks.serving_speed [--threads 2] [--rounds 15] [--save]

A request is a batch of random histories of one length; both sides end at the ten best unseen items. The server takes
`Server.recommend`; the module takes one padded pass in inference mode, then masks and selects. With ``encode`` the
request ends at the encoding of one history. Both sides take turns, the first of them changing from round to round, so
that another job on the machine slows both alike; a ratio is the median over rounds of the rounds' ratios. One thread
is timed by the CPU's clock, which other jobs do not enter; several by the wall.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from seqrec_lib.models import MODELS, build
from seqrec_lib.serving import serve

K = 10
ITEMS = 3416  # of MovieLens 1M
LENGTHS = (1, 10, 50, 100, 200, 400, 800, 1600, 3200, 8000)
BATCHES = ((8, 50), (64, 50), (256, 50), (8, 200), (64, 200), (8, 1000))  # histories, items in each
CATALOGUES = (100, 30_000, 200_000, 1_000_000)  # items, for one history of 50
VARIANTS = {"+2 layers": {"n_layers": 2}, "+d=256": {"d_model": 256}, "+d=32": {"d_model": 32}}
SHORTEST = 0.02  # seconds that a side is timed for in a round, at least
NOISE = 1.05  # a median ratio up to this one is no difference


@dataclass(frozen=True)
class Case:
    """One request: ``kind`` is encode | request | catalogue."""

    kind: str
    batch: int
    length: int
    items: int = ITEMS


def cases(full: bool = True) -> list[Case]:
    """The requests of a model; the large ones only for a ``full`` comparison."""
    lengths = LENGTHS if full else (10, 50, 200, 800, 3200)
    chosen = [Case("encode", 1, length) for length in lengths]
    chosen += [Case("request", 1, length) for length in ((10, 50, 200, 1000) if full else (50,))]
    chosen += [Case("request", *size) for size in (BATCHES if full else BATCHES[1:5:3])]
    return chosen + [Case("catalogue", 1, 50, items) for items in (CATALOGUES if full else ())]


def sides(model: Any, case: Case, rng: np.random.Generator) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(the server's call, the module's call) for one request."""
    server = serve(model)
    histories = rng.integers(1, case.items + 1, size=(case.batch, case.length))
    items, lengths = torch.from_numpy(histories), torch.full((case.batch,), case.length)

    @torch.inference_mode()
    def own_encoding() -> Any:
        return model.encode(items, lengths)

    @torch.inference_mode()
    def own_request() -> Any:
        scores = model.score(items, lengths)
        scores.scatter_(1, items, -torch.inf)
        return scores.topk(K)

    if case.kind == "encode":
        return lambda: server.encode(histories[0]), own_encoding
    rows = list(histories)
    return lambda: server.recommend(rows, K), own_request


def compare(
    a: Callable[[], Any], b: Callable[[], Any], rounds: int, clock: Callable[[], float], repeats: int = 0
) -> dict[str, float]:
    """Median milliseconds of both and the median of the rounds' ratios a / b, with its quartiles.

    Args:
        repeats: calls of a side in a round; 0: as many as `SHORTEST` takes.
    """
    calls = [repeats or _calls(call) for call in (a, b)]
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            call, start = (a, b)[side], clock()
            for _ in range(calls[side]):
                call()
            found[side].append((clock() - start) / calls[side])
    ratios = sorted(x / y for x, y in zip(*found, strict=True))
    return {
        "served_ms": round(1e3 * statistics.median(found[0]), 4),
        "module_ms": round(1e3 * statistics.median(found[1]), 4),
        "ratio": round(statistics.median(ratios), 3),
        "lower_quartile": round(ratios[len(ratios) // 4], 3),
        "upper_quartile": round(ratios[(3 * len(ratios)) // 4], 3),
    }


def _calls(call: Callable[[], Any]) -> int:
    """Warm a side up; how often it is called in a round."""
    call()
    call()
    start = time.perf_counter()
    call()
    return int(np.clip(SHORTEST / max(time.perf_counter() - start, 1e-9), 1, 400))


def main(
    threads: Annotated[int, typer.Option(min=1, help="threads of both sides")] = 1,
    rounds: Annotated[int, typer.Option(min=3, help="how often each pair is timed")] = 11,
    models: Annotated[str, typer.Option(help="ids with commas between; empty: all, and some of other sizes")] = "",
    save: Annotated[bool, typer.Option("--save", help="write the record")] = False,
) -> None:
    """Time both sides of every case in turns and print the ratios."""
    conditions = Conditions(threads, "cpu" if threads == 1 else "wall")
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    named = [name for name in models.split(",") if name]
    plain = [name for name in MODELS if "+" not in name]
    chosen = [(name, MODELS[name].architecture) for name in named or MODELS]
    if not named:
        chosen += [
            (name + suffix, {**MODELS[name].architecture, **new}) for name in plain for suffix, new in VARIANTS.items()
        ]
    rows, rng = [], np.random.default_rng(0)
    for name, architecture in chosen:
        base = name if name in MODELS else name.partition("+")[0]
        for case in cases(full=name in plain):
            torch.manual_seed(0)
            model = build(base, case.items, max(case.length, 50), architecture).eval()
            row = {"model": name, "threads": threads, **vars(case), **compare(*sides(model, case, rng), rounds, clock)}
            rows.append(row)
            print(f"{name:28} {case.kind:9} {case.batch:4} x {case.length:5}, {case.items:8,} items  "
                  f"{row['served_ms']:10.3f} {row['module_ms']:10.3f}  {row['ratio']:.2f}", flush=True)  # fmt: skip
    record = conditions.record(
        "serving_speed",
        rows=rows,
        setting={"k": K, "rounds": rounds, "noise": NOISE, "clock": "cpu" if threads == 1 else "wall"},
    )
    show(record)
    if save:
        keep(record)


def show(record: dict[str, Any]) -> None:
    """The cases whose ratio is above noise, as a table in the terminal."""
    table = Table("model", "case", "served, ms", "module, ms", "ratio", title="Served slower than its module")
    for row in record["rows"]:
        if row["ratio"] > NOISE:
            case = f"{row['kind']} {row['batch']} x {row['length']}, {row['items']:,} items"
            ratio = f"{row['ratio']:.2f} ({row['lower_quartile']:.2f} to {row['upper_quartile']:.2f})"
            table.add_row(row["model"], case, f"{row['served_ms']:.3f}", f"{row['module_ms']:.3f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)

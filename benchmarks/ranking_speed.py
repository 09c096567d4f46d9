"""How long does it take to rank every user's target among all items, once the histories are encoded?

    python -m benchmarks.ranking_speed           # needs MovieLens-1M on disk (SEQREC_DATA)
    python -m benchmarks.ranking_speed --save    # also writes benchmarks/results/ranking_speed.json

Three ways take turns on the same encoded histories; each gives the rank among all items and the one among unseen items:
*counting* the scores above the target's (`seqrec_lib.evaluate.ranking`), *sorting* all scores, and taking the 20
best by *top-k*, as most packages do, which knows no rank beyond. Weights are random: time does not depend on them.

The second part has the size of the paper's Beauty set, on a sample of its users; times for all users are extrapolated.
Memory is what `rank_split` adds to the resident set at its peak, encoding included, in a fresh process (Linux only).
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.conditions import Conditions, keep
from seqrec_lib.data import load
from seqrec_lib.data.sequences import Histories, Sequences, user_batches
from seqrec_lib.evaluate.ranking import _seen_pairs, gather_histories, rank_split
from seqrec_lib.models.sasrec import SASRec

BEAUTY_ID = "amazon-2023-beauty-and-personal-care"
BEAUTY = {"users": 750_835, "items": 211_452, "interactions": 6_860_060}  # the paper's Table 4
ROWS = 256  # users at a time, in encoding and in the rivals
TOP = 20
Method = Callable[[SASRec, Sequences, Histories, Tensor], tuple[np.ndarray, np.ndarray]]


class Encoded:
    """A recommender whose histories are encoded already: it hands out their scores in the order of ranking."""

    max_length = 1  # nothing is read of a history any more

    def __init__(self, model: SASRec, encoded: Tensor) -> None:
        self.model, self.encoded, self.at = model, encoded, 0

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores of the next ``len(items)`` histories."""
        self.at += len(items)
        return self.model.scores(self.encoded[self.at - len(items) : self.at])


@torch.inference_mode()
def encode(model: SASRec, sequences: Sequences, histories: Histories) -> Tensor:
    """(n, d), in the order in which `user_batches` goes through them."""
    items = torch.from_numpy(sequences.items).long()
    rows = []
    for batch in user_batches(histories, ROWS):
        start, stop = (torch.from_numpy(x[batch]) for x in (histories.start, histories.stop))
        rows.append(model.encode(*gather_histories(items, start, stop, model.max_length)))
    return torch.cat(rows)


def by_counting(
    model: SASRec, sequences: Sequences, histories: Histories, encoded: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The library's way."""
    ranks = rank_split(Encoded(model, encoded), sequences, histories)
    return ranks.rank, ranks.masked_rank


def by_sorting(
    model: SASRec, sequences: Sequences, histories: Histories, encoded: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The place of the target among all scores, sorted."""
    return _by_order(model, sequences, histories, encoded, lambda scores: scores.argsort(dim=1, descending=True))


def by_top_k(
    model: SASRec, sequences: Sequences, histories: Histories, encoded: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The place of the target among the best; 0 where it is not one of them."""
    return _by_order(model, sequences, histories, encoded, lambda scores: scores.topk(TOP, dim=1).indices)


@torch.inference_mode()
def _by_order(
    model: SASRec, sequences: Sequences, histories: Histories, encoded: Tensor, order: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    items = torch.from_numpy(sequences.items).long()
    ranks = np.zeros((2, len(histories)), dtype=np.int64)
    at = 0
    for batch in user_batches(histories, ROWS):
        start, stop, targets = (
            torch.from_numpy(x[batch]).long() for x in (histories.start, histories.stop, histories.targets)
        )
        scores = model.scores(encoded[at : at + len(batch)])
        at += len(batch)
        targets = targets.unsqueeze(1)
        ranks[0, batch] = _place(order(scores), targets)
        own = scores.gather(1, targets)
        scores[_seen_pairs(items, start, stop)] = -torch.inf
        ranks[1, batch] = _place(order(scores.scatter_(1, targets, own)), targets)
    return ranks[0], ranks[1]


def _place(order: Tensor, targets: Tensor) -> np.ndarray:
    """1-based column of each target in its row of ``order``; 0 where it is missing."""
    hit = order == targets
    return torch.where(hit.any(1), hit.int().argmax(1) + 1, 0).numpy()


METHODS: dict[str, tuple[str, Method]] = {
    "counting": ("Counting scores above (ours)", by_counting),
    "top-k": (f"Top {TOP} of the scores, twice", by_top_k),
    "sorting": ("Sorting all scores, twice", by_sorting),
}


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of users with the same rank, as far as the other knows it (0: beyond its list).

    >>> agreement(np.array([1, 25, 3]), np.array([1, 0, 4]))
    0.6666666666666666
    """
    return float(np.mean(np.where(theirs == 0, ours > TOP, ours == theirs)))


def simulated(users: int, seed: int = 0, n_items: int = BEAUTY["items"] - 1) -> Sequences:
    """Uniform choices at the size of the paper's Beauty set: its items, its mean length, 5 interactions at least. (The
    paper's count of items has the padding id in it.)"""
    rng = np.random.default_rng(seed)
    mean = BEAUTY["interactions"] / BEAUTY["users"]
    lengths = 4 + rng.geometric(1 / (mean - 4), users)
    return Sequences(
        name="simulated",
        items=rng.integers(1, n_items + 1, lengths.sum(), dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps=np.zeros(lengths.sum(), dtype=np.int64),
        ratings=None,
        titles=("",) * (n_items + 1),
        item_labels=("",) * (n_items + 1),
    )


def first(histories: Histories, users: int) -> Histories:
    """The first so many of them."""
    return Histories(*(x[:users] for x in (histories.start, histories.stop, histories.targets)))


def resident(key: str) -> int | None:
    """Bytes of this process's resident set: now (VmRSS), or its peak since `forget_peak` (VmHWM); None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), None)


def forget_peak() -> None:
    """Let the kernel count the peak of the resident set from now on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Stopwatch:
    """Seconds of a block on both clocks: ``clock["wall"]`` and ``clock["cpu"]``."""

    def __enter__(self) -> dict[str, float]:
        self.clock = {"wall": -time.perf_counter(), "cpu": -time.process_time()}
        return self.clock

    def __exit__(self, *_: object) -> None:
        self.clock["wall"] += time.perf_counter()
        self.clock["cpu"] += time.process_time()


def peak_of_ranking(model: SASRec, sequences: Sequences, histories: Histories) -> int | None:
    """Bytes that encoding and ranking add to the resident set at their peak; right only in a fresh process."""
    forget_peak()
    before = resident("VmRSS")
    rank_split(model, sequences, histories)
    peak = resident("VmHWM")
    return None if before is None or peak is None else peak - before


def measure(
    dataset: str, users: int, few: int, max_length: int, *, rounds: int, threads: int, clock: str
) -> dict[str, Any]:
    """One set of the record. ``users`` are ranked by counting and top-k, ``few`` of them by sorting."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sequences = load(dataset) if dataset == "ml-1m" else simulated(users)
    model = SASRec(sequences.n_items, max_length).eval()
    histories = sequences.split("test")
    peak = peak_of_ranking(model, sequences, first(histories, 2000))
    counts = dict.fromkeys(METHODS, users) | {"sorting": few}
    with Stopwatch() as encoding:
        encoded = encode(model, sequences, first(histories, users))
    ready = {users: encoded, few: encode(model, sequences, first(histories, few))}
    clocks: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    ranks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for number in range(rounds + 1):  # the first round warms up
        for name, count in counts.items():
            with Stopwatch() as taken:
                ranks[name] = METHODS[name][1](model, sequences, first(histories, count), ready[count])
            if number > 0:
                clocks[name].append(taken)
    rows = []
    for name, count in counts.items():
        same = [agreement(ours[:count], theirs) for ours, theirs in zip(ranks["counting"], ranks[name], strict=True)]
        factors = [
            (theirs[clock] / count) / (ours[clock] / users)
            for ours, theirs in zip(clocks["counting"], clocks[name], strict=True)
        ]
        rows.append(
            {
                "name": name,
                "label": METHODS[name][0],
                "users": count,
                "seconds": round(statistics.median(taken[clock] for taken in clocks[name]), 3),
                "ours_times_as_fast": round(statistics.median(factors), 2),
                "agreement": round(min(same), 5),
            }
        )
    return {
        "items": sequences.n_items,
        "max_length": max_length,
        "encode_seconds": round(encoding[clock], 3),
        "peak_memory_bytes": peak,
        "rows": rows,
    }


def apart(dataset: str, users: int, few: int, max_length: int, **how: Any) -> dict[str, Any]:
    """`measure` in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, dataset, users, few, max_length, **how).result()


def main(
    threads: Annotated[int, typer.Option(min=0, help="0: all cores")] = 0,
    clock: Annotated[str, typer.Option(help="wall | cpu: what is reported; cpu needs one thread")] = "wall",
    rounds: Annotated[int, typer.Option(min=1, help="turns of each method")] = 5,
    users: Annotated[int, typer.Option(min=1, help="users in the sample at the large size")] = 10_000,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Rank MovieLens-1M, then a sample at the size of the paper's Beauty set."""
    conditions = Conditions(threads, clock)
    threads = conditions.threads
    movies = load("ml-1m").n_users
    small = apart("ml-1m", movies, movies, 200, rounds=rounds, threads=threads, clock=clock)
    large = apart(BEAUTY_ID, users, max(1, users // 50), 50, rounds=rounds, threads=threads, clock=clock)
    record = conditions.record(
        "ranking_speed",
        setting={"clock": clock, "rounds": rounds, "d_model": 64},
        sets=[
            {"dataset": "ml-1m", "all_users": movies, "goal_seconds": 2.0} | small,
            {"dataset": BEAUTY_ID, "all_users": BEAUTY["users"], "goal_seconds": None} | large,
        ],
    )
    show(record)
    if save:
        keep(record)


def show(record: dict[str, Any]) -> None:
    """The record as tables in the terminal."""
    for part in record["sets"]:
        memory = "" if part["peak_memory_bytes"] is None else f", peak {part['peak_memory_bytes'] / 2**20:.0f} MiB"
        table = Table("method", "users", "s", "us a user", "all users, s", "ours is x", "same ranks")
        table.title = f"{part['dataset']}: {part['items']:,} items{memory}, encoding {part['encode_seconds']:.1f} s"
        for row in part["rows"]:
            each = row["seconds"] / row["users"]
            table.add_row(
                row["name"],
                f"{row['users']:,}",
                f"{row['seconds']:.2f}",
                f"{1e6 * each:,.0f}",
                f"{each * part['all_users']:,.1f}",
                f"{row['ours_times_as_fast']:.1f}",
                f"{row['agreement']:.3%}",
            )
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)

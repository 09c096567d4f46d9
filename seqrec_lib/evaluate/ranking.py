"""Full ranking of a split: every user's target among all items, in bounded memory.

A rank is counted, not sorted: rank = 1 + #{items that score above the target} + #{other items that score the same},
compared in float32. Ties count against the model: a model that gives every item one score ranks last, not first.

Works for anything with ``score(items, lengths) -> (B, V)`` and a ``max_length``: neural models and counting baselines.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seqrec_lib.data.sequences import Histories, Sequences, user_batches
from seqrec_lib.evaluate.metrics import rank_metrics

if TYPE_CHECKING:
    from accelerate import Accelerator

_SCORES_AT_A_TIME = 2**22  # entries of the score matrix held at once: 16 MB
_USERS_AT_A_TIME = 256


class Recommender(Protocol):
    """What can be ranked."""

    @property
    def max_length(self) -> int | None:
        """Items of a history that are read, the latest ones; None: all."""
        ...

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) right-padded int64 ids, (B,) lengths -> (B, V) float32, column 0 = -inf."""
        ...


@dataclass(frozen=True)
class Ranks:
    """Per user, in user order: rank among all items, and among those not in the history. (n_users,) int32 each.

    ``loss``: the mean of -log softmax(scores) at the target, where it was asked for.
    """

    rank: np.ndarray
    masked_rank: np.ndarray
    loss: float | None = None

    def metrics(self) -> dict[str, float]:
        """HT, NDCG, MRR at 5, 10, 20; the same with ``masked_`` in front for the masked ranks."""
        masked = {f"masked_{name}": value for name, value in rank_metrics(self.masked_rank).items()}
        return rank_metrics(self.rank) | masked


def target_ranks(scores: Tensor, targets: Tensor, seen: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Ranks among all items, and among the items that the history does not contain.

    Args:
        scores: (B, V) float32; column 0 is -inf.
        targets: (B,) int64 ids in 1..V-1.
        seen: (rows, items), int64 pairs of a row of ``scores`` and an item of its history, repeats allowed. The target
            stays a candidate even when it is in the history.

    Returns:
        (ranks, masked ranks), (B,) int64 each, from 1; equal when ``seen`` is None.

    Raises:
        ValueError: a score is NaN or +inf, the target's is -inf, or ``scores`` is not float32.

    >>> scores = torch.tensor([[-torch.inf, 3.0, 2.0, 2.0, 1.0]])
    >>> target_ranks(scores, torch.tensor([3]))[0]  # item 1 is above, item 2 ties
    tensor([3])
    >>> target_ranks(scores, torch.tensor([3]), (torch.tensor([0]), torch.tensor([1])))[1]  # item 1 was seen
    tensor([2])
    """
    if scores.dtype != torch.float32:
        raise ValueError(f"scores are compared in float32, got {scores.dtype}")
    check_scores(scores, targets)
    not_below = scores >= scores.gather(1, targets.unsqueeze(1))  # includes the target itself
    ranks = _count(not_below)
    if seen is None:
        return ranks, ranks
    not_below[seen] = False
    not_below.scatter_(1, targets.unsqueeze(1), True)
    return ranks, _count(not_below)


def _count(flags: Tensor) -> Tensor:
    """How many are set in each row. On a CPU NumPy counts bytes many times as fast as PyTorch sums booleans."""
    if flags.device.type != "cpu":
        return flags.sum(1)
    return torch.tensor([np.count_nonzero(row) for row in flags.numpy()], dtype=torch.int64)


def check_scores(scores: Tensor, targets: Tensor) -> None:
    """Refuse what cannot be ranked: -inf is the score of an item that is no candidate, and no other infinity is one.

    Args:
        scores: (B, V). targets: (B,) int64 ids.

    Raises:
        ValueError: a score is NaN or +inf, or the target's is -inf.
    """
    # The largest score of a row is NaN where any is, and +inf where any is.
    extremes = torch.cat([scores.amax(1), scores.gather(1, targets.unsqueeze(1)).squeeze(1)])
    if not bool(torch.isfinite(extremes).all()):
        raise ValueError("the model produced NaN or infinite scores: training has diverged")


def gather_histories(items: Tensor, start: Tensor, stop: Tensor, max_length: int | None) -> tuple[Tensor, Tensor]:
    """The last ``max_length`` items of each history: (B, L) right-padded with 0, and lengths (B,)."""
    if max_length is not None:
        start = torch.maximum(start, stop - max_length)
    lengths = stop - start
    index = start.unsqueeze(1) + torch.arange(int(lengths.max()), device=items.device)
    inside = index < stop.unsqueeze(1)
    return torch.where(inside, items[index.clamp(max=len(items) - 1)], 0), lengths


def _seen_pairs(items: Tensor, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """(row, item) for every item of every history, whatever its length."""
    lengths = stop - start
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=items.device), lengths)
    shift = stop - lengths.cumsum(
        0
    )  # of a history's places, from where the pairs have them to where ``items`` has them
    return rows, items[torch.arange(len(rows), device=items.device) + shift[rows]]


@torch.inference_mode()
def rank_split(
    model: Recommender,
    sequences: Sequences,
    histories: Histories,
    *,
    device: torch.device | str = "cpu",
    loss: bool = False,
    processes: Accelerator | None = None,
) -> Ranks:
    """Rank every target of ``histories`` among all items; with ``loss``, its cross-entropy as well.

    Memory beyond the data: one batch of at most 256 users and about 4 million scores (but at least one user's).
    With ``processes`` each ranks a share of the users, and all of them have all ranks at the end.

    Raises:
        ValueError: a score is NaN or +inf, or a target's is -inf.
    """
    items = torch.from_numpy(sequences.items).to(device=device, dtype=torch.int64)
    size = max(1, min(_USERS_AT_A_TIME, _SCORES_AT_A_TIME // (sequences.n_items + 1)))
    ranks = np.zeros((2, len(histories)), dtype=np.int32)
    total = torch.zeros((), dtype=torch.float64, device=device)
    first, step = (processes.process_index, processes.num_processes) if processes is not None else (0, 1)
    for batch in islice(user_batches(histories, size), first, None, step):
        start, stop, targets = (
            torch.from_numpy(x[batch]).to(device=device, dtype=torch.int64)
            for x in (histories.start, histories.stop, histories.targets)
        )
        scores = model.score(*gather_histories(items, start, stop, model.max_length))
        plain, masked = target_ranks(scores, targets, _seen_pairs(items, start, stop))
        ranks[:, batch] = plain.cpu().numpy(), masked.cpu().numpy()
        if loss:
            total += F.cross_entropy(scores, targets, reduction="sum").double()
    if processes is not None and step > 1:
        ranks = processes.reduce(torch.from_numpy(ranks).to(device), "sum").cpu().numpy()
        total = processes.reduce(total, "sum")
    return Ranks(ranks[0], ranks[1], float(total) / len(histories) if loss else None)

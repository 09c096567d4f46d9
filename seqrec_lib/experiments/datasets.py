"""What a data set is like: Table 4's counts, how long histories are, how popularity is spread, how often time ties.

One run describes one data set. Its record holds numbers only, never a title or a row of the data: counts
and shares as metrics, the distribution of lengths and of popularity as two small tables.

Tables:
    lengths: ``from``, ``to`` (a bin of history lengths, both ends included), ``users``
    popularity: ``rank_share`` (the most popular share of the items), ``interaction_share`` (their share
    of interactions)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.validation import Names, plans

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "datasets"
BINS = 24
GOLDEN: dict[str, dict[str, Any]] = {
    "formats": {
        "datasets": [
            "ml-latest-small", "ml-1m", "ml-100k", "amazon-2014-beauty", "amazon-2018-video-games",
            "amazon-2023-video-games",
        ]
    },
    "other-formats": {"datasets": ["amazon-2014-beauty", "amazon-2018-video-games", "amazon-2023-video-games"]},
    "simulated": {"datasets": ["demo"]},
}  # fmt: skip
RANK_SHARES = (*np.round(np.arange(0.0, 0.1, 0.005), 3).tolist(), *np.round(np.arange(0.1, 1.001, 0.02), 2).tolist())


@dataclass(frozen=True)
class Config:
    """dataset: its name in the registry."""

    dataset: str


def revision(config: Config) -> int:
    """Raised for the configurations whose results a change alters."""
    return 1


@plans(dataset=str, datasets=Names)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """One run for each name in ``parameters["datasets"]`` (or for the one in ``parameters["dataset"]``).

    Raises SeqRecError for an unknown data set.
    """
    from seqrec_lib.data import registry

    names: Sequence[str] = parameters["datasets"] if "datasets" in parameters else [parameters["dataset"]]
    return [Config(registry.get(name).name) for name in names]


def run(config: Config, context: Context) -> Outcome:
    """Load the data set and describe it."""
    from seqrec_lib.data import load, registry, statistics

    sequences = load(config.dataset, progress=context.progress)
    numbers = statistics(sequences)
    del numbers["split_hash"]
    verified = registry.verification(sequences) == "verified"
    quantiles = {f"length_{name}": value for name, value in numbers.pop("length_quantiles").items()}
    return Outcome(
        dataset=sequences.description() | {"verified": verified},
        metrics={key: float(value) if isinstance(value, bool) else value for key, value in numbers.items()} | quantiles,
        tables={
            "lengths": length_histogram(sequences.lengths),
            "popularity": popularity_curve(np.bincount(sequences.items, minlength=sequences.n_items + 1)[1:]),
        },
    )


def length_histogram(lengths: np.ndarray, bins: int = BINS) -> pa.Table:
    """Users per history length, in at most ``bins`` bins of equal width on a log scale."""
    import pyarrow as pa

    shortest, longest = int(lengths.min()), int(lengths.max())
    starts = np.unique(np.rint(np.geomspace(shortest, longest + 1, bins + 1)).astype(np.int64))
    users, _ = np.histogram(lengths, bins=starts)
    return pa.table({"from": starts[:-1], "to": starts[1:] - 1, "users": users.astype(np.int64)})


def popularity_curve(counts: np.ndarray) -> pa.Table:
    """The share of interactions that the most popular share of items has, from (0, 0) to (1, 1).

    The top share of n items is its first ``rint(share * n)`` items by falling count.
    """
    import pyarrow as pa

    falling = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])])
    ranks = np.rint(np.array(RANK_SHARES) * len(counts)).astype(np.int64)
    return pa.table({"rank_share": np.array(RANK_SHARES), "interaction_share": falling[ranks] / falling[-1]})

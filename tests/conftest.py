"""Fixtures that several test modules share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.results import RunStore


def make_sequences(histories: list[list[int]], n_items: int, name: str = "tiny") -> Sequences:
    """Sequences from lists of item ids (1..n_items), one list per user."""
    lengths = [len(history) for history in histories]
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return Sequences(
        name=name,
        items=items,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps=np.arange(len(items), dtype=np.int64),
        ratings=None,
        titles=("", *(f"Title {i}" for i in range(1, n_items + 1))),
        item_labels=("", *(str(i) for i in range(1, n_items + 1))),
    )


def random_sequences(seed: int, n_users: int = 30, n_items: int = 20, longest: int = 25) -> Sequences:
    """Users with 3..longest items each, drawn uniformly."""
    rng = np.random.default_rng(seed)
    histories = [rng.integers(1, n_items + 1, rng.integers(3, longest + 1)).tolist() for _ in range(n_users)]
    return make_sequences(histories, n_items)


@pytest.fixture
def sequences() -> Sequences:
    return random_sequences(0)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """An empty store of the test's own."""
    return RunStore(tmp_path / "new", tmp_path / "published")


@pytest.fixture(autouse=True)
def rate_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch begins with a measurement of what it is held against, which takes longer than the epochs of tests.

    Only where it is loaded: a test that trains nothing loads no torch for this.
    """
    for name in ("seqrec_lib.train.loop", "seqrec_lib.language.ranker_training"):
        if name in sys.modules:
            monkeypatch.setattr(sys.modules[name], "matmul_rate", lambda device, dtype=None: 1e11, raising=False)


@pytest.fixture(autouse=True)
def splits_of_the_data_here() -> Iterator[None]:
    """What is remembered of the installed data goes with each test: some of them put other data in their place."""
    yield
    if (dependencies := sys.modules.get("seqrec_lib.experiments.dependencies")) is not None:
        dependencies._split_of.cache_clear()

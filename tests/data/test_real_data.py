"""The real data sets, where they are on disk: counts, split hash, and (ML-1M) the order within ties."""

from __future__ import annotations

import pytest

from seqrec_lib.data import load
from seqrec_lib.data.download import locate
from seqrec_lib.data.registry import DATASETS, get, verification

REAL = [name for name, spec in DATASETS.items() if name != "demo" and spec.split_hash is not None]


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_counts_and_split_hash(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path))
    if locate(get(name)) is None:
        pytest.skip(f"data set {name!r} not found; set SEQREC_DATA")
    sequences = load(name, cache=False)
    assert (sequences.n_users, sequences.n_items, sequences.n_interactions) == get(name).counts
    assert verification(sequences) == "verified"
    assert all(sequences.titles[1:])
    assert sum(sequences.lengths) == sequences.n_interactions

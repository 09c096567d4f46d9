"""The list of data sets: every entry complete, unknown names helped along, identity by split hash."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from seqrec_lib.data.registry import DATASETS, base_name, get, verification
from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError

NAMES = {
    "demo",
    "ml-100k",
    "ml-1m",
    "ml-latest-small",
    "amazon-2014-beauty",
    "amazon-2018-video-games",
    "amazon-2023-video-games",
    "amazon-2023-beauty-and-personal-care",
}
OTHER_ORDERS = {
    f"{movies}-{order}"
    for movies in ("ml-100k", "ml-1m")
    for order in ("recbole", "ties-item-id", "ties-random-0", "ties-random-1", "ties-random-2", "file-order")
} | {"amazon-2023-video-games-recbole", "amazon-2023-beauty-and-personal-care-recbole"}


def test_the_study_s_data_sets_are_all_here():
    assert set(DATASETS) == NAMES | OTHER_ORDERS
    assert all(spec.name == name for name, spec in DATASETS.items())


def test_another_order_of_time_is_another_data_set_from_the_same_files():
    for name in OTHER_ORDERS:
        spec = get(name)
        assert spec.base is not None
        base = get(spec.base)
        assert name == f"{base.name}-{spec.order}"
        assert (spec.sources, spec.folder, spec.folders) == (base.sources, base.name, base.folders)
        assert (spec.counts, spec.k, spec.drop_untitled) == (base.counts, base.k, base.drop_untitled)
    hashes = [spec.split_hash for spec in DATASETS.values() if spec.split_hash]
    assert len(hashes) == len(set(hashes))
    assert {name: base_name(name) for name in NAMES} == {name: name for name in NAMES}
    assert all(get(name).order == "true" and get(name).base is None for name in NAMES)


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"demo"}))
def test_entries_are_complete(name):
    spec = get(name)
    assert spec.title
    assert spec.licence
    assert spec.citation
    assert spec.homepage.startswith("https://")
    assert any(source.downloads for source in spec.sources)
    for source in spec.sources:
        assert set(source.files) == {"ratings", "titles"}
        for file in source.downloads:
            assert file.url.startswith("https://")
            known = "md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}"
            assert file.checksum is None or re.fullmatch(known, file.checksum)
    assert spec.split_hash is None or re.fullmatch("[0-9a-f]{64}", spec.split_hash)


def test_the_paper_s_counts_are_ours_plus_one_padding_id():
    # Table 4 of the paper
    printed = {
        "Beauty and P.C.": (750_835, 211_452, 6_860_059),
        "MovieLens-1M": (6_041, 3_417, 999_611),
        "Video Games": (98_907, 26_355, 857_505),
    }
    ours = {spec.paper: spec.counts for spec in DATASETS.values() if spec.paper}
    assert ours.keys() == printed.keys()
    for name, counts in ours.items():
        assert (counts[0] + 1, counts[1] + 1, counts[2]) == printed[name]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("ml-1M", "ml-1m"), ("ml_100k", "ml-100k"), ("amazon-2023-games", "amazon-2023-video-games"), ("Demo", "demo")],
)
def test_an_unknown_name_gets_close_matches(typed, meant):
    with pytest.raises(SeqRecError) as caught:
        get(typed)
    message = str(caught.value)
    assert message.startswith(f"unknown data set {typed!r}; did you mean ")
    assert meant in message


def test_a_name_like_none_gets_the_whole_list():
    with pytest.raises(SeqRecError, match="known ones: demo, ml-100k, ml-1m"):
        get("netflix?!")


def test_verification_compares_split_hashes(monkeypatch):
    items = np.array([1, 2, 1], dtype=np.int32)
    times, offsets = items.astype(np.int64), np.array([0, 3])
    mine = Sequences("ml-1m", items, offsets, times, None, ("", "a", "b"), ("", "1", "2"))
    assert verification(mine) == "unverified"
    monkeypatch.setitem(DATASETS, "ml-1m", replace(get("ml-1m"), split_hash=mine.split_hash))
    assert verification(mine) == "verified"
    monkeypatch.setitem(DATASETS, "ml-1m", replace(get("ml-1m"), split_hash=None))
    assert verification(mine) == "unverified"
    assert verification(replace(mine, name="unknown")) == "unverified"

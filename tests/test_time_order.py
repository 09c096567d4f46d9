"""The script that asks RecBole for its order, and SASRec's published file, whose ids follow Python 2's dictionaries."""

from __future__ import annotations

import json
import sys
from hashlib import sha1
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import time_order
from benchmarks.conditions import RESULTS
from benchmarks.sasrec_file import PUBLISHED, git_blob, python2_order, sasrec_file
from seqrec_lib.data.download import locate
from seqrec_lib.data.interactions import Interactions, Labels, to_sequences
from seqrec_lib.data.registry import get

# What Python 2.7.18 itself lists for {"1": 0, "2": 0, ...}.keys(): the first, and sha1 of all with blanks between them.
PYTHON_2 = {
    12: ("11", "5b96f4a39928d4b2bb1c14084e627ecc5e69c08e"),
    6040: ("5988", "ab109b5c265651d10dcf3b2932efaf0e96a2d30d"),
    60_000: ("50088", "bb9780d46a41b8aa603d3a4648bebdb465b3a959"),
}


@pytest.mark.parametrize("n", PYTHON_2)
def test_a_dictionary_of_python_2_lists_its_keys_so(n: int) -> None:
    keys = python2_order([str(number) for number in range(1, n + 1)])
    assert (keys[0], sha1(" ".join(keys).encode()).hexdigest()) == PYTHON_2[n]


def test_the_file_numbers_items_as_they_come_up_among_the_users_in_that_order() -> None:
    # "2" is listed after "1" and "3": see the doctest of python2_order
    assert sasrec_file({"1": ["7", "5"], "2": ["6", "5"], "3": ["5", "8"]}) == b"1 1\n1 2\n2 2\n2 3\n3 4\n3 2\n"


def test_a_blob_is_named_as_git_names_it() -> None:
    assert git_blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git hash-object of an empty file


@pytest.mark.data
def test_the_true_order_gives_the_file_that_sasrecs_authors_published() -> None:
    if locate(get("ml-1m")) is None:
        pytest.skip("data set 'ml-1m' not found; set SEQREC_DATA")
    assert time_order.rebuilt_file() == PUBLISHED


ROWS = Interactions(np.array([3, 1, 3, 1, 3, 1]), np.array([9, 9, 8, 8, 7, 7]), np.array([5, 4, 6, 3, 6, 2]), None, {})


def test_raw_rows_go_to_recbole_as_they_come(tmp_path: Path) -> None:
    path = time_order.export(ROWS, tmp_path)
    assert path == tmp_path / "ratings/ratings.inter"
    header, *lines = path.read_text().splitlines()
    assert header == "user_id:token\titem_id:token\ttimestamp:float"
    assert lines == ["3\t9\t5", "1\t9\t4", "3\t8\t6", "1\t8\t3", "3\t7\t6", "1\t7\t2"]


def test_what_recbole_says_becomes_sequences_by_our_ids() -> None:
    theirs = time_order.as_sequences(["3", "3", "3", "1", "1", "1"], ["9", "8", "7", "7", "8", "9"], ROWS)
    assert theirs.split_hash == to_sequences("x", ROWS).split_hash
    assert theirs.items.tolist() == [1, 2, 3, 3, 2, 1]


def test_ids_may_be_text(tmp_path: Path) -> None:
    names = pa.array(["A", "B", "X", "Y", "Z"], pa.large_string())
    users, items = (Labels(np.array(codes), names) for codes in ([1, 0, 1, 0, 1, 0], [4, 4, 3, 3, 2, 2]))
    rows = Interactions(users, items, ROWS.timestamps, None, {})
    lines = time_order.export(rows, tmp_path).read_text().splitlines()
    assert lines[1:3] == ["B\tZ\t5", "A\tZ\t4"]
    theirs = time_order.as_sequences(["B", "B", "B", "A", "A", "A"], ["Z", "Y", "X", "X", "Y", "Z"], rows)
    assert theirs.split_hash == to_sequences("x", rows).split_hash


def test_a_worker_that_fails_ends_the_benchmark_with_what_it_said(tmp_path: Path) -> None:
    path = time_order.export(ROWS, tmp_path)
    with pytest.raises(SystemExit, match=r"RecBole's process ended with 1(.|\n)*No module named 'recbole'"):
        time_order.recbole_histories(Path(sys.executable), path, tmp_path)


@pytest.mark.parametrize("row", json.loads((RESULTS / "time_order.json").read_text())["recbole"])
def test_the_record_says_that_recboles_defaults_give_the_registered_order(row: dict) -> None:
    differing = row["differences"]["recbole"]
    defaults = row["settings"] == "RecBole's defaults"
    assert row["as_registered"] == (row["split_sha256"] == get(f"{row['dataset']}-recbole").split_hash) == defaults
    assert (differing["positions"] == 0) == defaults

"""A reader's own file: columns and units are found or asked for, and whatever is wrong with it is one clear line."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqrec_lib.data import DATASETS, files, get, load, own, read, tables
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.own_table import Reading, find_columns, layout
from seqrec_lib.data.tables import BadLines
from seqrec_lib.data.times import Clock
from seqrec_lib.errors import SeqRecError
from tests.data.own_files import START, file, lines, rows

__all__ = ["file"]  # a fixture


# ---- what is read ----------------------------------------------------------------------------------------------


def test_a_csv_file_is_a_data_set(file):
    name = own.resolve(file(lines()))
    assert own.is_own(name) and name.startswith("file-mine-") and name not in DATASETS
    sequences = load(name)
    assert (sequences.n_users, sequences.n_items, sequences.n_interactions) == (30, 24, 240)
    assert (get(name).title, sequences.name) == ("mine.csv", name)
    facts = own.facts(name)
    assert facts["columns"] == {"user": "user", "item": "item", "timestamp": "timestamp"}
    assert (facts["unit"], facts["first"], facts["in_order"], facts["skipped"]) == ("s", "2020-09-13 12:26:40", True, 0)
    assert facts["rounds"] == [[240, 30, 24]]


def test_no_name_of_the_registry_is_that_of_a_readers_file():
    assert not any(name.startswith(own.PREFIX) or own.is_own(name) for name in DATASETS)


def test_the_id_is_that_of_the_content_and_the_options(file, tmp_path):
    name = own.resolve(file(lines()))
    assert own.resolve(file(lines(), "elsewhere/../mine.csv".replace("elsewhere/../", ""))) == name
    assert own.resolve(f"file:{tmp_path}/mine.csv") == name
    assert own.resolve("file:mine.csv?lenient=1") != name
    assert own.resolve("file:mine.csv?rating=") != name
    assert own.resolve(file(lines(entries=rows(31)))) != name


def test_a_file_that_has_changed_is_not_read_as_the_old_one(file):
    name = own.resolve(file(lines()))
    load(name)
    file(lines(entries=rows(31)))
    with pytest.raises(SeqRecError, match=r"mine\.csv has changed since it was named"):
        load(name)


@pytest.mark.parametrize(
    ("header", "query"),
    [
        ("userId,movieId,timestamp", ""),
        ("user_id,parent_asin,date", ""),
        ("user_id:token,item_id:token,timestamp:float", ""),
        ("USER ID,Item-Id,Time", ""),
        ("reviewerID,asin,unixReviewTime", ""),
        ("who,what,when", "?user=who&item=what&timestamp=when"),
        ("who is it,what,when&where", "?user=who%20is%20it&item=what&timestamp=when%26where"),
        (" user , item , timestamp ", ""),
        ('"user","item","timestamp"', ""),
        ("\ufeffuser,item,timestamp", ""),
    ],
)
def test_columns_are_found_by_usual_names_or_given(file, header, query):
    assert load(own.resolve(file(lines(header), query=query))).n_users == 30


@pytest.mark.parametrize(("sign", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("|", "a.txt")])
def test_other_separators_are_found_and_cells_may_be_quoted(file, sign, name):
    content = [line.replace(",", sign) for line in lines('"user","item","timestamp"')]
    content[1] = f'"u{sign}""0"""{sign}i0{sign}{START}'
    interactions = read(own.resolve(file(content, name)))
    assert interactions.users.tolist()[0] == f'u{sign}"0"' and len(interactions) == 240


def test_gzip_and_windows_line_ends(file):
    plain = read(own.resolve(file(lines())))
    zipped = read(own.resolve(file(gzip.compress("\r\n".join(lines()).encode()), "mine.csv.gz")))
    assert zipped.users.tolist() == plain.users.tolist() and zipped.timestamps.tolist() == plain.timestamps.tolist()


def _dates(form: str) -> list[tuple[str, str, str]]:
    return [(u, i, dt.datetime.fromtimestamp(t, dt.UTC).strftime(form)) for u, i, t in rows()]


@pytest.mark.parametrize(
    ("entries", "unit", "factor"),
    [
        (rows(), "s", 1),
        ([(u, i, t * 10**3) for u, i, t in rows()], "ms", 10**3),
        ([(u, i, t * 10**6) for u, i, t in rows()], "us", 10**6),
        ([(u, i, t * 10**9) for u, i, t in rows()], "ns", 10**9),
        ([(u, i, f"{t}.0") for u, i, t in rows()], "s", 1),
        ([(u, i, f"{t}.5") for u, i, t in rows()], "us", 10**6),
        ([(u, i, f"{t}.{n % 2}") for n, (u, i, t) in enumerate(rows())], "us", 10**6),
        (_dates("%Y-%m-%d %H:%M:%S"), "s", 1),
        (_dates("%Y-%m-%dT%H:%M:%SZ"), "s", 1),
        (_dates("%Y-%m-%dT%H:%M:%S.250000+00:00"), "us", 10**6),
    ],
)
def test_the_unit_of_timestamps_is_found(file, entries, unit, factor):
    name = own.resolve(file(lines(entries=entries)))
    times = read(name).timestamps
    assert own.facts(name)["unit"] == unit
    assert (times // factor).tolist() == [time for *_, time in rows()]


def test_numbers_that_are_no_times_are_read_when_that_is_said(file):
    entries = [(u, i, n) for n, (u, i, _) in enumerate(rows())]
    name = own.resolve(file(lines(entries=entries), query="?unit=order"))
    assert read(name).timestamps.tolist() == list(range(240)) and own.facts(name)["last"] == "239"


@pytest.mark.parametrize("header", ["user,item,timestamp", "user,item,note"])
def test_the_order_of_the_file_is_the_order_of_time_when_that_is_said(file, header):
    entries = [(u, i, START) for u, i, _ in reversed(rows())]  # one time for all, and the rows in another order
    if "note" in header:
        with pytest.raises(SeqRecError, match=r"name of the timestamp; .*, or say timestamp= where the file's rows"):
            own.resolve(file(lines(header, entries)))
    name = own.resolve(file(lines(header, entries), query="?timestamp="))
    data, facts = load(name), own.facts(name)
    assert read(name).timestamps.tolist() == list(range(1, 241))
    first = data.item_labels[data.items[0]]
    assert first == next(i for u, i, _ in entries if u == "u0")
    assert (facts["form"], facts["unit"], facts["last"], facts["in_order"]) == ("row number", "order", "240", True)
    assert "timestamp" not in facts["columns"] and facts["ties"] == [0.0, 0.0]


def test_ids_are_any_text_and_numbers_keep_their_order(file):
    numbers = [(u[1:], i[1:], t) for u, i, t in rows()]
    assert load(own.resolve(file(lines(entries=numbers)))).item_labels[1:4] == ("0", "1", "2")
    zeros = [(u, f"0{i}", t) for u, i, t in numbers]
    assert load(own.resolve(file(lines(entries=zeros)))).item_labels[1:4] == ("00", "01", "010")
    odd = [(f" {u}\u00e9\u2028\x1b[31m ", i, t) for u, i, t in rows()]
    assert read(own.resolve(file(lines(entries=odd)))).users.tolist()[0] == "u0\u00e9\u2028\x1b[31m"


def test_parquet_gives_what_csv_gives(file, tmp_path):
    entries = rows()
    plain = load(own.resolve(file(lines(entries=entries))))
    users, items, times = map(list, zip(*entries, strict=True))
    for column in (
        pa.array(times, pa.int64()),
        pa.array(np.array(times, "datetime64[s]")).cast(pa.timestamp("ns")),
        pa.array(np.array(times, "datetime64[s]")).cast(pa.timestamp("us", "Europe/Berlin")),
        pa.array([float(time) for time in times]),
    ):
        table = pa.table({"user_id": pa.array(users).dictionary_encode(), "item": items, "timestamp": column})
        pq.write_table(table, tmp_path / "mine.parquet")
        sequences = load(own.resolve("file:mine.parquet"))
        assert sequences.split_hash == plain.split_hash, column.type
        assert sequences.timestamps.tolist() == plain.timestamps.tolist()


def test_titles_stand_in_the_file_or_in_one_of_their_own(file):
    entries = [(u, i, f"{t},Film {i}, ") for u, i, t in rows()]
    inside = lines("user,item,timestamp,title,other", entries)
    assert load(own.resolve(file(inside))).titles[1] == "Film i0"
    own_titles = ["id,title", *(f"i{n},Film i{n}" for n in range(24))]
    file(["item,title", *own_titles[1:]], "titles.csv")
    name = own.resolve(file(lines(), query="?titles=titles.csv"))
    assert load(name).titles[1] == "Film i0" and own.facts(name)["titled"] == 24


def test_titles_may_be_in_windows_letters(file):
    file("item;title\ni0;Am\u00e9lie\n".encode("cp1252"), "titles.csv")
    sequences = load(own.resolve(file(lines(), query="?titles=titles.csv")))
    assert sequences.titles[sequences.item_labels.index("i0")] == "Am\u00e9lie"


def test_repeats_and_duplicates_are_counted_and_kept(file):
    entries = [*rows(), ("u0", "i0", START), ("u0", "i0", START + 10**6)]
    name = own.resolve(file(lines(entries=entries)))
    assert len(read(name)) == 242
    assert (own.facts(name)["repeated"], own.facts(name)["duplicates"]) == (2, 1)


# ---- one grammar -----------------------------------------------------------------------------------------------

cells = st.sampled_from(
    ["", " ", "a", "7", "007", '"', '"a"', '"a,b"', 'a"b', "\u00e9", "\ufeff", "x\ty", "\r", "null"]
)
times = st.sampled_from(
    [
        *(f"{START}{end}" for end in ("", ".0", ".5", "000")),
        *(f"{begin}{START}" for begin in (" ", "0", "-")),
        *("1e9", "0x1F", "", "nan", "20200101", "\uff11600000000", "9" * 25),
        *("2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01 00:00:00", "2020-W01-1"),
    ]
)


def _outcome(path: Path, lenient: bool) -> object:
    raw = RawFile(path)
    bad = BadLines(not lenient)
    try:
        reading = Reading(raw, layout(raw, {}), Clock(), bad)
        found = reading.read()
    except SeqRecError as error:
        return str(error)
    return (
        list(map(str, found.users.tolist())),
        list(map(str, found.items.tolist())),
        found.timestamps.tolist(),
        reading.clock.unit,
        bad.first,
    )


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.tuples(cells, cells, times), max_size=6),
    lenient=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
@example(lines=[("", "", str(START)), ("", '"', str(START)), ("a", "a", str(START))], lenient=True, end="\n")
def test_blocks_and_single_lines_are_read_alike(tmp_path_factory, lines, lenient, end):
    path = tmp_path_factory.mktemp("alike") / "a.csv"
    content = [f"u,i,{START + 1}", *(",".join(line) for line in lines)]
    path.write_bytes(end.join(["user,item,timestamp", *content]).encode())
    with mock.patch.object(tables, "split_block", mock.Mock(side_effect=ValueError("line by line"))):
        slow = _outcome(path, lenient)
    assert _outcome(path, lenient) == slow
    with mock.patch.object(files.RawFile.blocks, "__defaults__", (64,)):  # many small blocks
        small = _outcome(path, lenient)
    if isinstance(slow, tuple):
        assert small == slow


def test_facts_are_plain_json(file, tmp_path):
    name = own.resolve(file(lines()))
    load(name)
    assert json.loads((tmp_path / "cache" / "own" / f"{name}.facts.json").read_text()) == own.facts(name)


def test_an_optional_column_may_be_left_out():
    names = ["user", "item", "timestamp", "rating", "score"]
    with pytest.raises(SeqRecError, match=r"rating=rating or rating=score, or rating= for none"):
        find_columns("a.csv", names, {})
    assert "rating" not in find_columns("a.csv", names, {"rating": ""})

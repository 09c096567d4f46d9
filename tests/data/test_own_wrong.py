"""Whatever is wrong with a reader's own file is one clear line: the file, the line, its content, and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqrec_lib.data import get, load, own, own_table
from seqrec_lib.errors import SeqRecError
from tests.data.own_files import START, file, lines, refused, rows

__all__ = ["file"]  # a fixture


GOOD = lines()
WRONG = {  # one file for each way to be wrong: (content, what the line says)
    "an empty file": (b"", ["mine.csv", "line 1 is empty"]),
    "a header alone": ([GOOD[0]], ["no row below its header"]),
    "no header": (
        GOOD[1:],
        ["no column among 'u0, i0, 1600000000'", "user", "--columns user=NAME", "write a first line that names"],
    ),
    "a user column that is called otherwise": (
        lines("who,item,timestamp"),
        ["no column", "who", "--columns user=NAME"],
    ),
    "two columns for the item": (
        ["user,asin,timestamp,parent_asin", *(f"{line},x" for line in GOOD[1:])],
        ["2 columns may be the item", "item=asin or item=parent_asin"],
    ),
    "two columns of one name": (lines("user,item,timestamp,item"), ["2 columns 'item'"]),
    "a line cut short": (
        [*GOOD[:7], "u1,i3", *GOOD[7:]],
        ["mine.csv, line 8: 2 fields, not 3, in 'u1,i3'", "--lenient"],
    ),
    "an empty user": ([*GOOD[:9], f",i3,{START}"], ["mine.csv, line 10: an empty user in ',i3,1600000000'"]),
    "a time that is no time": ([*GOOD[:4], "u1,i3,yesterday"], ["line 5", "'yesterday'", "neither a whole number nor"]),
    "an ambiguous date": (
        lines(entries=[(u, i, "03/04/2021") for u, i, _ in rows()]),
        ["line 2", "'03/04/2021'", "ISO 8601, such as 2024-01-31"],
    ),
    "a date as a number": (
        lines(entries=[(u, i, 20240131) for u, i, _ in rows()]),
        ["line 2", "'20240131' is no time from 1980 to 2100 in any of s, ms, us, ns", "unit=s", "unit=order"],
    ),
    "two units": (
        [*GOOD, f"u1,i3,{START}000"],
        ["line 242", f"'{START}000' is no time", "in s, the unit of other lines", "say by --columns unit=s"],
    ),
    "dates among numbers": (
        [*GOOD, "u1,i3,2020-01-01"],
        ["line 242", "'2020-01-01' is no number, as other lines have"],
    ),
    "time zones here and there": (
        lines(entries=[("u", "i", "2020-01-01T00:00:00Z"), ("u", "i", "2020-01-02T00:00:00")]),
        ["line 3", "lacks the time zone of others"],
    ),
    "a rating that is a word": (
        ["user,item,timestamp,rating", *(f"{line},5" for line in GOOD[1:]), f"u1,i3,{START},good"],
        ["line 242", "rating 'good' is not a number", "--columns rating= leaves"],
    ),
    "letters of Windows": (
        b"user,item,timestamp\nu\xe9,i1,1600000000\n",
        ["line 2: text that is not UTF-8", r"\xe9", "save the file as UTF-8"],
    ),
    "UTF-16": ("\n".join(GOOD).encode("utf-16"), ["as UTF-16 does"]),
    "a spreadsheet": (b"PK\x03\x04" + bytes(100), ["a zip archive or a spreadsheet"]),
    "an old spreadsheet": (b"\xd0\xcf\x11\xe0" + bytes(100), ["a zip archive or a spreadsheet"]),
    "JSON": (b'[\n  {"user": "u1", "item": "i1", "timestamp": 1}\n]', ["mine.csv is JSON", "save its table as csv"]),
    "JSON lines": (b'{"user": "u1", "item": "i1", "timestamp": 1}\n', ["mine.csv is JSON"]),
    "a page instead of a file": (b"\n<!DOCTYPE html><html>not found</html>", ["mine.csv is HTML or XML"]),
    "line ends of old": ("\r".join(GOOD).encode(), ["line 1: a carriage return in the midst", "line ends of Unix"]),
    "a comment above the header": (["# exported", *GOOD], ["'# exported'", "or write a first line that names"]),
    "a spreadsheet's note of the separator": (["sep=,", *GOOD], ["among 'sep=, '", "write a first line that names"]),
    "a zero byte": ([*GOOD[:4], f"u1,i\0,{START}", *GOOD[4:]], ["line 5: a zero byte in", r"i\x00"]),
    "one time for all": (
        lines(entries=[(u, i, START) for u, i, _ in rows()]),
        ["all 240 rows have the time 2020-09-13 12:26:40", "timestamp=NAME", "or say --columns timestamp= where"],
    ),
    "a line break in a cell": (
        ["user,item,timestamp,title", f'u1,i1,{START},"One', 'and two"'],
        ["line 2: a quote that does not enclose a whole field of its line in"],
    ),
    "damaged gzip": (gzip.compress("\n".join(GOOD).encode())[:-9], ["is damaged", "put a sound copy in its place"]),
    "damaged Parquet": (b"PAR1" + bytes(200), ["no sound Parquet file"]),
    "zero bytes": (b"user,item,timestamp\0\n" + b"\n".join(line.encode() for line in GOOD[1:]), ["zero bytes"]),
    "a quote that does not close": (
        [*GOOD[:5], f'"u1,i3,{START}'],
        ["line 6: a quote that does not enclose a whole field"],
    ),
    "two separators": (["user,item;timestamp", *GOOD[1:]], ["comma and semicolon may", "separator=comma or"]),
    "no separator": (["user item timestamp", "u1 i1 1600000000"], ["none of comma, semicolon, tab, pipe does"]),
    "too few interactions": (
        lines(entries=rows(6, 6, 30)),
        ["after 5-core filtering", "36 of 6 users and 21 items; 0 of 0 users"],
    ),
    "too few users": (lines(entries=rows(8, 30, 24)), ["fewer than 20 users or items are left", "of 8 users"]),
    "a number past 64 bits": ([*GOOD, f"u1,i3,{'9' * 30}"], ["line 242"]),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_file_that_is_wrong_in_one_way_gets_one_line_that_says_so(file, way):
    content, parts = WRONG[way]
    message = refused(file(content))
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("?user=who", ["unknown column of the user 'who'", "known are user, item, timestamp"]),
        ("?usr=user", ["unknown option 'usr'; did you mean 'user'"]),
        ("?user", ["'user' has no value"]),
        ("?user=user&user=item", ["'user' comes twice"]),
        ("?user=item&item=item", ["'item' is given for user and item"]),
        ("?unit=days", ["unknown unit 'days'"]),
        ("?separator=x", ["unknown separator 'x'"]),
        ("?lenient=maybe", ["unknown lenient 'maybe'"]),
        ("?user=", ["unknown column of the user ''"]),
        ("?timestamp=&unit=ms", ["timestamp= reads no times, unit=ms says how to"]),
        ("?titles=none.csv", ["file 'none.csv' is not in"]),
    ],
)
def test_an_option_that_cannot_be_meant_is_one_line(file, query, parts):
    message = refused(file(GOOD, query=query))
    for part in parts:
        assert part in message, message


def test_a_file_that_is_not_there_a_folder_and_a_gzipped_parquet_file(file, tmp_path):
    assert "file 'none.csv' is not in" in refused("file:none.csv")
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refused("file:folder")
    pq.write_table(pa.table({"user": ["a"]}), tmp_path / "t.parquet")
    file(gzip.compress((tmp_path / "t.parquet").read_bytes()), "mine.parquet.gz")
    assert "gzipped Parquet" in refused("file:mine.parquet.gz")


TITLES = {  # a file of titles for each way to be wrong: (content, what the line says)
    "other ids": (["item,title", "x1,One"], ["none of its 1 titles is that of an item", "'x1'", "'i0'"]),
    "other columns": (["id,name", "i1,One"], ["no column among 'id, name' has a usual name of the item"]),
    "no titles": (["item,genre", "i1,One"], ["has a usual name of the title", "--columns title=NAME"]),
    "an empty file": (b"", ["titles.csv: line 1 is empty"]),
    "a header alone": (["item,title"], ["titles.csv has no row below its header"]),
    "Parquet": (b"PAR1" + bytes(100), ["titles.csv is Parquet, which is not read; save its table as csv"]),
    "a spreadsheet": (b"PK\x03\x04" + bytes(100), ["titles.csv is a zip archive or a spreadsheet"]),
    "a line cut short": (["item,title", "i1,One", "i2"], ["titles.csv, line 3: 1 field, not 2, in 'i2'", "--lenient"]),
    "a comma without quotes": (["item,title", "i1,One, Two"], ["line 2: 3 fields, not 2, in 'i1,One, Two'"]),
    "an open quote": (["item,title", 'i1,"One', "i2,Two", "i3,Three"], ["titles.csv, line 2: ", """'i1,"One'"""]),
    "a quoted line break, then a bad line": (
        ["item,title", 'i1,"One', 'Two"', "i2"],
        ["line 4: 1 field, not 2, in 'i2'"],
    ),
}


@pytest.mark.parametrize("way", TITLES)
def test_titles_that_are_wrong_in_one_way_get_one_line_that_says_so(file, way):
    content, parts = TITLES[way]
    file(content, "titles.csv")
    message = refused(file(GOOD, query="?titles=titles.csv"))
    for part in parts:
        assert part in message, message


def test_columns_of_titles_are_given_like_those_of_interactions(file):
    file(["code,name", *(f"i{n},Film i{n}" for n in range(24))], "titles.csv")
    for header, query in (
        ("user,item,timestamp", "item=code&title=name"),
        ("user,code,timestamp", "item=code&title=name"),
    ):
        name = own.resolve(file(lines(header), query=f"?titles=titles.csv&{query}"))
        assert load(name).titles[1] == "Film i0"
    message = refused(file(lines("user,sku no,timestamp"), query="?titles=titles.csv&item=sku no&title=name"))
    assert "among 'code, name' has a usual name of the item; call it 'sku no' there too" in message
    assert "unknown column of the title 'nmae'" in refused(file(GOOD, query="?titles=titles.csv&item=code&title=nmae"))


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.bool_(), pa.float64()])
def test_parquet_columns_that_are_no_ids(file, tmp_path, kind):
    value = {"list<item: int64>": [1], "bool": True, "double": 1.5}[str(kind)]
    table = pa.table({"user": pa.array([value] * 3, kind), "item": ["a"] * 3, "timestamp": [START] * 3})
    pq.write_table(table, tmp_path / "mine.parquet")
    assert "column 'user' holds" in refused("file:mine.parquet")


def test_a_bad_row_of_a_parquet_file_is_named_by_its_number(file, tmp_path, monkeypatch):
    monkeypatch.setattr(own_table, "PARQUET_ROWS", 100)
    users, items, times = map(list, zip(*rows(), strict=True))
    users[150] = None
    pq.write_table(pa.table({"user": users, "item": items, "timestamp": times}), tmp_path / "mine.parquet")
    assert "mine.parquet, row 151: an empty user" in refused("file:mine.parquet")


def test_a_missing_number_of_a_parquet_file_is_no_fraction(file, tmp_path):
    users = [float(u[1:]) for u, *_ in rows()]
    items, times = ([row[place] for row in rows()] for place in (1, 2))
    for missing in (float("nan"), None, float("inf")):
        table = pa.table({"user": pa.array([*users[:-1], missing]), "item": items, "timestamp": times})
        pq.write_table(table, tmp_path / "mine.parquet")
        assert "mine.parquet, row 240: an empty user" in refused("file:mine.parquet")


@pytest.mark.parametrize(("kind", "limit"), [(pa.float32(), "16,777,216"), (pa.float16(), "2,048")])
def test_times_that_a_parquet_file_has_rounded_are_refused(file, tmp_path, kind, limit):
    users, items, times = map(list, zip(*rows(), strict=True))
    rounded = np.array(times, np.float32) if kind == pa.float32() else np.array(range(4000, 4240), np.float16)
    table = pa.table({"user": users, "item": items, "timestamp": pa.array(rounded, kind)})
    pq.write_table(table, tmp_path / "mine.parquet")
    message = refused("file:mine.parquet?unit=order")
    assert f"column 'timestamp' holds numbers past {limit} as" in message and "write it again as int64" in message
    exact = pa.table({"user": users, "item": items, "timestamp": pa.array(np.arange(240).astype(np.float32))})
    pq.write_table(exact, tmp_path / "mine.parquet")
    assert load(own.resolve("file:mine.parquet?unit=order")).n_interactions == 240


def test_ids_that_read_like_missing_values_are_kept_and_counted(file):
    entries = [("NULL" if u == "u3" else u, "nan" if i == "i5" else i, t) for u, i, t in rows()]
    name = own.resolve(file(lines(entries=entries)))
    assert load(name).n_users == 30
    assert own.facts(name)["like_missing"] == {"user": {"NULL": 8}, "item": {"nan": 10}}


def test_lenient_skips_counts_and_shows_bad_lines(file):
    content = [*GOOD[:3], "u1,i3", *GOOD[3:], ",i1,5", "u1,i1,never"]
    name = own.resolve(file(content, query="?lenient=1"))
    with pytest.warns(UserWarning, match="skipped 3 bad lines"):
        sequences = load(name)
    facts = own.facts(name)
    assert facts["skipped"] == 3 and len(facts["complaints"]) == 3 and "line 4" in facts["complaints"][0]
    assert load(name).split_hash == sequences.split_hash  # from the cache, although lines were skipped
    assert sequences.split_hash == load(own.resolve(file(GOOD))).split_hash


def test_lenient_does_not_skip_most_of_a_file(file):
    bad = lines(entries=[(u, i, "03/04/2021") for u, i, _ in rows()])
    assert "more lines are bad (240) than good (0)" in refused(file(bad, query="?lenient=1"))
    one = ["user,item,timestamp", f"u1,i1,{START}000", *GOOD[1:]]  # the first line has the odd unit
    assert "more lines are bad (240) than good (1)" in refused(file(one, query="?lenient=1"))


@pytest.mark.parametrize(
    "bad", ["[", "null", "{}", '{"path": 1}', '{"path": "/etc/passwd", "sha256": "", "options": {}}']
)
def test_a_damaged_note_of_where_the_file_lies_is_one_line(file, tmp_path, bad):
    name = own.resolve(file(GOOD))
    (tmp_path / "cache" / "own" / f"{name}.file.json").write_text(bad)
    with pytest.raises(SeqRecError, match="name the data's file again"):
        load(name)
    with pytest.raises(SeqRecError, match="is not known here"):
        load("file-other-0123456789ab")


def test_a_files_name_cannot_bring_markup_into_the_book(file):
    name = own.resolve(file(GOOD, "a](x)<script>{{b}}`$.csv"))
    assert get(name).title == "a-(x)-script---b----.csv"
    assert own.resolve(file(GOOD, "\u4f60\u597d.csv")).startswith("file-data-")


def test_the_last_name_of_a_file_is_found_again(file):
    plain = own.resolve(file(GOOD))
    assert own.last_named("mine.csv") == plain
    file(["item,title", "i1,One"], "titles.csv")
    titled = own.resolve("file:mine.csv?titles=titles.csv")
    assert own.last_named("mine.csv") == titled != plain


@pytest.mark.parametrize("header", ["<user>,item,timestamp", '["user",item,timestamp'])
def test_a_header_that_begins_like_another_form_is_read(file, header: str) -> None:
    user = quote(header.partition(",")[0])
    assert load(own.resolve(file(lines(header), query=f"?user={user}"))).n_users == 30


def test_a_titles_file_is_not_told_what_it_does_not_listen_to(file, tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text("item;title,year\ni1;A,1999\n", encoding="utf-8")
    message = refused(file(lines(), query="?titles=titles.csv"))
    assert "separator=" not in message and "with one of these between them" in message
    (tmp_path / "titles.csv").write_text("sku,called\ni1,A\n", encoding="utf-8")
    message = refused(file(lines("user,sku,timestamp"), query="?titles=titles.csv&item=sku"))
    assert "add &title=NAME to the address" in message and "file:titles.csv" not in message


def test_a_column_of_ids_that_are_all_missing_is_said_to_be_empty(file, tmp_path: Path) -> None:
    table = pa.table({"user": pa.nulls(9, pa.float64()), "item": ["a"] * 9, "timestamp": [START] * 9})
    pq.write_table(table, tmp_path / "mine.parquet")
    assert "row 1: an empty user" in refused("file:mine.parquet")

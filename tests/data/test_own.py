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

from seqrec_lib.data import DATASETS, files, get, load, own, own_table, read, tables
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.own_table import Reading, find_columns, layout
from seqrec_lib.data.tables import BadLines
from seqrec_lib.data.times import Clock
from seqrec_lib.errors import SeqRecError

START = 1_600_000_000


def rows(users: int = 30, each: int = 8, items: int = 24) -> list[tuple[str, str, int]]:
    """Enough for the 5-core: (user, item, seconds)."""
    return [
        (f"u{u}", f"i{(u + 3 * n) % items}", START + 60 * (u * each + n)) for u in range(users) for n in range(each)
    ]


def lines(header: str = "user,item,timestamp", entries=None) -> list[str]:
    return [header, *(f"{user},{item},{time}" for user, item, time in entries or rows())]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a file and gives its address; the cache is the test's own."""
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(content: list[str] | bytes, name: str = "mine.csv", query: str = "") -> str:
        data = content if isinstance(content, bytes) else ("\n".join(content) + "\n").encode()
        Path(name).write_bytes(data)
        return f"file:{name}{query}"

    return write


def refused(address: str) -> str:
    """The one line of an error, while the address is resolved or the data are loaded."""
    with pytest.raises(SeqRecError) as caught:
        load(own.resolve(address))
    message = str(caught.value)
    assert len(message) < 600
    return message


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


# ---- what is wrong ---------------------------------------------------------------------------------------------

GOOD = lines()
WRONG = {  # one file for each way to be wrong: (content, what the line says)
    "an empty file": (b"", ["mine.csv", "line 1 is empty"]),
    "a header alone": ([GOOD[0]], ["no row below its header"]),
    "no header": (GOOD[1:], ["no column among 'u0, i0, 1600000000'", "user", "--columns user=NAME"]),
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
        ["line 242", f"'{START}000' is no time", "in s, the unit of other lines"],
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
        ["line 242", "rating 'good' is not a number", "rating="],
    ),
    "letters of Windows": (b"user,item,timestamp\nu\xe9,i1,1600000000\n", ["line 2: text that is not UTF-8", r"\xe9"]),
    "UTF-16": ("\n".join(GOOD).encode("utf-16"), ["as UTF-16 does"]),
    "a spreadsheet": (b"PK\x03\x04" + bytes(100), ["a zip archive or a spreadsheet"]),
    "damaged gzip": (gzip.compress("\n".join(GOOD).encode())[:-9], ["is damaged"]),
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
        ("?timestamp=", ["unknown column of the timestamp ''"]),
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


def test_titles_that_are_no_items_titles(file):
    file(["item,title", "x1,One"], "titles.csv")
    assert "none is an item that has a title" in refused(file(GOOD, query="?titles=titles.csv"))
    file(["id,name", "i1,One"], "titles.csv")
    assert "no column among 'id, name' has a usual name of the item" in refused("file:mine.csv?titles=titles.csv")


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
    name = own.resolve(file(GOOD))
    load(name)
    assert json.loads((tmp_path / "cache" / "own" / f"{name}.facts.json").read_text()) == own.facts(name)


def test_an_optional_column_may_be_left_out():
    names = ["user", "item", "timestamp", "rating", "score"]
    with pytest.raises(SeqRecError, match=r"rating=rating or rating=score, or rating= for none"):
        find_columns("a.csv", names, {})
    assert "rating" not in find_columns("a.csv", names, {"rating": ""})

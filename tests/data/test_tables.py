"""Delimited tables: fast and slow path agree, and a bad line is found wherever it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.data import files, tables
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.tables import BadLines, Table, read_table
from seqrec_lib.errors import SeqRecError

COLONS = Table("::", "u", "i", "t", "r", ("u", "i", "r", "t"))
TABS = Table("\t", "u", "i", "t", "r", ("u", "i", "r", "t"))
CSV = Table(",", "u", "i", "t", "r")
NAMES = Table(",", "u", "i", "t", labels=str)


def table(data, content: str | bytes, layout: Table, strict: bool = True):
    raw = RawFile(data.write("table.txt", content))
    return read_table(raw, layout, {}, BadLines(strict))


def rows(interactions) -> list[tuple]:
    ratings = interactions.ratings
    rated = [None] * len(interactions) if ratings is None else ratings.tolist()
    return list(
        zip(
            interactions.users.tolist(),
            interactions.items.tolist(),
            rated,
            interactions.timestamps.tolist(),
            strict=True,
        )
    )


EXPECTED = [(1, 1193, 5.0, 978300760), (1, 661, 3.5, 978302109), (2, 1193, 1.0, 978300000)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["newline at end", "no newline at end"])
@pytest.mark.parametrize(("layout", "separator"), [(COLONS, "::"), (TABS, "\t"), (CSV, ",")])
def test_separators_and_line_ends(data, layout, separator, end, last):
    lines = [] if layout.columns else [separator.join("uirt")]
    lines += [separator.join(str(value) for value in row) for row in EXPECTED]
    read = table(data, end.join(lines) + (end if last else ""), layout)
    assert rows(read) == EXPECTED
    assert read.users.dtype == np.int64
    assert read.ratings is not None
    assert read.ratings.dtype == np.float32


def test_columns_of_a_csv_are_found_by_name_with_byte_order_mark_and_quotes(data):
    content = '\ufeff"t",extra,"i",u\n5,x,"B,1",Ä\n6,y,NA,null\n'
    read = table(data, content, NAMES)
    assert rows(read) == [("Ä", "B,1", None, 5), ("null", "NA", None, 6)]


def test_a_missing_column_is_named(data):
    with pytest.raises(SeqRecError, match=r"line 1: the header has no column 'i', only 'u, t'"):
        table(data, "u,t\n1,2\n", CSV)


BAD = {
    "too few fields": ("2::5::3", "3 fields, not 4"),
    "too many fields": ("2::5::3::7::9", "5 fields, not 4"),
    "user is text": ("x::5::3::7", "u 'x' is not an integer"),
    "item missing": ("2::::3::7", "i '' is not an integer"),
    "fractional time": ("2::5::3::7.5", "t '7.5' is not an integer"),
    "rating is text": ("2::5::good::7", "r 'good' is not a number"),
    "rating is nan": ("2::5::nan::7", "r 'nan' is not a number"),
    "not UTF-8": (b"2::\xff::3::7", "text that is not UTF-8"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("line", [1, 600, 1201])
def test_a_bad_line_is_named_with_file_number_and_content(data, monkeypatch, kind, line):
    monkeypatch.setattr(files.RawFile.blocks, "__defaults__", (4096,))
    bad, problem = BAD[kind]
    lines = [b"1::%d::4::%d" % (number, number) for number in range(1, 1201)]
    lines.insert(line - 1, bad if isinstance(bad, bytes) else bad.encode())
    content = b"\n".join(lines) + b"\n"
    with pytest.raises(SeqRecError) as caught:
        table(data, content, COLONS)
    message = str(caught.value)
    assert f"table.txt, line {line}: {problem}" in message
    assert (bad if isinstance(bad, str) else r"2::\\xff::3::7") in message
    assert "strict=False" in message
    assert "\n" not in message

    read = table(data, content, COLONS, strict=False)
    assert read.skipped == 1
    assert read.items.tolist() == list(range(1, 1201))


def test_an_overlong_line_is_shortened_in_the_message(data):
    with pytest.raises(SeqRecError) as caught:
        table(data, "9" * 5000 + "\n", COLONS)
    assert len(str(caught.value)) < 500


def test_blank_lines_are_no_lines(data):
    assert rows(table(data, "1::2::3::4\n\n5::6::1::8\n\n", COLONS)) == [(1, 2, 3.0, 4), (5, 6, 1.0, 8)]


def test_a_tab_inside_a_colon_table_is_a_bad_line(data):
    with pytest.raises(SeqRecError, match="line 2"):
        table(data, "1::2::3::4\n5\t6\t1\t8\n", COLONS)


def test_text_labels_must_not_be_empty(data):
    content = "u,i,t\na,b,1\n,b,2\n"
    with pytest.raises(SeqRecError, match="line 3: an empty u"):
        table(data, content, NAMES)
    read = table(data, content, NAMES, strict=False)
    assert rows(read) == [("a", "b", None, 1)]
    assert read.skipped == 1


def test_an_empty_table_reads_as_no_rows(data):
    assert len(table(data, "", COLONS)) == 0
    assert len(table(data, "u,i,t,r\n", CSV)) == 0


@settings(max_examples=60, deadline=None)
@given(
    rows_=st.lists(
        st.tuples(
            st.integers(0, 2**40),
            st.integers(0, 2**40),
            st.integers(1, 10).map(lambda n: n / 2),
            st.integers(0, 2**40),
        ),
        min_size=1,
    )
)
def test_fast_and_slow_path_agree(tmp_path_factory, rows_):
    path = tmp_path_factory.mktemp("paths") / "a.dat"
    path.write_text("".join("::".join(map(str, row)) + "\n" for row in rows_))
    raw = RawFile(path)
    fast = read_table(raw, COLONS, {}, BadLines(True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_parse_fast", lambda *_: (_ for _ in ()).throw(ValueError("refused")))
        slow = read_table(raw, COLONS, {}, BadLines(True))
    assert rows(fast) == rows(slow) == rows_


def test_equal_text_labels_share_one_object(data):
    read = table(data, "u,i,t\n" + "someone,thing,1\n" * 3, NAMES)
    assert len({id(user) for user in read.users}) == 1


@pytest.mark.parametrize(("labels", "line"), [(int, "0x10,2,3,4"), (int, "1,2,0X3,4"), (str, '"A"B,i,3,4')])
def test_what_only_pyarrow_would_read_is_a_bad_line(labels: type, line: str) -> None:
    table = tables.Table(",", "u", "i", "t", "r", labels=labels)
    with pytest.raises(ValueError):  # noqa: PT011  the slow path decides, and names it
        tables._parse_fast(line.encode() + b"\n", table, list("uitr"))


def test_doubled_quotes_are_read_fast() -> None:
    table = tables.Table(",", "u", "i", "t", "r", labels=str)
    users, items, *_ = tables._parse_fast(b'"a ""b"" c",B0XYZ,3,4\nd,"e, f",3,4\n', table, list("uitr"))
    assert users.to_pylist() == ['a "b" c', "d"] and items.to_pylist() == ["B0XYZ", "e, f"]


@pytest.mark.parametrize("spoilt", [False, True], ids=["fast", "slow"])
def test_both_paths_read_what_64_bits_hold(data, spoilt):
    largest, least = 2**63 - 1, -(2**63)
    text = f"u,i,r,t\n{largest},2,3.5,4\n1,{least},3,5\n" + ("x\n" if spoilt else "")
    assert rows(table(data, text, CSV, strict=False)) == [(largest, 2, 3.5, 4), (1, least, 3.0, 5)]


@pytest.mark.parametrize("spoilt", [False, True], ids=["fast", "slow"])
@pytest.mark.parametrize("line", ["9223372036854775808,2,3,4", "1,2,1_0,4", "1,2,1e39,4", "1,2,3,4\r5,6,2,8"])
def test_both_paths_refuse_the_same_lines(data, line, spoilt):
    text = f"u,i,r,t\n1,2,3,4\n{line}\n" + ("x\n" if spoilt else "")
    read = table(data, text, CSV, strict=False)
    assert rows(read) == [(1, 2, 3.0, 4)] and read.skipped == 1 + spoilt

"""Delimited tables: fast and slow path agree, and a bad line is found wherever it is."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.data import files, tables
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.interactions import encode
from seqrec_lib.data.tables import BadLines, Table, read_table
from seqrec_lib.errors import SeqRecError
from tests.data.fuzz_readers import LAYOUTS, check_table, table_file

COLONS, TABS, CSV, NAMES, RATED_NAMES, _ = LAYOUTS
NAMES = replace(NAMES, labels=str)


def table(data, content: str | bytes, layout: Table, strict: bool = True):
    raw = RawFile(data.write("table.txt", content))
    return read_table(raw, layout, {}, BadLines(strict))


def rows(interactions) -> list[tuple]:
    columns = [interactions.users, interactions.items, interactions.ratings, interactions.timestamps]
    missing = [None] * len(interactions)
    return list(zip(*(missing if column is None else column.tolist() for column in columns), strict=True))


EXPECTED = [(1, 1193, 5.0, 978300760), (1, 661, 3.5, 978302109), (2, 1193, 1.0, 978300000)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["newline at end", "no newline at end"])
@pytest.mark.parametrize(("layout", "separator"), [(COLONS, "::"), (TABS, "\t"), (CSV, ",")])
def test_separators_and_line_ends(data, layout, separator, end, last):
    lines = [] if layout.names else [separator.join("uirt")]
    lines += [separator.join(str(value) for value in row) for row in EXPECTED]
    read = table(data, end.join(lines) + (end if last else ""), layout)
    assert rows(read) == EXPECTED
    assert read.users.dtype == np.int64
    assert read.ratings.dtype == np.float32


def test_columns_of_a_csv_are_found_by_name_with_byte_order_mark_and_quotes(data):
    content = '\ufeff"t",extra,"i",u\n5,x,"B,1",Ä\n6,y,NA,null\n'
    read = table(data, content, NAMES)
    assert rows(read) == [("Ä", "B,1", None, 5), ("null", "NA", None, 6)]


def test_a_missing_column_is_named(data):
    with pytest.raises(SeqRecError, match=r"line 1: the header has no column 'i', only 'u, t'"):
        table(data, "u,t\n1,2\n", CSV)


BAD: dict[str, tuple[str | bytes, str]] = {
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


@settings(max_examples=200, deadline=None)
@given(
    rng=st.randoms(use_true_random=False), layout=st.sampled_from(LAYOUTS), oddness=st.sampled_from([0, 0.1, 0.5, 1])
)
def test_generated_tables_read_alike_with_pyarrow_and_line_by_line(tmp_path_factory, rng, layout, oddness):
    raw = RawFile(tmp_path_factory.mktemp("tables") / "a.txt")
    raw.path.write_bytes(table_file(rng, layout, oddness))
    check_table(raw, layout)


def test_a_text_label_is_kept_once_however_many_blocks_have_it(data, monkeypatch):
    monkeypatch.setattr(RawFile.blocks, "__defaults__", (64,))
    lines = [f"{user},thing,1" for user in ("someone", "nobody", "someone", "else") * 20]
    read = table(data, "\n".join(["u,i,t", *lines]), NAMES)
    assert (len(read.users.names), len(read.items.names)) == (3, 1)
    assert read.users.tolist() == [line.split(",")[0] for line in lines]
    kept = read.select(read.users.codes == read.users.codes[1])
    codes, names = encode(kept.users)
    assert names.tolist() == ["nobody"] and codes.tolist() == [0] * 20


WHOLE = {
    "0": 0, "-0": 0, "007": 7, "-12": -12, "00000000000000000000042": 42, "0" * 5000 + "9": 9, " 5": 5, "5 ": 5,
    "9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63), "0009223372036854775807": 2**63 - 1,
}  # fmt: skip
NOT_WHOLE = (
    "", "-", "+5", "0X1F", "0x1f", "-0x1", "0b1", "0o7", "1_0", "1.0", "5.", "1e3",
    "\uff15", "\u0663", "\u00b2", "5\xa0", "5\x0b", "5\0", "--5", "9223372036854775808", "-9223372036854775809",
    "9" * 5000, "nan", "NA", "\ufeff5", '""5', '"5',
)  # fmt: skip
REALS = {
    "5": 5.0, "5.": 5.0, ".5": 0.5, "-.5": -0.5, "0005.50": 5.5, "1e3": 1e3, "1E+3": 1e3, "1e-400": 0.0, " 4.5": 4.5,
    "3.4028235e38": float(np.finfo(np.float32).max), "-3.4028235677973362e38": -float(np.finfo(np.float32).max),
    "16777217": 16777216.0, "0" * 400 + "2": 2.0,
}  # fmt: skip
NOT_REALS = (
    "", ".", "-", "+5", "1_0", "\uff15", "4\uff0e5", "nan", "-nan", "inf", "Infinity", "0x1p3", "0X5", "1e", "1e39",
    "1e400", "3.4028235677973367e38", "4,5", "5 5", "5f", "None", '""5',
)  # fmt: skip


@pytest.mark.parametrize("spoilt", [False, True], ids=["alone", "beside a bad line"])
@pytest.mark.parametrize(
    ("layout", "column"),
    [*((layout, column) for layout in (COLONS, TABS, CSV) for column in (0, 1, 3)), (RATED_NAMES, 3)],
)
def test_whole_numbers_have_one_grammar(data, layout, column, spoilt):
    check_grammar(data, layout, column, WHOLE, NOT_WHOLE, spoilt)


@pytest.mark.parametrize("spoilt", [False, True], ids=["alone", "beside a bad line"])
@pytest.mark.parametrize("layout", [COLONS, TABS, CSV, RATED_NAMES])
def test_ratings_have_one_grammar(data, layout, spoilt):
    check_grammar(data, layout, 2, REALS, NOT_REALS, spoilt)


def check_grammar(data, layout, column, good, refused, spoilt) -> None:
    for text in (*good, *refused):
        cells = ["1", "2", "3", "4"]
        cells[column] = text
        lines = [] if layout.names else ["u,i,r,t"]
        lines += [layout.separator.join("1234"), layout.separator.join(cells)] + ["spoilt"] * spoilt
        read = table(data, "\n".join(lines) + "\n", layout, strict=False)
        _, *values = [read.users, read.items, read.ratings, read.timestamps][column].tolist()
        assert values == ([good[text]] if text in good else []), repr(text)
        assert read.skipped == spoilt + (text in refused), repr(text)


@pytest.mark.parametrize("line", ["1,2,3,4\r5,6,2,8", "1,2,3,4\r", "1,2,3\r,4", "\r1,2,3,4", "1,2,3,4\r\r5,6,2,8"])
@pytest.mark.parametrize("layout", [COLONS, TABS, CSV, RATED_NAMES])
@pytest.mark.parametrize("spoilt", [False, True], ids=["alone", "beside a bad line"])
def test_a_carriage_return_is_a_part_of_a_line_end_or_makes_a_line_bad(data, layout, line, spoilt):
    header = "" if layout.names else "u,i,r,t\r\n"
    content = header + f"{line}\r\n".replace(",", layout.separator) + "spoilt\n" * spoilt
    read = table(data, content, layout, strict=False)
    good = line.strip("\r").count("\r") == 0 and not line.startswith("\r")
    assert (len(read), read.skipped) == (good, spoilt + (not good))


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ("A,B,4,7", ("A", "B")),
        ('"A","B,C",4,7', ("A", "B,C")),
        ('"a ""b"" c",B,"4","7"', ('a "b" c', "B")),
        ('5" nails,B,4,7', ('5" nails', "B")),
        ('0X1F,"""",4,7', ("0X1F", '"')),
        (" A , B ,4,7", (" A ", " B ")),
        ('""A,B,4,7', None),
        ('"A"B,B,4,7', None),
        ('"A,B,4,7', None),
        ('"A""",B"",4,7"', None),
        ('"",B,4,7', None),
        ('A,B,""5,7', None),
        ('A,B,4,"7" ', None),
        ("A,B,4,0X1F", None),
        ("A\rB,B,4,7", None),
        ("\ufeffA,B,4,7", None),
        (b"A,\xe9,4,7", None),
        (b"A,\xed\xa0\x80,4,7", None),
        ("A,B" * 200_000 + ",4,7", None),
        ("A" * 200_000 + ",B,4,7", ("A" * 200_000, "B")),
    ],
)
@pytest.mark.parametrize("spoilt", [False, True], ids=["alone", "beside a bad line"])
def test_text_labels_and_quotes_have_one_grammar(data, line, labels, spoilt):
    content = (
        b"u,i,r,t\nX,Y,1,2\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n" + b"spoilt\n" * spoilt
    )
    read = table(data, content, RATED_NAMES, strict=False)
    assert rows(read) == [("X", "Y", 1.0, 2), *([] if labels is None else [(*labels, 4.0, 7)])]
    assert read.skipped == spoilt + (labels is None)


def test_what_stands_in_other_columns_does_not_matter(data):
    for more in (b"", b"spoilt\n"):
        read = table(data, b"u,note,i,r,t\n1,caf\xe9,2,3,4\n1,0x1F,2,3,5\n1,,2,3,6\n" + more, CSV, strict=False)
        assert rows(read) == [(1, 2, 3.0, 4), (1, 2, 3.0, 5), (1, 2, 3.0, 6)]


@pytest.mark.parametrize("header", ["u,i,r,r,t", "u,u,i,r,t", 'u,i,r,t,"t"', "u,i,r,t,x,x", "\ufeffu,i,r,t,u"])
@pytest.mark.parametrize("rest", ["", "1,2,3,4,5\n", "1,2,3,4,0X5\n"])
def test_a_header_with_two_columns_of_one_name_is_refused(data, header, rest):
    with pytest.raises(SeqRecError, match=r"line 1: the header has 2 columns '.'; rename all but one"):
        table(data, f"{header}\n{rest}", CSV, strict=False)


def test_columns_without_a_name_may_be_several(data):
    assert rows(table(data, "u,i,r,t,,\n1,2,3,4,,\n", CSV)) == [(1, 2, 3.0, 4)]


def test_a_quoted_name_may_hold_the_separator(data):
    assert rows(table(data, '"x,y",u,i,r,t\n9,1,2,3,4\n', CSV)) == [(1, 2, 3.0, 4)]
    with pytest.raises(
        SeqRecError, match="line 1: a quote that does not enclose a whole field of its line in the header"
    ):
        table(data, '"u"x,i,r,t\n1,2,3,4\n', CSV)


@pytest.mark.parametrize("layout", [COLONS, TABS, CSV, RATED_NAMES])
@pytest.mark.parametrize("spoilt", [False, True], ids=["alone", "beside a bad line"])
def test_a_byte_order_mark_is_no_part_of_a_file_with_or_without_header(data, layout, spoilt):
    lines = [*([] if layout.names else ["u,i,r,t"]), *map(layout.separator.join, ("1234", "5678"))]
    content = "\n".join(lines + ["spoilt"] * spoilt).encode()
    plain = table(data, content, layout, strict=False)
    marked = table(data, b"\xef\xbb\xbf" + content, layout, strict=False)
    assert rows(marked) == rows(plain) and len(plain) == 2 and marked.skipped == plain.skipped == spoilt


ORDINARY = {
    "ml-1m": (COLONS, b"1::1193::5::978300760\n1::661::3::978302109\n"),
    "ml-100k": (TABS, b"196\t242\t3\t881250949\n"),
    "csv with CRLF and halves": (CSV, b"u,i,r,t\r\n1,2,4.5,964982703\r\n"),
    "text labels": (RATED_NAMES, b"u,i,r,t\nAE2A,B0XYZ,5.0,1588615855070\n"),
    "everything quoted": (RATED_NAMES, b'"u","i","r","t"\n"A ""b""","0xB, c","5.0","7"\n'),
    "with a mark": (CSV, b"\xef\xbb\xbfu,i,r,t\n1,2,3,4\n"),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_files_are_read_by_pyarrow(data, kind):
    layout, content = ORDINARY[kind]
    assert check_table(RawFile(data.write("table.txt", content)), layout, (1 << 23,)) == 1
    with mock.patch.object(tables, "one_by_one", side_effect=AssertionError):  # their numbers are, too
        read_table(RawFile(data.write("table.txt", content)), layout, {}, BadLines(True))


@pytest.mark.parametrize("blank", ["\t\t\t", "\t", " ", "\t \t\t", "\v"])
def test_a_blank_line_is_no_line_whatever_the_separator(data, blank):
    rows = "".join(f"{user}\t2\t3\t4\n" for user in range(1, 61))
    bad = BadLines(False)
    content = f"{rows}{blank}\nA\t2\t3\t4\n{rows}"
    found = read_table(RawFile(data.write("table.txt", content)), TABS, {}, bad)
    assert (len(found), bad.count) == (120, 1)
    assert "line 62" in bad.first[0]


@pytest.mark.parametrize(("second", "third"), [("5::6::x::8", "spoilt"), ("spoilt", "5::6::x::8")])
def test_the_first_bad_line_is_named_whatever_is_wrong_with_the_next(data, second, third):
    with pytest.raises(SeqRecError, match="line 2"):
        table(data, f"1::2::3::4\n{second}\n{third}\n", COLONS)


def test_the_first_few_complaints_are_kept(data):
    bad = BadLines(False)
    read_table(RawFile(data.write("table.txt", "x\n" * 7 + "1::2::3::4\n")), COLONS, {}, bad)
    assert bad.count == 7
    assert [text.partition(": ")[0][-6:] for text in bad.first] == [f"line {number}" for number in range(1, 6)]

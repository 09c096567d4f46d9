"""Each real format, from a few made-up lines: labels, order, ratings, encodings, titles, bad lines."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.data import readers
from seqrec_lib.data.files import RawFile
from seqrec_lib.errors import SeqRecError
from tests.data.fuzz_readers import FORMATS, check_format


def files(data, ratings: tuple[str, str | bytes], titles: tuple[str, str | bytes]) -> dict[str, RawFile]:
    return {"ratings": RawFile(data.write(*ratings)), "titles": RawFile(data.write(*titles))}


def test_movielens_1m_has_no_header(data):
    movies = "10::Café at Noon (1999)::Drama\n11::Ghosts of Ys (1950)::Horror\n"
    raw = files(
        data, ("ratings.dat.gz", "1::10::5::978300760\n2::11::1::978300761\n"), ("movies.dat", movies.encode("latin-1"))
    )
    read = readers.movielens_1m(raw, True)
    assert (read.users.tolist(), read.items.tolist()) == ([1, 2], [10, 11])
    assert (read.timestamps.tolist(), read.ratings.tolist()) == ([978300760, 978300761], [5.0, 1.0])
    assert read.titles == {10: "Café at Noon (1999)", 11: "Ghosts of Ys (1950)"}


def test_movielens_100k_is_tabs_and_bars(data):
    raw = files(
        data,
        ("u.data", "196\t242\t3\t881250949\n"),
        ("u.item", "242|L'Été (1996)|24-Jan-1997||http://example.org|0|1\n".encode("latin-1")),
    )
    read = readers.movielens_100k(raw, True)
    assert (read.users.tolist(), read.items.tolist(), read.ratings.tolist()) == ([196], [242], [3.0])
    assert read.titles == {242: "L'Été (1996)"}


def test_movielens_csv_has_quotes_and_crlf(data):
    movies = [
        "movieId,title,genres",
        '7,"Comma, The ""Film"" (1999)",Drama',
        "8,NA,Drama",
        "9,null,Drama",
        "10,夏,Drama",
    ]
    raw = files(
        data,
        ("ratings.csv", "userId,movieId,rating,timestamp\r\n1,7,4.5,100\r\n"),
        ("movies.csv", "\r\n".join(movies) + "\r\n"),
    )
    read = readers.movielens_csv(raw, True)
    assert read.ratings.tolist() == [4.5]
    assert read.titles == {7: 'Comma, The "Film" (1999)', 8: "NA", 9: "null", 10: "夏"}


def test_processed_csv_has_no_ratings_and_titles_with_line_breaks(data):
    raw = files(
        data,
        ("interactions.csv.gz", "user_id,item_id,timestamp\n100,200,5\n100,201,5\n"),
        ("item_titles.csv.gz", 'item_id,title\n200,"two\nlines, one title"\n201,nan\n'),
    )
    read = readers.processed_csv(raw, True)
    assert read.ratings is None
    assert read.items.tolist() == [200, 201]
    assert read.titles == {200: "two\nlines, one title", 201: "nan"}


def review(user: str, item: str, time: object, rating: object) -> dict[str, object]:
    return {"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": rating, "reviewText": "fine\n"}


def lines(records: list[dict[str, object]], form=json.dumps) -> str:
    return "".join(form(record) + "\n" for record in records)


@pytest.mark.parametrize("form", [json.dumps, repr], ids=["2018: JSON", "2014: Python literals"])
def test_amazon_2014_and_2018_reviews(data, form):
    raw = files(
        data,
        ("reviews.json.gz", lines([review("U1", "B2", 1400000000, 4.0), review("U2", "B1", 1400000001, 5)])),
        (
            "meta.json.gz",
            lines(
                [
                    {"asin": "B1", "title": 'It\'s a "quoted" title'},
                    {"asin": "B2", "price": None},
                    {"asin": "B2", "title": "late title"},
                    {"asin": "B9", "title": "nobody reviewed it"},
                ],
                form,
            ),
        ),
    )
    read = readers.amazon_reviews(raw, True)
    assert (read.users.tolist(), read.items.tolist()) == (["U1", "U2"], ["B2", "B1"])
    assert (read.timestamps.tolist(), read.ratings.tolist()) == ([1400000000, 1400000001], [4.0, 5.0])
    assert read.titles == {"B1": 'It\'s a "quoted" title', "B2": "late title"}


def test_metadata_is_data_never_code(data, tmp_path):
    target = tmp_path / "made_by_eval"
    raw = files(
        data,
        ("reviews.json", lines([review("U", "B", 1, 5)])),
        ("meta.json", f"__import__('pathlib').Path({str(target)!r}).touch()\n"),
    )
    with pytest.raises(SeqRecError, match="neither JSON nor a Python literal"):
        readers.amazon_reviews(raw, True)
    assert not target.exists()


@pytest.mark.parametrize("reader", ["amazon_reviews", "amazon_2023_json"])
def test_labels_of_a_file_without_a_line_are_text(data, reader):
    raw = files(data, ("reviews.json", ""), ("meta.json", ""))
    read = getattr(readers, reader)(raw, True)
    assert len(read) == 0 and read.users.tolist() == [] and np.asarray(read.items).dtype == np.dtype(object)


META_2023 = lines([{"parent_asin": "P1", "title": "One"}, {"parent_asin": "P2", "title": None}])


def test_amazon_2023_json_and_csv_give_the_same_rows(data):
    events = [("UA", "P1", 5.0, 1588615855070), ("UB", "P2", 1.0, 1588615855071), ("UA", "P2", 3.0, 1588615855070)]
    keys = ("user_id", "parent_asin", "rating", "timestamp")
    json_lines = lines([dict(zip(keys, event, strict=True)) | {"asin": "X", "text": "…"} for event in events])
    csv_lines = "\n".join(",".join(map(str, row)) for row in [keys, *events])
    raw_json = files(data, ("G.jsonl.gz", json_lines), ("meta_G.jsonl.gz", META_2023))
    raw_csv = files(data, ("G.csv.gz", csv_lines), ("meta_G.jsonl", META_2023))
    for read in (readers.amazon_2023_json(raw_json, True), readers.amazon_2023_csv(raw_csv, True)):
        assert read.users.tolist() == ["UA", "UB", "UA"]
        assert read.items.tolist() == ["P1", "P2", "P2"]
        assert read.timestamps.tolist() == [event[3] for event in events]
        assert read.ratings.tolist() == [5.0, 1.0, 3.0]
        assert read.titles["P1"] == "One"
        assert not read.titles.get("P2")


GOOD = json.dumps(review("U", "B", 1, 5))
BAD_REVIEWS = {
    "cut off": (GOOD[:-4], "neither JSON nor a Python literal"),
    "a list": ("[1, 2]", "a list where an object is expected"),
    "no user": (json.dumps({"asin": "B", "unixReviewTime": 1, "overall": 5}), "no key 'reviewerID'"),
    "user is null": (json.dumps(review(None, "B", 1, 5)), "no text for reviewerID or asin"),
    "time is text": (json.dumps(review("U", "B", "May", 5)), "unixReviewTime 'May' is not an integer"),
    "half a character": (json.dumps(review("U\ud83d", "B", 1, 5)), "text that is not UTF-8"),
    "half a character for a number": (json.dumps(review("U", "B", "\ud83d", 5)), "text that is not UTF-8"),
    "far too deep": ("[" * 100_000, "neither JSON nor a Python literal"),
    "a key that is none": ("{[]: 1}", "neither JSON nor a Python literal"),
    "rating is null": (json.dumps(review("U", "B", 1, None)), "overall 'None' is not a number"),
}


@pytest.mark.parametrize("kind", BAD_REVIEWS)
def test_bad_reviews_are_named_or_counted(data, kind):
    bad, problem = BAD_REVIEWS[kind]
    raw = files(data, ("r.json", f"{GOOD}\n\n{bad}\n{GOOD}\n"), ("m.json", '{"asin": "B", "title": "T"}\n'))
    with pytest.raises(SeqRecError) as caught:
        readers.amazon_reviews(raw, True)
    assert f"r.json, line 3: {problem} in" in str(caught.value)
    read = readers.amazon_reviews(raw, False)
    assert (len(read), read.skipped) == (2, 1)


def test_a_title_with_half_a_character_is_named_or_counted(data):
    raw = files(data, ("r.json", GOOD + "\n"), ("m.json", json.dumps({"asin": "B", "title": "Great \ud83d"}) + "\n"))
    with pytest.raises(SeqRecError, match=r"m\.json, line 1: text that is not UTF-8"):
        readers.amazon_reviews(raw, True)
    read = readers.amazon_reviews(raw, False)
    assert (len(read), read.skipped, read.titles) == (1, 1, {})


def test_bad_title_lines_are_named_or_counted(data):
    movies = b'movieId,title,genres\n7,"A\nB",x\n8,only two\nnine,B,x\n10,C,x\n'
    raw = files(data, CSV_RATINGS, ("movies.csv", movies))
    with pytest.raises(SeqRecError, match=r"movies.csv, line 4: 2 fields, not 3, in '8,only two'"):
        readers.movielens_csv(raw, True)
    read = readers.movielens_csv(raw, False)
    assert read.skipped == 2
    assert read.titles == {7: "A\nB", 10: "C"}

    movies = b"7::A::x\nseven::B::x\n8::no genre\n"
    raw = files(data, ("ratings.dat", "1::7::4::1\n"), ("movies.dat", movies))
    with pytest.raises(SeqRecError, match=r"movies.dat, line 2: item id 'seven' is not an integer"):
        readers.movielens_1m(raw, True)
    assert readers.movielens_1m(raw, False).skipped == 2
    assert readers.movielens_1m(raw, False).titles == {7: "A"}


CSV_RATINGS = ("ratings.csv", "userId,movieId,rating,timestamp\n1,7,4,1\n")


@pytest.mark.parametrize(
    ("titles", "strict", "message"),
    [
        ('movieId,title,genres\n7,"never closed,x\n8,B,x\n', True, "movies.csv, line 2: unexpected end of data"),
        ("movieId,imdbId\n7,1\n", True, "no column 'title', only 'movieId, imdbId'"),
        (
            "movieId,title,title,genres\n7,A,B,x\n",
            False,
            r"movies\.csv, line 1: the header has 2 columns 'title'; rename all but one",
        ),
    ],
)
def test_a_file_of_titles_that_cannot_be_read_is_refused(data, titles, strict, message):
    with pytest.raises(SeqRecError, match=message):
        readers.movielens_csv(files(data, CSV_RATINGS, ("movies.csv", titles)), strict)


# ---- encodings ---------------------------------------------------------------------------------------------

TITLED = {
    "movies.dat": (readers.movielens_1m, ("ratings.dat", "1::7::4::1\n"), b"7::%b::Drama\n8::%b::x\n"),
    "u.item": (readers.movielens_100k, ("u.data", "1\t7\t4\t1\n"), b"7|%b|24-Jan-1997|0\n8|%b|x|0\n"),
    "movies.csv": (readers.movielens_csv, CSV_RATINGS, b'movieId,title,genres\n7,"%b",x\n8,%b,x\n'),
    "item_titles.csv": (
        readers.processed_csv,
        ("interactions.csv", "user_id,item_id,timestamp\n1,7,1\n"),
        b"item_id,title\n7,%b\n8,%b\n",
    ),
}
ENCODED = {
    "UTF-8": (b"Am\xc3\xa9lie", "Amélie"),
    "UTF-8 of four bytes": (b"\xf0\x9f\x98\x80 \xe5\xa4\x8f", "\U0001f600 夏"),
    "UTF-8 that looks like Latin-1": ("Ã© Â°".encode(), "Ã© Â°"),
    "Latin-1": (b"Am\xe9lie", "Amélie"),
    "all of Latin-1's letters": (bytes(range(0xA0, 0x100)), bytes(range(0xA0, 0x100)).decode("latin-1")),
    "quotes and euro of Windows": (b"\x93Don\x92t\x94 \x80 \x96 \x85", "“Don’t” € – …"),
    "undefined in Windows": (b"a\x81\x8d\x8f\x90\x9db\xe9", "a\ufffd\ufffd\ufffd\ufffd\ufffdbé"),
    "UTF-8 cut short": (b"Am\xc3", "AmÃ"),
    "half a character in UTF-8": (b"\xed\xa0\x80", "í\xa0€"),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a mark"])
@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("name", TITLED)
def test_titles_are_utf_8_or_else_latin_1(data, name, kind, mark):
    read, ratings, form = TITLED[name]
    encoded, title = ENCODED[kind]
    raw = files(data, ratings, (name, mark + form % (encoded, b"plain")))
    assert read(raw, True).titles == {7: title, 8: "plain"}


@pytest.mark.parametrize("name", TITLED)
def test_the_whole_file_decides_on_its_encoding(data, name):
    read, ratings, form = TITLED[name]
    raw = files(data, ratings, (name, form % (b"Am\xc3\xa9lie", b"Am\xe9lie")))
    assert read(raw, True).titles == {7: "AmÃ©lie", 8: "Amélie"}


def test_one_damaged_line_of_utf_8_is_said(data):
    lines = [b"%d::Caf\xc3\xa9 %d::x" % (n, n) for n in range(1, 10)]
    lines.insert(6, b"77::caf\xc3::x")
    raw = files(data, ("ratings.dat", "1::7::4::1\n"), ("movies.dat", b"\n".join(lines)))
    with pytest.warns(UserWarning, match=r"movies\.dat, line 7 is not UTF-8, so that the file is read as Latin-1"):
        assert readers.movielens_1m(raw, True).titles[77] == "cafÃ"


@pytest.mark.parametrize("role", ["ratings", "titles"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", [*TITLED, "2018", "2023 csv"])
def test_utf_16_is_one_clear_line(data, name, role, encoding):
    if name in TITLED:
        read, ratings, form = TITLED[name]
        contents = {"ratings": ratings[1], "titles": (form % (b"A", b"B")).decode()}
    else:
        read, *pair = FORMATS[name]
        contents = {role: content.decode() for role, content in zip(("ratings", "titles"), pair, strict=True)}
    raw = {r: RawFile(data.write(r, text.encode(encoding if r == role else "utf-8"))) for r, text in contents.items()}
    with pytest.raises(SeqRecError, match=rf"{role} begins with .*, as UTF-16 does, and is not read; save it as UTF-8"):
        read(raw, False)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_byte_order_mark_is_no_part_of_any_file(data, kind, suffix):
    read, *contents = FORMATS[kind]
    found = []
    for mark in (b"", b"\xef\xbb\xbf"):
        ratings, titles = ((f"{n}{len(mark)}{suffix}", mark + content) for n, content in enumerate(contents))
        found.append(read(files(data, ratings, titles), True))
    plain, marked = found
    assert marked.users.tolist() == plain.users.tolist() and marked.items.tolist() == plain.items.tolist()
    assert marked.titles == plain.titles and all(plain.titles.values())


@pytest.mark.parametrize("number", ["0x1F", "0X1F", "0b11", "0o17", "1_0", "0B11", "1e1_0", "-0x1"])
@pytest.mark.parametrize("key", ["unixReviewTime", "overall"])
def test_python_literals_have_the_same_numbers(data, key, number):
    good = review("0X1F", "B_1_0", 7, 4)
    odd = repr(good | {key: "?"}).replace("'?'", number)
    raw = files(data, ("r.json", f"{good!r}\n{odd}\n"), ("m.json", "{'asin': 'B_1_0', 'title': '0x1F'}\n"))
    with pytest.raises(SeqRecError, match=r"r\.json, line 2: neither JSON nor a Python literal"):
        readers.amazon_reviews(raw, True)
    read = readers.amazon_reviews(raw, False)
    assert (read.users.tolist(), read.skipped, read.titles) == (["0X1F"], 1, {"B_1_0": "0x1F"})


@pytest.mark.parametrize("line", ["7::A::B::C", "7::A::x\r8::B::x"])
def test_titles_that_hold_a_separator_or_another_line_end_are_named(data, line):
    raw = files(data, ("ratings.dat", "1::7::4::1\n"), ("movies.dat", line))
    with pytest.raises(SeqRecError, match=r"movies\.dat, line 1: (4 fields|a carriage return)"):
        readers.movielens_1m(raw, True)


# ---- whatever is done to the files -------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(rng=st.randoms(use_true_random=False), kind=st.sampled_from(list(FORMATS)))
@pytest.mark.filterwarnings("ignore:.*not UTF-8:UserWarning")
def test_damaged_files_end_in_rows_or_one_line(tmp_path_factory, rng, kind):
    check_format(rng, tmp_path_factory.mktemp("damaged"), kind, 1.0)

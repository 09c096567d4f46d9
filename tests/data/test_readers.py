"""Each real format, from a few made-up lines: labels, order, ratings, encodings, titles, bad lines."""

from __future__ import annotations

import json

import pytest

from seqrec_lib.data import readers
from seqrec_lib.data.files import RawFile
from seqrec_lib.errors import SeqRecError


def files(data, ratings: tuple[str, str | bytes], titles: tuple[str, str | bytes]) -> dict[str, RawFile]:
    return {"ratings": RawFile(data.write(*ratings)), "titles": RawFile(data.write(*titles))}


def test_movielens_1m_is_latin_1_without_header(data):
    movies = "10::Café at Noon (1999)::Drama\n11::Ghosts of Ys (1950)::Horror\n"
    raw = files(
        data,
        ("ratings.dat.gz", "1::10::5::978300760\n2::11::1::978300761\n"),
        ("movies.dat", movies.encode("latin-1")),
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


def test_movielens_csv_is_utf_8_with_quotes_and_crlf(data):
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
    return {
        "reviewerID": user,
        "asin": item,
        "unixReviewTime": time,
        "overall": rating,
        "reviewText": "fine\n",
    }


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


META_2023 = lines([{"parent_asin": "P1", "title": "One"}, {"parent_asin": "P2", "title": None}])


def test_amazon_2023_json_and_csv_give_the_same_rows(data):
    events = [
        ("UA", "P1", 5.0, 1588615855070),
        ("UB", "P2", 1.0, 1588615855071),
        ("UA", "P2", 3.0, 1588615855070),
    ]
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
    assert "\n" not in str(caught.value)
    read = readers.amazon_reviews(raw, False)
    assert (len(read), read.skipped) == (2, 1)


def test_a_title_with_half_a_character_is_named_or_counted(data):
    raw = files(data, ("r.json", GOOD + "\n"), ("m.json", json.dumps({"asin": "B", "title": "Great \ud83d"}) + "\n"))
    with pytest.raises(SeqRecError, match=r"m\.json, line 1: text that is not UTF-8"):
        readers.amazon_reviews(raw, True)
    read = readers.amazon_reviews(raw, False)
    assert (len(read), read.skipped, read.titles) == (1, 1, {})


def test_bad_title_lines_are_named_or_counted(data):
    ratings = ("ratings.csv", "userId,movieId,rating,timestamp\n1,7,4,1\n")
    movies = b'movieId,title,genres\n7,"A\nB",x\n8,only two\n9,\xff,x\n10,C,x\n'
    raw = files(data, ratings, ("movies.csv", movies))
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


def test_an_unclosed_quote_in_titles_is_an_error(data):
    ratings = ("ratings.csv", "userId,movieId,rating,timestamp\n1,7,4,1\n")
    raw = files(data, ratings, ("movies.csv", 'movieId,title,genres\n7,"never closed,x\n8,B,x\n'))
    with pytest.raises(SeqRecError, match=r"movies.csv, line 3: unexpected end of data"):
        readers.movielens_csv(raw, True)


def test_titles_of_the_wrong_file_are_refused(data):
    ratings = ("ratings.csv", "userId,movieId,rating,timestamp\n1,7,4,1\n")
    raw = files(data, ratings, ("movies.csv", "movieId,imdbId\n7,1\n"))
    with pytest.raises(SeqRecError, match="no column 'title', only 'movieId, imdbId'"):
        readers.movielens_csv(raw, True)

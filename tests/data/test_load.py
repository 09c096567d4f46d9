"""From raw files to sequences: cleaning, the cache, warnings, rebuilding from the raw Amazon files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqrec_lib import data as library
from seqrec_lib.data import available, load, readers, statistics
from seqrec_lib.data.registry import DATASETS, DatasetSpec, RemoteFile, Source, verification
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import cache_folder

MOVIES = "".join(f"{movie}::Film {movie} (1990)::Drama\n" for movie in range(1, 8))


def ratings(users: int = 6, movies: int = 6) -> str:
    return "".join(
        f"{user}::{movie}::{1 + (user * movie) % 5}::{1000 + 10 * ((user + movie) % movies)}\n"
        for user in range(1, users + 1)
        for movie in range(1, movies + 1)
    )


@pytest.fixture
def tiny_ml(data):
    """Six users times six films, under the name of ml-1m."""
    data.write("ml-1m/ratings.dat", ratings() + "1::7::5::2000\n7::1::5::2000\n")  # too rare: film 7, user 7
    data.write("ml-1m/movies.dat", MOVIES)
    return data


def cached() -> list:
    return sorted((cache_folder() / "sequences").glob("*.npz"))


def test_load_filters_orders_and_names(tiny_ml):
    sequences = load("ml-1m")
    assert sequences.name == "ml-1m"
    assert (sequences.n_users, sequences.n_items, sequences.n_interactions) == (6, 6, 36)
    assert sequences.items[:6].tolist() == [5, 6, 1, 2, 3, 4]  # user 1: film 5 at 1000, film 6 at 1010, ...
    assert sequences.titles == ("", *(f"Film {movie} (1990)" for movie in range(1, 7)))
    assert verification(sequences) == "unverified"


def test_the_cache_gives_the_same_sequences(tiny_ml):
    first = load("ml-1m")
    assert len(cached()) == 1
    again = load("ml-1m")
    for name in ("items", "offsets", "timestamps", "ratings"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
        assert getattr(again, name).dtype == getattr(first, name).dtype
    assert (again.titles, again.item_labels) == (first.titles, first.item_labels)
    assert again.split_hash == first.split_hash
    assert len(cached()) == 1


def test_the_cache_is_really_used_and_can_be_left_out(tiny_ml, monkeypatch):
    first = load("ml-1m")
    monkeypatch.setattr("seqrec_lib.data.process", lambda *_: 1 / 0)
    assert load("ml-1m").split_hash == first.split_hash
    with pytest.raises(ZeroDivisionError):
        load("ml-1m", cache=False)


def test_changed_raw_files_are_read_anew(tiny_ml):
    load("ml-1m")
    tiny_ml.write("ml-1m/movies.dat", MOVIES.replace("Film 1 ", "Another "))
    assert load("ml-1m").titles[1] == "Another (1990)"


def flipped(content: bytes, offset: int, bit: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 1 << bit]) + content[offset + 1 :]


DAMAGES = {
    "nothing left": lambda content: b"",
    "no archive": lambda content: b"no archive",
    "cut within the header": lambda content: content[:6],
    "cut in half": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "more behind": lambda content: content + b"\0",
    "zeros in the middle": lambda content: content[:500] + bytes(200) + content[700:],
    "all zeros": lambda content: bytes(len(content)),
    "encrypted, says a bit": lambda content: flipped(content, content.index(b"PK\x01\x02") + 8, 0),
    "packed in another way, says a bit": lambda content: flipped(content, content.index(b"PK\x01\x02") + 10, 6),
    "an older one without a digest": lambda content: content[:-32],
    "arrays written anew by another program": lambda content: b"PK" + content[2:-32] + b"0" * 32,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again_without_a_word(tiny_ml, damage, recwarn):
    first = load("ml-1m")
    whole = cached()[0].read_bytes()
    cached()[0].write_bytes(DAMAGES[damage](whole))
    again = load("ml-1m")
    assert again.split_hash == first.split_hash
    np.testing.assert_array_equal(again.timestamps, first.timestamps)
    assert (again.titles, again.item_labels) == (first.titles, first.item_labels)
    assert library._restore("ml-1m", cached()[0]) is not None
    assert len(cached()) == 1 and not recwarn.list


def test_no_single_flipped_bit_of_the_cache_is_read(tiny_ml):
    load("ml-1m")
    (path,) = cached()
    whole = path.read_bytes()
    bits = np.random.default_rng(0).integers(8, size=len(whole))
    for offset, bit in enumerate(bits.tolist()):
        path.write_bytes(flipped(whole, offset, bit))
        assert library._restore("ml-1m", path) is None, f"bit {bit} at {offset}"
    path.write_bytes(whole)
    assert library._restore("ml-1m", path) is not None


def test_a_cache_under_another_name_is_not_read(tiny_ml):
    load("ml-1m")
    (path,) = cached()
    assert library._restore("ml-1m", path.rename(path.with_name("ml-1m-0123456789abcdef.npz"))) is None


@pytest.mark.parametrize("titles", ["", "\n\n", "\ufeff", "99::Another film::Drama\n", "1::::Drama\n"])
def test_titles_that_are_missing_are_said_at_each_load(tiny_ml, titles):
    tiny_ml.write("ml-1m/movies.dat", titles)
    for _ in range(2):  # read, then from the cache
        with pytest.warns(UserWarning, match=r"movies\.dat holds no title for any of the 6 items"):
            assert load("ml-1m").n_items == 6


@pytest.mark.parametrize("titles", ["", "item_id,title\n", "item_id,title\n1,\n2, \n"])
def test_where_untitled_items_are_dropped_missing_titles_are_an_error(data, titles):
    rows = "".join(f"{user},{item},{item}\n" for user in range(6) for item in range(6))
    data.write("amazon-2014-beauty/interactions.csv", "user_id,item_id,timestamp\n" + rows)
    data.write("amazon-2014-beauty/item_titles.csv", titles)
    with pytest.raises(SeqRecError, match=r"item_titles\.csv holds no titles, and items without one are dropped"):
        load("amazon-2014-beauty")


def test_an_unwritable_cache_only_costs_time(tiny_ml, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "file" / "cache"))
    assert load("ml-1m").n_users == 6


def test_bad_lines_are_errors_or_a_warning_with_their_number(tiny_ml):
    tiny_ml.write("ml-1m/ratings.dat", ratings() + "garbage\n1::2\n")
    with pytest.raises(SeqRecError, match=r"ratings.dat, line 37: 1 field, not 4"):
        load("ml-1m")
    with pytest.warns(UserWarning, match="ml-1m: skipped 2 bad lines"):
        sequences = load("ml-1m", strict=False)
    assert sequences.n_interactions == 36
    assert not cached()


def test_nothing_left_after_filtering_is_one_line(data):
    data.write("ml-1m/ratings.dat", ratings(users=4))
    data.write("ml-1m/movies.dat", MOVIES)
    with pytest.raises(SeqRecError, match="no interactions are left of 24 after 5-core filtering"):
        load("ml-1m")


def test_unknown_names_and_damaged_files_come_through(tiny_ml):
    with pytest.raises(SeqRecError, match="did you mean ml-1m"):
        load("ml-1")
    path = tiny_ml.write("ml-1m/ratings.dat.gz", ratings())
    (tiny_ml.root / "ml-1m/ratings.dat").unlink()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SeqRecError, match=r"ratings.dat.gz is damaged"):
        load("ml-1m")


def test_available(tiny_ml):
    assert available("demo") == (True, "simulated")
    assert available("ml-1m") == (True, str(tiny_ml.root / "ml-1m"))
    found, why = available("ml-100k")
    assert not found
    assert "'ml-100k' not found" in why


def test_a_new_data_set_is_one_entry(data, monkeypatch):
    entry = DatasetSpec(
        name="mine",
        title="Mine",
        homepage="https://example.org/mine",
        licence="CC BY 4.0",
        citation="Me (2026).",
        sources=(
            Source(
                read=readers.movielens_csv,
                files={"ratings": RemoteFile("ratings.csv"), "titles": RemoteFile("movies.csv")},
                archive=RemoteFile("mine.zip", "https://example.org/mine.zip"),
            ),
        ),
    )
    monkeypatch.setitem(DATASETS, "mine", entry)
    rows = "".join(f"{user},{movie},4,{movie}\n" for user in range(5) for movie in range(5))
    movies = "".join(f"{movie},Film {movie},x\n" for movie in range(5))
    members = {"a/ratings.csv": "userId,movieId,rating,timestamp\n" + rows}
    members["a/movies.csv"] = "movieId,title,genres\n" + movies
    data.zip("mine.zip", {name: text.encode() for name, text in members.items()})
    assert load("mine").titles == ("", *(f"Film {movie}" for movie in range(5)))


def test_demo_needs_no_files(data):
    assert verification(load("demo")) == "verified"


# ---- rebuilding the Amazon data sets from the raw public files ---------------------------------------------


def raw_reviews(seed: int) -> tuple[list[tuple[str, str, int]], dict[str, str | None]]:
    """Reviews in no order, with ties, duplicates, repeats at other times, rare users, untitled items."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"A{user:02d}X", f"B{item:03d}", int(rng.integers(6)) * 86_400)
        for user in range(12)
        for item in rng.permutation(14)[:9]
    ]
    rows += rows[::7]  # exact duplicates
    rows += [(user, item, time + 86_400) for user, item, time in rows[::11]]  # repeats
    rows += [(f"C{n}", "B001", 0) for n in range(3)] + [("A00X", f"D{n}", 0) for n in range(3)]  # rare
    titles: dict[str, str | None] = {f"B{item:03d}": f"Thing {item}, 'new'" for item in range(14)}
    titles |= {"B004": None, "B005": " "}
    titles |= {f"D{n}": "Rare" for n in range(3)}
    return [rows[n] for n in rng.permutation(len(rows))], titles


def processed(rows: list[tuple[str, str, int]], titles: dict[str, str | None]) -> tuple[str, str]:
    """The two csv files that a processed copy holds, made with plain Python as its makers describe it."""
    rows = [row for row in rows if (titles.get(row[1]) or "").strip()]
    rows = list(dict.fromkeys(rows))
    while True:
        users, items = [row[0] for row in rows], [row[1] for row in rows]
        kept = [row for row in rows if users.count(row[0]) >= 5 and items.count(row[1]) >= 5]
        if len(kept) == len(rows):
            break
        rows = kept
    user_ids = {label: 100 + n for n, label in enumerate(sorted({row[0] for row in rows}))}
    item_ids = {label: 100 + n for n, label in enumerate(sorted({row[1] for row in rows}))}
    rows = sorted(rows, key=lambda row: row[2])
    rows = sorted(rows, key=lambda row: row[0])  # stable: each user's rows stay in time order
    interactions = "".join(f"{user_ids[user]},{item_ids[item]},{time}\n" for user, item, time in rows)
    named = "".join(f'{number},"{titles[label]}"\n' for label, number in item_ids.items())
    return "user_id,item_id,timestamp\n" + interactions, "item_id,title\n" + named


@pytest.mark.parametrize(
    ("name", "reviews_file", "meta_file", "form"),
    [
        ("amazon-2014-beauty", "reviews_Beauty.json.gz", "meta_Beauty.json.gz", repr),
        ("amazon-2018-video-games", "Video_Games.json.gz", "meta_Video_Games.json.gz", json.dumps),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_raw_files_give_the_split_hash_of_the_processed_copy(data, name, reviews_file, meta_file, form, seed):
    rows, titles = raw_reviews(seed)
    interactions, named = processed(rows, titles)
    data.write(f"{name}/interactions.csv.gz", interactions)
    data.write(f"{name}/item_titles.csv.gz", named)
    copy = load(name)

    for file in (data.root / name).iterdir():
        file.unlink()
    reviews = ({"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time} for user, item, time in rows)
    data.write(f"{name}/{reviews_file}", "".join(json.dumps(review) + "\n" for review in reviews))
    meta = [{"asin": label} | ({} if title is None else {"title": title}) for label, title in titles.items()]
    data.write(f"{name}/{meta_file}", "".join(form(record) + "\n" for record in meta))
    rebuilt = load(name)

    assert statistics(copy)["tied_pairs"] > 0.05
    assert statistics(copy)["repeated_pairs"] > 0
    assert rebuilt.split_hash == copy.split_hash
    assert rebuilt.titles == copy.titles
    np.testing.assert_array_equal(rebuilt.timestamps, copy.timestamps)
    assert rebuilt.ratings is not None
    assert copy.ratings is None


def test_amazon_2023_by_either_format(data):
    keys = ("user_id", "parent_asin", "rating", "timestamp")
    pairs = [(user, item) for user in range(6) for item in range(6)]
    events = [(f"U{u}", f"P{p}", float(1 + (u * p) % 5), 10**12 + 1000 * ((u * p) % 4)) for u, p in pairs]
    records = [json.dumps(dict(zip(keys, event, strict=True))) for event in events]
    meta = "".join(json.dumps({"parent_asin": f"P{p}", "title": f"Game {p}"}) + "\n" for p in range(6))
    name = "amazon-2023-video-games"
    data.write(f"{name}/meta_Video_Games.jsonl.gz", meta)
    csv = data.write(f"{name}/Video_Games.csv.gz", "\n".join(",".join(map(str, row)) for row in [keys, *events]))
    from_csv = load(name)
    csv.unlink()
    data.write(f"{name}/Video_Games.jsonl.gz", "\n".join(records))
    from_json = load(name)
    assert from_csv.split_hash == from_json.split_hash
    assert from_csv.titles == from_json.titles == ("", *(f"Game {p}" for p in range(6)))
    assert from_json.timestamps.min() == 10**12

"""Orders of time: each by hand on a few rows, float32's steps, whose order a split has, and what a bad split says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from seqrec_lib.data import clean, get, load, read, statistics
from seqrec_lib.data.download import locate
from seqrec_lib.data.interactions import ORDERS, Interactions, Order, time_order, to_sequences
from seqrec_lib.data.orders import Match, compare, difference, in_every_order, read_split, whose_order
from seqrec_lib.errors import SeqRecError

# One user in file order. 1e9 is a multiple of 64, so that as float32 numbers 1e9 + 20 and 1e9 + 5 are both 1e9.
ITEMS = [30, 10, 20, 40, 50]
TIMES = [1_000_000_020, 1_000_000_020, 1_000_000_020, 1_000_000_005, 999_999_000]
BY_HAND: dict[Order, list[int]] = {
    "true": [50, 40, 30, 10, 20],
    "recbole": [50, 30, 10, 20, 40],
    "ties-item-id": [50, 40, 10, 20, 30],
    # The generator's first three numbers are .64, .27, .04 by seed 0; .51, .95, .14 by 1; .26, .30, .81 by 2.
    "ties-random-0": [50, 40, 20, 10, 30],
    "ties-random-1": [50, 40, 20, 30, 10],
    "ties-random-2": [50, 40, 30, 10, 20],
    "file-order": [30, 10, 20, 40, 50],
}


def one_user(items: list[int], times: list[int]) -> Interactions:
    return Interactions(np.zeros(len(items), dtype=np.int64), np.array(items), np.array(times), None, {})


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_by_hand(order: Order) -> None:
    sequences = to_sequences("tiny", one_user(ITEMS, TIMES), order)
    assert [int(sequences.item_labels[item]) for item in sequences.items] == BY_HAND[order]
    assert sorted(sequences.timestamps.tolist()) == sorted(TIMES)
    by_item = dict(zip(ITEMS, TIMES, strict=True))
    assert sequences.timestamps.tolist() == [by_item[item] for item in BY_HAND[order]]
    numbers = statistics(sequences)  # of the five in time, the last three tie: two of four pairs
    assert (numbers["tied_pairs"], numbers["tied_last_two"]) == (0.5, 1.0)


def test_orders_of_the_tiny_user_differ_where_they_were_told_apart_by_hand() -> None:
    orders = in_every_order("tiny", one_user(ITEMS, TIMES))
    apart = difference(orders["true"], orders["recbole"])  # 50 40 30 10 20 and 50 30 10 20 40
    assert (apart.test, apart.valid, apart.histories, apart.positions) == (1, 1, 1, 4)
    assert (apart.users, apart.interactions) == (1, 5)
    apart = difference(orders["true"], orders["ties-item-id"])  # 50 40 30 10 20 and 50 40 10 20 30
    assert (apart.test, apart.valid, apart.histories, apart.positions) == (1, 1, 1, 3)
    assert difference(orders["true"], orders["ties-random-2"]).histories == 0
    with pytest.raises(SeqRecError, match="not the same interactions"):
        difference(orders["true"], to_sequences("tiny", one_user(ITEMS[:4], TIMES[:4])))


def test_users_do_not_mix_and_random_ties_are_fair() -> None:
    n = 3000  # users of three rows each, the last two tied; rows of different users alternate
    users, items = np.tile(np.arange(n), 3), np.repeat([0, 1, 2], n)
    times = np.repeat([5, 7, 7], n)
    tests = {}
    for order in ORDERS:
        rows = time_order(users, items, times, order).reshape(n, 3)
        assert (users[rows] == np.arange(n)[:, None]).all()
        assert (items[rows[:, 0]] == 0).all()
        tests[order] = items[rows[:, 2]]
        assert (time_order(users, items, times, order) == rows.ravel()).all()
    assert all((tests[order] == 2).all() for order in ORDERS if not order.startswith("ties-random"))
    for seed in range(3):  # the standard deviation of the share is .009
        assert abs((tests[f"ties-random-{seed}"] == 2).mean() - 0.5) < 0.05  # type: ignore[index]
    assert 0.4 < (tests["ties-random-0"] == tests["ties-random-1"]).mean() < 0.6


@pytest.mark.parametrize(
    ("multiple", "step"),
    [
        (15_625_000 * 64, 64),  # seconds, September 2001
        (12_207_030 * 131_072, 131_072),  # milliseconds, September 2020
    ],
)
def test_float32_rounds_to_steps_of_this_size(multiple: int, step: int) -> None:
    """Half a step is the farthest that a time moves; exactly half goes to the even neighbour, here downwards."""
    for later, falls_together in ((step // 2 - 1, True), (step // 2, True), (step // 2 + 1, False), (step, False)):
        rows = one_user([1, 2, 3], [multiple + later, multiple, multiple - 10 * step])
        items = to_sequences("tiny", rows, "recbole").items.tolist()
        assert items == ([3, 1, 2] if falls_together else [3, 2, 1]), later
        assert to_sequences("tiny", rows).items.tolist() == [3, 2, 1]


def test_whole_days_keep_the_true_order_in_float32() -> None:
    """86,400 is 675 times 128, and 675 times a day's number stays below 2**24, float32's digits, until 2038."""
    days = np.arange(2**31 // 86_400 + 1) * 86_400
    assert (days.astype(np.float32).astype(np.int64) == days).all()
    rng = np.random.default_rng(0)
    users, items, times = rng.integers(0, 20, 500), rng.integers(0, 50, 500), rng.choice(days, 500)
    expected = time_order(users, items, times, "true")
    assert (time_order(users, items, times, "recbole") == expected).all()


@pytest.mark.data
@pytest.mark.parametrize("name", ["amazon-2014-beauty", "amazon-2018-video-games"])
def test_the_older_reviews_have_days_for_times_so_that_recboles_order_is_the_true_one(name: str) -> None:
    if locate(get(name)) is None:
        pytest.skip(f"data set {name!r} not found; set SEQREC_DATA")
    rows = clean(get(name), read(name))
    assert (rows.timestamps % 86_400 == 0).all()
    assert to_sequences(name, rows, "recbole").split_hash == to_sequences(name, rows).split_hash == get(name).split_hash
    assert "recbole" not in get(name).orders


# ---- the data sets ------------------------------------------------------------------------------------------------


MOVIES = "".join(f"{movie}::Film {movie} (1990)::Drama\n" for movie in range(1, 8))


@pytest.fixture
def tiny_ml(data):
    """Six users who rate six films under the name of ml-1m: the same films last, in ties and 20 s apart."""
    rows = [
        (user, 1 + (user + step) % 6, 1_000_000_000 + (0, 0, 100, 200, 220, 220)[step])
        for user in range(1, 7)
        for step in (0, 1, 2, 3, 5, 4)
    ]
    rows += [(1, 7, 1_000_000_900), (7, 1, 1_000_000_900)]  # too rare: film 7, user 7
    data.write("ml-1m/ratings.dat", "".join(f"{user}::{item}::5::{time}\n" for user, item, time in rows))
    data.write("ml-1m/movies.dat", MOVIES)
    return data


def test_a_data_set_in_another_order_reads_its_bases_files_and_has_a_cache_of_its_own(tiny_ml) -> None:
    # user 6 has films 1, 2, 3, 4, then 6 and 5 at one time in this order of the file
    user_6 = {"ml-1m": [1, 2, 3, 4, 6, 5], "ml-1m-ties-item-id": [1, 2, 3, 4, 5, 6]}
    for _ in range(2):  # read, then from the cache
        for name, expected in user_6.items():
            sequences = load(name)
            assert sequences.name == name
            assert sequences.items[-6:].tolist() == expected
    tiny_ml.write("ml-1m-recbole/ratings.dat", "not read")
    tiny_ml.write("ml-1m-recbole/movies.dat", MOVIES)
    assert load("ml-1m-recbole", cache=False).n_users == 6


def test_comparing_says_how_many_users_differ(tiny_ml) -> None:
    found = compare("ml-1m-recbole")
    assert found.dataset == "ml-1m"
    assert set(found.differences) == {(a, b) for i, a in enumerate(ORDERS) for b in ORDERS[i + 1 :]}
    apart = found.differences["true", "ties-item-id"]
    # The last two of user u in file order are films (u + 5) % 6 + 1 and (u + 4) % 6 + 1, the smaller one but for u = 1
    assert (apart.test, apart.valid, apart.users) == (5, 5, 6)
    assert found.differences["true", "file-order"].histories == 0
    assert found.ties == (2 / 5, 1.0)
    # float32 steps of 64 s: 0, 0, 100 -> 128, 200 and 220 -> 192
    assert found.ties_float32 == (3 / 5, 1.0)


def last_items(sequences, labels: list[int]) -> list[tuple[str, str]]:
    targets = sequences.split("test").targets
    return [(str(label), sequences.item_labels[item]) for label, item in zip(labels, targets, strict=True)]


def write(folder: Path, pairs: list[tuple[str, str]], header: str = "") -> Path:
    path = folder / "split.csv"
    path.write_text(header + "".join(f"{user},{item}\n" for user, item in pairs))
    return path


def test_a_split_is_recognised(tiny_ml, tmp_path: Path) -> None:
    pairs = last_items(load("ml-1m-ties-item-id"), [1, 2, 3, 4, 5, 6])
    for header, dataset in (
        ("", "ml-1m"),
        ("user_id:token,item_id:token\n", None),
        ("userId,movieId\n\n", "ml-1m-recbole"),
    ):
        found = whose_order(write(tmp_path, pairs, header), dataset)
        assert (found.dataset, found.users, found.missing, found.filtered) == ("ml-1m", 6, 0, 0)
        assert found.differing["true"] == 5 and "ties-item-id" in found.equal
        assert found.differing[found.nearest] == 0
        assert "ties-item-id" in found.verdict and found.verdict.startswith("The test items are those of")


def test_how_far_a_split_is_from_each_order(tiny_ml, tmp_path: Path) -> None:
    pairs = dict(last_items(load("ml-1m"), [1, 2, 3, 4, 5, 6]))
    del pairs["2"]
    pairs |= {"3": "7", "7": "1"}  # film 7 and user 7 are not in the 5-core
    found = whose_order(write(tmp_path, list(pairs.items())), "ml-1m")
    assert (found.users, found.missing, found.filtered) == (6, 1, 2)
    assert (found.differing["true"], found.nearest, found.equal) == (2, "true", ())
    assert set(found.differing) == set(ORDERS)


def test_ids_that_a_loader_gave_are_suspected() -> None:
    far = Match("ml-1m", dict.fromkeys(ORDERS, 95), 100, 0, 0, 5)
    assert "source's" in far.verdict
    assert "source's" not in Match("ml-1m", dict.fromkeys(ORDERS, 25), 100, 0, 0, 75).verdict


def test_the_verdict_is_whole_sentences() -> None:
    counts = dict.fromkeys(ORDERS, 40)
    assert Match("ml-1m", counts | {"recbole": 0}, 100, 0, 0, 75).verdict == (
        "The test items are those of the order recbole."
    )
    assert Match("ml-1m", counts | {"true": 2}, 100, 1_200, 2, 98).verdict == (
        "The test items are those of no known order. The nearest is true, which gives 2.0% of the users another test "
        "item. Each test item has its user's latest time, so that only the rule for ties differs. An unstable sort has "
        "no fixed rule. The 5-core drops the user or the item of 2 test items. The file lacks 1,200 users of the data "
        "set."
    )


def test_a_split_that_breaks_ties_by_another_rule_is_told_from_one_with_other_times(tiny_ml, tmp_path: Path) -> None:
    # the last two of each user tie: user 1's are films 1 and 6, user 2's 2 and 1, user 3's 3 and 2
    found = whose_order(write(tmp_path, [("1", "1"), ("2", "1"), ("3", "3")]), "ml-1m")
    assert not found.equal and found.latest == 3 and "unstable" in found.verdict
    found = whose_order(write(tmp_path, [("1", "1"), ("2", "1"), ("3", "6")]), "ml-1m")  # film 6 is user 3's third
    assert not found.equal and found.latest == 2 and "unstable" not in found.verdict


def test_the_data_set_is_the_nearest_of_those_with_these_ids(tiny_ml, tmp_path: Path) -> None:
    # The same users and items in ml-100k, each user's in the opposite order
    rows = [(user, 1 + (user + step) % 6, 1_000_000_000 - 100 * step) for user in range(1, 7) for step in range(6)]
    tiny_ml.write("ml-100k/u.data", "".join(f"{user}\t{item}\t3\t{time}\n" for user, item, time in rows))
    tiny_ml.write("ml-100k/u.item", "".join(f"{movie}|Film {movie}|1990\n" for movie in range(1, 7)))
    for name in ("ml-100k", "ml-1m"):
        pairs = last_items(load(name), [1, 2, 3, 4, 5, 6])
        found = whose_order(write(tmp_path, pairs))
        assert (found.dataset, found.nearest) == (name, "true")


@pytest.mark.parametrize(
    "content", ["user,item,movie\n1,2,3\n", "item,userid,user\n2,9,1\n", "movie:token,user_id:token\n2,1\n", "1,2\n"]
)
def test_a_column_may_have_its_very_name_beside_others_that_could_be_meant(content: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(content)
    assert read_split(path) == {"1": "2"}


def test_a_first_line_of_words_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("someone,book\nelse,film\n")
    assert read_split(path) == {"someone": "book", "else": "film"}
    with pytest.raises(SeqRecError, match="no such file; give a csv file"):
        read_split(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; write user,item"),
        (b"\n \n", "is empty"),
        (b"user,item\n", "a header and no line below it"),
        (b"user\n1\n", "'user' has no columns for the item; name one of them item"),
        (b"user,rating\n1,2\n", "has no columns for the item"),
        (b"user,movie,asin\n1,2,3\n", "has 2 columns for the item"),
        (b"1,2,3\n", "3 fields on line 1, '1,2,3'; give two"),
        (b"1;2\n3;4\n", "1 fields on line 1, '1;2'; give two"),
        (b"1,2\n\n2,3,4\n", r"line 3: 3 fields, not 2, in '2,3,4'"),
        (b"1,2\n2,\n", r"line 2: an empty field in '2,'"),
        (b"user,item\n1,2\n1,2\n", "line 3: user '1', who is already on line 2, in '1,2'; write user,item"),
        (b'1,"2\n', "line 1: a quote that does not enclose a whole field"),
        (b"PK\x03\x04\xff\xfe", "line 1: text that is not UTF-8"),
        (b"PAR1\x00\x00", "line 1: a zero byte"),
        (b"a\x00,b\n", "line 1: a zero byte"),
    ],
)
def test_a_bad_split_gets_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(SeqRecError, match=message) as caught:
        read_split(path)
    assert str(path) in str(caught.value)


def test_a_split_that_is_not_there_or_a_folder_gets_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(SeqRecError, match=f"{re.escape(str(path))}: no such file; give a csv file"):
            read_split(path)


def test_unknown_ids_get_one_line_with_the_id(tiny_ml, tmp_path: Path) -> None:
    for pairs, said in (([("1", "2"), ("99", "3")], "no user '99'"), ([("1", "77")], "no item '77' .of user '1'")):
        with pytest.raises(SeqRecError, match=f"ml-1m has {said}"):
            whose_order(write(tmp_path, pairs), "ml-1m")
    with pytest.raises(SeqRecError, match=r"no data set here has all its ids \(ml-1m has no item 'B00'\)"):
        whose_order(write(tmp_path, [("1", "B00"), ("2", "B01")]))
    with pytest.raises(SeqRecError, match=r"no data set here has all its ids \(ml-1m has no user 'x'\)"):
        whose_order(write(tmp_path, [("x", "1")]))
    with pytest.raises(SeqRecError, match="unknown data set 'ml-1n'"):
        whose_order(write(tmp_path, [("1", "1")]), "ml-1n")


def test_without_data_the_split_is_compared_with_nothing(data, tmp_path: Path) -> None:
    with pytest.raises(SeqRecError, match="no data set is here to compare it with; set SEQREC_DATA"):
        whose_order(write(tmp_path, [("1", "1")]))
    with pytest.raises(SeqRecError, match="data set 'ml-1m' not found"):
        whose_order(write(tmp_path, [("1", "1")]), "ml-1m-recbole")

"""One file of ratings in several orders of time: how far their splits are apart, and whose order a given split has.

``seqrec data orders`` compares the orders of :data:`~seqrec_lib.data.interactions.Order` with each other, and
``seqrec data whose-order`` somebody's test items with each of them. The order of code that sorts by an unstable
algorithm (HSTU, FuXi) is none of these: it depends on the processor, so that no fixed split belongs to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqrec_lib.data import DATASETS, Interactions, Sequences, available, clean, get, load, read
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.interactions import ORDERS, Order, encode, ties, to_sequences
from seqrec_lib.data.own_table import plain
from seqrec_lib.data.registry import base_name
from seqrec_lib.data.tables import BadLines, Table, shown, split_cells
from seqrec_lib.errors import SeqRecError

CSV = Table(",", {})
COLUMNS = {
    "user": ("user", "userid", "uid", "reviewerid"),
    "item": ("item", "itemid", "iid", "sid", "movie", "movieid", "asin", "parentasin", "test", "testitem", "target"),
}
"""Fewer names than a file of interactions may have: where there is no header, the first line's ids may be words."""


@dataclass(frozen=True)
class Difference:
    """What two orders of the same interactions do not share.

    test, valid: users with another test or validation item; histories: users with another item at any position;
    positions: of all users together. Counts, of ``users`` and of ``interactions``.
    """

    test: int
    valid: int
    histories: int
    positions: int
    users: int
    interactions: int


@dataclass(frozen=True)
class Comparison:
    """The orders of a data set beside each other.

    dataset: the one in the true order; differences: by pair of orders
    ties, ties_float32: shares of consecutive interactions of a user, and of users' last two, with equal times: as the
        source has them, and as float32 numbers
    """

    dataset: str
    differences: Mapping[tuple[Order, Order], Difference]
    ties: tuple[float, float]
    ties_float32: tuple[float, float]


@dataclass(frozen=True)
class Match:
    """Somebody's test items beside those of each order of a data set.

    differing: by order, the users of the split with another test item; users: of the split
    missing: users of the data set that the split does not have
    filtered: users of the split whose user or item the k-core drops; they differ from every order
    latest: users of the split whose test item has the latest of their timestamps, as it has in each order but
        RecBole's and the file's
    """

    dataset: str
    differing: Mapping[Order, int]
    users: int
    missing: int
    filtered: int
    latest: int

    @property
    def equal(self) -> tuple[Order, ...]:
        """The orders that give all these test items."""
        return tuple(order for order, count in self.differing.items() if not count)

    @property
    def nearest(self) -> Order:
        """The order with the fewest differing users; the first in the list of orders where several have as few."""
        return min(self.differing, key=lambda order: self.differing[order])

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        share = f"{self.differing[self.nearest] / self.users:.1%}"
        sentences = []
        if len(self.equal) == 1:
            sentences.append(f"The test items are those of the order {self.nearest}.")
        elif self.equal:
            sentences.append(f"The test items are those of several orders: {', '.join(self.equal)}.")
        else:
            sentences.append(
                "The test items are those of no known order. "
                f"The nearest is {self.nearest}, which gives {share} of the users another test item."
            )
        if not self.equal and self.latest == self.users - self.filtered:
            sentences.append(
                "Each test item has its user's latest time, so that only the rule for ties differs. "
                "An unstable sort has no fixed rule."
            )
        if self.differing[self.nearest] > 0.9 * self.users:
            sentences.append("Check that the ids are the source's, not numbers that a loader gave.")
        if self.filtered:
            sentences.append(f"The 5-core drops the user or the item of {self.filtered:,} test items.")
        if self.missing:
            sentences.append(f"The file lacks {self.missing:,} users of the data set.")
        return " ".join(sentences)


def in_every_order(name: str, rows: Interactions) -> dict[Order, Sequences]:
    """The data set's sequences in each order; ``rows``: of its files, cleaned and filtered (``data.clean``)."""
    return {order: to_sequences(name, rows, order) for order in ORDERS}


def difference(a: Sequences, b: Sequences) -> Difference:
    """Compare two orders of the same interactions, position by position.

    Raises:
        SeqRecError: the two do not have the same users with as many interactions each.
    """
    if not np.array_equal(a.offsets, b.offsets) or a.item_labels != b.item_labels:
        raise SeqRecError(
            f"{a.name} and {b.name} are not the same interactions ({a.n_users:,} users, {a.n_interactions:,} rows; "
            f"{b.n_users:,}, {b.n_interactions:,}); filter both alike"
        )
    unequal = a.items != b.items
    last = a.offsets[1:] - 1
    return Difference(
        test=int(unequal[last].sum()),
        valid=int(unequal[last - 1].sum()),
        histories=int((np.add.reduceat(unequal, a.offsets[:-1], dtype=np.int64) > 0).sum()),
        positions=int(unequal.sum()),
        users=a.n_users,
        interactions=a.n_interactions,
    )


def compare(name: str) -> Comparison:
    """Every pair of orders of a data set (its name may be that of one in another order).

    Raises SeqRecError as ``load`` does.
    """
    base = base_name(get(name).name)
    orders = in_every_order(base, clean(get(base), read(base)))
    true = orders["true"]
    return Comparison(
        dataset=base,
        differences={(a, b): difference(orders[a], orders[b]) for a, b in itertools.combinations(ORDERS, 2)},
        ties=ties(true.offsets, true.timestamps),
        ties_float32=ties(true.offsets, true.timestamps.astype(np.float32)),
    )


def whose_order(path: Path, dataset: str | None = None) -> Match:
    """Compare a split, a csv file of users and their test items, with the orders of a data set.

    dataset: None: of the data sets that are here and know all ids of the file, the one that is nearest

    Raises:
        SeqRecError: the file is bad (see :func:`read_split`), an id is unknown, or the data set is not here.
    """
    split = read_split(path)
    if dataset is not None:
        base = base_name(get(dataset).name)
        rows = read(base)
        if unknown := _unknown(split, rows):
            raise SeqRecError(f"{path}: {base} has no {unknown}; give the ids of its source, or another --dataset")
        return _match(split, base, rows)
    here = [name for name, spec in DATASETS.items() if spec.base is None and spec.sources and available(name)[0]]
    if not here:
        raise SeqRecError(f"{path}: no data set is here to compare it with; set SEQREC_DATA, or name one by --dataset")
    matches, reasons = [], []
    for name in here:
        known, items = set(load(name).item_labels), set(split.values())
        if 2 * len(items & known) < len(items):  # spares reading files that are not meant
            reasons.append(f"{name} has no item {next(item for item in split.values() if item not in known)!r}")
            continue
        rows = read(name)
        if unknown := _unknown(split, rows):
            reasons.append(f"{name} has no {unknown}")
        else:
            matches.append(_match(split, name, rows))
    if not matches:
        raise SeqRecError(f"{path}: no data set here has all its ids ({'; '.join(reasons)}); give the source's ids")
    return min(matches, key=lambda match: match.differing[match.nearest])


def read_split(path: Path) -> dict[str, str]:
    """User -> test item, as text, from a csv file with a line for each user.

    The first line may name the columns (see ``COLUMNS``; then there may be more than two).

    Raises:
        SeqRecError: no such file, not text, empty, a missing column, an empty field, or a user that comes twice.
    """
    raw, bad = RawFile(path), BadLines(strict=True, remedy="write user,item on each line of a csv file")
    if not path.is_file():
        raise SeqRecError(f"{path}: no such file; give a csv file with user,item on each line")
    split: dict[str, str] = {}
    numbers: dict[str, int] = {}
    first: list[str] = []
    for number, line in raw.lines():
        if not line.strip(b" \t,"):
            continue
        try:
            if b"\0" in line:
                raise ValueError("a zero byte")
            cells = [cell.decode().strip() for cell in split_cells(line, CSV)]
            if not first:
                first, places = cells, _columns(path, cells)
                if places is not None:
                    continue
            user, item = places or (0, 1)
            if len(cells) != len(first):
                raise ValueError(f"{len(cells)} fields, not {len(first)},")
            if not cells[user] or not cells[item]:
                raise ValueError("an empty field")
            if cells[user] in split:
                raise ValueError(f"user {cells[user]!r}, who is already on line {numbers[cells[user]]},")
        except ValueError as error:
            bad.report(raw, number, line, error)
        split[cells[user]], numbers[cells[user]] = cells[item], number
    if not split:
        raise SeqRecError(f"{path} {'has a header and no line below it' if first else 'is empty'}; {bad.remedy}")
    return split


def _columns(path: Path, first: Sequence[str]) -> tuple[int, int] | None:
    """Places of user and item in a header; None: the line is none, and holds a user and an item."""
    found = {role: [place for place, name in enumerate(first) if plain(name) in COLUMNS[role]] for role in COLUMNS}
    if not any(found.values()):
        if len(first) == 2:
            return None
        raise SeqRecError(
            f"{path}: {len(first)} fields on line 1, {shown(','.join(first))}; give two, user and item, separated by a "
            "comma, or a header that names the columns user and item"
        )
    for role, places in found.items():
        found[role] = places = [place for place in places if plain(first[place]) == role] or places
        if len(places) != 1:
            raise SeqRecError(
                f"{path}: the header {shown(','.join(first))} has {len(places) or 'no'} columns for the {role}; name "
                f"one of them {role}"
            )
    return found["user"][0], found["item"][0]


def _unknown(split: Mapping[str, str], rows: Interactions) -> str:
    """The first user or item of the split that the data set's files do not have; empty where all are known."""
    users, items = ({str(label) for label in set(encode(labels)[1])} for labels in (rows.users, rows.items))
    for user, item in split.items():
        if user not in users:
            return f"user {user!r}"
        if item not in items:
            return f"item {item!r} (of user {user!r})"
    return ""


def _match(split: Mapping[str, str], name: str, rows: Interactions) -> Match:
    filtered_rows = clean(get(name), rows)
    orders = in_every_order(name, filtered_rows)
    labels = sorted(set(encode(filtered_rows.users)[1].tolist()))  # users are numbered in this order
    place = {str(label): user for user, label in enumerate(labels)}
    number = {label: item for item, label in enumerate(orders["true"].item_labels)}
    known = [(place[user], number[item]) for user, item in split.items() if user in place and item in number]
    users, items = np.array(known, dtype=np.int64).reshape(-1, 2).T
    filtered = len(split) - len(known)
    true = orders["true"]
    owners = np.repeat(np.arange(true.n_users), true.lengths)
    at_the_end = true.timestamps == true.timestamps[true.offsets[1:] - 1][owners]
    latest = np.isin(users * len(number) + items, (owners * len(number) + true.items)[at_the_end])
    return Match(
        dataset=name,
        differing={
            order: filtered + int((sequences.split("test").targets[users] != items).sum())
            for order, sequences in orders.items()
        },
        users=len(split),
        missing=len(place.keys() - split.keys()),
        filtered=filtered,
        latest=int(latest.sum()),
    )

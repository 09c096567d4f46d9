"""A reader's csv or Parquet file as interactions: columns are found, and cells are read as `tables` reads them.

Whatever a file's form, its cells are text, block by block, so that memory grows with the interactions alone. Ids are
any text, without the blanks around it; timestamps are those of `times`, ratings decimal numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqrec_lib.data import interactions, tables
from seqrec_lib.data.files import MARK, RawFile
from seqrec_lib.data.interactions import Interactions
from seqrec_lib.data.readers import csv_titles
from seqrec_lib.data.tables import BadLines, Block, Columns, Table, shown
from seqrec_lib.data.times import Clock
from seqrec_lib.errors import SeqRecError
from seqrec_lib.validation import refuse_unknown

USUAL: dict[str, tuple[str, ...]] = {  # names of columns, in small letters and digits alone
    "user": ("user", "userid", "uid", "reviewerid", "customer", "customerid", "visitorid"),
    "item": (
        *("item", "itemid", "iid", "movie", "movieid", "product", "productid", "asin", "parentasin"),
        *("article", "articleid", "track", "trackid", "book", "bookid", "isbn", "sku"),
    ),
    "timestamp": (
        *("timestamp", "timestamps", "time", "datetime", "date", "ts"),
        *("unixreviewtime", "unixtime", "createdat"),
    ),
    "rating": ("rating", "ratings", "stars", "score", "overall"),
    "title": ("title", "itemtitle", "movietitle", "producttitle", "itemname", "productname"),
}
NEEDED = ("user", "item", "timestamp")
BY_ROW = "timestamp= where the file's rows are in the order of time"
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
TITLE_ROLES = ("item", "title")  # the columns of a file of titles
OTHER_FORMS = {  # files that are no csv, by how they begin
    re.compile(rb"PK\x03\x04|\xd0\xcf\x11\xe0"): "a zip archive or a spreadsheet",
    re.compile(rb'\s*(\{\s*"|\[\s*[\[{])'): "JSON",
    re.compile(rb"(?i)\s*<([!?]|html|head|body|table)"): "HTML or XML",
    re.compile(rb"PAR1"): "Parquet",
}
LIKE_MISSING = frozenset({"na", "n/a", "nan", "none", "null", "<na>", "nat", "\\n"})  # in small letters
PARQUET_ROWS = 1 << 17  # of a block
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # the one way to write a number: ids like 007 stay text


def layout(raw: RawFile, options: Mapping[str, str], titles: RawFile | None = None) -> Table:
    """Read a file's header and find its columns. The separator of a Parquet file is "".

    Args:
        options: names of columns by role, and "separator", one of `SEPARATORS`; what is not given is found.
        titles: the file of titles, if there is one; a name that only its header has is that of a column there.

    Raises:
        SeqRecError: the file is empty, or neither csv nor Parquet, or a column is missing or not clear.
    """
    if _begin(raw).startswith(b"PAR1"):
        separator, names = "", _parquet(raw).schema_arrow.names
        tables.check_header(raw, names, ())
    else:
        text = _first_line(raw)
        try:
            names, separator = _header(raw, text.decode("utf-8"), options)
        except UnicodeDecodeError as error:
            problem = f"byte {error.start} is no UTF-8 text"
            raise SeqRecError(f"{raw.label}, line 1: {problem}; save it as csv in UTF-8") from None
    elsewhere = set() if titles is None else {*titles_header(titles)[0]} - {*names}
    ours = {name: value for name, value in options.items() if name not in TITLE_ROLES or value not in elsewhere}
    return Table(separator, find_columns(raw.label, names, ours), labels=str)


def titles_header(raw: RawFile) -> tuple[list[str], str]:
    """(names, separator) of a file of titles, which may be in Windows' letters. Raises SeqRecError as `layout`."""
    line = _first_line(raw)
    try:
        return _header(raw, line.decode("utf-8"), None)
    except UnicodeDecodeError:
        return _header(raw, line.decode("cp1252", "replace"), None)


def _begin(raw: RawFile) -> bytes:
    """A file's first bytes, without a byte-order mark."""
    with raw.open() as stream:
        return stream.read(16).removeprefix(MARK)


def _first_line(raw: RawFile) -> bytes:
    """The first line of a csv file. Raises SeqRecError where it is of another form, or empty."""
    begin = _begin(raw)
    for sign, form in OTHER_FORMS.items():
        if sign.match(begin):
            raise SeqRecError(f"{raw.label} is {form}, which is not read; save its table as csv")
    _, block = next(raw.blocks(), (1, b""))
    line = block.partition(b"\n")[0].rstrip(b"\r")
    if not line.strip():
        raise SeqRecError(f"{raw.label}: line 1 is empty; give a csv file whose first line names the columns")
    if b"\0" in line:
        raise SeqRecError(f"{raw.label} holds zero bytes, as no csv file does; give a csv or Parquet file")
    if b"\r" in line:
        problem = "a carriage return in the midst of the line"
        raise SeqRecError(f"{raw.label}, line 1: {problem}; save it with the line ends of Unix or Windows")
    return line


def _header(raw: RawFile, text: str, options: Mapping[str, str] | None) -> tuple[list[str], str]:
    """(names, separator) of a csv file's first line. Without options, no separator can be named for the file."""
    if options and "separator" in options:
        there = [options["separator"]]
    else:
        there = [name for name, sign in SEPARATORS.items() if sign in re.sub(r'"[^"]*"', "", text)]
    if len(there) != 1:
        what = f"{' and '.join(there)} may" if there else f"none of {', '.join(SEPARATORS)} does"
        choices = " or ".join(f"separator={name}" for name in there or SEPARATORS)
        named = "" if options is None else f"say {choices} by --columns, or "
        raise SeqRecError(
            f"{raw.label}: {what} separate the columns that line 1, {shown(text)}, names; {named}write a first line "
            "that names the columns, with one of these between them"
        )
    separator = SEPARATORS[there[0]]
    return tables.read_header(raw, text.encode(), Table(separator, {})), separator


def find_columns(
    label: str,
    names: Sequence[str],
    given: Mapping[str, str],
    needed: Sequence[str] = NEEDED,
    roles: Collection[str] = USUAL.keys(),
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The column of each role: the one given, else the only one of a usual name. Optional roles may have none.

    remedies: by role, what to do where a column that is needed is not found; else it is to be named by --columns.

    Raises:
        SeqRecError: a column is given that is not there, two may be meant, or none is found for a role that is needed.

    >>> find_columns("a.csv", ["userId", "movieId", "rating", "timestamp"], {})
    {'user': 'userId', 'item': 'movieId', 'timestamp': 'timestamp', 'rating': 'rating'}
    """
    columns: dict[str, str] = {}
    chosen = {role: given[role] for role in roles if role in given}
    for role in roles:
        needless = role not in needed or role == "timestamp"
        if not needless or chosen.get(role) != "":  # "rating=": not to be read; "timestamp=": the rows are in its order
            refuse_unknown([chosen[role]] if role in chosen else [], names, f"column of the {role}", label)
            usual = [name for name in names if plain(name) in USUAL[role] and name not in chosen.values()]
            found = [chosen[role]] if role in chosen else usual
            if len(found) > 1 or (not found and role in needed):
                optional = "" if role in needed else f", or {role}= for none of them"
                raise SeqRecError(f"{label}: {_which(label, role, found, names, remedies.get(role))}{optional}")
            if found:
                columns[role] = found[0]
    for name in columns.values():
        if len(roles := [role for role, other in columns.items() if other == name]) > 1:
            raise SeqRecError(f"{label}: column {name!r} is given for {' and '.join(roles)}; name one for each")
    return columns


def _which(label: str, role: str, found: Sequence[str], names: Sequence[str], remedy: str | None) -> str:
    """The question to ask where no column, or several, may have a role."""
    if not found:
        by_name = f"name it by --columns {role}=NAME (in a notebook file:{Path(label).name}?{role}=NAME)"
        by_name += f", or say {BY_ROW}" if role == "timestamp" else ""
        return (
            f"no column among {shown(', '.join(names))} has a usual name of the {role}; {remedy or by_name}; where "
            "these are no names, write a first line that names the columns"
        )
    choices = " or ".join(f"{role}={name}" for name in found)
    return f"{len(found)} columns may be the {role}; say which by --columns {choices}"


def plain(name: str) -> str:
    """A column's name as `USUAL` has it."""
    return re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0])  # RecBole writes the type behind a colon


def _parquet(raw: RawFile) -> pq.ParquetFile:
    if raw.path.suffix == ".gz":
        raise SeqRecError(f"{raw.label} is a gzipped Parquet file; unpack it")
    try:
        return pq.ParquetFile(raw.path)
    except (pa.ArrowException, OSError) as error:
        raise SeqRecError(_damaged(raw, error)) from None


def _damaged(raw: RawFile, error: Exception) -> str:
    return f"{raw.label} is no sound Parquet file ({' '.join(str(error).split())[:160]}); write it again"


@dataclass
class Reading:
    """One file while it is read: how its times are, its titles, and the bad lines."""

    raw: RawFile
    table: Table
    clock: Clock
    bad: BadLines
    titles: dict[int | str, str] = field(default_factory=dict)
    other_titles: int = 0  # rows whose title is another than the first of their item

    def read(self) -> Interactions:
        """All rows, in the file's order.

        Raises:
            SeqRecError: a bad line that is not skipped, more bad lines than good ones, or no line at all.
        """
        names = self.table.columns
        readers: dict[str, tables.Reader] = {
            "user": partial(tables.text_labels, column=names["user"], blanks=" \t"),
            "item": partial(tables.text_labels, column=names["item"], blanks=" \t"),
        }
        if "timestamp" in names:
            readers["timestamp"] = self.clock.read
        if "rating" in names:
            hint = " (--columns rating= leaves ratings out)"
            readers["rating"] = partial(tables.real_numbers, column=names["rating"], hint=hint)
        columns = Columns(self.raw, readers, self.bad)
        for block in tables.split_file(self.raw, self.table) if self.table.separator else self._parquet_blocks():
            good = columns.take(block)
            if "title" in block.texts:
                self._take_titles(block.texts["item"].filter(good), block.texts["title"].filter(good))
        if "timestamp" in names:
            columns.blocks["timestamp"] = self.clock.finish(columns.blocks["timestamp"])
        else:
            columns.blocks["timestamp"] = self.clock.count(sum(map(len, columns.blocks["user"])))
        rows = columns.finish(self.titles)
        if self.bad.count > len(rows):
            complaint = self.bad.first[0]
            raise SeqRecError(
                f"more {self.bad.place}s are bad ({self.bad.count:,}) than good ({len(rows):,}): {complaint}"
            )
        if not len(rows):
            raise SeqRecError(f"{self.raw.label} has no row below its header; give a file with interactions")
        return _with_numbers(rows)

    def facts(self, rows: Interactions) -> dict[str, Any]:
        """What there is to say of the file; see `own.facts`."""
        (users, names), (items, labels) = interactions.encode(rows.users), interactions.encode(rows.items)
        order = interactions.time_order(users, items, rows.timestamps)
        same_user = users[order][1:] == users[order][:-1]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(users))])
        return {
            "columns": self.table.columns,
            "unit": self.clock.unit,
            "form": self.clock.form,
            "zoned": self.clock.zoned,
            "first": self.clock.written(int(rows.timestamps.min())),
            "last": self.clock.written(int(rows.timestamps.max())),
            "interactions": len(rows),
            "users": len(offsets) - 1,
            "items": len(labels),
            "titled": sum(bool(rows.titles.get(label, "").strip()) for label in labels.tolist()),
            "other_titles": self.other_titles,
            "skipped": rows.skipped,
            "complaints": self.bad.first,
            "repeated": len(rows) - len(np.unique(users.astype(np.int64) * len(labels) + items)),
            "duplicates": len(rows) - len(interactions.drop_duplicates(rows)),
            "like_missing": {"user": _like_missing(users, names), "item": _like_missing(items, labels)},
            "in_order": bool((np.diff(order)[same_user] > 0).all()),
            "ties": interactions.ties(offsets, rows.timestamps[order]),
            "rounds": interactions.core_rounds(rows),
        }

    def _parquet_blocks(self) -> Iterator[Block]:
        before = 0
        try:
            for batch in _parquet(self.raw).iter_batches(PARQUET_ROWS, columns=list(self.table.columns.values())):
                texts = {role: self._as_text(batch.column(name), role) for role, name in self.table.columns.items()}
                yield Block(texts, partial(_numbered_rows, before + 1, list(texts.values())))
                before += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise SeqRecError(_damaged(self.raw, error)) from None

    def _as_text(self, column: pa.Array, role: str) -> pa.Array:
        """A column of any plain type as the text that a csv file would have; missing values are empty."""
        name = self.table.columns[role]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_nested(column.type) or pa.types.is_boolean(column.type):
            raise SeqRecError(
                f"{self.raw.label}: column {name!r} holds {column.type}, which is no {role}; name another"
            )
        if pa.types.is_floating(column.type):
            column = self._finite(column, role)
            if role in {"user", "item"} and not pc.all(pc.equal(pc.floor(column), column), min_count=0).as_py():
                raise SeqRecError(f"{self.raw.label}: column {name!r} holds fractions, which are no ids; name another")
            plain = [None if x is None else f"{x:.9f}".rstrip("0").rstrip(".") for x in column.to_pylist()]
            column = pa.array(plain, pa.string())
        return column.cast(pa.string()).fill_null("")

    def _finite(self, column: pa.Array, role: str) -> pa.Array:
        """Numbers, with what is none as a missing value. Raises SeqRecError for ids and times that were rounded."""
        kind, digits = column.type, {16: 11, 32: 24}.get(column.type.bit_width)
        column = pa.array(column.to_numpy(zero_copy_only=False).astype(np.float64))
        if digits and role in NEEDED and (pc.max(pc.abs(column)).as_py() or 0) > 2**digits:
            raise SeqRecError(
                f"{self.raw.label}: column {self.table.columns[role]!r} holds numbers past {2**digits:,} as "
                f"{kind}, which rounds them; write it again as int64"
            )
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))

    def _take_titles(self, items: pa.Array, titles: pa.Array) -> None:
        """Keep each item's first title that is not empty."""
        ours = pc.utf8_trim(items, " \t").dictionary_encode()
        theirs = pc.utf8_trim_whitespace(titles).dictionary_encode()
        names, texts = ours.dictionary.to_pylist(), theirs.dictionary.to_pylist()
        pairs = ours.indices.to_numpy().astype(np.int64) * len(texts) + theirs.indices.to_numpy()
        distinct, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        for place in np.argsort(first):
            name, text = names[distinct[place] // len(texts)], texts[distinct[place] % len(texts)]
            if text and self.titles.setdefault(name, text) != text:
                self.other_titles += int(counts[place])


def _like_missing(codes: np.ndarray, distinct: np.ndarray) -> dict[str, int]:
    """How many rows have each id that reads like a missing value, as "nan" does."""
    places = [place for place, label in enumerate(distinct.tolist()) if str(label).lower() in LIKE_MISSING]
    return {str(distinct[place]): int((codes == place).sum()) for place in places}


def _with_numbers(rows: Interactions) -> Interactions:
    """Ids as int64 where each of a column is the one way to write its number, so that they sort as numbers do."""
    items = _as_numbers(rows.items)
    titles = {_as_label(str(label), items): title for label, title in rows.titles.items()}
    return replace(rows, users=_as_numbers(rows.users), items=items, titles=titles)


def _as_numbers(labels: np.ndarray | interactions.Labels) -> np.ndarray | interactions.Labels:
    codes, distinct = interactions.encode(labels)
    if not all(map(_NUMBER.fullmatch, distinct)):
        return labels
    return np.array([int(label) for label in distinct], np.int64)[codes]


def _as_label(text: str, items: np.ndarray | interactions.Labels) -> int | str:
    """An item's id as ``items`` has them; one that none of them can be stays text."""
    return int(text) if isinstance(items, np.ndarray) and _NUMBER.fullmatch(text) else text


def with_titles(rows: Interactions, raw: RawFile, options: Mapping[str, str], bad: BadLines) -> Interactions:
    """The rows with the titles of a csv file of its own, whose columns are found as those of the interactions.

    Raises:
        SeqRecError: no clear columns, a bad line that is not skipped, or none of its ids is one of an item.
    """
    names, separator = titles_header(raw)
    given = {role: name for role, name in options.items() if name in names}  # they are of the interactions' file
    theirs = options.get("item", "")  # the name of the ids' column among the interactions, which may be another here
    remedies = {"title": "name it by --columns title=NAME (in a notebook add &title=NAME to the address)"}
    remedies |= {"item": f"call it {theirs!r} there too"} if theirs and theirs not in names else {}
    columns = find_columns(raw.label, names, given, TITLE_ROLES, TITLE_ROLES, remedies)
    texts = csv_titles(raw, bad, **columns, separator=separator, labels=str)
    if not texts:
        raise SeqRecError(f"{raw.label} has no row below its header; give a file with titles, or leave it out")
    titles = {_as_label(str(label).strip(" \t"), rows.items): title for label, title in texts.items() if title.strip()}
    items = interactions.encode(rows.items)[1].tolist()
    if titles.keys().isdisjoint(items):
        raise SeqRecError(
            f"{raw.label}: none of its {len(texts):,} titles is that of an item; column {columns['item']!r} has ids "
            f"such as {next(iter(texts))!r}, items are such as {items[0]!r}; check the column, or leave the titles out"
        )
    return replace(rows, titles=titles, skipped=bad.count)


def _numbered_rows(first: int, columns: list[pa.Array]) -> list[tuple[int, str]]:
    """(number, content) of each row; ``first``: the number of the first."""
    return [
        (row, ",".join(cells)) for row, cells in enumerate(zip(*map(pa.Array.to_pylist, columns), strict=True), first)
    ]

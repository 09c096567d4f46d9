"""Delimited ratings tables, read as a stream: the fast path, and the slow one that finds the bad line.

Blocks of whole lines go through pyarrow. A block that it refuses, or that holds anything unusual, is read
again line by line: each bad line is an error with file, line number and content, or (``strict=False``)
skipped and counted. Blank lines are no lines.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from seqrec_lib.data.files import RawFile
from seqrec_lib.data.interactions import Interactions
from seqrec_lib.errors import SeqRecError

LOOSE_QUOTE = re.compile(rb'(?<=[^,\n"])"(?=[^,\r\n"])')  # neither opens nor closes a field, nor is doubled
LARGEST = float(np.finfo(np.float32).max)
Row = tuple[Any, Any, int, float]  # user, item, timestamp, rating (nan where the source has none)


@dataclass
class BadLines:
    """What to do with a bad line: raise (strict), or count it."""

    strict: bool
    count: int = 0

    def report(self, raw: RawFile, line: int, content: bytes | str, problem: str) -> None:
        """Count the line; raise SeqRecError in strict mode."""
        self.count += 1
        if self.strict:
            text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
            shown = text if len(text) <= 120 else text[:117] + "..."
            raise SeqRecError(
                f"{raw.label}, line {line}: {problem} in {shown!r}; repair the file, or load with "
                "strict=False to skip bad lines"
            )


@dataclass(frozen=True)
class Table:
    """Layout of a delimited ratings table.

    separator: one or more characters; "," also means csv quoting
    user, item, timestamp, rating: names of the columns (rating None: the source has none)
    columns: names of all columns in order, for a file without a header line; None: the first line has them
    labels: int or str, the type of the user and item labels
    """

    separator: str
    user: str
    item: str
    timestamp: str
    rating: str | None = None
    columns: tuple[str, ...] | None = None
    labels: type = int


@dataclass
class Columns:
    """Columns under construction, one array per block; equal text labels share one object."""

    labels: type
    users: list[np.ndarray] = field(default_factory=list)
    items: list[np.ndarray] = field(default_factory=list)
    timestamps: list[np.ndarray] = field(default_factory=list)
    ratings: list[np.ndarray] = field(default_factory=list)
    interned: dict[str, str] = field(default_factory=dict)

    def append(self, users: Any, items: Any, timestamps: Any, ratings: Any) -> None:
        self.users.append(self._intern(users))
        self.items.append(self._intern(items))
        self.timestamps.append(np.asarray(timestamps, dtype=np.int64))
        self.ratings.append(np.asarray(ratings, dtype=np.float32))

    def append_rows(self, rows: list[Row]) -> None:
        if rows:
            self.append(*(np.array(column, dtype=object) for column in zip(*rows, strict=True)))

    def _intern(self, labels: Any) -> np.ndarray:
        if self.labels is int:
            return np.asarray(labels, dtype=np.int64)
        # One str object per distinct label: 24 million rows then cost 8 bytes each.
        if isinstance(labels, pa.Array | pa.ChunkedArray):
            encoded = (labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels).dictionary_encode()
            distinct, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        else:
            distinct, codes = labels, np.arange(len(labels))
        shared = np.empty(len(distinct), dtype=object)
        shared[:] = [self.interned.setdefault(label, label) for label in distinct]
        return shared[codes]

    def finish(self, titles: Mapping[int | str, str], rated: bool, skipped: int) -> Interactions:
        kind: Any = np.int64 if self.labels is int else object
        none = [np.empty(0, dtype=kind)]
        return Interactions(
            users=np.concatenate(self.users or none),
            items=np.concatenate(self.items or none),
            timestamps=np.concatenate(self.timestamps or [np.empty(0, dtype=np.int64)]),
            ratings=np.concatenate(self.ratings or [np.empty(0, dtype=np.float32)]) if rated else None,
            titles=titles,
            skipped=skipped,
        )


def read_table(raw: RawFile, table: Table, titles: Mapping[int | str, str], bad: BadLines) -> Interactions:
    """Read a delimited ratings table in file order.

    Raises SeqRecError for a missing column, and for a bad line unless ``bad`` only counts.
    """
    columns = Columns(table.labels)
    names = list(table.columns) if table.columns else None
    for first, block in raw.blocks():
        if names is None:
            header, _, block = block.partition(b"\n")
            names = _header(raw, header, table)
            first += 1
        try:
            columns.append(*_parse_fast(block, table, names))
        except (pa.ArrowException, ValueError):
            columns.append_rows(list(_parse_slow(raw, first, block, table, names, bad)))
    return columns.finish(titles, table.rating is not None, bad.count)


def _header(raw: RawFile, line: bytes, table: Table) -> list[str]:
    names = line.decode("utf-8-sig", "backslashreplace").rstrip("\r").split(table.separator)
    names = [name.strip('"') for name in names]
    for wanted in (table.user, table.item, table.timestamp, table.rating):
        if wanted is not None and wanted not in names:
            raise SeqRecError(
                f"{raw.label}, line 1: the header has no column {wanted!r}, only {', '.join(names)[:120]!r}; "
                "check that this is the right file"
            )
    return names


def _parse_fast(block: bytes, table: Table, names: list[str]) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Parse whole lines with pyarrow. Raises where anything is unusual: the slow path then decides."""
    if not block.strip():
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, empty, empty
    separator = table.separator
    if block.count(b"\r") != block.count(b"\r\n"):  # pyarrow ends a line there
        raise ValueError("a carriage return in the midst of a line")
    if table.labels is int and (b"0x" in block or b"0X" in block):  # pyarrow reads hexadecimal numbers
        raise ValueError("a number that may be hexadecimal")
    if separator == "," and b'"' in block and LOOSE_QUOTE.search(block):  # pyarrow reads on behind a closed quote
        raise ValueError("a quote in the midst of a field")
    if len(separator) > 1:
        if b"\t" in block:
            raise ValueError("a tab in a block whose separator is replaced by tabs")
        block, separator = block.replace(separator.encode(), b"\t"), "\t"
    label = pa.int64() if table.labels is int else pa.string()
    types = {table.user: label, table.item: label, table.timestamp: pa.int64()}
    if table.rating:
        types[table.rating] = pa.float32()
    parsed = pacsv.read_csv(
        pa.BufferReader(block),
        read_options=pacsv.ReadOptions(column_names=names),
        parse_options=pacsv.ParseOptions(delimiter=separator, quote_char='"' if separator == "," else False),
        convert_options=pacsv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
        ),
    )
    users, items = parsed[table.user], parsed[table.item]
    times = parsed[table.timestamp].to_numpy()
    ratings = parsed[table.rating].to_numpy() if table.rating else np.full(len(times), np.nan, dtype=np.float32)
    if table.rating and not np.isfinite(ratings).all():
        raise ValueError("a rating that is not finite")
    if table.labels is int:
        return users.to_numpy(), items.to_numpy(), times, ratings
    if any(pc.any(pc.equal(column, "")).as_py() for column in (users, items)):
        raise ValueError("an empty label")
    return users, items, times, ratings


def _parse_slow(raw: RawFile, first: int, block: bytes, table: Table, names: list[str], bad: BadLines) -> Iterator[Row]:
    """Parse line by line, reporting each bad line."""
    position = {name: place for place, name in enumerate(names)}
    for offset, line in enumerate(block.split(b"\n")):
        line = line.rstrip(b"\r")
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8")
            cells = next(csv.reader([text], strict=True)) if table.separator == "," else text.split(table.separator)
            if len(cells) != len(names):
                raise ValueError(f"{len(cells)} fields, not {len(names)},")
            user, item = (_label(cells[position[column]], column, table) for column in (table.user, table.item))
            time = integer(cells[position[table.timestamp]], table.timestamp)
            rating = real(cells[position[table.rating]], table.rating) if table.rating else math.nan
        except (ValueError, csv.Error) as error:
            problem = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            bad.report(raw, first + offset, line, problem)
            continue
        yield user, item, time, rating


def _label(text: str, column: str, table: Table) -> int | str:
    if table.labels is int:
        return integer(text, column)
    if not text:
        raise ValueError(f"an empty {column}")
    return text


def integer(text: str, column: str) -> int:
    """An integer of 64 bits in plain decimal digits. Raises ValueError naming the column."""
    if not re.fullmatch(r"-?[0-9]{1,19}", text.strip()) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{column} {text!r} is not an integer")
    return int(text)


def real(text: str, column: str) -> float:
    """A number that float32 can hold. Raises ValueError naming the column."""
    try:
        number = math.nan if "_" in text else float(text)  # Python's 1_0 is 10
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST:
        raise ValueError(f"{column} {text!r} is not a number")
    return number

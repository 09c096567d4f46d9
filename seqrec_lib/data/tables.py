"""Delimited ratings tables, read as a stream, and the one grammar of what stands in them.

What a line, a cell and a number may be is said by `split_line`, `INTEGER`, `REAL` and `read_line`, which read line by
line. Blocks of whole lines go through pyarrow first, for speed: it only takes blocks apart that the grammar splits in
the same way, its cells must match the same expressions, and any other block is read line by line. So a bad line is
always found there: an error with file, line number and content, or (``strict=False``) skipped and counted. Blank lines
are no lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from seqrec_lib.data.files import MARK, RawFile
from seqrec_lib.data.interactions import Interactions, Labels
from seqrec_lib.errors import SeqRecError

INTEGER = "(-?)0*([0-9]{1,19})"  # plain decimal digits; 64 bits must hold their value
REAL = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_INTEGER, _REAL = re.compile(INTEGER), re.compile(REAL)
SHOWN = 5  # complaints that are kept of a file whose bad lines are skipped
TOO_LARGE = 2.0**128 - 2.0**103  # the least number that float32 rounds to infinity
Row = tuple[Any, Any, int, float]  # user, item, timestamp, rating (nan where the source has none)


def shown(text: str) -> str:
    """``repr`` of a line's text, cut to what a message can hold."""
    return repr(text if len(text) <= 120 else text[:117] + "...")


@dataclass
class BadLines:
    """What to do with a bad line: raise (strict), or count it and keep the first few complaints.

    place: what a file's rows are called; remedy: how each complaint ends.
    """

    strict: bool
    count: int = 0
    place: str = "line"
    remedy: str = "repair the file, or load with strict=False to skip bad lines"
    kept: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    @property
    def first(self) -> list[str]:
        """The first complaints: files as they were read, each one's in the order of its lines."""
        return [complaint for complaints in self.kept.values() for _, complaint in complaints][:SHOWN]

    def report(self, raw: RawFile, line: int, content: bytes | str, problem: Exception | str) -> None:
        """Count the line; raise SeqRecError in strict mode."""
        self.count += 1
        if isinstance(problem, KeyError):
            problem = f"no key {problem.args[0]!r}"
        elif isinstance(problem, UnicodeError):
            problem = "text that is not UTF-8"
        mine = self.kept.setdefault(raw.label, [])
        if self.strict or len(mine) < SHOWN or line < mine[-1][0]:
            text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
            complaint = f"{raw.label}, {self.place} {line}: {problem} in {shown(text)}"
            if self.strict:
                raise SeqRecError(f"{complaint}; {self.remedy}")
            # A block is split into cells before they are read, so that complaints do not come in the lines' order.
            self.kept[raw.label] = sorted([*mine, (line, complaint)])[:SHOWN]


@dataclass(frozen=True)
class Table:
    """Layout of a delimited ratings table.

    separator: one or more characters
    user, item, timestamp, rating: names of the columns (rating None: the source has none)
    columns: names of all columns in order, for a file without a header line; None: the first line has them
    labels: int or str, the type of the user and item labels
    quotes: whether cells may stand in quotes, as csv has it; those of a file with commas always may
    """

    separator: str
    user: str
    item: str
    timestamp: str
    rating: str | None = None
    columns: tuple[str, ...] | None = None
    labels: type = int
    quotes: bool = False

    @property
    def quoted(self) -> bool:
        """Whether cells may stand in quotes."""
        return self.quotes or self.separator == ","


@dataclass
class Columns:
    """Columns under construction, one array per block; text labels as dictionaries, one of each block."""

    labels: type
    users: list[Any] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    timestamps: list[np.ndarray] = field(default_factory=list)
    ratings: list[np.ndarray] = field(default_factory=list)

    def append(self, users: Any, items: Any, timestamps: Any, ratings: Any) -> None:
        self.users.append(self._block(users))
        self.items.append(self._block(items))
        self.timestamps.append(np.asarray(timestamps, dtype=np.int64))
        self.ratings.append(np.asarray(ratings, dtype=np.float32))

    def append_rows(self, rows: list[Row]) -> None:
        if rows:
            self.append(*(np.array(column, dtype=object) for column in zip(*rows, strict=True)))

    def _block(self, labels: Any) -> Any:
        if self.labels is int:
            return np.asarray(labels, dtype=np.int64)
        array = pa.chunked_array([labels]) if not isinstance(labels, pa.ChunkedArray) else labels
        return array.cast(pa.large_string()).combine_chunks().dictionary_encode()

    def _joined(self, blocks: list[Any]) -> np.ndarray | Labels:
        if self.labels is int:
            return np.concatenate(blocks or [np.empty(0, dtype=np.int64)])
        kind = pa.dictionary(pa.int32(), pa.large_string())
        chunks = pa.chunked_array(blocks, type=kind).unify_dictionaries().chunks
        codes = [chunk.indices.to_numpy() for chunk in chunks] or [np.empty(0, dtype=np.int32)]
        return Labels(np.concatenate(codes), chunks[0].dictionary if chunks else pa.array([], pa.large_string()))

    def finish(self, titles: Mapping[int | str, str], rated: bool, skipped: int) -> Interactions:
        return Interactions(
            users=self._joined(self.users),
            items=self._joined(self.items),
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
            columns.append_rows(list(_parse_lines(raw, first, block, table, names, bad)))
    return columns.finish(titles, table.rating is not None, bad.count)


def check_header(raw: RawFile, names: list[str], wanted: tuple[str | None, ...]) -> None:
    """Raises SeqRecError where a header lacks a column that is wanted, or has two of one name."""
    for name in filter(None, wanted):
        if name not in names:
            raise SeqRecError(
                f"{raw.label}, line 1: the header has no column {name!r}, only {', '.join(names)[:120]!r}; "
                "check that this is the right file"
            )
    for name in filter(None, names):
        if names.count(name) > 1:
            raise SeqRecError(
                f"{raw.label}, line 1: the header has {names.count(name)} columns {name!r}; rename all but one"
            )


def _header(raw: RawFile, line: bytes, table: Table) -> list[str]:
    try:
        names = [cell.decode("utf-8", "backslashreplace") for cell in split_cells(line.rstrip(b"\r"), table)]
    except ValueError as error:
        raise SeqRecError(f"{raw.label}, line 1: {error} in the header; repair the file") from None
    check_header(raw, names, (table.user, table.item, table.timestamp, table.rating))
    return names


def _parse_fast(block: bytes, table: Table, names: list[str]) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Parse whole lines with pyarrow. Raises where anything is unusual: `read_line` then decides."""
    wanted = [name for name in (table.user, table.item, table.timestamp, table.rating) if name is not None]
    parsed = split_block(block, table, names, wanted)
    users, items = (_fast_labels(parsed[name], table) for name in (table.user, table.item))
    times = _matching(parsed[table.timestamp], INTEGER).cast(pa.int64()).to_numpy()
    if table.rating is None:
        return users, items, times, np.full(len(times), np.nan, dtype=np.float32)
    ratings = _matching(parsed[table.rating], REAL).cast(pa.float64()).to_numpy()
    if (np.abs(ratings) >= TOO_LARGE).any():
        raise ValueError("a rating that float32 cannot hold")
    return users, items, times, ratings.astype(np.float32)


def split_block(block: bytes, table: Table, names: list[str], wanted: Sequence[str]) -> pa.Table:
    """The ``wanted`` columns of whole lines as text, as `split_line` splits each of them.

    Raises ValueError or ArrowException where anything is unusual: `split_line` then decides.
    """
    separator = table.separator
    if block.count(b"\r") != block.count(b"\r\n"):  # pyarrow ends a line there
        raise ValueError("a carriage return in the midst of a line")
    if MARK in block:  # pyarrow drops it at the beginning of a block
        raise ValueError("a byte-order mark")
    if table.quoted and b'"' in block and b'"' in _quoting(separator)[1].sub(b"", block):
        raise ValueError("a quote that does not enclose a whole field")
    if len(separator) > 1:
        if b"\t" in block:
            raise ValueError("a tab in a block whose separator is replaced by tabs")
        block, separator = block.replace(separator.encode(), b"\t"), "\t"
    return pacsv.read_csv(
        pa.BufferReader(block),
        read_options=pacsv.ReadOptions(column_names=names),
        parse_options=pacsv.ParseOptions(delimiter=separator, quote_char='"' if table.quoted else False),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()),
            include_columns=wanted,
            null_values=[],
            strings_can_be_null=False,
        ),
    )


@cache
def _quoting(separator: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What matches a field of a line, quoted as a whole or not at its start; and such a quoted field within a block."""
    sep = re.escape(separator).encode()
    field = rb'"([^"]*(?:""[^"]*)*)"(?=SEP|\Z)|([^"SEP][^SEP]*|)(?=SEP|\Z)'
    quoted = rb'(?<![^SEP\n])"[^"\n]*(?:""[^"\n]*)*"(?![^SEP\r\n])'
    return re.compile(field.replace(b"SEP", sep)), re.compile(quoted.replace(b"SEP", sep))


def _fast_labels(column: pa.ChunkedArray, table: Table) -> Any:
    if table.labels is int:
        return _matching(column, INTEGER).cast(pa.int64()).to_numpy()
    if pc.any(pc.equal(column, "")).as_py():
        raise ValueError("an empty label")
    return column


def _matching(column: pa.ChunkedArray, grammar: str) -> pa.ChunkedArray:
    if not pc.all(pc.match_substring_regex(column, f"^(?:{grammar})$")).as_py():
        raise ValueError(f"a cell that is not {grammar}")
    return column


def _parse_lines(
    raw: RawFile, first: int, block: bytes, table: Table, names: list[str], bad: BadLines
) -> Iterator[Row]:
    """Parse line by line, reporting each bad line."""
    for offset, line in enumerate(block.split(b"\n")):
        line = line.rstrip(b"\r")
        if not line.strip():
            continue
        try:
            yield read_line(line, table, names)
        except ValueError as error:
            bad.report(raw, first + offset, line, error)


def read_line(line: bytes, table: Table, names: list[str]) -> Row:
    """One line, without its end, as (user, item, timestamp, rating). Raises ValueError saying what is wrong."""
    cells = split_line(line, table, names)

    def cell(column: str) -> str:
        return cells[names.index(column)].decode("utf-8")

    user, item = (_label(cell(column), column, table) for column in (table.user, table.item))
    time = integer(cell(table.timestamp), table.timestamp)
    return user, item, time, real(cell(table.rating), table.rating) if table.rating else math.nan


def split_line(line: bytes, table: Table, names: Sequence[str]) -> list[bytes]:
    """The cells of one line, without its end, one for each of ``names``. Raises ValueError saying what is wrong."""
    if line.startswith(MARK):
        raise ValueError("a byte-order mark in the midst of the file")
    if b"\r" in line:
        raise ValueError("a carriage return in the midst of the line")
    cells = split_cells(line, table)
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} fields, not {len(names)},")
    return cells


def split_cells(line: bytes, table: Table) -> list[bytes]:
    """The cells of a line; in csv, one may stand in quotes, in which quotes are doubled. Raises ValueError."""
    if not table.quoted or b'"' not in line:
        return line.split(table.separator.encode())
    field = _quoting(table.separator)[0]
    cells, end = [], -1
    while end < len(line):
        match = field.match(line, end + 1)
        if match is None:
            raise ValueError("a quote that does not enclose a whole field")
        cells.append(match[2] if match[1] is None else match[1].replace(b'""', b'"'))
        end = match.end()
    return cells


def _label(text: str, column: str, table: Table) -> int | str:
    if table.labels is int:
        return integer(text, column)
    if not text:
        raise ValueError(f"an empty {column}")
    return text


def integer(text: str, column: str) -> int:
    """An integer of 64 bits in plain decimal digits; blanks around it and leading zeros do not count.

    Raises ValueError naming the column.
    """
    plain = text.strip(" \t")
    match = _INTEGER.fullmatch(plain)
    if match is None or not -(2**63) <= (value := int(match[1] + match[2])) < 2**63:
        raise ValueError(f"{column} {text!r} is not an integer")
    return value


def real(text: str, column: str) -> float:
    """A decimal number that float32 can hold; blanks around it do not count. Raises ValueError naming the column."""
    plain = text.strip(" \t")
    if not _REAL.fullmatch(plain) or not abs(float(plain)) < TOO_LARGE:
        raise ValueError(f"{column} {text!r} is not a number")
    return float(plain)

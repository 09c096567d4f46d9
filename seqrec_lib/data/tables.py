"""Tables of interactions, read as a stream, and the one grammar of what stands in them.

A file of any form becomes blocks of text cells. What a line, a cell and a number may be is said by `split_line`,
`integer` and `real`, one at a time. Whole blocks go through pyarrow first, for speed: it only takes blocks apart that
the grammar splits in the same way, and reads a column of numbers only where all cells match the same expressions. So a
bad line is always found by the grammar: an error with file, line number and content, or (``strict=False``) skipped and
counted. Blank lines are no lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
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
Problems = dict[int, Exception | str]  # what is wrong, by row
Reader = Callable[[pa.Array], tuple[Any, Problems]]  # the values of a column's cells, and what is wrong with them


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
    first: list[str] = field(default_factory=list)

    def report(self, raw: RawFile, line: int, content: bytes | str, problem: Exception | str) -> None:
        """Count the line; raise SeqRecError in strict mode."""
        self.count += 1
        remedy = f"save the file as UTF-8, {self.remedy}" if isinstance(problem, UnicodeDecodeError) else self.remedy
        if isinstance(problem, KeyError):
            problem = f"no key {problem.args[0]!r}"
        elif isinstance(problem, UnicodeError):
            problem = "text that is not UTF-8"
        text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
        complaint = f"{raw.label}, {self.place} {line}: {problem} in {shown(text)}"
        if self.strict:
            raise SeqRecError(f"{complaint}; {remedy}")
        self.first += [complaint] if len(self.first) < SHOWN else []


@dataclass(frozen=True)
class Table:
    """Layout of a delimited table of interactions.

    separator: one or more characters
    columns: the name of each role's column; the roles are user, item and timestamp, and may be rating and title
    names: names of all columns in order, for a file without a header line; (): the first line has them
    labels: int or str, the type of the user and item labels
    quotes: whether cells may stand in quotes, as csv has it
    """

    separator: str
    columns: Mapping[str, str]
    names: tuple[str, ...] = ()
    labels: type = int
    quotes: bool = True

    def readers(self) -> dict[str, Reader]:
        """What reads the cells of each role's column."""
        label = whole_numbers if self.labels is int else text_labels
        kinds = {"user": label, "item": label, "timestamp": whole_numbers, "rating": real_numbers}
        return {role: partial(kinds[role], column=name) for role, name in self.columns.items() if role in kinds}


@dataclass(frozen=True)
class Block:
    """Some rows of a file as text.

    texts: the cells by role; lines: gives the (number, content) of each row's line
    problems: why lines could not be split, whose cells are empty
    """

    texts: Mapping[str, pa.Array]
    lines: Callable[[], Sequence[tuple[int, bytes | str]]]
    problems: Problems = field(default_factory=dict)


class Columns:
    """Columns under construction, one array per block; text labels as dictionaries, one of each block."""

    def __init__(self, raw: RawFile, readers: Mapping[str, Reader], bad: BadLines) -> None:
        self.raw, self.readers, self.bad = raw, readers, bad
        self.blocks: dict[str, list[Any]] = {role: [] for role in readers}

    def take(self, block: Block) -> pa.Array:
        """Take up a block's good rows and report the others, in the order of lines; the mask of the good ones."""
        read = {role: reader(block.texts[role]) for role, reader in self.readers.items()}
        problems = dict(block.problems)
        for _, wrong in read.values():
            problems = wrong | problems  # of several in a line, the first counts
        keep = np.ones(len(block.texts["user"]), dtype=bool)
        lines = block.lines() if problems else ()
        for row in sorted(problems):
            keep[row] = False
            self.bad.report(self.raw, *lines[row], problems[row])
        for role, (values, _) in read.items():
            good = values if not problems else values.filter(keep) if isinstance(values, pa.Array) else values[keep]
            text = isinstance(good, pa.Array)
            self.blocks[role].append(good.cast(pa.large_string()).dictionary_encode() if text else good)
        return pa.array(keep)

    def finish(self, titles: Mapping[int | str, str]) -> Interactions:
        ratings = self.blocks.get("rating")
        return Interactions(
            users=self._labels("user"),
            items=self._labels("item"),
            timestamps=np.concatenate([np.empty(0, dtype=np.int64), *self.blocks["timestamp"]]),
            ratings=None if ratings is None else np.concatenate([np.empty(0, dtype=np.float32), *ratings]),
            titles=titles,
            skipped=self.bad.count,
        )

    def _labels(self, role: str) -> np.ndarray | Labels:
        """The column of users or items; of a file without a row it has the type that its cells would have."""
        nothing, _ = self.readers[role](pa.array([], pa.string()))
        blocks = self.blocks[role]
        if isinstance(nothing, np.ndarray):
            return np.concatenate([nothing, *blocks])
        kind = pa.dictionary(pa.int32(), pa.large_string())
        joined = pa.chunked_array(blocks, kind).unify_dictionaries().combine_chunks()
        return Labels(joined.indices.to_numpy(), joined.dictionary)


def read_table(raw: RawFile, table: Table, titles: Mapping[int | str, str], bad: BadLines) -> Interactions:
    """Read a delimited ratings table in file order.

    Raises SeqRecError for a missing column, and for a bad line unless ``bad`` only counts.
    """
    columns = Columns(raw, table.readers(), bad)
    for block in split_file(raw, table):
        columns.take(block)
    return columns.finish(titles)


def split_file(raw: RawFile, table: Table) -> Iterator[Block]:
    """The cells of a delimited file, block by block. Raises SeqRecError for a missing column."""
    names = list(table.names)
    for first, block in raw.blocks():
        if not names:
            header, _, block = block.partition(b"\n")
            names, first = read_header(raw, header, table), first + 1
        try:
            parsed = split_block(block, table, names)
            texts = {role: parsed[name].combine_chunks() for role, name in table.columns.items()}
            yield Block(texts, partial(_numbered, first, block))
        except (pa.ArrowException, ValueError):
            yield split_lines(first, block, list(table.columns), partial(_cells_of, table, names))


def split_lines(first: int, block: bytes, roles: Sequence[str], cells_of: Callable[[bytes], Sequence[str]]) -> Block:
    """The cells of whole lines, ``cells_of`` each, one for each role; a line for which it raises has a problem."""
    lines, rows = _numbered(first, block), []
    problems: Problems = {}
    for row, (_, line) in enumerate(lines):
        try:
            rows.append(cells_of(line))
        except (ValueError, KeyError, SyntaxError) as error:
            problems[row] = error
            rows.append([""] * len(roles))
    columns = zip(*rows, strict=True) if rows else [()] * len(roles)
    texts = {role: pa.array(column, pa.string()) for role, column in zip(roles, columns, strict=True)}
    return Block(texts, lambda: lines, problems)


def _numbered(first: int, block: bytes) -> list[tuple[int, bytes]]:
    """The lines of a block that are not blank, with their numbers."""
    return [(number, line.rstrip(b"\r")) for number, line in enumerate(block.split(b"\n"), first) if line.strip()]


def _cells_of(table: Table, names: Sequence[str], line: bytes) -> list[str]:
    cells = split_line(line, table, names)
    return [cells[names.index(name)].decode("utf-8") for name in table.columns.values()]


def check_header(raw: RawFile, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises SeqRecError where a header lacks a column that is wanted, or has two of one name."""
    for name in wanted:
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


def read_header(raw: RawFile, line: bytes, table: Table) -> list[str]:
    """The names in a file's first line, without the blanks around them. Raises SeqRecError as `check_header`."""
    try:
        names = [cell.decode("utf-8", "backslashreplace").strip() for cell in split_cells(line.rstrip(b"\r"), table)]
    except ValueError as error:
        raise SeqRecError(f"{raw.label}, line 1: {error} in the header; repair the file") from None
    check_header(raw, names, list(table.columns.values()))
    return names


def split_block(block: bytes, table: Table, names: Sequence[str]) -> pa.Table:
    """The table's columns of whole lines as text, as `split_line` splits each of them.

    Raises ValueError or ArrowException where anything is unusual: `split_line` then decides.
    """
    separator, wanted = table.separator, list(table.columns.values())
    if block.count(b"\r") != block.count(b"\r\n"):  # pyarrow ends a line there
        raise ValueError("a carriage return in the midst of a line")
    if b"\0" in block:
        raise ValueError("a zero byte")
    if MARK in block:  # pyarrow drops it at the beginning of a block
        raise ValueError("a byte-order mark")
    if table.quotes and b'"' in block and b'"' in _quoting(separator)[1].sub(b"", block):
        raise ValueError("a quote that does not enclose a whole field")
    if separator.isspace() and _BLANK.search(block):  # a line of separators alone would be a row of empty cells
        raise ValueError("a blank line")
    if len(separator) > 1:
        if b"\t" in block:
            raise ValueError("a tab in a block whose separator is replaced by tabs")
        block, separator = block.replace(separator.encode(), b"\t"), "\t"
    return pacsv.read_csv(
        pa.BufferReader(block),
        read_options=pacsv.ReadOptions(column_names=names),
        parse_options=pacsv.ParseOptions(delimiter=separator, quote_char='"' if table.quotes else False),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()),
            include_columns=wanted,
            null_values=[],
            strings_can_be_null=False,
        ),
    )


_BLANK = re.compile(rb"(?m)^[ \t\v\f]+\r?$")


@cache
def _quoting(separator: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What matches a field of a line, quoted as a whole or not at its start; and such a quoted field within a block."""
    sep = re.escape(separator).encode()
    field = rb'"([^"]*(?:""[^"]*)*)"(?=SEP|\Z)|([^"SEP][^SEP]*|)(?=SEP|\Z)'
    quoted = rb'(?<![^SEP\n])"[^"\n]*(?:""[^"\n]*)*"(?![^SEP\r\n])'
    return re.compile(field.replace(b"SEP", sep)), re.compile(quoted.replace(b"SEP", sep))


def split_line(line: bytes, table: Table, names: Sequence[str]) -> list[bytes]:
    """The cells of one line, without its end, one for each of ``names``. Raises ValueError saying what is wrong."""
    if line.startswith(MARK):
        raise ValueError("a byte-order mark in the midst of the file")
    if b"\r" in line:
        raise ValueError("a carriage return in the midst of the line")
    if b"\0" in line:
        raise ValueError("a zero byte")
    cells = split_cells(line, table)
    if len(cells) != len(names):
        raise ValueError(other_count(len(cells), len(names)))
    return cells


def other_count(found: int, wanted: int) -> str:
    """What is wrong with a line of so many cells."""
    return f"{found} {'field' if found == 1 else 'fields'}, not {wanted},"


def split_cells(line: bytes, table: Table) -> list[bytes]:
    """The cells of a line; in csv, one may stand in quotes, in which quotes are doubled. Raises ValueError."""
    if not table.quotes or b'"' not in line:
        return line.split(table.separator.encode())
    field = _quoting(table.separator)[0]
    cells, end = [], -1
    while end < len(line):
        match = field.match(line, end + 1)
        if match is None:
            raise ValueError("a quote that does not enclose a whole field of its line")
        cells.append(match[2] if match[1] is None else match[1].replace(b'""', b'"'))
        end = match.end()
    return cells


def text_labels(cells: pa.Array, column: str, blanks: str = "") -> tuple[pa.Array, Problems]:
    """Cells as text labels, without ``blanks`` around them; an empty one is bad."""
    cells = pc.utf8_trim(cells, blanks) if blanks else cells
    return cells, {int(row): f"an empty {column}" for row in np.flatnonzero(pc.equal(cells, ""))}


def whole_numbers(cells: pa.Array, column: str) -> tuple[np.ndarray, Problems]:
    """Cells as int64, each as `integer` has it."""
    if _all_match(cells, INTEGER):
        with suppress(pa.ArrowInvalid):
            return np.asarray(cells.cast(pa.int64())), {}
    return one_by_one(cells, partial(integer, column=column), np.int64)


def real_numbers(cells: pa.Array, column: str, hint: str = "") -> tuple[np.ndarray, Problems]:
    """Cells as float32, each as `real` has it; ``hint``: how a complaint ends."""
    if _all_match(cells, REAL):
        with suppress(pa.ArrowInvalid):
            values = np.asarray(cells.cast(pa.float64()))
            if (np.abs(values) < TOO_LARGE).all():
                return values.astype(np.float32), {}
    values, wrong = one_by_one(cells, partial(real, column=column), np.float64)
    return values.astype(np.float32), {row: f"{problem}{hint}" for row, problem in wrong.items()}


def one_by_one(cells: pa.Array, read: Callable[[str], Any], kind: type) -> tuple[np.ndarray, Problems]:
    """Cells as ``read`` has each distinct text; it raises ValueError saying what is wrong."""
    encoded = cells.dictionary_encode()
    codes = encoded.indices.to_numpy()
    values: np.ndarray = np.zeros(len(encoded.dictionary), kind)
    wrong: Problems = {}
    for place, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            values[place] = read(text)
        except ValueError as error:
            wrong[place] = error
    rows = np.flatnonzero(np.isin(codes, list(wrong))) if wrong else ()
    return values[codes], {int(row): wrong[int(codes[row])] for row in rows}


def _all_match(cells: pa.Array, grammar: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, f"^(?:{grammar})$"), min_count=0).as_py())


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

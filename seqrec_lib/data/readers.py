"""Readers of the raw formats: MovieLens (three of them), Amazon Reviews (2014, 2018, 2023), processed csv.

A reader takes the raw files by role (``{"ratings": RawFile, "titles": RawFile}``) and returns Interactions. Ratings are
streamed; the grammar of their lines is that of `tables`. A bad line is an error with file, line number and content;
with ``strict=False`` it is skipped and counted. Blank lines are no lines. Delimited and csv files of titles are UTF-8
or else Latin-1 (`RawFile.text`), ratings and JSON are UTF-8; a byte-order mark at the beginning of any file is no part
of it.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from seqrec_lib.data.files import RawFile
from seqrec_lib.data.interactions import Interactions, encode
from seqrec_lib.data.tables import (
    REAL,
    BadLines,
    Columns,
    Table,
    check_header,
    integer,
    other_count,
    read_table,
    split_lines,
)

Files = Mapping[str, RawFile]
Reader = Callable[[Files, bool], Interactions]
Titles = dict[int | str, str]
T = TypeVar("T")

_MOVIELENS = ("user", "item", "rating", "timestamp")
_KEYS_2023 = {"user": "user_id", "item": "parent_asin", "timestamp": "timestamp", "rating": "rating"}
_SAME = {role: role for role in _MOVIELENS}

# ---- titles ------------------------------------------------------------------------------------------------


def _delimited_titles(raw: RawFile, bad: BadLines, separator: str, most: int | None = None) -> Titles:
    """Titles of MovieLens' older files: id, title, ... per line, no header, no quoting; ``most`` fields, if so many."""
    titles: Titles = {}
    for number, line in enumerate(raw.text().split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        cells = line.split(separator)
        try:
            if "\r" in line:
                raise ValueError("a carriage return in the midst of the line")
            if len(cells) < 3 or (most is not None and len(cells) > most):
                raise ValueError(f"{len(cells)} fields")
            titles[integer(cells[0], "item id")] = cells[1]
        except ValueError as error:
            bad.report(raw, number, line, error)
    return titles


def csv_titles(
    raw: RawFile, bad: BadLines, item: str, title: str = "title", separator: str = ",", labels: type = int
) -> Titles:
    """Titles of a csv file with a header; a quoted title may hold commas and line breaks.

    Texts are taken as they are: "NA", "null" or "nan" are titles, not missing values.
    """
    titles: Titles = {}
    lines: list[str] = []  # of the present row
    rows = csv.reader(_kept(io.StringIO(raw.text(), newline=""), lines), delimiter=separator, strict=True)
    names: list[str] | None = None
    while True:
        lines.clear()
        before = rows.line_num
        try:
            row = next(rows, None)
            if row is None:
                return titles
            if not row:
                continue
            if names is None:
                names = row
                check_header(raw, names, (item, title))
                continue
            if len(row) != len(names):
                raise ValueError(other_count(len(row), len(names)))
            cell = row[names.index(item)]
            titles[integer(cell, item) if labels is int else cell] = row[names.index(title)]
        except (ValueError, csv.Error) as error:
            bad.report(raw, before + 1, lines[0].rstrip("\r\n"), error)


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The lines, each of which is also put into ``kept``: what a csv reader has taken of a row that it fails at."""
    for line in lines:
        kept.append(line)
        yield line


def json_titles(raw: RawFile, item: str, wanted: set[Any], bad: BadLines) -> Titles:
    """Titles of the ``wanted`` items from metadata lines; an item's first title that is not empty."""
    titles: Titles = {}
    for number, line in raw.lines():
        if not line.strip():
            continue
        try:
            record = _literal(line)
            label, title = record[item], record.get("title") or ""
            if not isinstance(label, (str, int)):
                raise ValueError(f"an item that is not text ({type(label).__name__})")
            if not isinstance(title, str):
                raise ValueError(f"a title that is not text ({type(title).__name__})")
            f"{label}{title}".encode()  # half of a character, which JSON can spell, is no text
            if label in wanted and not titles.get(label):
                titles[label] = title
        except (ValueError, KeyError, SyntaxError) as error:
            bad.report(raw, number, line, error)
    return titles


# ---- JSON lines --------------------------------------------------------------------------------------------


def _json_reviews(files: Files, strict: bool, *, keys: Mapping[str, str]) -> Interactions:
    """Raw reviews and metadata; ``keys``: by role."""
    raw, bad = files["ratings"], BadLines(strict)

    def cells_of(line: bytes) -> list[str]:
        record = _literal(line)
        user, item, *numbers = (record[key] for key in keys.values())
        if not (isinstance(user, str) and user and isinstance(item, str) and item):
            raise ValueError(f"no text for {keys['user']} or {keys['item']}")
        cells = [user, item, *map(str, numbers)]
        "".join(cells).encode()  # half of a character, which JSON can spell, is no text
        return cells

    columns = Columns(raw, Table("", keys, labels=str).readers(), bad)
    for first, block in raw.blocks():
        columns.take(split_lines(first, block, list(keys), cells_of))
    return _with_json_titles(columns.finish({}), files["titles"], keys["item"], bad)


def _literal(line: bytes) -> dict[str, Any]:
    """One line as a dict: JSON, else a Python literal with decimal numbers. Raises ValueError or SyntaxError."""
    text = line.decode("utf-8")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            tree = ast.parse(text.lstrip(" \t"), mode="eval")
            _refuse_odd_numbers(text.lstrip(" \t"), tree)
            record = ast.literal_eval(tree)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError("neither JSON nor a Python literal") from error
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__} where an object is expected")
    return record


def _refuse_odd_numbers(text: str, tree: ast.Expression) -> None:
    """Raises ValueError where a number is not written in plain decimal digits, such as 0x1F and 1_000."""
    if not re.search(r"(?<!\w)0[xXoObB]|[0-9]_[0-9]", text):  # most lines have none, and walking takes long
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            number = ast.get_source_segment(text, node) or ""
            if not re.fullmatch(REAL, number):
                raise ValueError(f"number {number}")


# ---- the readers of the registry ---------------------------------------------------------------------------


def _reader(table: Table, titles: Callable[[RawFile, BadLines], Titles]) -> Reader:
    """Ratings of a delimited table, and titles of another file."""

    def read(files: Files, strict: bool) -> Interactions:
        bad = BadLines(strict)
        return read_table(files["ratings"], table, titles(files["titles"], bad), bad)

    return read


# ``ratings.dat`` (user::movie::rating::seconds) and ``movies.dat`` (movie::title::genres).
movielens_1m = _reader(Table("::", _SAME, _MOVIELENS, quotes=False), partial(_delimited_titles, separator="::", most=3))
# ``u.data`` (user, item, rating, seconds; tabs) and ``u.item`` (id|title|...).
movielens_100k = _reader(Table("\t", _SAME, _MOVIELENS, quotes=False), partial(_delimited_titles, separator="|"))
# ``ratings.csv`` and ``movies.csv`` of ml-latest-small (CRLF, quoted titles).
movielens_csv = _reader(
    Table(",", {"user": "userId", "item": "movieId", "timestamp": "timestamp", "rating": "rating"}),
    partial(csv_titles, item="movieId"),
)
# ``interactions.csv`` (user_id,item_id,timestamp: in time order per user) and ``item_titles.csv``.
processed_csv = _reader(
    Table(",", {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}), partial(csv_titles, item="item_id")
)
# The raw reviews (JSON lines; milliseconds) and the metadata.
amazon_2023_json = partial(_json_reviews, keys=_KEYS_2023)
# The raw reviews of 2014 and 2018 and the metadata. Lines are JSON; the metadata of 2014 are Python literals, which are
# parsed as data, never evaluated as code.
amazon_reviews = partial(
    _json_reviews, keys={"user": "reviewerID", "item": "asin", "timestamp": "unixReviewTime", "rating": "overall"}
)


def amazon_2023_csv(files: Files, strict: bool) -> Interactions:
    """The published csv (user_id,parent_asin,rating,milliseconds) and the metadata (JSON lines)."""
    bad = BadLines(strict)
    rows = read_table(files["ratings"], Table(",", _KEYS_2023, labels=str), {}, bad)
    return _with_json_titles(rows, files["titles"], "parent_asin", bad)


def _with_json_titles(rows: Interactions, metadata: RawFile, key: str, bad: BadLines) -> Interactions:
    titles = json_titles(metadata, key, set(encode(rows.items)[1]), bad)
    return replace(rows, titles=titles, skipped=bad.count)

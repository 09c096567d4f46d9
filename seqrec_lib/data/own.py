"""A reader's own interactions: a csv or Parquet file, plain or gzipped, as a data set like those of the registry.

An *address* names the file and what its header does not say: ``file:interactions.csv?user=customer&unit=ms``. It is
resolved once to the *id* of a data set, ``file-interactions-1a2b3c4d5e6f``, which hashes the file's content and these
options and is what configurations and records hold. Where the file lies is kept in the cache (``own/<id>.json``).

Nothing is guessed. Columns are found by usual names, the unit of timestamps by their size; what fits two ways, or none,
is an error that lists the choices.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from seqrec_lib.checksums import write_file
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.interactions import Interactions
from seqrec_lib.data.own_table import BY_ROW, SEPARATORS, USUAL, Reading, layout, with_titles
from seqrec_lib.data.tables import BadLines
from seqrec_lib.data.times import ORDER, UNITS, Clock
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import cache_folder, from_user, make_cache, project_root
from seqrec_lib.validation import read_json, refuse_unknown

SCHEME, PREFIX = "file:", "file-"
ID = re.compile(r"file-[a-z0-9-]{1,30}-[0-9a-f]{12}")
LEAST = 20  # users and items that must be left after the k-core: among fewer items, ten best are no choice
OPTIONS = (*USUAL, "unit", "separator", "titles", "lenient")


@dataclass(frozen=True)
class OwnFile:
    """What an id stands for: the files, hashes of their content, and the options of the address."""

    path: str
    sha256: str
    options: dict[str, str]
    titles: str | None = None
    titles_sha256: str | None = None

    @property
    def name(self) -> str:
        """The data set's id."""
        defines = json.dumps([self.sha256, self.titles_sha256, self.options], sort_keys=True)
        stem = re.sub(r"(\.(csv|tsv|txt|parquet|gz))+$", "", Path(self.path).name.lower())
        slug = re.sub(r"[^a-z0-9]+", "-", stem)[:30].strip("-") or "data"
        return f"{PREFIX}{slug}-{hashlib.sha256(defines.encode()).hexdigest()[:12]}"

    @property
    def title(self) -> str:
        """The file's name, without signs that a page could take for markup."""
        return re.sub(r"[^\w .()-]", "-", Path(self.path).name)[:60]

    @property
    def files(self) -> dict[str, str]:
        """The paths by role, as a source of the registry has them."""
        return {"ratings": self.path} | ({"titles": self.titles} if self.titles else {})

    def read(self, files: Mapping[str, RawFile], strict: bool = True) -> Interactions:
        """All interactions, in the file's order; what was found is kept for `facts`. A reader as the registry has them.

        Raises:
            SeqRecError: the file has changed since it was named, has a bad line and is not read leniently, more bad
                lines than good ones, or none at all.
        """
        for role, known in (("ratings", self.sha256), ("titles", self.titles_sha256)):
            if role in files and files[role].checksum() != known:
                raise SeqRecError(f"{files[role].label} has changed since it was named; name it again")
        table = layout(files["ratings"], self.options, files.get("titles"))
        lenient = self.options.get("lenient") == "1"
        remedy = "repair the file, or skip and count bad lines by --lenient (in a notebook lenient=1)"
        bad = BadLines(strict and not lenient, place="line" if table.separator else "row", remedy=remedy)
        reading = Reading(files["ratings"], table, Clock(self.options.get("unit")), bad)
        rows = reading.read()
        if len(rows) > 1 and (first := int(rows.timestamps.min())) == rows.timestamps.max():
            raise SeqRecError(
                f"{self.path}: all {len(rows):,} rows have the time {reading.clock.written(first)}, which puts them in "
                f"no order; name another column by --columns timestamp=NAME, or say --columns {BY_ROW}"
            )
        if "titles" in files:
            rows = with_titles(rows, files["titles"], self.options, bad)
        _write(_place(self.name, "facts"), {"path": self.path} | reading.facts(rows))
        return rows


def is_own(name: str) -> bool:
    """Whether this is the id of a reader's own data, known here or not."""
    return ID.fullmatch(name) is not None


def resolve(address: str) -> str:
    """The id of the data at an address ``file:PATH?option=value&...``, whose values are percent-encoded.

    Raises:
        SeqRecError: as `options_of` and `register`.
    """
    path, _, query = address.removeprefix(SCHEME).partition("?")
    return register(path, options_of(query, "&", address))


def options_of(text: str, separator: str, where: str) -> dict[str, str]:
    """Options from ``name=value`` pairs between separators.

    >>> options_of("user=customer%20id,unit=ms", ",", "--columns")
    {'user': 'customer id', 'unit': 'ms'}

    Raises:
        SeqRecError: a pair has no "=", or a name comes twice; the line names ``where``.
    """
    options: dict[str, str] = {}
    for pair in filter(None, text.split(separator)):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or name in options:
            what = "comes twice" if equals else "has no value"
            raise SeqRecError(f"{where}: {name!r} {what}; write user=NAME{separator}item=NAME{separator}timestamp=NAME")
        options[name] = unquote(value)
    return options


def register(path: str | Path, options: Mapping[str, str]) -> str:
    """The id of a file's data; where it lies is kept in the cache. The header is read, and the content hashed.

    Args:
        options: names of columns by role (``own_table.USUAL``; "" for a rating or title that is not to be read, and for
            the time where the file's rows are in its order), and ``unit`` of timestamps, ``separator``, ``titles`` (a
            csv file), ``lenient`` ("1": bad lines are skipped and counted).

    Raises:
        SeqRecError: no such file, a format or an option that is not known, or a column that is missing or not clear.
    """
    refuse_unknown(options, OPTIONS, "option", str(path))
    choices = {"unit": (*UNITS, ORDER), "separator": SEPARATORS, "lenient": ("0", "1")}
    for name, known in choices.items():
        refuse_unknown([options[name]] if name in options else [], known, name, str(path))
    if options.get("timestamp") == "" and "unit" in options:
        raise SeqRecError(
            f"{path}: timestamp= reads no times, unit={options['unit']} says how to; leave one of them out"
        )
    decisive = {k: v for k, v in sorted(options.items()) if k != "titles" and (k, v) != ("lenient", "0")}
    raw = _existing(path)
    titles = _existing(options["titles"]) if "titles" in options else None
    layout(raw, decisive, titles)
    also = {"titles": str(titles.path), "titles_sha256": titles.checksum()} if titles else {}
    own = OwnFile(str(raw.path), raw.checksum(), decisive, **also)
    _write(_place(own.name), asdict(own))
    return own.name


def last_named(path: str | Path) -> str:
    """The id under which a file of this content was last named, whatever the options; else that without options.

    Raises:
        SeqRecError: as `register`.
    """
    content = _existing(path).checksum()
    for place in sorted((cache_folder() / "own").glob("*.file.json"), key=lambda p: p.stat().st_mtime, reverse=True):
        name = place.name.removesuffix(".file.json")
        if registered(name).sha256 == content:
            return name
    return register(path, {})


def registered(name: str) -> OwnFile:
    """The files of an id.

    Raises:
        SeqRecError: nothing is known of it here.
    """
    place = _place(name)
    if not place.is_file():
        raise SeqRecError(f"data set {name!r} is not known here; name its file, such as {SCHEME}interactions.csv")
    content = read_json(place, "name the data's file again")
    with suppress(TypeError, AttributeError):
        if (own := OwnFile(**content)).name == name:
            return own
    raise SeqRecError(f"{place}: it does not describe {name}; name the data's file again")


def facts(name: str) -> dict[str, Any]:
    """What was found when the file of an id was last read.

    Of its columns: ``path``, ``columns``; ``unit``, ``form`` (number, date or row number) and ``zoned`` of timestamps,
    the ``first`` and the ``last``. Counts: ``interactions``, ``users``, ``items``, ``titled`` items, ``other_titles``
    (rows whose title is another than their item's first), ``skipped`` bad lines and the first few ``complaints``,
    ``repeated`` pairs of user and item, ``duplicates`` of them at the same time. ``in_order``: whether each user's rows
    are in the order of time. ``like_missing``: by role, how many rows have each id such as "nan". ``ties``: see
    `interactions.ties`. ``rounds``: see `interactions.core_rounds`.

    Raises:
        SeqRecError: it was not read yet, or is not known here.
    """
    return dict(read_json(_place(name, "facts"), "load the data set again"))


def _existing(path: str | Path) -> RawFile:
    """A file as a person names it: from the working folder, else from the project's."""
    given = from_user(path)
    for place in (Path.cwd() / given, project_root() / given):
        if place.is_file():
            return RawFile(place.resolve())
    what = "is a folder" if given.is_dir() else f"is not in {Path.cwd()}"
    raise SeqRecError(f"file {str(path)!r} {what}; name a csv or Parquet file")


def _place(name: str, kind: str = "file") -> Path:
    return cache_folder() / "own" / f"{name}.{kind}.json"


def _write(place: Path, content: Any) -> None:
    make_cache("own")
    write_file(place, (json.dumps(content, indent=1) + "\n").encode(), f".{os.getpid()}")

"""Timestamps of a reader's file, all in one form: whole numbers of a unit that their size shows, or dates (ISO 8601).

What shows no unit, or another than the lines before, is a bad line whose complaint lists the choices.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_lib.data import tables

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
ORDER = "order"  # the unit of numbers that order events and are no times
EARLIEST, LATEST = 315_532_800, 4_102_444_800  # seconds: a unit is found where all times lie from 1980 to 2100
_WHOLE = re.compile(rf"{tables.INTEGER}(?:\.0*)?")
_FRACTION = re.compile(r"-?[0-9]{1,12}\.[0-9]{1,9}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHOICES = (
    f"say by --columns {', '.join(f'unit={unit}' for unit in UNITS)}, or unit={ORDER} for what only orders events"
)
_NEITHER = "is neither a whole number nor a date in ISO 8601, such as 2024-01-31 or 2024-01-31T12:00:00Z"


@dataclass
class Clock:
    """Reads the timestamps of one file, block by block.

    Attributes:
        given: the unit, where the reader says it; then all numbers are taken that 64 bits hold, of seconds in
            microseconds.
        form: "number", "date" or "row number", and unit: of numbers, once known; zoned: whether dates have a time zone.
    """

    given: str | None = None
    form: str = ""
    unit: str = ""
    zoned: bool | None = None

    @property
    def micro(self) -> bool:
        """Whether times are read in microseconds: dates, and seconds, which may have fractions."""
        return self.form == "date" or self.unit == "s"

    def read(self, cells: pa.Array) -> tuple[np.ndarray, tables.Problems]:
        """((n,) int64, what is wrong by row) of the next block."""
        if not self.form:
            any(map(self._begin, cells.unique().to_pylist()))
        values = self._at_once(cells)
        return (values, {}) if values is not None else tables.one_by_one(cells, self._one, np.int64)

    def finish(self, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """All blocks in the file's unit: whole seconds where microseconds were read of which none is a fraction."""
        if not self.micro:
            return blocks
        self.unit = "us" if any((block % 10**6).any() for block in blocks) else "s"
        return [block // 10**6 for block in blocks] if self.unit == "s" else blocks

    def count(self, rows: int) -> list[np.ndarray]:
        """The numbers of so many rows, from 1: the times of a file whose own order is that of time."""
        self.form, self.unit = "row number", ORDER
        return [np.arange(1, rows + 1)]

    def written(self, value: int) -> str:
        """A time as people read it; a number that is no time stays one."""
        try:
            return (_EPOCH + timedelta(seconds=value // UNITS[self.unit])).strftime("%Y-%m-%d %H:%M:%S")
        except (KeyError, OverflowError):
            return str(value)

    def _begin(self, text: str) -> bool:
        """Find the form, and the unit of numbers, by one timestamp; False: it shows neither."""
        plain = text.strip(" \t")
        if _is_number(plain):
            value = Decimal(plain)
            fits = [unit for unit, factor in UNITS.items() if EARLIEST * factor <= value < LATEST * factor]
            self.unit = self.given or (fits[0] if fits else "")
            self.form = "number" if self.unit else ""
        elif (date := _moment(plain)) is not None:
            self.form, self.zoned = "date", date[1]
        return bool(self.form)

    def _at_once(self, cells: pa.Array) -> np.ndarray | None:
        """Whole numbers of 64 bits; None where anything else is among them: `_one` then decides."""
        if self.form != "number" or not pc.all(pc.match_substring_regex(cells, f"^(?:{_WHOLE.pattern})$")).as_py():
            return None
        with suppress(pa.ArrowInvalid):
            values = np.asarray(pc.replace_substring_regex(cells, r"\.0*$", "").cast(pa.int64()))
            if not self._outside(values).any():
                return values * 10**6 if self.micro else values
        return None

    def _one(self, text: str) -> int:
        """One timestamp. Raises ValueError saying what is wrong."""
        try:
            return self._value(text.strip(" \t"))
        except ValueError as error:
            raise ValueError(f"timestamp {text!r} {error}") from None

    def _value(self, plain: str) -> int:
        date = None if _is_number(plain) else _moment(plain)
        if self.form == "date" or date is not None:
            if date is None or self.form == "number":
                known = _is_number(plain) or date is not None
                raise ValueError(f"is no {self.form}, as other lines have" if known else _NEITHER)
            if date[1] != self.zoned:
                raise ValueError("has a time zone and others have none" if date[1] else "lacks the time zone of others")
            return date[0]
        if not _is_number(plain):
            raise ValueError(_NEITHER)
        exact = Decimal(plain)
        if not self.form or self._outside(exact):
            raise ValueError(f"is too large a number ({_CHOICES})" if self.given else self._misfit())
        if exact % 1 and not self.micro:
            raise ValueError(f"has a fraction, which only seconds may have; the unit is {self.unit}")
        return int(exact * 10**6 if self.micro else exact)

    def _outside(self, values: Any) -> Any:
        """Whether numbers are no times of the unit that was found; of a given unit, all that 64 bits hold are."""
        factor, limit = UNITS.get(self.unit, 1), 2**63 // (10**6 if self.micro else 1)
        first, last = (-limit, limit) if self.given else (EARLIEST * factor, LATEST * factor)
        return (values < first) | (values >= last)

    def _misfit(self) -> str:
        unit = f"{self.unit}, the unit of other lines" if self.unit else f"any of {', '.join(UNITS)}"
        return f"is no time from 1980 to 2100 in {unit} ({_CHOICES})"


def _is_number(plain: str) -> bool:
    return _WHOLE.fullmatch(plain) is not None or _FRACTION.fullmatch(plain) is not None


def _moment(plain: str) -> tuple[int, bool] | None:
    """(microseconds since 1970, whether a time zone is said) of a date in ISO 8601; without a zone it counts as UTC.

    >>> _moment("1970-01-02"), _moment("1970-01-01T01:00:00+01:00"), _moment("31/01/1970")
    ((86400000000, False), (0, True), None)
    """
    try:
        moment = datetime.fromisoformat(plain) if plain.isascii() else None
    except ValueError:
        moment = None
    if moment is None:
        return None
    zoned = moment.tzinfo is not None
    since = (moment if zoned else moment.replace(tzinfo=UTC)) - _EPOCH
    return since // timedelta(microseconds=1), zoned

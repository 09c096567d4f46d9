"""Run records: what one run of an experiment was, gave, cost and ran on, as a small JSON file that is checked.

A record is written once and read by everything else: tables, figures, pages. Its run id is a hash of all
that defines the run. The check is written out here rather than as a JSON Schema: the record is flat, and the
message can name file and field in the reader's words.
`RunStore` (store.py) keeps records.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.validation import short

SCHEMA = 2
RUN_ID = re.compile(r"[0-9a-f]{16}")
SLUG = re.compile(r"[a-z0-9][a-z0-9._+-]{0,79}")
TABLE = re.compile(r"[a-z][a-z0-9_]{0,39}")
ADDED_LATER = {"added_later": True}  # metadata of a configuration's field, see `plain`


@dataclass(frozen=True)
class RunRecord:
    """One run. All values are plain JSON values; numbers are finite.

    Attributes:
        run_id: hash of all that defines the run: experiment, config, revision, parents (ids of the runs that it builds
            on), hardware (timings only) and edited.
        dataset: of what was used: at least ``name``.
        code: hash of the code that ran (`seqrec_lib.results.code`); of a published run it is history.
        edited: the same hash where that code was unlike the goldens' and a published run stands for the goldens'; else
            None.
        started, finished: ISO 8601 in UTC.
        tables: name -> ``sha256``, ``rows`` and ``columns`` (name -> type) of each Parquet file beside the record.
        error: set if and only if ``status`` is "failed".
    """

    run_id: str
    experiment: str
    config: dict[str, Any]
    revision: int
    dataset: dict[str, Any]
    environment: dict[str, Any]
    status: str
    code: str
    started: str
    finished: str
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    hardware: str | None = None
    edited: str | None = None
    error: str | None = None
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "complete"

    def to_json(self, where: str = "record") -> str:
        """The record as JSON text, one field a line at the top level.

        Raises:
            SeqRecError: a field has a wrong type or value; ``where`` names the record in the message.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["parents"] = list(self.parents)
        check_record(values, where)
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def run_key(
    experiment: str,
    config: Mapping[str, Any],
    revision: int,
    parents: Sequence[str] = (),
    hardware: str | None = None,
    edited: str | None = None,
) -> str:
    """Id of a run: the first 16 hex digits of the SHA-256 of what defines it, as canonical JSON.

    >>> run_key("accuracy", {"k": 5, "seed": 0}, 1) == run_key("accuracy", {"seed": 0, "k": 5}, 1)
    True
    """
    defines = {
        "experiment": experiment,
        "config": dict(config),
        "revision": revision,
        "parents": list(parents),
        "hardware": hardware,
    } | ({} if edited is None else {"edited": edited})
    return hashlib.sha256(canonical_json(defines).encode()).hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """The one JSON text of ``value``: sorted keys, no spaces, ASCII.

    Raises:
        SeqRecError: NaN, infinity, or something that JSON has no word for.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SeqRecError(
            f"no canonical JSON for {value!r}: {error}; use finite numbers, text, lists and dicts"
        ) from None


def plain(value: Any) -> Any:
    """``value`` with NumPy and torch scalars as Python numbers, arrays and tuples as lists, dataclasses as dicts.

    A dataclass's field with ``metadata=ADDED_LATER`` is left out while it has its default: runs from before there was
    such a field keep their ids.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if not (field.metadata.get("added_later") and getattr(value, field.name) == field.default)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, int, float)) and type(value) in {str, int, float, bool}:
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def without_seed(value: Any) -> Any:
    """``value`` without the key "seed", at any depth: the same for the runs of one configuration.

    >>> without_seed({"seed": 0, "training": {"seed": 0, "epochs": 2}})
    {'training': {'epochs': 2}}
    """
    if isinstance(value, Mapping):
        return {name: without_seed(item) for name, item in value.items() if name != "seed"}
    return value


def now() -> str:
    """The present moment as a record has it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_record(path: Path) -> RunRecord:
    """Read and check one record.

    Raises:
        SeqRecError: not readable, not JSON, or not a record; the message names file and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SeqRecError(f"{path}: cannot be read ({error}); restore or delete the file") from None
    return parse_record(text, str(path))


def parse_record(text: str, where: str) -> RunRecord:
    """Turn JSON text into a checked record; ``where`` names it in the message of a SeqRecError."""
    try:
        values = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SeqRecError(f"{where}: not a JSON record ({error}); restore or delete the file") from None
    check_record(values, where)
    return RunRecord(**(values | {"parents": tuple(values["parents"])}))


def check_record(values: Any, where: str) -> None:
    """Check field names, types and values of a record read from or to be written to JSON.

    Raises:
        SeqRecError: naming ``where``, the field and its value.
    """
    if not isinstance(values, dict):
        raise SeqRecError(f"{where}: a record is a JSON object, this is {short(values)}; restore or delete the file")
    if values.get("schema") != SCHEMA:
        raise SeqRecError(
            f"{where}: field schema is {short(values.get('schema'))}, "
            f"this version reads {SCHEMA}; use a version of the study that matches, or delete the run"
        )
    for name in sorted(values.keys() - _RULES.keys()):
        raise SeqRecError(f"{where}: unknown field {name!r}; fields are {', '.join(_RULES)}")
    for name, (expected, holds) in _RULES.items():
        if name not in values:
            raise SeqRecError(f"{where}: field {name} is missing; expected {expected}")
        if not holds(values[name]):
            raise SeqRecError(f"{where}: field {name} is {short(values[name])}; expected {expected}")
        _check_json(values[name], name, where)
    for name, value in values["metrics"].items():
        if type(value) not in {int, float}:
            raise SeqRecError(f"{where}: field metrics.{name} is {short(value)}; metrics are numbers")
    if (values["status"] == "failed") != (values["error"] is not None):
        raise SeqRecError(
            f"{where}: field error is {short(values['error'])} with status {values['status']!r}; "
            "a failed run, and only that, has an error"
        )


def _check_json(value: Any, field_path: str, where: str) -> None:
    at = f"{where}: field {field_path}"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not _is_text(key):
                raise SeqRecError(f"{at} has the key {key!r}; keys are text")
            _check_json(item, f"{field_path}.{key}", where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(item, f"{field_path}[{index}]", where)
    elif value is not None and type(value) not in {bool, int, float, str}:
        raise SeqRecError(f"{at} is a {type(value).__name__} ({short(value)}); use a plain JSON value")
    elif isinstance(value, str) and not _is_text(value):
        raise SeqRecError(f"{at} is {short(value)}; half a character is no text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise SeqRecError(f"{at} is {value}; numbers in a record are finite")


def _is_text(value: str) -> bool:
    """Whether it can be written: JSON may hold one half of a pair of surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _list_of(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    holds = _matches(pattern)
    return lambda value: isinstance(value, list) and all(map(holds, value)) and len(set(value)) == len(value)


def _is_moment(value: Any) -> bool:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return False
    offset = moment.utcoffset() if moment else None
    return offset is not None and not offset


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _describes_tables(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_matches(TABLE), value)) and all(map(_describes_table, value.values()))


def _describes_table(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"sha256", "rows", "columns"}
        and _matches(re.compile(r"[0-9a-f]{64}"))(value["sha256"])
        and type(value["rows"]) is int
        and value["rows"] >= 0
        and isinstance(value["columns"], dict)
        and all(isinstance(kind, str) for kind in value["columns"].values())
    )


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "schema": (f"the number {SCHEMA}", lambda value: type(value) is int),
    "run_id": ("16 hex digits", _matches(RUN_ID)),
    "experiment": ("a lower-case name", _matches(SLUG)),
    "config": ("an object", _is_dict),
    "revision": ("a whole number from 0", lambda value: type(value) is int and value >= 0),
    "parents": ("a list of run ids", _list_of(RUN_ID)),
    "hardware": ("text or null", lambda value: value is None or isinstance(value, str)),
    "dataset": ("an object with a lower-case name", lambda v: isinstance(v, dict) and _matches(SLUG)(v.get("name"))),
    "metrics": ("an object", _is_dict),
    "history": ("a list of objects", lambda value: isinstance(value, list) and all(map(_is_dict, value))),
    "cost": ("an object", _is_dict),
    "environment": ("an object", _is_dict),
    "status": ("complete or failed", lambda value: isinstance(value, str) and value in {"complete", "failed"}),
    "error": ("text or null", lambda value: value is None or (isinstance(value, str) and value != "")),
    "code": ("16 hex digits", _matches(RUN_ID)),
    "edited": ("16 hex digits or null", lambda value: value is None or _matches(RUN_ID)(value)),
    "started": ("a UTC time in ISO 8601", _is_moment),
    "finished": ("a UTC time in ISO 8601", _is_moment),
    "tables": ("an object of tables, each with sha256, rows and columns", _describes_tables),
}

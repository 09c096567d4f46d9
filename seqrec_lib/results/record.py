"""Run records: what one run of an experiment was, gave, cost and ran on, as a small JSON file that is checked.

A record is written once and read by everything else: tables, figures, pages. Its run id is a hash of all
that defines the run. `RunStore` (store.py) keeps records.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetPydanticSchema, JsonValue, Strict

from seqrec_lib.errors import SeqRecError
from seqrec_lib.validation import CountOrNone, checked, refuse_unknown, short, types_of

SCHEMA: Literal[2] = 2
RUN_ID = re.compile(r"[0-9a-f]{16}")
SLUG = re.compile(r"[a-z0-9][a-z0-9._+-]{0,79}")
ADDED_LATER = {"added_later": True}  # metadata of a configuration's field, see `plain`


def _described(table: Mapping[str, Any]) -> Mapping[str, Any]:
    sha256, rows, columns = (table.get(name) for name in ("sha256", "rows", "columns"))
    sound = isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) and type(rows) is int and rows >= 0
    named = isinstance(columns, dict) and all(isinstance(kind, str) for kind in columns.values())
    if len(table) != 3 or not sound or not named:
        raise ValueError("it should have sha256 (64 digits), rows (a number) and columns (a type for each name)")
    return table


def _different(ids: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(ids)) < len(ids):
        raise ValueError("it should name each run once")
    return ids


def _utc(text: str) -> str:
    if datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError("it should be a time in UTC")
    return text


Digits = Annotated[str, Field(pattern=f"^{RUN_ID.pattern}$")]
Slug = Annotated[str, Field(pattern=f"^{SLUG.pattern}$")]
TableName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
Moment = Annotated[str, AfterValidator(_utc)]  # ISO 8601
Json = dict[str, Annotated[Any, GetPydanticSchema(lambda _, handler: handler.generate_schema(JsonValue))]]


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

    run_id: Digits
    experiment: Slug
    config: Json
    revision: CountOrNone
    dataset: Json
    environment: Json
    status: Literal["complete", "failed"]
    code: Digits
    started: Moment
    finished: Moment
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    cost: Json = field(default_factory=dict)
    parents: Annotated[tuple[Digits, ...], Strict(False), AfterValidator(_different)] = ()
    hardware: str | None = None
    edited: Digits | None = None
    error: Annotated[str, Field(min_length=1)] | None = None
    tables: dict[TableName, Annotated[Json, AfterValidator(_described)]] = field(default_factory=dict)
    schema: Literal[2] = SCHEMA

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
        values = json.loads(text, object_pairs_hook=_no_duplicates)
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
    if values.get("schema") != SCHEMA or type(values["schema"]) is not int:
        raise SeqRecError(
            f"{where}: schema is {short(values.get('schema'))}, this version reads {SCHEMA}; use a version of the "
            "study that matches, or delete the run"
        )
    types = types_of(RunRecord)
    refuse_unknown(values, types, "field", where)
    if missing := types.keys() - values.keys():
        raise SeqRecError(f"{where}: field {min(missing)} is missing; restore or delete the file")
    checked(values, types, where)
    checked({"dataset.name": values["dataset"].get("name")}, {"dataset.name": types["experiment"]}, where)
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # JSON may hold one half of a pair of surrogates
        raise SeqRecError(f"{where}: half a character is no text ({error}); delete the run") from None
    if (values["status"] == "failed") != (values["error"] is not None):
        raise SeqRecError(
            f"{where}: error is {short(values['error'])} with status {values['status']!r}; "
            "a failed run, and only that, has an error"
        )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return values

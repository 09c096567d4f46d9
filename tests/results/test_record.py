"""The record: what its check refuses, and that the run id depends on what defines a run and on nothing
else."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.results.record import ADDED_LATER, canonical_json, parse_record, plain, run_key
from tests.fakes import make_ranked, make_record


def test_run_key_is_the_hash_of_canonical_json() -> None:
    text = '{"config":{"b":[1,2],"a":1.5},"experiment":"e","hardware":null,"parents":[],"revision":3}'
    text = text.replace('"b":[1,2],"a":1.5', '"a":1.5,"b":[1,2]')  # keys are sorted at every depth
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert run_key("e", {"b": (1, 2), "a": 1.5}, 3) == expected


@pytest.mark.parametrize(
    ("experiment", "config", "revision", "parents", "hardware"),
    [
        ("f", {"a": 1}, 1, (), None),
        ("e", {"a": 2}, 1, (), None),
        ("e", {"a": 1}, 2, (), None),
        ("e", {"a": 1}, 1, ("0" * 16,), None),
        ("e", {"a": 1}, 1, (), "a GPU"),
    ],
)
def test_run_key_depends_on_each_part(
    experiment: str, config: dict, revision: int, parents: tuple[str, ...], hardware: str | None
) -> None:
    assert run_key(experiment, config, revision, parents, hardware) != run_key("e", {"a": 1}, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object()])
def test_canonical_json_refuses(value: object) -> None:
    with pytest.raises(SeqRecError, match="no canonical JSON"):
        canonical_json({"x": value})


def test_plain_turns_numpy_into_python() -> None:
    given = {"a": np.float64(0.5), "b": (np.int32(3), np.bool_(True)), "c": np.arange(2)}
    assert json.dumps(plain(given)) == '{"a": 0.5, "b": [3, true], "c": [0, 1]}'


def test_a_field_that_was_added_later_does_not_change_older_runs() -> None:
    @dataclass(frozen=True)
    class Inner:
        rate: float = 0.1
        schedule: str = field(default="constant", metadata=ADDED_LATER)

    @dataclass(frozen=True)
    class Outer:
        inner: Inner
        seed: int = 0

    assert plain(Outer(Inner())) == {"inner": {"rate": 0.1}, "seed": 0}
    assert plain(Outer(Inner(schedule="cosine")))["inner"] == {"rate": 0.1, "schedule": "cosine"}


def test_record_survives_writing_and_reading() -> None:
    record, _ = make_ranked(metrics={"ht@10": 0.1 + 0.2})
    assert parse_record(record.to_json(), "x.json") == record


BROKEN = {
    "code": "xyz",
    "edited": 1,
    "config": [],
    "cost": {"seconds": math.inf},
    "revision": True,
    "run_id": "0123456789abcdef\n",
    "parents": ["nope"],
    "dataset": {"name": "../etc"},
    "experiment": "../../etc",
    "environment": {"device": "\ud800"},
    "history": [1],
    "metrics": {"ht@10": True},
    "status": "done",
    "error": "boo",
    "started": "2026-01-01T00:00:00",
    "finished": "2026-13-01T00:00:00+00:00",
    "tables": {"a/b": {"sha256": "", "rows": 1, "columns": {}}},
    "hardware": 3,
    "schema": 99,
}


@pytest.mark.parametrize("field", BROKEN)
def test_wrong_field_is_named_with_its_file(field: str) -> None:
    values = json.loads(make_record().to_json()) | {field: BROKEN[field]}
    with pytest.raises(SeqRecError, match=rf"^results/x\.json: {'half a' if field == 'environment' else field}"):
        parse_record(json.dumps(values), "results/x.json")


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "zz"}, {"sha256": None}, {"sha256": "0" * 64 + "\n"}, {"rows": "5"}, {"rows": -1}, {"rows": True},
        {"rows": 1.0}, {"columns": None}, {"columns": ["a"]}, {"columns": {"a": 1}}, {"more": 1},
    ],
)  # fmt: skip
def test_a_table_is_described_as_a_whole(change: dict[str, Any]) -> None:
    whole = {"sha256": "0" * 64, "rows": 1, "columns": {"rank": "int32"}}
    make_record(tables={"ranks": whole}).to_json()
    with pytest.raises(SeqRecError, match="tables"):
        make_record(tables={"ranks": whole | change}).to_json()


@pytest.mark.parametrize("change", [{"parents": ["0123456789abcdef"] * 2}, {"schema": 2.0}])
def test_nothing_is_said_twice_and_the_schema_is_a_whole_number(change: dict[str, Any]) -> None:
    with pytest.raises(SeqRecError, match=next(iter(change))):
        parse_record(json.dumps(json.loads(make_record().to_json()) | change), "x.json")


def test_unknown_missing_and_doubled_fields_are_named() -> None:
    values = json.loads(make_record().to_json())
    with pytest.raises(SeqRecError, match=r"x\.json: unknown field 'colour'"):
        parse_record(json.dumps(values | {"colour": 1}), "x.json")
    with pytest.raises(SeqRecError, match=r"x\.json: field metrics is missing"):
        parse_record(json.dumps({k: v for k, v in values.items() if k != "metrics"}), "x.json")
    with pytest.raises(SeqRecError, match="'a' occurs twice"):
        parse_record('{"a": 1, "a": 2}', "x.json")
    for text in ("", "[1]", "{", "[" * 100_000, '{"schema": NaN}'):
        with pytest.raises(SeqRecError, match=r"^x\.json: "):
            parse_record(text, "x.json")


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32(1), (1,), b"x"])
def test_nothing_but_plain_finite_json_is_written(value: object) -> None:
    with pytest.raises(SeqRecError, match=r"cost\['deep'\]\[0\] is "):
        make_record(cost={"deep": [value]}).to_json()

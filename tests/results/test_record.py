"""The record: what its check refuses, and that the run id depends on what defines a run and on nothing
else."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field

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
    "code": ("xyz", "expected 16 hex digits"),
    "edited": (1, "expected 16 hex digits or null"),
    "config": ([], "expected an object"),
    "revision": (True, "expected a whole number"),
    "run_id": ("xyz", "expected 16 hex digits"),
    "parents": (["nope"], "expected a list of run ids"),
    "dataset": ({"name": "../etc"}, "lower-case name"),
    "experiment": ("../../etc", "lower-case name"),
    "history": ([1], "expected a list of objects"),
    "status": ("done", "expected complete or failed"),
    "error": ("boo", "a failed run, and only that, has an error"),
    "started": ("2026-01-01T00:00:00", "UTC"),
    "finished": ("yesterday", "UTC"),
    "tables": ({"a/b": {}}, "an object of tables"),
    "hardware": (3, "expected text or null"),
    "schema": (99, "this version reads 2"),
}


@pytest.mark.parametrize("field", BROKEN)
def test_wrong_field_is_named_with_its_file(field: str) -> None:
    value, message = BROKEN[field]
    values = json.loads(make_record().to_json()) | {field: value}
    with pytest.raises(SeqRecError, match=message) as caught:
        parse_record(json.dumps(values), "results/x.json")
    assert f"results/x.json: field {field}" in str(caught.value)


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
    with pytest.raises(SeqRecError, match=r"field cost\.deep\[0\] "):
        make_record(cost={"deep": [value]}).to_json()

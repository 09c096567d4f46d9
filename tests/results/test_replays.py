"""Replays: which runs one speaks for, chains of them, and a file that is checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.results.replays import Replay, add_replay, alike, proof, read_replays
from tests.fakes import make_record

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)
CONFIG = {"dataset": "ml-1m", "model": "sasrec", "seed": 0}


def link(
    then: str, today: str, difference: str = "", config: dict | None = None, experiment: str = "accuracy"
) -> Replay:
    return Replay(
        run_id="0" * 16,
        experiment=experiment,
        alike=alike(config or CONFIG),
        then=then,
        today=today,
        epochs=0,
        difference=difference,
        finished="2026-01-01T00:00:00+00:00",
        git_commit=None,
    )


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"seed": 3, "dataset": "ml-100k"}, True),
        ({"training": {"dropout": 0.4, "epochs": 7, "seed": 9, "sizes": [3, 9]}}, True),
        ({"training": {"dropout": 0.0, "epochs": 5, "seed": 0, "sizes": [1, 2]}}, False),
        ({"training": {"dropout": 0.1, "epochs": -1, "seed": 0, "sizes": [1, 2]}}, False),
        ({"training": {"dropout": 0.1, "epochs": 5, "seed": 0, "sizes": [1, 2, 3]}}, False),
        ({"model": "mamba4rec"}, False),
        ({"bias": True}, False),
        ({"bias": 1}, False),
        ({"bias": None}, False),
    ],
)
def test_runs_are_alike_unless_something_switches_code(changed: dict, same: bool) -> None:
    config = CONFIG | {"bias": False, "training": {"dropout": 0.1, "epochs": 5, "seed": 0, "sizes": [1, 2]}}
    assert (alike(config) == alike(config | changed)) is same


def test_equal_numbers_link_two_codes_either_way_and_in_chains() -> None:
    record = make_record(fingerprint=A)
    assert proof(record, A, []) == ()
    assert proof(record, B, []) == ()
    one, two = link(A, B), link(C, B)
    assert proof(record, B, [one]) == (one,)
    assert proof(record, C, [two, one]) == (one, two)
    assert proof(record, D, [one, two]) == ()


@pytest.mark.parametrize(
    "other",
    [
        link(A, B, difference="ht@10 0.1 became 0.2"),
        link(A, B, config=CONFIG | {"model": "mamba4rec"}),
        link(A, B, experiment="orpo"),
    ],
)
def test_a_replay_speaks_for_equal_numbers_of_runs_that_are_alike_only(other: Replay) -> None:
    assert proof(make_record(fingerprint=A), B, [other]) == ()


def test_the_file_keeps_the_last_replay_of_a_run_by_a_code(tmp_path: Path) -> None:
    path = tmp_path / "results/replays.json"
    assert read_replays(path) == ()
    add_replay(link(A, B, difference="loss 1 became 2"), path)
    add_replay(link(A, C), path)
    add_replay(link(A, B), path)
    assert read_replays(path) == (link(A, C), link(A, B))
    assert [p for p in sorted(tmp_path.rglob("*")) if p.suffix != ".lock"] == [path.parent, path]


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '[{"run_id": "x"}]', "[1]", "null"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "replays.json"
    path.write_text(text)
    with pytest.raises(SeqRecError, match=r"replays\.json: no list of replays"):
        read_replays(path)
    add_replay(link(A, B), tmp_path / "other.json")
    path.write_text((tmp_path / "other.json").read_text().replace(A, "zz"))
    with pytest.raises(SeqRecError, match="then is 'zz'"):
        read_replays(path)


def test_replays_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "replays.json"
    code = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.results.test_replays import A, B, add_replay, link
for number in range(20):
    add_replay(replace(link(A, B), run_id=f"{sys.argv[2]}{number:015d}"), Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", code, str(path)]
    writers = [subprocess.Popen([*command, name], cwd=ROOT) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(read_replays(path)) == 40

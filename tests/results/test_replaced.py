"""No published run vanishes: those that are gone stand in results/replaced.csv, with the reason."""

from __future__ import annotations

import csv
import subprocess

import pytest

from seqrec_lib.places import project_root


def test_every_run_that_was_ever_published_is_there_or_listed_with_its_reason() -> None:
    results = project_root() / "results"
    present = {path.stem for path in results.glob("*/*/*.json")}
    with (results / "replaced.csv").open(encoding="utf-8", newline="") as file:
        replaced = {row["run_id"]: row for row in csv.DictReader(file)}
    command = ["git", "-C", str(results), "log", "--format=", "--name-only", "--diff-filter=A", "--no-renames"]
    added = subprocess.run([*command, "--", "."], capture_output=True, text=True, check=False).stdout.split()
    if not added:
        pytest.skip("no git history here")
    published = {path.rpartition("/")[2].removesuffix(".json") for path in added if path.endswith(".json")}
    published -= {"replays", "rechecks"}  # lists of runs
    assert not published - present - set(replaced)
    assert not present & set(replaced)
    assert all(row["reason"] and row["new_run"] in present | {""} for row in replaced.values())

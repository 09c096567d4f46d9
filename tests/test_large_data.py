"""The made-up files of the benchmark of large data: both forms say the same, and are read as the paper's data set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import large_data


def test_both_forms_hold_the_same_reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_data, "BLOCK", 1_000)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    found = []
    for form in large_data.FORMS:
        rows = large_data.write(tmp_path / form, 2_000, form)
        found.append({"reviews": rows} | large_data.read(str(tmp_path / form)))
    csv, json = found
    for name in ("reviews", "users", "items", "interactions"):
        assert csv[name] == json[name] > 0
    assert csv["reviews"] > csv["interactions"] >= 5 * csv["users"]


def test_labels_are_different() -> None:
    for width in (8, 26):
        labels = large_data._labels(50_000, width, "AE").to_pylist()
        assert len(set(labels)) == len(labels) and {len(label) for label in labels} == {width + 2}

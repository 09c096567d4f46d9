"""The list of licences is that of the locks, and a licence is found wherever a package states it."""

from __future__ import annotations

import csv
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tools import licences


def test_every_package_of_the_locks_is_listed_with_its_licence() -> None:
    with licences.TARGET.open(encoding="utf-8", newline="") as stream:
        listed = {(row["package"], row["version"]): row["licence"] for row in csv.DictReader(stream)}
    pinned = {
        pin
        for lock in licences.LOCKS
        for pin in licences.pinned((licences.ROOT / lock).read_text(encoding="utf-8")).items()
    }
    assert listed.keys() == pinned, "run python -m tools.licences"
    assert all(listed.values())


@pytest.mark.parametrize(
    ("metadata", "text", "expected"),
    [
        ("License-Expression: MIT", "", "MIT"),
        ("License: BSD-3-Clause", "", "BSD-3-Clause"),
        (
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: Apache Software License",
            "",
            "Apache Software License",
        ),
        ("Classifier: License :: OSI Approved", "\n# The MIT License\nCopyright", "The MIT License"),
        ("Classifier: Topic :: Software Development", "", ""),
    ],
)
def test_a_licence_is_found(metadata: str, text: str, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "thing-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: thing\nVersion: 1\n{metadata}\n", encoding="utf-8")
    (folder / "LICENSE").write_text(text, encoding="utf-8")
    (folder / "RECORD").write_text("thing-1.dist-info/LICENSE,,\n", encoding="utf-8")
    assert licences.licence_of(Distribution.at(folder)) == expected

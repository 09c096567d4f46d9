"""Folders of raw files for the tests: SEQREC_DATA and SEQREC_CACHE point into tmp_path."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest


class DataFolder:
    """A folder as SEQREC_DATA names it, to be filled with small files of the real formats."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: str | bytes, *, encoding: str = "utf-8") -> Path:
        """Write ``<data set>/<file>``; gzipped where the name ends in .gz."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode(encoding)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    def zip(self, name: str, members: dict[str, bytes]) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return path


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """An empty data folder and cache of its own for each test."""
    monkeypatch.setenv("SEQREC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    return DataFolder(tmp_path / "data")

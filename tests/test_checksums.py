"""A sealed folder is what it was, or it is said which file is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrec_lib.checksums import SUMS, damage, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    seal(tmp_path)
    return tmp_path


def test_a_sealed_folder_is_whole_also_for_sha256sum(folder: Path) -> None:
    assert damage(folder) == ""
    (folder / ".DS_Store").write_bytes(b"a file manager's")
    assert damage(folder) == ""
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=folder, check=True)
    seal(folder)
    assert damage(folder) == ""


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a file less": (lambda f: (f / "model" / "config.json").unlink(), "model/config.json"),
    "a file more": (lambda f: (f / "model" / "adapter.safetensors").write_bytes(b"x"), "model/adapter.safetensors"),
    "another name": (lambda f: (f / "notes.txt").rename(f / "a.txt"), "a.txt"),
    "emptied": (lambda f: (f / "model" / "weights.safetensors").write_bytes(b""), "model/weights.safetensors"),
    "a link to nothing": (lambda f: ((f / "notes.txt").unlink(), (f / "notes.txt").symlink_to("gone")), "notes.txt"),
    "no sums": (lambda f: (f / SUMS).unlink(), SUMS),
    "empty sums": (lambda f: (f / SUMS).write_bytes(b""), "model/config.json"),
    "sums are a folder": (lambda f: ((f / SUMS).unlink(), (f / SUMS).mkdir()), SUMS),
    "sums of another system": (lambda f: (f / SUMS).write_bytes((f / SUMS).read_bytes().replace(b"\n", b"\r\n")), ""),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_named(change: Callable[[Path], Any], named: str, folder: Path) -> None:
    change(folder)
    found = damage(folder)
    assert found and named in found and "\n" not in found


@pytest.mark.parametrize("name", ["model/weights.safetensors", "model/config.json", SUMS])
def test_every_flipped_bit_is_seen(name: str, folder: Path) -> None:
    path = folder / name
    data = path.read_bytes()
    for place in np.random.default_rng(1).permutation(8 * len(data))[:200].tolist():
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        assert damage(folder), place
    path.write_bytes(data)
    assert damage(folder) == ""


def test_nothing_is_not_whole(tmp_path: Path) -> None:
    assert damage(tmp_path) and damage(tmp_path / "nowhere")
    seal(tmp_path)
    assert damage(tmp_path)

"""GGUF files: the same model, converted once and whole; damage, a missing package and a full disk are one line."""

from __future__ import annotations

import importlib.util
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from seqrec_lib.checksums import damage
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import gguf_files, sources
from seqrec_lib.language.pretrained import load
from tests.language import gguf as tiny_files

pytest.importorskip("gguf", reason="the package gguf is an extra: pip install '.[llm]'")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file, and the model that is in it."""
    model = tiny_files.gemma()
    return tiny_files.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model), model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def in_parts(path: Path, folder: Path) -> Path:
    content = path.read_bytes()
    for number in range(3):
        begin = number * len(content) // 3
        (folder / f"cut.gguf.part0{number}").write_bytes(content[begin : (number + 1) * len(content) // 3])
    return folder / "cut.gguf"


@pytest.mark.parametrize("cut", [False, True], ids=["one file", "parts"])
def test_a_gguf_file_is_the_model_that_was_written(cut: bool, written: Any, cache: Path, tmp_path: Path) -> None:
    path, model = written
    source = f"gguf:{in_parts(path, tmp_path) if cut else path}"
    lines: list[str] = []
    sources.prepare(source, lines.append)
    language = load(source)
    ids = torch.randint(4, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(language.model(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    text = "User history: A B"
    assert language.tokenizer.decode(language.tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    made = language.provenance
    assert (made["kind"], made["name"]) == ("gguf", "cut.gguf" if cut else "tiny.gguf")
    assert made["gguf_sha256"] == sources.content_hash(source) == gguf_files.sum_of([path])
    assert made["gguf_types"]["Q8_0"] == 1 + 7 * 7
    (folder,) = (own for own in cache.iterdir() if own.is_dir())
    assert damage(folder) == "" and {own.suffix for own in folder.iterdir()} == {".json", ".safetensors", ""}
    assert len(lines) == 1 and f"{sum(p.numel() for p in model.parameters()):,} weights" in lines[0]


def test_it_is_converted_once_and_again_where_the_folder_is_damaged(
    written: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"gguf:{written[0]}"
    folder = sources.folder_of(source)
    with monkeypatch.context() as patched:
        patched.setattr(gguf_files, "_convert", None)  # it is not called
        assert sources.folder_of(source) == folder
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    lines: list[str] = []
    assert sources.folder_of(source, lines.append) == folder
    assert damage(folder) == "" and "damaged (model.safetensors" in lines[0]


def test_a_kill_while_it_is_written_leaves_nothing_that_is_read(
    written: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"gguf:{written[0]}"
    with monkeypatch.context() as patched:
        patched.setattr(gguf_files, "seal", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sources.folder_of(source)
    assert not [own for own in cache.iterdir() if own.is_dir()]
    assert damage(sources.folder_of(source)) == ""


@pytest.mark.parametrize("keep", [0, 7, 1000, 60_000])
def test_a_file_that_is_cut_short_is_one_line(keep: int, written: Any, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "short.gguf").write_bytes(written[0].read_bytes()[:keep])
    with pytest.raises(SeqRecError, match=r"short\.gguf.* get it anew"):
        sources.folder_of(f"gguf:{tmp_path / 'short.gguf'}")
    assert not [own for own in cache.iterdir() if own.is_dir()]


def test_what_is_not_there_not_expected_or_does_not_fit_is_said(
    written: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = written
    with pytest.raises(SeqRecError, match="no file"):
        sources.content_hash("gguf:nowhere/x.gguf")
    with pytest.raises(SeqRecError, match=r"its SHA-256 is [0-9a-f]{64}, not 00; delete it"):
        gguf_files.convert([path], cache / "m", "tiny", expected="00")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 1000))
        with pytest.raises(SeqRecError, match=r"has 0.0 GB free and the model needs 0.2; free space, or set SEQREC"):
            sources.folder_of(f"gguf:{path}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SeqRecError, match=r"the package gguf, .* is missing; pip install '.\[llm\]'"):
        sources.folder_of(f"gguf:{path}")
    assert not [own for own in cache.iterdir() if own.is_dir()]

"""GGUF files (llama.cpp's format): weights in a few bits, converted once into a folder in the hub's own format.

``gguf:models/x.gguf`` names the file, or, where it lies in parts, what x.gguf.part00, x.gguf.part01 ... are parts of.
transformers reads the file with the package `gguf`; the values that the bits stand for are written as float32 into the
cache, beside the tokenizer that the file holds. The folder is written under another name, sealed and renamed, so that a
kill leaves no half of one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

from seqrec_lib.checksums import damage, seal
from seqrec_lib.data.download import ChecksumError
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.hub_format import quiet, readable, save
from seqrec_lib.places import from_user

PREFIX = "gguf:"
ORIGIN = "origin.json"  # in a converted folder: name, gguf_sha256, gguf_types (tensors of each kind of number)
SPARE = 200_000_000  # bytes beyond the weights: tokenizer, and what else the disk has to do meanwhile


def parts_of(source: str) -> list[Path]:
    """The files that a source ``gguf:PATH`` names, in order.

    Raises:
        SeqRecError: there is neither that file nor a part of it.
    """
    path = from_user(source.removeprefix(PREFIX))
    if path.is_file():
        return [path]
    found = sorted(path.parent.glob(f"{path.name}.part*"))
    if not found:
        raise SeqRecError(f"{source}: no file {path}, and no {path.name}.part00 beside where it should be; correct it")
    return found


def sum_of(paths: Sequence[Path]) -> str:
    """SHA-256 of files as one, in hex."""
    return _sum(file_states(paths))


def damage_of(folder: Path) -> str:
    """`checksums.damage`, where of each file is read what has changed since it was read last."""
    return damage(folder, lambda path: sum_of([path]))


def file_states(paths: Sequence[Path]) -> tuple[Any, ...]:
    """Names, sizes and times of files. What is computed of a gigabyte is kept by them: it is read once in a process."""
    at = [(str(path), path.stat()) for path in paths]
    return tuple((name, own.st_ino, own.st_size, own.st_mtime_ns, own.st_ctime_ns) for name, own in at)


@cache
def _sum(files: tuple[Any, ...]) -> str:
    digest = hashlib.sha256()
    for name, *_ in files:
        with open(name, "rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def convert(
    paths: Sequence[Path],
    folder: Path,
    name: str,
    *,
    expected: str = "",
    beside: Sequence[Path] = (),
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the model of a GGUF file (in parts) to ``folder`` in the hub's format; nothing to do where it is whole.

    Args:
        name: what records and labels call it. expected: SHA-256 of the file, where it is known.
        beside: files to be kept with it, such as its licence.

    Raises:
        SeqRecError: no package `gguf`, a full disk, or a file that transformers does not read.
        ChecksumError: the file is not the expected one.
    """
    from filelock import FileLock

    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.exists():
            wrong = damage_of(folder)
            if not wrong:
                return folder
            report(f"{folder} is damaged ({wrong}) and is made anew")
            shutil.rmtree(folder)
        if importlib.util.find_spec("gguf") is None:
            raise SeqRecError(f"{name}: the package gguf, which reads its weights, is missing; pip install '.[llm]'")
        known = sum_of(paths)
        if expected and known != expected:
            raise ChecksumError(f"{paths[0]}: its SHA-256 is {known}, not {expected}; delete it and get it anew")
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _convert(paths, partial, name, known, report)
            for path in beside:
                shutil.copyfile(path, partial / path.name)
            seal(partial)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(paths: Sequence[Path], folder: Path, name: str, known: str, report: Callable[[str], None]) -> None:
    from gguf import GGUFReader

    joined = paths[0]
    if len(paths) > 1:
        _need(folder, sum(path.stat().st_size for path in paths))
        joined = folder / "joined.gguf"
        with joined.open("wb") as whole:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole, 2**22)
    with readable(name), quiet(), redirect_stderr(io.StringIO()):  # a bar that no switch of transformers reaches
        tensors = GGUFReader(joined).tensors
        weights, types = sum(int(own.n_elements) for own in tensors), Counter(own.tensor_type.name for own in tensors)
        _need(folder, 4 * weights + SPARE)
        report(f"{name}: {weights:,} weights are written as float32, {4 * weights / 1e9:.1f} GB; this takes minutes")
        model, tokenizer = _read(joined)
        save(model, tokenizer, folder)
    if len(paths) > 1:
        joined.unlink()
    origin = {"name": name, "gguf_sha256": known, "gguf_types": types}
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _need(folder: Path, bytes_: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < bytes_:
        raise SeqRecError(
            f"{folder.parent} has {free / 1e9:.1f} GB free and the model needs {bytes_ / 1e9:.1f}; free space, or set "
            "SEQREC_CACHE to a folder with more"
        )


def _read(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, without the marks by which transformers would refuse to save the former."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **where)
    model.hf_quantizer = None
    for mark in ("is_quantized", "quantization_method"):
        if mark in vars(model):
            delattr(model, mark)
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    return model, AutoTokenizer.from_pretrained(path.parent, **where)

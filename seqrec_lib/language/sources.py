"""Where a language model comes from: one text, its *source*, and what is found there.

    gpt2, AntonV/mamba2-130m-hf, EleutherAI/pythia-160m ...   an id on the Hugging Face hub
    models/my-gpt2                                            a folder in the hub's own format
    gguf:models/x.gguf                                        a GGUF file, or its parts (`gguf_files`)
    gemma-3-270m                                              a model that `seqrec llm fetch` gets (`catalogue`)
    scratch:gpt2, scratch:mamba2, scratch:llama               random weights, a tokenizer trained on the titles

A run's key holds the hash of what lies at a path, as a path says nothing about it; an id and a name say what they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import catalogue, gguf_files
from seqrec_lib.language.hub_format import FILES
from seqrec_lib.places import make_cache
from seqrec_lib.validation import read_json


def kind(source: str) -> str:
    """What a source is: hub, folder, gguf or scratch.

    >>> [kind(source) for source in ("scratch:gpt2", "openai-community/gpt2", "./models/gpt2", "gemma-3-270m")]
    ['scratch', 'hub', 'folder', 'gguf']
    """
    if source.startswith("scratch:"):
        return "scratch"
    if source.startswith(gguf_files.PREFIX) or source in catalogue.CATALOGUE:
        return "gguf"
    return "folder" if source.startswith((".", "/", "~")) or Path(source).is_dir() else "hub"


def content_hash(source: str) -> str:
    """SHA-256 of what lies at a path, in hex; empty for a source that is none.

    Of a folder it is that of its weights, configuration and tokenizer, of a GGUF file that of the file.
    """
    if source.startswith(gguf_files.PREFIX):
        return gguf_files.sum_of(gguf_files.parts_of(source))
    if not source or kind(source) != "folder":
        return ""
    folder = Path(source).expanduser()
    paths = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    listing = "".join(f"{gguf_files.sum_of([path])}  {path.name}\n" for path in paths)
    return hashlib.sha256(listing.encode()).hexdigest() if paths else ""


def check_content(source: str, expected: str) -> None:
    """Raise SeqRecError where a path does not hold the model that a run was planned with."""
    if content_hash(source) != expected:
        raise SeqRecError(f"{source}: the model there is not the one that the run was planned with; plan again")


def described(source: str) -> dict[str, Any]:
    """What a record calls a source: kind and name; of weights from a GGUF file also its hash and its kinds of numbers.

    A path is no one else's business, so that of it there is the last name alone.
    """
    where = kind(source)
    if where == "gguf":
        return {"kind": where} | read_json(folder_of(source) / gguf_files.ORIGIN, "delete this folder")
    return {"kind": where, "name": Path(source).expanduser().resolve().name if where == "folder" else source}


def prepare(source: str, report: Callable[[str], None] = lambda line: None) -> None:
    """See to it that a source can be read, before work begins that needs it later: `folder_of`, for what has one."""
    if source and kind(source) != "scratch":
        folder_of(source, report)


def folder_of(source: str, report: Callable[[str], None] = lambda line: None) -> Path:
    """The folder with a source's files: fetched from the hub where it is an id that is not cached, converted where it
    is a GGUF file (``report`` takes a line then).

    Raises:
        SeqRecError: there is none, it cannot be fetched, or it is no model in the hub's format.
    """
    folder = _folder(source, report)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise SeqRecError(f"{source}: no config.json with *.safetensors there; point to a folder in the hub's format")
    return folder


def _folder(source: str, report: Callable[[str], None]) -> Path:
    if source in catalogue.CATALOGUE:
        return catalogue.folder(source)
    if source.startswith(gguf_files.PREFIX):
        parts = gguf_files.parts_of(source)
        folder = make_cache("models") / f"gguf-{gguf_files.sum_of(parts)[:16]}"
        return gguf_files.convert(parts, folder, Path(source).name, report=report)
    if kind(source) == "folder":
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise SeqRecError(f"{source}: there is no such folder; give an existing one, a hub id, or scratch:gpt2")
        return folder
    from huggingface_hub import snapshot_download

    wanted = list(FILES)
    try:
        return Path(snapshot_download(source, allow_patterns=wanted, local_files_only=True))
    except Exception:  # not cached; the next call says why it cannot be had
        pass
    try:
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise OSError("HF_HUB_OFFLINE is 1")
        return Path(snapshot_download(source, allow_patterns=wanted, etag_timeout=5))
    except Exception as error:  # the hub's client raises many kinds; none of them matters to the reader
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise SeqRecError(
            f"{source}: not in the hub's cache, and the hub gave nothing ({reason}); where there is a network, run "
            f"`hf download {source} --local-dir {source.rpartition('/')[2]}` and give that folder, or use scratch:gpt2"
        ) from None

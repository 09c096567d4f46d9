"""What is in a folder that a language model is read from: a run's key holds it, as a path says nothing about it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from seqrec_lib.checksums import sha256_of
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.pretrained import FILES, kind

_HASHES: dict[tuple[Any, ...], str] = {}  # of folders, by their files' names, sizes and times


def content_hash(source: str) -> str:
    """SHA-256 of a folder's model, its weights, configuration and tokenizer, in hex; empty for what is no folder.

    The name of any other source says what it is. A path does not: another model may lie there tomorrow.
    """
    if not source or kind(source) != "folder":
        return ""
    folder = Path(source).expanduser()
    paths = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    seen = [(path, path.stat()) for path in paths]
    place = tuple((str(path), at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for path, at in seen)
    if place and place not in _HASHES:
        listing = "".join(f"{sha256_of(path)}  {path.name}\n" for path in paths)
        _HASHES[place] = hashlib.sha256(listing.encode()).hexdigest()
    return _HASHES[place] if place else ""


def check_content(source: str, expected: str) -> None:
    """Raise SeqRecError where a folder does not hold the model that a run was planned with."""
    if content_hash(source) != expected:
        raise SeqRecError(
            f"{source}: the model in this folder is not the one that the run was planned with; plan again"
        )

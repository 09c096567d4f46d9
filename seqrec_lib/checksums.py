"""Folders whose files are what was written: a list of SHA-256 sums, `sha256sum -c SHA256SUMS`, which is written last.

Neither PyTorch nor safetensors checks what it reads: a flipped bit is another weight. Kept weights and the checkpoints
of a language model's tuning are folders, and each gets such a list. A folder whose writing was broken off has none.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

SUMS = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write the list of what is in ``folder`` now, in one step. A file whose name begins with a dot does not count."""
    temporary = folder / f".{SUMS}.tmp"
    temporary.write_bytes(_listing(folder))
    os.replace(temporary, folder / SUMS)


def damage(folder: Path) -> str:
    """What keeps ``folder`` from being what `seal` saw, in a few words; empty text where nothing does."""
    try:
        stored, today = (folder / SUMS).read_bytes(), _listing(folder)
    except OSError as error:
        return f"{SUMS} cannot be read ({error.strerror})"
    if stored == today:
        return "" if today else "there is nothing in it"
    changed = set(stored.splitlines()) ^ set(today.splitlines())
    names = sorted({line.partition(b"  ")[2].decode(errors="replace") for line in changed})
    return f"{names[0] if names and names[0] else SUMS} is not what was written"


def _listing(folder: Path) -> bytes:
    """One line for each file, in order of names, as ``sha256sum`` has them."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    names = sorted(name for name in paths if name != SUMS and not name.rpartition("/")[2].startswith("."))
    return "".join(f"{sha256_of(paths[name])}  {name}\n" for name in names).encode()

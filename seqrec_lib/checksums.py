"""Files that appear in one step, and files and folders that are known to be what was written, by their SHA-256.

Neither PyTorch, NumPy nor safetensors checks what it reads: a flipped bit is another weight. A single file ends in the
sum of what comes before. Kept weights and the checkpoints of a language model's tuning are folders, and each gets a
list of sums, `sha256sum -c SHA256SUMS`, which is written last: a folder whose writing was broken off has none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

SUMS = "SHA256SUMS"
SUM_BYTES = 32


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def append_sum(stream: BinaryIO, salt: bytes = b"") -> None:
    """Write the sum of ``salt`` and of what a stream holds behind that; it is open to read and write."""
    size = stream.seek(0, os.SEEK_END)
    stream.write(_sum_of(stream, size, salt))


def ends_in_sum(stream: BinaryIO, salt: bytes = b"") -> bool:
    """Whether a stream ends in what `append_sum` wrote; it then stands at its beginning."""
    size = stream.seek(0, os.SEEK_END) - SUM_BYTES
    whole = _sum_of(stream, size, salt) == stream.read()
    stream.seek(0)
    return whole


def _sum_of(stream: BinaryIO, size: int, salt: bytes) -> bytes:
    """The sum of ``salt`` and a stream's first ``size`` bytes, behind which it then stands."""
    digest = hashlib.sha256(salt)
    stream.seek(0)
    while size > 0 and (block := stream.read(min(size, 2**20))):
        digest.update(block)
        size -= len(block)
    return digest.digest()


def write_file(path: Path, blob: bytes, mark: str = "") -> None:
    """Write a file in one step that outlives a crash: a temporary file, fsync, rename.

    One writer at a time, unless each has a ``mark`` of its own for the temporary file's name.
    """
    temporary = path.with_name(f".{path.name}{mark}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(blob)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself must reach the disk too
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def seal(folder: Path) -> None:
    """Write the list of what is in ``folder`` now, in one step. A file whose name begins with a dot does not count."""
    write_file(folder / SUMS, _listing(folder))


def damage(folder: Path, sum_of: Callable[[Path], str] = sha256_of) -> str:
    """What keeps ``folder`` from being what `seal` saw, in a few words; empty text where nothing does."""
    try:
        stored, today = (folder / SUMS).read_bytes(), _listing(folder, sum_of)
    except OSError as error:
        return f"{SUMS} cannot be read ({error.strerror})"
    if stored == today:
        return "" if today else "there is nothing in it"
    changed = set(stored.splitlines()) ^ set(today.splitlines())
    names = sorted({line.partition(b"  ")[2].decode(errors="replace") for line in changed})
    return f"{names[0] if names and names[0] else SUMS} is not what was written"


def _listing(folder: Path, sum_of: Callable[[Path], str] = sha256_of) -> bytes:
    """One line for each file, in order of names, as ``sha256sum`` has them."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    names = sorted(name for name in paths if name != SUMS and not name.rpartition("/")[2].startswith("."))
    return "".join(f"{sum_of(paths[name])}  {name}\n" for name in names).encode()

"""A raw file wherever it lies: plain, gzipped, or a member of a zip archive that is read in place.

Every reader sees a stream of decompressed bytes and a label for its error messages; damaged compression is
reported as an expected error, whichever reader meets it.
"""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from seqrec_lib.errors import SeqRecError

BLOCK_BYTES = 1 << 23


@dataclass(frozen=True)
class RawFile:
    """One raw file on disk.

    path: the file itself, or the zip archive that holds it
    member: the name inside the archive; None for a file of its own
    """

    path: Path
    member: str | None = None

    @property
    def label(self) -> str:
        """How error messages name the file."""
        return str(self.path) if self.member is None else f"{self.path}!{self.member}"

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes as a stream.

        Raises SeqRecError where the gzip or zip container is damaged (also later, while the caller reads).
        """
        try:
            if self.member is not None:
                with zipfile.ZipFile(self.path) as archive, self._member(archive) as stream:
                    yield stream
            elif self._gzipped():
                with gzip.open(self.path) as stream:
                    yield cast(BinaryIO, stream)
            else:
                with self.path.open("rb") as stream:
                    yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
            raise SeqRecError(
                f"{self.label} is damaged ({type(error).__name__}: {error}); remove it and fetch it again"
            ) from error
        except OSError as error:
            raise SeqRecError(f"{self.label} cannot be read: {error.strerror or error}") from error

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
        """Yield (number of the block's first line, whole lines), about ``size`` bytes at a time.

        Lines are numbered from 1; memory stays near ``size`` however long the file is.
        """
        line, rest = 1, b""
        with self.open() as stream:
            while chunk := stream.read(size):
                cut = chunk.rfind(b"\n") + 1
                if not cut:
                    rest += chunk
                    continue
                block, rest = rest + chunk[:cut], chunk[cut:]
                yield line, block
                line += block.count(b"\n")
            if rest:
                yield line, rest

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, the line without its line end)."""
        for first, block in self.blocks():
            pieces = block.split(b"\n")
            if not pieces[-1]:
                pieces.pop()
            for offset, line in enumerate(pieces):
                yield first + offset, line.rstrip(b"\r")

    def checksum(self, algorithm: str = "sha256") -> str:
        """Hex digest of the stored bytes (of the archive, for a member)."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()

    def _member(self, archive: zipfile.ZipFile) -> BinaryIO:
        assert self.member is not None
        try:
            return cast(BinaryIO, archive.open(self.member))
        except RuntimeError as error:  # encrypted, or packed in a way that Python cannot undo
            raise SeqRecError(f"{self.label} cannot be unpacked ({error}); unpack it yourself, beside it") from None

    def _gzipped(self) -> bool:
        # A name that ends in .gz promises gzip: an HTML error page saved under it must not pass as text.
        if self.path.suffix == ".gz":
            return True
        with self.path.open("rb") as stream:
            return stream.read(2) == b"\x1f\x8b"

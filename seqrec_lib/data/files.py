"""A raw file wherever it lies: plain, gzipped, or a member of a zip archive that is read in place.

Every reader sees a stream of decompressed bytes, without the byte-order mark that some programs put first, and a label
for its error messages; damaged compression and UTF-16 are reported as expected errors, whichever reader meets them.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from seqrec_lib.errors import SeqRecError

BLOCK_BYTES = 1 << 23
MARK = "\ufeff".encode()  # the byte-order mark in UTF-8
_FIRST_BYTES = 64  # the first block has at least so many, which show a mark and UTF-16


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
                with open_archive(self.path) as archive, self._member(archive) as stream:
                    yield stream
            elif self._gzipped():
                with gzip.open(self.path) as stream:
                    yield cast(BinaryIO, stream)
            else:
                with self.path.open("rb") as stream:
                    yield stream
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
            raise SeqRecError(
                f"{self.label} is damaged ({type(error).__name__}: {error}); put a sound copy in its place"
            ) from error
        except OSError as error:
            raise SeqRecError(f"{self.label} cannot be read: {error.strerror or error}") from error

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
        """Yield (number of the block's first line, whole lines), about ``size`` bytes at a time.

        Lines are numbered from 1; memory stays near ``size`` however long the file is. A byte-order mark at the
        file's beginning is left out. Raises SeqRecError for UTF-16.
        """
        line = 1
        with self.open() as stream:
            block = stream.read(max(size, _FIRST_BYTES)) + stream.readline()
            block = self._without_mark(block)
            while block:
                yield line, block
                line += block.count(b"\n")
                block = stream.read(size) + stream.readline()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, the line without its line end)."""
        for first, block in self.blocks():
            for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first):
                yield number, line.rstrip(b"\r")

    def text(self) -> str:
        """The whole file as text: UTF-8 where all of it is valid UTF-8, otherwise Latin-1.

        Bytes 0x80 to 0x9f, which Latin-1 leaves to control characters, are read as Windows' cp1252 (quotes, dashes,
        the euro); the five that cp1252 leaves undefined become U+FFFD. Where more lines look like UTF-8 than do not,
        a warning says that the file may be damaged.
        """
        data = b"".join(block for _, block in self.blocks())
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            self._warn_if_damaged(data, data.count(b"\n", 0, error.start) + 1)
            return data.decode("cp1252", "replace")

    def checksum(self, algorithm: str = "sha256") -> str:
        """Hex digest of the stored bytes (of the archive, for a member)."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()

    def _without_mark(self, first: bytes) -> bytes:
        """The file's first bytes without a byte-order mark. Raises SeqRecError for what looks like UTF-16 or UTF-32."""
        every_other = (first[0:4:2], first[1:4:2])  # is zero in such text, as names and digits of files are ASCII
        if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0\0" in every_other:
            raise SeqRecError(
                f"{self.label} begins with {first[:4]!r}, as UTF-16 does, and is not read; save it as UTF-8"
            )
        return first.removeprefix(MARK)

    def _warn_if_damaged(self, data: bytes, number: int) -> None:
        lines = [line for line in data.split(b"\n") if not line.isascii()]
        if sum("\ufffd" not in line.decode("utf-8", "replace") for line in lines) > len(lines) / 2:
            warnings.warn(
                f"{self.label}, line {number} is not UTF-8, so that the file is read as Latin-1, although most of its "
                "lines look like UTF-8: titles may be garbled; repair the line",
                stacklevel=3,
            )

    def _member(self, archive: zipfile.ZipFile) -> BinaryIO:
        assert self.member is not None
        try:
            return cast(BinaryIO, archive.open(self.member))
        except (LookupError, OverflowError, ValueError, struct.error) as error:  # a damaged directory or header
            raise zipfile.BadZipFile(str(error)) from error
        except RuntimeError as error:  # encrypted, or packed in a way that Python cannot undo
            raise SeqRecError(f"{self.label} cannot be unpacked ({error}); unpack it yourself, beside it") from None

    def _gzipped(self) -> bool:
        # A name that ends in .gz promises gzip: an HTML error page saved under it must not pass as text.
        if self.path.suffix == ".gz":
            return True
        with self.path.open("rb") as stream:
            return stream.read(2) == b"\x1f\x8b"


def open_archive(path: Path) -> zipfile.ZipFile:
    """The zip archive at ``path``. Raises BadZipFile whatever is damaged in it, and OSError where it cannot be read."""
    try:
        return zipfile.ZipFile(path)
    except (LookupError, OverflowError, RuntimeError, ValueError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from error

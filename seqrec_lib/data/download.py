"""Find the raw files of a data set: local folders first, otherwise a checksummed, resumable download.

Where it looks, in order:

1. the folders of ``SEQREC_DATA`` (a path list; default ``data`` in the project folder), each with one
   subfolder per data set, named by its id (of the true order) or by the source's usual name; files plain or
   with ``.gz``, or inside the source's zip archive;
2. the cache's ``downloads/<data set>/``.

The cache folder is :func:`seqrec_lib.places.cache_folder`.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqrec_lib.data.files import RawFile, open_archive
from seqrec_lib.data.registry import DatasetSpec, RemoteFile, Source
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import cache_folder, make_cache, place

_ATTEMPTS = 4
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 14  # bytes; a chunk that is cut short is lost, so it is small


class ChecksumError(SeqRecError):
    """A downloaded file is not the one that was published under its checksum."""


def data_folders() -> list[Path]:
    """The folders of ``SEQREC_DATA``, or ``data`` in the project folder."""
    listed = [part for part in os.environ.get("SEQREC_DATA", "").split(os.pathsep) if part]
    return [place(part) for part in listed or ["data"]]


def locate(spec: DatasetSpec) -> tuple[Source, dict[str, RawFile]] | None:
    """The first source whose files are all on disk, with its files by role; None if there is none."""
    for folder, unpacked in _folders(spec):
        for source in spec.sources:
            files = {role: _find(folder, file.name) for role, file in source.files.items()}
            found = {role: raw for role, raw in files.items() if raw is not None}
            if unpacked and len(found) == len(source.files):
                return source, found
            if source.archive is not None and (archive := _find(folder, source.archive.name)) is not None:
                return source, _members(archive.path, source)
    return None


def fetch(spec: DatasetSpec, *, progress: bool = False) -> tuple[Source, dict[str, RawFile]]:
    """The files of the data set: as found on disk, otherwise downloaded from the first source that has URLs.

    Raises SeqRecError where there is no source to download from, a download fails, or a checksum is wrong.
    """
    found = locate(spec)
    if found is not None:
        return found
    source = next((source for source in spec.sources if source.downloads), None)
    if source is None:
        raise SeqRecError(missing(spec))
    folder = make_cache("downloads") / spec.folder
    for file in source.downloads:
        if not (folder / _basename(file)).is_file():
            try:
                download(file, folder, progress=progress)
            except ChecksumError:
                raise
            except SeqRecError as error:
                raise SeqRecError(f"{missing(spec)} The download failed: {error}") from error
    found = locate(spec)
    if found is None:
        raise SeqRecError(f"{missing(spec)} What was downloaded to {folder} does not hold them.")
    return found


def missing(spec: DatasetSpec) -> str:
    """One line: which files of the data set are missing, where they were looked for, and how to get them."""
    looked = ", ".join(str(folder / spec.folder) for folder in data_folders())
    names = " or ".join(
        " + ".join(file.name for file in source.files.values())
        + (f" (or {source.archive.name})" if source.archive else "")
        for source in spec.sources
    )
    urls = [file.url for source in spec.sources for file in source.downloads if file.url]
    how = f"get them from {' and '.join(dict.fromkeys(urls))} or {spec.homepage}" if urls else f"see {spec.homepage}"
    return (
        f"data set {spec.name!r} not found: no {names} (plain or .gz) in {looked}; {how}, put them there, or "
        "set SEQREC_DATA to the folder that holds them."
    )


def download(file: RemoteFile, folder: Path, *, progress: bool = False) -> Path:
    """Download one file into ``folder`` where it is not there, resuming a part that an earlier call left; verified
    before use.

    Bytes go to ``<name>.part``, which becomes ``<name>`` only once complete and, where the checksum is
    known, verified. Raises SeqRecError: a wrong checksum (names both hashes; the bad file stays beside it
    as ``<name>.bad``), or no connection after some attempts (the part stays, for the next call). A second
    process waits for the first.
    """
    from filelock import FileLock

    if file.url is None:
        raise SeqRecError(f"{file.name} has no URL to download it from")
    target = folder / _basename(file)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.is_file():  # another process may have fetched it meanwhile
            _download(file, file.url, target, progress)
    return target


def _download(file: RemoteFile, url: str, target: Path, progress: bool) -> None:
    import pooch

    incoming = target.with_name(target.name + ".incoming")
    part = target.with_name(target.name + ".part")
    pooch.get_logger().setLevel("ERROR")
    try:
        # pooch hands the downloader a file of its own; the checksum is ours to compare, to keep the bad file.
        pooch.retrieve(
            url, None, fname=incoming.name, path=target.parent, downloader=ResumingDownloader(part, progress=progress)
        )
    except OSError as error:
        raise SeqRecError(f"{url}: {_one_line(error)} (a part already here is kept and resumed)") from error
    if file.checksum is not None:
        _verify(incoming, file.checksum, target)
    os.replace(incoming, target)


class ResumingDownloader:
    """A pooch downloader that keeps what it has in a ``.part`` file and asks for the rest (HTTP Range).

    A connection that breaks is taken up again where it broke, a few times within one call and again in
    the next. A server that ignores the range, or whose file changed in length, is read from the start.
    """

    def __init__(self, part: Path, *, progress: bool = False, attempts: int = _ATTEMPTS) -> None:
        self.part, self.progress, self.attempts = part, progress, attempts

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Fetch ``url`` to ``output_file`` (a path). Raises OSError, as requests' errors are."""
        import requests

        for attempt in range(1, self.attempts + 1):
            try:
                self._continue(url)
                break
            except requests.HTTPError:
                raise
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == self.attempts:
                    raise
        os.replace(self.part, output_file)

    def _continue(self, url: str) -> None:
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        # identity: the bytes of the file itself, so that lengths and ranges mean what they say.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:  # nothing beyond what we have
                if _total(response) == have:
                    return
                self.part.unlink()
                raise requests.ConnectionError(f"{url}: the part kept does not fit the file; starting over")
            response.raise_for_status()
            resumed = response.status_code == 206
            left = response.headers.get("Content-Length")
            have = have if resumed else 0
            expected = have + int(left) if left is not None else None
            with self.part.open("ab" if resumed else "wb") as out:
                for chunk in _with_bar(response.iter_content(_CHUNK), have, expected, url, self.progress):
                    out.write(chunk)
        if expected is not None and self.part.stat().st_size != expected:
            raise requests.ConnectionError(
                f"the connection ended after {self.part.stat().st_size:,} of {expected:,} bytes"
            )


def _with_bar(chunks: Iterator[bytes], have: int, total: int | None, url: str, progress: bool) -> Iterator[bytes]:
    from tqdm.auto import tqdm

    with tqdm(
        total=total, initial=have, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=not progress
    ) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


def _total(response: Any) -> int | None:
    """The file's full length, from the ``Content-Range: bytes */123`` of a refused range."""
    length = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(length) if length.isdigit() else None


def _verify(path: Path, checksum: str, target: Path) -> None:
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, algorithm).hexdigest()
    if actual != expected:
        bad = target.with_name(target.name + ".bad")
        os.replace(path, bad)
        raise ChecksumError(
            f"wrong checksum of {target.name}: {algorithm} is {actual}, expected {expected}; the file is "
            f"set aside as {bad}, fetch it again or check its source"
        )


def _folders(spec: DatasetSpec) -> Iterator[tuple[Path, bool]]:
    """(folder, whether unpacked files count there). Outside a folder of their own only an archive is sure."""
    for root in data_folders():
        yield from ((root / name, True) for name in (spec.folder, *spec.folders))
        yield root, False
    yield cache_folder() / "downloads" / spec.folder, True


def _find(folder: Path, name: str) -> RawFile | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return RawFile(candidate)
    return None


def _members(archive: Path, source: Source) -> dict[str, RawFile]:
    """The source's files inside a zip archive, in whatever folder of it they lie."""
    try:
        with open_archive(archive) as opened:
            members = opened.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise SeqRecError(f"{archive} is damaged ({error}); remove it and fetch it again") from error
    files = {}
    for role, file in source.files.items():
        inside = [member for member in members if member.rsplit("/", 1)[-1] == file.name]
        if not inside:
            raise SeqRecError(f"{archive} holds no {file.name}; check that it is the right archive")
        files[role] = RawFile(archive, min(inside, key=len))
    return files


def _basename(file: RemoteFile) -> str:
    return (file.url or file.name).rsplit("/", 1)[-1]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

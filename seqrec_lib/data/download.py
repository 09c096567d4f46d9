"""Find the raw files of a data set: local folders first, otherwise a checksummed, resumable download.

Where it looks, in order:

1. the folders of ``SEQREC_DATA`` (a path list; default ``data`` in the project folder), each with one
   subfolder per data set, named by its id (of the true order) or by the source's usual name; files plain or
   with ``.gz``, or inside the source's zip archive;
2. the cache's ``downloads/<data set>/``.

The cache folder is :func:`seqrec_lib.places.cache_folder`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from seqrec_lib.data.files import RawFile, open_archive
from seqrec_lib.data.registry import DatasetSpec, RemoteFile, Source
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import cache_folder, make_cache, place
from seqrec_lib.terminal import one_line

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
    if (found := locate(spec)) is not None:
        return found
    source = next((source for source in spec.sources if source.downloads), None)
    if source is None:
        raise SeqRecError(missing(spec))
    folder = make_cache("downloads") / spec.folder
    for file in source.downloads:
        try:
            download(file, folder, progress=progress)
        except ChecksumError:
            raise
        except SeqRecError as error:
            raise SeqRecError(f"{missing(spec)} The download failed: {error}") from error
    if (found := locate(spec)) is not None:
        return found
    raise SeqRecError(f"{missing(spec)} What was downloaded to {folder} does not hold them.")


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
    import requests
    from filelock import FileLock

    if file.url is None:
        raise SeqRecError(f"{file.name} has no URL to download it from")
    target = folder / file.url.rsplit("/", 1)[-1]
    part = target.with_name(target.name + ".part")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file():  # another process may have fetched it meanwhile
            return target
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _continue(file.url, part, progress)
                break
            except OSError as error:  # as requests' errors are
                broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
                if attempt < _ATTEMPTS and isinstance(error, broken):
                    continue
                reason = one_line(str(error))[:300] or type(error).__name__
                raise SeqRecError(f"{file.url}: {reason} (a part already here is kept and resumed)") from error
        if file.checksum is not None:
            _verify(part, file.checksum, target)
        os.replace(part, target)
    return target


def _continue(url: str, part: Path, progress: bool) -> None:
    """Fetch what ``part`` lacks (HTTP Range). A server that ignores the range, or whose file changed in length, is read
    from the start. Raises OSError, as requests' errors are."""
    import requests
    from tqdm.auto import tqdm

    have = part.stat().st_size if part.exists() else 0
    # identity: the bytes of the file itself, so that lengths and ranges mean what they say.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416:  # nothing beyond what we have
            if response.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            part.unlink()
            raise requests.ConnectionError(f"{url}: the part kept does not fit the file; starting over")
        response.raise_for_status()
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", f"bytes {have}-").startswith(f"bytes {have}-"):
            part.unlink()
            raise requests.ConnectionError(f"{url}: the server sent another part than was asked for; starting over")
        left = response.headers.get("Content-Length", "")
        have = have if resumed else 0
        expected = have + int(left) if left.isdigit() else None
        name, shown = url.rsplit("/", 1)[-1], {"unit": "B", "unit_scale": True, "disable": not progress}
        with part.open("ab" if resumed else "wb") as out, tqdm(total=expected, initial=have, desc=name, **shown) as bar:
            for chunk in response.iter_content(_CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    if expected is not None and part.stat().st_size != expected:
        raise requests.ConnectionError(f"the connection ended after {part.stat().st_size:,} of {expected:,} bytes")


def _verify(path: Path, checksum: str, target: Path) -> None:
    algorithm, _, expected = checksum.partition(":")
    actual = RawFile(path).checksum(algorithm)
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
    candidates = (folder / name, folder / f"{name}.gz")
    return next((RawFile(path) for path in candidates if path.is_file()), None)


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

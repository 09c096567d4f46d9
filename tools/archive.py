"""Packs the built book for a release (``make archive``): one .tar.gz to unpack and open, and the checksums of all files
in ``_build/release``.

The same book gives the same bytes. A book with titles of a real data set is refused: they are not ours to pass on."""

from __future__ import annotations

import gzip
import hashlib
import sys
import tarfile
from pathlib import Path

from seqrec_lib.report.site import read_site
from seqrec_lib.study.live_model import FOLDER, FREE, INDEX

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {f"{FREE}.js", INDEX, "recurrent.js", "page.js", "evening.js"}  # that may be published


def pack(html: Path, release: str, out: Path) -> Path:
    """Write the archive into the folder ``out``, and ``SHA256SUMS`` of everything there; returns the archive.

    Raises:
        SystemExit: there is no book, or it holds what may not be published.
    """
    if not (html / "index.html").is_file():
        sys.exit(f"error: no book in {html}; build it first: make book")
    others = sorted(path.name for path in (html / FOLDER).glob("*") if path.name not in SCRIPTS)
    if others:
        sys.exit(
            f"error: {html / FOLDER / others[0]} holds titles that are not ours; build the book from a fresh clone"
        )
    out.mkdir(parents=True, exist_ok=True)
    name = f"book-{release}"
    archive = out / f"{name}.tar.gz"
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(path for path in html.rglob("*") if path.is_file()):
            entry = tar.gettarinfo(path, f"{name}/{path.relative_to(html).as_posix()}")
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    files = sorted(path for path in out.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return archive


if __name__ == "__main__":
    packed = pack(ROOT / "_build" / "html", read_site(ROOT)["release"], ROOT / "_build" / "release")
    print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB; checksums in SHA256SUMS beside it")

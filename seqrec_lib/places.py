"""Where the project lies: the folder with study.yml, from which stores, notebooks and book are reached.

A notebook opened in JupyterLab runs in notebooks/, papermill in the reader's own folder; both must find the
same records, so relative places start from the project and not from the working folder.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from seqrec_lib.errors import SeqRecError

MARK = "study.yml"


def from_user(text: str | Path) -> Path:
    """A path as a person gives it, ~ included.

    Raises:
        SeqRecError: there is no such home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SeqRecError(f"path {str(text)!r}: {error}; write it out") from None


def place(name: str | Path) -> Path:
    """A place as a person names it; a relative one starts at the project's folder, wherever a notebook or shell is."""
    return project_root() / from_user(name)


def cache_folder() -> Path:
    """``SEQREC_CACHE``, or ``.cache`` in the project folder. Not created here."""
    return place(os.environ.get("SEQREC_CACHE") or ".cache")


def make_cache(name: str) -> Path:
    """A folder of the cache, created; the cache itself is hidden from git."""
    folder = cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    ignore = cache_folder() / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return folder


def give_numba_a_cache() -> None:
    """A folder of this process for numba's compiled kernels, where numba finds none: it would not compile then.

    It keeps them beside the code or in the user's cache folder; a container may allow writing to neither. The folder is
    private and goes with the process: kernels that others could have put there are never loaded.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    while not os.path.exists(folder) and folder != folder.parent:  # Path.exists raises in a folder that is closed
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        import atexit
        import shutil
        import tempfile

        with suppress(OSError):  # no place at all: importing must not fail for that
            os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="seqrec-numba-")
            atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


def project_root() -> Path:
    """The nearest folder at or above the working folder that holds study.yml; else the one that holds this package."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MARK).is_file() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parent.parent

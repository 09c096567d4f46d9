"""The store of run records: finds, locks, writes and reads runs in two folders, of which only the first
grows by running.

``new`` (.runs, git-ignored) takes what runs here; ``published`` (results, committed) is only read, and grows
only by `RunStore.publish`. Layout of both: ``<experiment>/<dataset>/<run-id>.json``, and beside it
``<run-id>.<table>.parquet``. A record appears in one step and after its tables, so a kill at any moment
leaves either all of a run or none of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_lib.checksums import damage, write_file
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import from_user, project_root
from seqrec_lib.results.record import RUN_ID, RunRecord, read_record, run_key
from seqrec_lib.results.tables import describe_table, parse_table, table_bytes

if TYPE_CHECKING:
    import pyarrow as pa

ORIGIN = ".origin"  # in a working folder: what the run there is made of
MADE_AGAIN = "weights "  # begins the origin of a run that is made again for what it keeps


class RunStore:
    """Runs in two folders; see the module's text for the layout.

    Args:
        new: folder that runs are written to, made when first needed; None: the environment variable
            SEQREC_RUNS, or else .runs.
        published: folder that is only read here. Relative paths start at the project's folder.
    """

    def __init__(self, new: Path | str | None = None, published: Path | str = "results") -> None:
        root = project_root()
        self.new = root / from_user(new or os.environ.get("SEQREC_RUNS") or ".runs")
        self.published = root / published

    # Reading

    def find(self, run_id: str) -> RunRecord | None:
        """The record of a run, or None. Complete beats failed, then the newest wins."""
        return self._best(run_id, self.new, self.published)

    def find_published(self, run_id: str) -> RunRecord | None:
        """The published record of a run, or None."""
        return self._best(run_id, self.published)

    def records(
        self, experiment: str | None = None, dataset: str | None = None, bad: list[str] | None = None
    ) -> list[RunRecord]:
        """Records of both folders, one per run (the best, as `find` has it), by experiment, data set and start.

        Args:
            bad: takes a line on each file that is no record; without it, the first one is an error.

        Raises:
            SeqRecError: a file is no record, and ``bad`` is not given.
        """
        best: dict[str, RunRecord] = {}
        for folder in (self.new, self.published):
            for path in sorted(folder.glob(f"{experiment or '[!.]*'}/{dataset or '[!.]*'}/[!.]*.json")):
                try:
                    record = read_at(path)
                except SeqRecError as error:
                    if bad is None:
                        raise
                    bad.append(str(error))
                    continue
                best[record.run_id] = max(best.get(record.run_id, record), record, key=_rank)
        return sorted(best.values(), key=lambda r: (r.experiment, r.dataset["name"], r.started, r.run_id))

    def has_own_runs(self) -> bool:
        """Whether anything has been run here: a record lies in the folder that grows by running."""
        return any(self.new.glob("[!.]*/[!.]*/[!.]*.json"))

    def table(self, record: RunRecord, name: str) -> pa.Table:
        """A table of a run, from the folder that holds this very record.

        Raises:
            SeqRecError: the run has no such table, or its file is missing, damaged, or not the one of the record.
        """
        if name not in record.tables:
            has = ", ".join(record.tables) or "none"
            raise SeqRecError(f"run {record.run_id} has no table {name!r}; it has {has}")
        path = table_path(self.path(record), name)
        try:
            blob = path.read_bytes()
        except OSError as error:
            raise SeqRecError(f"{path}: cannot be read ({error}); restore the file or delete the run") from None
        return parse_table(blob, record.tables[name], str(path))

    def path(self, record: RunRecord) -> Path:
        """Where the JSON file of ``record`` lies.

        Raises:
            SeqRecError: it lies in neither folder.
        """
        paths = [folder / relative_path(record) for folder in (self.new, self.published)]
        for path in paths:
            if path.is_file() and read_at(path) == record:
                return path
        raise SeqRecError(f"run {record.run_id} lies neither in {self.new} nor in {self.published}; read it again")

    def is_published(self, record: RunRecord) -> bool:
        """Whether this very record lies in the published folder."""
        path = self.published / relative_path(record)
        return path.is_file() and read_at(path) == record

    def settled(self, record: RunRecord) -> bool:
        """Whether a run need not be tried again: it is complete, or it failed and was published, as a result."""
        return record.complete or self.is_published(record)

    # Writing

    def save(
        self, record: RunRecord, tables: Mapping[str, pa.Table] | None = None, *, again: bool = False
    ) -> RunRecord:
        """Write a run to the new store, its record last, and return it with its tables described; a complete run also
        loses its working folder.

        A complete run of the same code on the same data is not overwritten: where there is one by now, nothing is
        written, unless this one is complete too and is meant to replace it (``again``).

        Raises:
            SeqRecError: a field is wrong, the run id is not the one that its fields give, or the disk refuses.
        """
        tables = tables or {}
        blobs = {name: table_bytes(table) for name, table in tables.items()}
        described = {name: describe_table(table, blobs[name]) for name, table in sorted(tables.items())}
        record = replace(record, tables=described)
        self.save_bytes(record, blobs, again=again)
        return record

    def save_bytes(self, record: RunRecord, tables: Mapping[str, bytes], *, again: bool = False) -> bool:
        """`save` with the Parquet files that the record describes; returns whether anything was written."""
        text = record.to_json(f"run {record.run_id}")
        check_key(record, f"run {record.run_id}")
        path = self.new / relative_path(record)
        with self.lock(record.run_id):
            replaces = again and record.complete  # also what is damaged
            known = read_at(path) if path.is_file() and not replaces else None
            if known is not None and known.complete:
                split = "split_sha256"
                if (known.code, known.dataset.get(split)) == (record.code, record.dataset.get(split)):
                    return False
            write_run(path, text, tables)
            if record.complete:
                self._clear(record.run_id)
        return True

    def workdir(self, run_id: str) -> Path:
        """Folder for what a run needs to go on after a kill (checkpoints); made if need be.

        It is removed once the run is saved complete, all but its subfolder ``keep`` (see `kept`).
        """
        folder = self._work(run_id)
        _attempt(folder, lambda: folder.mkdir(parents=True, exist_ok=True))
        return folder

    def tidy(self, run_id: str) -> None:
        """Remove what a kill between a run's record and its clean-up left in the working folder, where nobody is at
        it. Checkpoints of a run that is made again for what it keeps (`MADE_AGAIN` begins its origin) stay until then.
        """
        folder = self._work(run_id)
        if any(path.name != "keep" for path in folder.glob("[!.]*")):
            with self.lock(run_id, wait=False) as held:
                made_again = _text(folder / ORIGIN).startswith(MADE_AGAIN) and self.kept(run_id) is None
                if held and not made_again:
                    self._clear(run_id)

    def goes_on(self, run_id: str, origin: str) -> bool:
        """Mark the run's working folder with its ``origin`` (the code and data that it is made of). What was left there
        by another origin is removed; returns False where there was something."""
        folder = self.workdir(run_id)
        mark, left = folder / ORIGIN, [path for path in folder.glob("[!.]*") if path.name != "keep"]
        stale = bool(left) and _text(mark) != origin
        if stale:
            self._clear(run_id)
            self.workdir(run_id)
        _attempt(mark, lambda: write_file(mark, origin.encode()))
        return not stale

    def kept(self, run_id: str, report: Callable[[str], None] = lambda line: None) -> Path | None:
        """What a run left in ``keep`` of its working folder (weights, say), or None. Never exported nor published.

        A run ends by sealing the folder (`seqrec_lib.checksums.seal`). What is not as it was then is not used, and
        ``report`` takes a line that says so.
        """
        folder = self._work(run_id) / "keep"
        wrong = damage(folder) if folder.is_dir() else ""
        if wrong:
            report(f"what run {run_id} kept is not used: in {folder}, {wrong}")
        return folder if folder.is_dir() and not wrong else None

    @contextmanager
    def lock(self, run_id: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a run, across processes: a second one waits here, or without ``wait`` is told False and holds nothing.
        Ends with the process, whatever ends that."""
        from filelock import Timeout

        lock = self._lock(run_id)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_locked(self, run_id: str) -> bool:
        """Whether another process or thread holds the run at this moment."""
        if self._lock(run_id).is_locked:
            return False
        with self.lock(run_id, wait=False) as held:
            return not held

    # Helpers

    def _best(self, run_id: str, *folders: Path) -> RunRecord | None:
        paths = [path for folder in folders for path in folder.glob(f"[!.]*/[!.]*/{run_id}.json")]
        return max(map(read_at, paths), key=_rank, default=None)

    def _work(self, run_id: str) -> Path:
        if not RUN_ID.fullmatch(run_id):
            raise SeqRecError(f"{run_id!r} is no run id; a run id has 16 hex digits")
        return self.new / ".work" / run_id

    def _clear(self, run_id: str) -> None:
        folder = self._work(run_id)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name != "keep":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _lock(self, run_id: str) -> Any:
        from filelock import FileLock

        path = self._work(run_id).parent.parent / ".locks" / f"{run_id}.lock"
        _attempt(path, lambda: path.parent.mkdir(parents=True, exist_ok=True))
        # A singleton can be taken again by the process that holds it: `save` inside `execute`.
        return FileLock(path.resolve(), is_singleton=True)


def relative_path(record: RunRecord) -> Path:
    """``<experiment>/<dataset>/<run-id>.json``."""
    return Path(record.experiment, record.dataset["name"], f"{record.run_id}.json")


def table_path(path: Path, name: str) -> Path:
    """The Parquet file of table ``name`` beside the record at ``path``."""
    return path.with_name(f"{path.stem}.{name}.parquet")


def read_at(path: Path) -> RunRecord:
    """Read a record and check that it lies where it belongs and has the id that its fields give."""
    record = read_record(path)
    if path.parts[-3:] != relative_path(record).parts:
        raise SeqRecError(f"{path}: the record is that of {relative_path(record)}; move the file there or delete it")
    check_key(record, str(path))
    return record


def check_key(record: RunRecord, where: str) -> None:
    """Raise SeqRecError where the run id is not the hash of what defines the run."""
    key = run_key(record.experiment, record.config, record.revision, record.parents, record.hardware, record.edited)
    if key != record.run_id:
        raise SeqRecError(
            f"{where}: field run_id is {record.run_id}, its configuration gives {key}; do not edit records"
        )


def write_run(path: Path, text: str, tables: Mapping[str, bytes]) -> None:
    """Write tables, then the record, each by a temporary file, fsync and rename.

    The temporary names are fixed (the caller holds the run's lock), so what a kill leaves is overwritten later.
    """
    files = [(table_path(path, name), blob) for name, blob in tables.items()] + [(path, text.encode())]
    _attempt(path, lambda: path.parent.mkdir(parents=True, exist_ok=True))
    for target, blob in files:
        _attempt(target, lambda target=target, blob=blob: write_file(target, blob))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _attempt(path: Path, action: Any) -> None:
    try:
        action()
    except OSError as error:
        reason = error.strerror or error
        raise SeqRecError(f"cannot write {path}: {reason}; free space or permit writing, then repeat") from None


def _rank(record: RunRecord) -> tuple[bool, str]:
    return record.complete, record.finished

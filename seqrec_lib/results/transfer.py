"""Moving runs: to a tar and back (to run elsewhere), and into the published folder that is committed.

A tar may come from anywhere, so nothing in it is believed: not its paths, its sizes, nor its run ids.
Members are never unpacked by name; what passes the checks is written by the store like a run of its own.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seqrec_lib.data.own import is_own
from seqrec_lib.errors import SeqRecError
from seqrec_lib.results.provenance import git_state
from seqrec_lib.results.record import RunRecord, parse_record
from seqrec_lib.results.store import RunStore, check_key, read_at, relative_path, table_path, write_run
from seqrec_lib.results.tables import parse_table

if TYPE_CHECKING:
    import pyarrow as pa

PUBLISHED_LIMIT = 60_000_000  # bytes of results/ in all: a clone stays a matter of seconds
MEMBER = re.compile(
    r"(?P<run>[a-z0-9][a-z0-9._+-]{0,79}/[a-z0-9][a-z0-9._+-]{0,79}/[0-9a-f]{16})"
    r"(\.json|\.(?P<table>[a-z][a-z0-9_]{0,39})\.parquet)"
)
JSON_LIMIT, PARQUET_LIMIT = 4_000_000, 64_000_000  # bytes of one file
MEMBERS_LIMIT = 100_000


@dataclass
class Report:
    """What a transfer did, by run id: ``added``, ``known`` (there already), ``refused`` (name, reason)."""

    added: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.added)} added, {len(self.known)} known, {len(self.refused)} refused"


def publish_runs(
    store: RunStore,
    experiment: str | None = None,
    dataset: str | None = None,
    limit: int = PUBLISHED_LIMIT,
    failed: bool = False,
    code_here: Callable[[RunRecord], str] | None = None,
) -> Report:
    """Copy complete runs from the new to the published folder; repeating it changes nothing.

    Runs on demo data, on a reader's own file and of uncommitted code are refused one by one, the others are copied.

    Args:
        failed: so are runs that failed, for failures that are results, as when an optimizer diverges.
        code_here: hash of the code that would carry out a record's run here. A run that began beside uncommitted files
            was of committed code all the same if its hash is that of this clean tree.

    Raises:
        SeqRecError: no git checkout, one with uncommitted changes (results/ aside), or the folder would pass
            ``limit`` bytes; then nothing is copied.
    """
    commit, dirty = git_state(store.published.resolve().parent)
    if commit is None:
        raise SeqRecError(
            f"{store.published} is in no git checkout with a commit; publish from a clone of the repository"
        )
    if dirty:
        raise SeqRecError("the tree has uncommitted changes outside results/; commit or stash them, then publish")
    report = Report()
    copies: list[tuple[str, Path, str, dict[str, bytes]]] = []
    for record in RunStore(store.new, store.new).records(experiment, dataset):
        target = store.published / relative_path(record)
        reason = _unpublishable(record, failed, code_here)
        if target.is_file() and read_at(target).complete >= record.complete:
            report.known.append(record.run_id)
        elif reason:
            report.refused.append((record.run_id, reason))
        else:
            try:
                tables = _table_bytes(store.new / relative_path(record), record)
                check_tables(record, tables, f"run {record.run_id}")
            except SeqRecError as error:
                report.refused.append((record.run_id, str(error)))
                continue
            copies.append((record.run_id, target, record.to_json(), tables))
    present = sum(path.stat().st_size for path in store.published.rglob("*") if path.is_file())
    added = sum(len(text.encode()) + sum(map(len, tables.values())) for _, _, text, tables in copies)
    if copies and present + added > limit:
        raise SeqRecError(
            f"{store.published} would grow from {present:,} to {present + added:,} bytes, "
            f"the limit is {limit:,}; publish fewer runs (by experiment or data set)"
        )
    for run_id, target, text, tables in copies:
        with store.lock(run_id):
            write_run(target, text, tables)
        report.added.append(run_id)
    return report


def _unpublishable(record: RunRecord, failed: bool, code_here: Callable[[RunRecord], str] | None) -> str | None:
    if not record.complete and not failed:
        return "the run failed; run it again, or publish failures too (--failed) if that it fails is the result"
    if record.edited is not None:
        return "it ran on edited code, unlike that of the goldens; run `make goldens`, commit, then run it again"
    if record.dataset["name"] == "demo":
        return "it ran on the demo data, which is never published"
    if is_own(record.dataset["name"]) or is_own(str(record.config.get("dataset"))):
        return "it ran on a reader's own file, which is never published"
    if record.environment.get("git_commit") is None:
        return "it names no commit; run it again in a git checkout"
    committed = record.environment.get("git_dirty") is False
    if not committed and (code_here is None or record.code != code_here(record)):
        return "it ran on code that is not the committed one; commit, then run it again"
    return None


def export_runs(
    store: RunStore,
    path: Path | str,
    experiment: str | None = None,
    dataset: str | None = None,
    published: bool = False,
) -> Report:
    """Write the runs of the new folder (with ``published`` those of both) to a tar: same runs, same bytes.

    Raises:
        SeqRecError: nothing matches, or the file cannot be written.
    """
    path = Path(path)
    source = store if published else RunStore(store.new, store.new)
    records = {relative_path(record): record for record in source.records(experiment, dataset)}
    check_target(path)
    if not records:
        wanted = " ".join(filter(None, [experiment, dataset])) or "new"
        folders = f"{store.new} or {store.published}" if published else store.new
        raise SeqRecError(f"no run to export ({wanted}) in {folders}; see `seqrec status`")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # another process may export to the same path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(temporary, "w:", format=tarfile.USTAR_FORMAT) as archive:
            for name, record in sorted(records.items(), key=lambda pair: pair[0].as_posix()):
                _add(archive, name, record.to_json().encode())
                for table, blob in _table_bytes(source.path(record), record).items():
                    _add(archive, table_path(name, table), blob)
        os.replace(temporary, path)
    except OSError as error:
        raise SeqRecError(f"cannot write {path}: {error.strerror or error}; free space or permit writing") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Report(added=sorted(record.run_id for record in records.values()))


def check_target(path: Path) -> None:
    """Raise SeqRecError where no file can be written at ``path``: no name, a folder, or a folder that refuses."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not path.name or path.is_dir():
        raise SeqRecError(f"cannot write {path}: it is a folder; name a file, such as results.tar")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SeqRecError(f"cannot write {path}: {folder} is no folder that can be written to; name another place")


def import_runs(store: RunStore, path: Path | str) -> Report:
    """Read runs from a tar into the new folder; repeating it changes nothing.

    Every run is checked as a whole and either added, known already, or refused with the reason.

    Raises:
        SeqRecError: the file is no tar, or has more than 100,000 members.
    """
    report = Report()
    try:
        with tarfile.open(path, "r:") as archive:
            for run, members in sorted(_by_run(archive, str(path), report).items()):
                try:
                    record, tables = _checked(archive, f"{path}: {run}.json", run, members)
                except SeqRecError as error:
                    report.refused.append((run, str(error)))
                    continue
                present = store.find(record.run_id)
                if present is not None and (present.complete or not record.complete):
                    report.known.append(record.run_id)
                elif store.is_locked(record.run_id):
                    report.refused.append((run, "it is running here at this moment; import it again afterwards"))
                elif store.save_bytes(record, tables):
                    report.added.append(record.run_id)
                else:
                    report.known.append(record.run_id)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise SeqRecError(f"{path}: cannot be read as a tar ({error}); export it again") from None
    return report


def _by_run(archive: tarfile.TarFile, where: str, report: Report) -> dict[str, dict[str | None, tarfile.TarInfo]]:
    """Members by run and table name (None: the record itself); what does not fit the layout is refused by name."""
    runs: dict[str, dict[str | None, tarfile.TarInfo]] = {}
    broken: set[str] = set()
    for count, member in enumerate(archive):
        if count >= MEMBERS_LIMIT:
            raise SeqRecError(f"{where}: more than {MEMBERS_LIMIT:,} members; export fewer runs at a time")
        match = MEMBER.fullmatch(member.name)
        if match is None:
            if not member.isdir():
                report.refused.append((ascii(member.name)[1:-1][:120], "not the path of a record or of its table"))
            continue
        run, table = match["run"], match["table"]
        bound = JSON_LIMIT if table is None else PARQUET_LIMIT
        if not member.isreg() or member.issparse():
            report.refused.append((member.name, "not a plain file"))
        elif member.size > bound:
            report.refused.append((member.name, f"{member.size:,} bytes, more than {bound:,}"))
        elif table in runs.setdefault(run, {}):
            report.refused.append((member.name, "occurs twice"))
        else:
            runs[run][table] = member
            continue
        broken.add(run)
    return {run: members for run, members in runs.items() if run not in broken}


def _checked(
    archive: tarfile.TarFile, where: str, run: str, members: dict[str | None, tarfile.TarInfo]
) -> tuple[RunRecord, dict[str, bytes]]:
    if None not in members:
        raise SeqRecError(f"{run}: tables without their record")
    try:
        text = _bytes(archive, members[None]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SeqRecError(f"{where}: not UTF-8 ({error})") from None
    record = parse_record(text, where)
    if relative_path(record).as_posix() != f"{run}.json":
        raise SeqRecError(f"{where}: the record inside is that of {relative_path(record).as_posix()}")
    check_key(record, where)
    tables = {name: _bytes(archive, member) for name, member in members.items() if name is not None}
    if set(tables) != set(record.tables):
        raise SeqRecError(f"{where}: names the tables {sorted(record.tables)}, the archive has {sorted(tables)}")
    check_tables(record, tables, run)
    return record, tables


def check_tables(record: RunRecord, blobs: Mapping[str, bytes], where: str) -> None:
    """Check the Parquet files of a run against its record, and its metrics against its ranks.

    Raises:
        SeqRecError: a table is not the one described, or a metric is not what the ranks give.
    """
    for name, blob in blobs.items():
        table = parse_table(blob, record.tables[name], f"{where}.{name}.parquet")
        if name == "ranks":
            _check_ranks(record, table, where)


def _check_ranks(record: RunRecord, table: pa.Table, where: str) -> None:
    """A column ``<prefix>rank`` stands behind ``<prefix>ht@10`` and so on: at a cut-off all three or none."""
    import pyarrow as pa

    from seqrec_lib.evaluate.metrics import rank_metrics

    for column in table.column_names:
        prefix = column.removesuffix("rank")
        if prefix == column:
            continue
        ranks = table[column]
        if not pa.types.is_integer(ranks.type) or ranks.null_count or not len(ranks):
            raise SeqRecError(f"{where}: column {column} of the ranks holds no whole numbers; run it again")
        pattern = re.compile(rf"{re.escape(prefix)}((?:ht|ndcg|mrr)@[1-9][0-9]{{0,3}})")
        given = {match[1]: value for name, value in record.metrics.items() if (match := pattern.fullmatch(name))}
        try:
            expected = rank_metrics(ranks.to_numpy(), sorted({int(name.partition("@")[2]) for name in given}))
        except ValueError as error:
            raise SeqRecError(f"{where}: column {column} of the ranks: {error}; run it again") from None
        for name, value in expected.items():
            if name not in given:
                raise SeqRecError(f"{where}: {prefix}{name} is missing beside the others; run it again")
            if abs(given[name] - value) > 1e-9:
                raise SeqRecError(
                    f"{where}: {prefix}{name} is {given[name]!r}, the ranks give {value:.6g}; run it again"
                )


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    blob = stream.read() if stream is not None else b""
    if len(blob) != member.size:
        raise SeqRecError(f"{member.name}: cut off after {len(blob):,} of {member.size:,} bytes")
    return blob


def _table_bytes(path: Path, record: RunRecord) -> dict[str, bytes]:
    try:
        return {name: table_path(path, name).read_bytes() for name in record.tables}
    except OSError as error:
        raise SeqRecError(f"run {record.run_id}: a table cannot be read ({error}); run it again") from None


def _add(archive: tarfile.TarFile, name: Path, blob: bytes) -> None:
    member = tarfile.TarInfo(name.as_posix())
    member.size, member.mode = len(blob), 0o644
    archive.addfile(member, io.BytesIO(blob))

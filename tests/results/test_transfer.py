"""Export, import, publish: what is moved arrives unchanged, what is not to be believed or published is
refused."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import config_of
from seqrec_lib.results import RunStore, plain, run_key, tables, transfer
from seqrec_lib.results.store import relative_path, table_path
from seqrec_lib.results.transfer import export_runs, import_runs, publish_runs
from tests.fakes import RANKED, RANKS, make_checkout, make_ranked, make_record


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout")


def new_store(folder: Path) -> RunStore:
    return RunStore(folder / "new", folder / "results")


def with_table(table: pa.Table, **changes: object) -> dict[str, bytes | tarfile.TarInfo]:
    """The members of a run whose record describes ``table``, whatever is in it."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    columns = {field.name: str(field.type) for field in table.schema}
    digest = hashlib.sha256(sink.getvalue()).hexdigest()
    described = {"ranks": {"sha256": digest, "rows": table.num_rows, "columns": columns}}
    record = make_record(**{"metrics": RANKED, "tables": described} | changes)
    return {f"{STEM}.json": record.to_json().encode(), f"{STEM}.ranks.parquet": sink.getvalue()}


def write_tar(path: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts]


def test_exported_runs_arrive_unchanged_and_only_once(tmp_path: Path) -> None:
    there, here = new_store(tmp_path / "there"), new_store(tmp_path / "here")
    failed = make_record(config={"seed": 1}, status="failed", error="boo", metrics={})
    done = there.save(make_record(metrics=RANKED), {"ranks": RANKS})
    there.save(failed)
    assert len(export_runs(there, tmp_path / "a.tar").added) == 2
    assert sorted(import_runs(here, tmp_path / "a.tar").added) == sorted([done.run_id, failed.run_id])
    assert here.records() == there.records()
    assert here.table(done, "ranks").equals(RANKS)
    again = import_runs(here, tmp_path / "a.tar")
    assert (again.added, sorted(again.known), again.refused) == ([], sorted([done.run_id, failed.run_id]), [])


def test_export_is_deterministic_and_filtered(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.save(make_record(metrics=RANKED), {"ranks": RANKS})
    store.save(make_record(experiment="datasets"))
    export_runs(store, tmp_path / "a.tar")
    export_runs(store, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert len(export_runs(store, tmp_path / "c.tar", experiment="datasets").added) == 1
    with pytest.raises(SeqRecError, match="no run to export"):
        export_runs(store, tmp_path / "d.tar", dataset="demo")
    assert not (tmp_path / "d.tar").exists()


def test_import_brings_a_complete_run_where_one_had_failed(tmp_path: Path) -> None:
    there, here = new_store(tmp_path / "there"), new_store(tmp_path / "here")
    there.save(make_record())
    here.save(make_record(status="failed", error="boo", finished="2027-01-01T00:00:00+00:00"))
    export_runs(there, tmp_path / "a.tar")
    assert import_runs(here, tmp_path / "a.tar").added == [make_record().run_id]
    assert here.find(make_record().run_id) == make_record()


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


RECORD, TABLE = make_ranked()
STEM = relative_path(RECORD).as_posix().removesuffix(".json")
JSON = RECORD.to_json().encode()
EDITED = JSON.replace(b'"seed": 0', b'"seed": 1')
MALICIOUS: dict[str, tuple[dict[str, bytes | tarfile.TarInfo], str]] = {
    "absolute": ({f"/{STEM}.json": JSON}, "not the path of a record"),
    "upwards": ({f"../{STEM}.json": JSON}, "not the path of a record"),
    "upwards within": ({STEM.replace("ml-1m", "..") + ".json": JSON}, "not the path of a record"),
    "other file": ({STEM + ".py": b"import os"}, "not the path of a record"),
    "hidden": ({".work/ml-1m/" + RECORD.run_id + ".json": JSON}, "not the path of a record"),
    "link": ({f"{STEM}.json": link(f"{STEM}.json")}, "not a plain file"),
    "table is a link": ({f"{STEM}.json": JSON, "x": link(f"{STEM}.ranks.parquet")}, "not a plain file"),
    "edited": ({f"{STEM}.json": EDITED, f"{STEM}.ranks.parquet": TABLE}, "do not edit records"),
    "other place": ({f"{STEM}.json".replace("ml-1m", "demo"): JSON}, "the record inside is that of"),
    "no json": ({f"{STEM}.json": b"\xff{"}, "not UTF-8"),
    "no record": ({f"{STEM}.json": b"{}"}, "schema is None"),
    "no table": ({f"{STEM}.json": JSON}, "the archive has []"),
    "other table": ({f"{STEM}.json": JSON, f"{STEM}.ranks.parquet": b"PAR1"}, "not the table that its record"),
    "other metrics": (with_table(RANKS, metrics=RANKED | {"ndcg@10": 0.9}), "ndcg@10 is 0.9, the ranks give"),
    "a metric's name": (
        {f"{STEM}.json": JSON.replace(b'"ndcg@10"', b'"ndch@10"'), f"{STEM}.ranks.parquet": TABLE},
        "ndcg@10 is missing beside the others",
    ),
    "ranks from 0": (with_table(pa.table({"rank": [0, 1, 2]})), "ranks count from 1"),
    "ranks as text": (with_table(pa.table({"rank": ["1", "2", "3"]})), "no whole numbers"),
    "no rank for a user": (with_table(pa.table({"rank": [1, None, 2]})), "no whole numbers"),
    "nobody": (with_table(pa.table({"rank": pa.array([], pa.int32())})), "no whole numbers"),
    "lists": (with_table(pa.table({"rank": [[1], [2], [3]]})), "a column of type list"),
    "a bomb": (with_table(pa.table({"a": pa.array(["x" * 1_000_000] * 960).dictionary_encode()})), "a column of type"),
    "long text": (with_table(pa.table({"a": ["x" * 1_000_000] * 960})), "a text of 1,000,000 letters"),
    "text for a number": ({f"{STEM}.json": JSON.replace(b'"ht@10": 1.0', b'"ht@10": "1.0"')}, "a valid number"),
    "table alone": ({f"{STEM}.ranks.parquet": TABLE}, "without their record"),
    "foreign table": (
        {f"{STEM}.json": JSON, f"{STEM}.ranks.parquet": TABLE, f"{STEM}.more.parquet": TABLE},
        "the archive has ['more', 'ranks']",
    ),
}


@pytest.mark.parametrize("case", MALICIOUS)
def test_malicious_members_are_refused_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    members, reason = MALICIOUS[case]
    store = new_store(tmp_path / "here")
    report = import_runs(store, write_tar(tmp_path / "a.tar", members))
    assert report.added == []
    assert any(reason in why for _, why in report.refused)
    assert files(tmp_path) == [tmp_path / "a.tar"]


def test_a_bad_member_does_not_keep_good_runs_out(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    members = {f"{STEM}.json": JSON, f"{STEM}.ranks.parquet": TABLE, "../../x.json": b"{}"}
    report = import_runs(store, write_tar(tmp_path / "a.tar", members))
    assert (report.added, len(report.refused)) == ([RECORD.run_id], 1)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    big = write_tar(tmp_path / "a.tar", {f"{STEM}.json": JSON, f"{STEM}.ranks.parquet": TABLE})
    monkeypatch.setattr(transfer, "JSON_LIMIT", len(JSON) - 1)
    assert "bytes, more than" in import_runs(store, big).refused[0][1]
    monkeypatch.setattr(transfer, "JSON_LIMIT", len(JSON))
    monkeypatch.setattr(tables, "UNPACKED_LIMIT", 5)
    assert "bytes unpacked" in import_runs(store, big).refused[0][1]
    monkeypatch.setattr(transfer, "MEMBERS_LIMIT", 1)
    with pytest.raises(SeqRecError, match="more than 1 members"):
        import_runs(store, big)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, None])
def test_a_file_that_is_no_tar_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(SeqRecError, match="cannot be read as a tar"):
        import_runs(new_store(tmp_path), tmp_path / "a.tar")


def test_a_cut_off_tar_adds_no_half_run(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    whole = write_tar(tmp_path / "a.tar", {f"{STEM}.ranks.parquet": TABLE, f"{STEM}.json": JSON}).read_bytes()
    start = whole.index(JSON[:20])
    (tmp_path / "b.tar").write_bytes(whole[: start + 100])
    with pytest.raises(SeqRecError, match="cannot be read as a tar"):
        import_runs(store, tmp_path / "b.tar")
    assert store.records() == []


# publish


def test_publish_copies_byte_for_byte_and_once(checkout: Path) -> None:
    store = RunStore(checkout / ".runs", checkout / "results")
    record = store.save(make_record(metrics=RANKED), {"ranks": RANKS})
    assert publish_runs(store).added == [record.run_id]
    for path in files(checkout / "results"):
        assert path.read_bytes() == (store.new / path.relative_to(store.published)).read_bytes()
    assert len(files(checkout / "results")) == 2
    report = publish_runs(store)  # results/ itself does not make the tree dirty
    assert (report.added, report.known, report.refused) == ([], [record.run_id], [])


UNPUBLISHABLE: dict[str, tuple[dict[str, Any], str]] = {
    "demo": ({"dataset": {"name": "demo"}}, "demo data"),
    "a reader's own file": ({"dataset": {"name": "file-mine-0123456789ab"}}, "a reader's own file"),
    "failed": ({"status": "failed", "error": "boo"}, "the run failed"),
    "dirty": ({"environment": {"git_commit": "c0ffee", "git_dirty": True}}, "not the committed one"),
    "edited": (
        {"edited": "0123456789abcdef", "run_id": run_key("accuracy", {"seed": 9}, 1, edited="0123456789abcdef")},
        "edited code",
    ),
    "no git": ({"environment": {"git_commit": None, "git_dirty": None}}, "names no commit"),
}


@pytest.mark.parametrize("case", UNPUBLISHABLE)
def test_publish_refuses_a_run_with_its_reason_and_copies_the_others(checkout: Path, case: str) -> None:
    changes, reason = UNPUBLISHABLE[case]
    store = RunStore(checkout / ".runs", checkout / "results")
    bad, good = make_record(config={"seed": 9}, **changes), make_record()
    store.save(bad)
    store.save(good)
    report = publish_runs(store)
    assert report.added == [good.run_id]
    assert [(run_id, reason in why) for run_id, why in report.refused] == [(bad.run_id, True)]
    assert not (store.published / relative_path(bad)).exists()


@pytest.mark.parametrize(("code", "added"), [("0123456789abcdef", True), ("fedcba9876543210", False)])
def test_a_run_beside_uncommitted_files_is_published_where_its_code_is_the_committed_one(
    checkout: Path, code: str, added: bool
) -> None:
    """A script or a log of the reader's own beside the code made every run unpublishable."""
    store = RunStore(checkout / ".runs", checkout / "results")
    record = make_record(environment={"git_commit": "c0ffee", "git_dirty": True}, code="0123456789abcdef")
    store.save(record)
    report = publish_runs(store, code_here=lambda _: code)
    assert report.added == [record.run_id] * added and len(report.refused) == (not added)


def test_a_failure_is_published_when_asked_for_and_gives_way_to_a_complete_run(checkout: Path) -> None:
    store = RunStore(checkout / ".runs", checkout / "results")
    bad = make_record(status="failed", error="the gradient of parameter x is not finite")
    store.save(bad)
    assert publish_runs(store).added == []
    assert publish_runs(store, failed=True).added == [bad.run_id] and publish_runs(store, failed=True).known == [
        bad.run_id
    ]
    store.save(make_record())
    assert publish_runs(store).added == [bad.run_id]
    (present,) = store.records()
    assert present.complete


def test_publish_refuses_a_dirty_tree_and_no_tree(checkout: Path, tmp_path: Path) -> None:
    store = RunStore(checkout / ".runs", checkout / "results")
    store.save(make_record())
    (checkout / "seqrec_lib/errors.py").write_text("x = 1\n")
    with pytest.raises(SeqRecError, match="uncommitted changes outside results/"):
        publish_runs(store)
    elsewhere = new_store(tmp_path / "elsewhere")
    elsewhere.save(make_record())
    with pytest.raises(SeqRecError, match="in no git checkout"):
        publish_runs(elsewhere)
    assert files(checkout / "results") == []


def test_publish_keeps_the_folder_small(checkout: Path) -> None:
    store = RunStore(checkout / ".runs", checkout / "results")
    store.save(make_record())
    store.published.mkdir()
    (store.published / "README").write_bytes(b"x" * 1_000_000)
    with pytest.raises(SeqRecError, match="the limit is 1,000,000"):
        publish_runs(store, limit=1_000_000)
    assert [path.name for path in files(store.published)] == ["README"]


def test_published_records_are_valid(tmp_path: Path) -> None:
    """The records of this repository's own results/ are whole."""
    store = RunStore(tmp_path)
    for record in store.records():
        diverged = record.experiment == "optimizers" and any(
            words in (record.error or "") for words in ("is not finite", "training diverged")
        )
        assert json.loads(record.to_json())["status"] == "complete" or diverged
        assert record.dataset["name"] != "demo"
        blobs = {name: table_path(store.path(record), name).read_bytes() for name in record.tables}
        transfer.check_tables(record, blobs, record.run_id)
        assert record.edited is None
    size = sum(path.stat().st_size for path in store.published.rglob("*") if path.is_file())
    assert size <= transfer.PUBLISHED_LIMIT


def test_published_runs_have_the_ids_of_their_configurations(tmp_path: Path) -> None:
    for record in RunStore(tmp_path).records():
        experiment, config = get(record.experiment), config_of(record)
        parents = experiment.parents(config) if hasattr(experiment, "parents") else ()
        values = plain(config)
        assert values == record.config
        revision = experiment.revision(config)
        assert run_key(record.experiment, values, revision, parents, record.hardware) == record.run_id


def test_a_run_that_is_under_way_here_is_refused_not_waited_for(tmp_path: Path) -> None:
    source, target = new_store(tmp_path / "source"), new_store(tmp_path / "target")
    record = source.save(make_record(metrics=RANKED), {"ranks": RANKS})
    export_runs(source, tmp_path / "a.tar")
    code = (
        "import sys; from seqrec_lib.results import RunStore\n"
        f"with RunStore({str(target.new)!r}).lock({record.run_id!r}):\n    print(1, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "1\n"
        report = import_runs(target, tmp_path / "a.tar")
        holder.communicate("")
    assert not report.added and "running here at this moment" in report.refused[0][1]
    assert import_runs(target, tmp_path / "a.tar").added == [record.run_id]


def test_exports_to_one_path_at_once_leave_a_whole_tar(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for seed in range(40):
        store.save(make_record(config={"dataset": "demo", "model": "sasrec", "seed": seed}))
    out = tmp_path / "a.tar"
    code = (
        "from seqrec_lib.results import RunStore\nfrom seqrec_lib.results.transfer import export_runs\n"
        f"for _ in range(5): export_runs(RunStore({str(store.new)!r}), {str(out)!r})"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    while any(worker.poll() is None for worker in workers):
        if out.exists():
            with tarfile.open(out) as archive:
                assert len(archive.getnames()) == 40
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize("error", [pa.ArrowNotImplementedError("no such page"), pa.ArrowKeyError("x")])
def test_whatever_arrow_says_to_a_table_refuses_that_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    source = new_store(tmp_path / "source")
    source.save(make_record(metrics=RANKED), {"ranks": RANKS})
    export_runs(source, tmp_path / "a.tar")
    monkeypatch.setattr(pq, "ParquetFile", Mock(side_effect=error))
    report = import_runs(new_store(tmp_path / "target"), tmp_path / "a.tar")
    assert not report.added and "not a Parquet file" in report.refused[0][1]

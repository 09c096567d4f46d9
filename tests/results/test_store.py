"""The store: what is written is read, by two processes at once, after a kill, and from two folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from seqrec_lib.checksums import seal
from seqrec_lib.errors import SeqRecError
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.results.store import relative_path, table_path, write_run
from tests.fakes import RANKS, make_ranked, make_record


def run_python(code: str, *arguments: object, wait: bool = True) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if wait:
        process.communicate()
    return process


def test_saved_run_is_found_with_its_table_in_the_documented_place(store: RunStore) -> None:
    record = store.save(make_record(), {"ranks": RANKS})
    assert store.find(record.run_id) == record
    assert store.table(record, "ranks").equals(RANKS)
    names = sorted(p.name for p in (store.new / "accuracy" / "ml-1m").iterdir())
    assert names == [f"{record.run_id}.json", f"{record.run_id}.ranks.parquet"]
    assert store.find("0" * 16) is None
    with pytest.raises(SeqRecError, match="no table 'times'; it has ranks"):
        store.table(record, "times")


def test_a_record_is_refused_that_does_not_fit_its_id(store: RunStore) -> None:
    with pytest.raises(SeqRecError, match=r"field run_id is 0{16}, its configuration gives"):
        store.save(make_record(run_id="0" * 16))
    assert store.records() == []


def test_an_edited_or_moved_record_is_noticed(store: RunStore) -> None:
    record = make_record()
    store.save(record)
    path = store.new / relative_path(record)
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(SeqRecError, match="do not edit records"):
        store.find(record.run_id)
    path.write_text(text)
    other = store.new / "accuracy" / "demo" / path.name
    other.parent.mkdir()
    path.rename(other)
    with pytest.raises(SeqRecError, match="the record is that of accuracy/ml-1m"):
        store.records()


def test_a_run_that_was_made_again_replaces_a_damaged_record(store: RunStore) -> None:
    record = make_record()
    store.save(record)
    path = store.new / relative_path(record)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SeqRecError):
        store.save(record)
    store.save(record, again=True)
    assert store.find(record.run_id) == record


def test_a_bad_record_is_named_and_the_others_are_listed(store: RunStore) -> None:
    good = store.save(make_record())
    folder = store.new / "accuracy" / "ml-1m"
    text = (folder / f"{good.run_id}.json").read_bytes()
    contents = {
        "empty": b"", "half": text[: len(text) // 2], "null": b"null", "mark": b"\xef\xbb\xbf" + text,
        "zeros": bytes(len(text)), "schema": text.replace(b'"schema": 2', b'"schema": 1'), "deep": b"[" * 100_000,
    }  # fmt: skip
    for number, content in enumerate(contents.values()):
        (folder / f"{number:016x}.json").write_bytes(content)
    (folder / f"{99:016x}.json").mkdir()
    bad: list[str] = []
    assert store.records(bad=bad) == [good]
    assert len(bad) == len(contents) + 1 and all("\n" not in line for line in bad)
    with pytest.raises(SeqRecError):
        store.records()


def test_a_table_that_is_not_the_records_is_never_read(store: RunStore) -> None:
    one = store.save(make_record(), {"ranks": RANKS})
    other = store.save(make_record(config={"seed": 1}), {"ranks": pa.table({"rank": [9, 9, 9]})})
    paths = [table_path(store.path(record), "ranks") for record in (one, other)]
    blobs = [path.read_bytes() for path in paths]
    for path, blob in zip(paths, reversed(blobs), strict=True):
        path.write_bytes(blob)
    for record in (one, other):
        with pytest.raises(SeqRecError, match="not the table that its record describes"):
            store.table(record, "ranks")
    for bit in range(0, 8 * len(blobs[0]), 7):
        damaged = bytearray(blobs[0])
        damaged[bit // 8] ^= 1 << bit % 8
        paths[0].write_bytes(damaged)
        with pytest.raises(SeqRecError):
            store.table(one, "ranks")
    paths[0].write_bytes(blobs[0])
    assert store.table(one, "ranks").equals(RANKS)


def test_complete_beats_failed_then_the_newest_wins(store: RunStore) -> None:
    early = make_record()
    late = make_record(finished="2026-02-01T00:00:00+00:00")
    failed = make_record(status="failed", error="boo", finished="2026-03-01T00:00:00+00:00", metrics={})

    def lay(folder: Path, record) -> None:
        write_run(folder / relative_path(record), record.to_json(), {})

    lay(store.published, early)
    lay(store.new, failed)
    assert store.find(early.run_id) == early
    lay(store.new, late)
    assert store.find(early.run_id) == late
    assert store.records() == [late]
    assert store.path(early) == store.published / relative_path(early)


def test_records_are_filtered(store: RunStore) -> None:
    one = make_record()
    two = make_record(config={"dataset": "demo"}, dataset={"name": "demo"})
    three = make_record(experiment="datasets")
    for record in (one, two, three):
        store.save(record)
    assert store.records() == [two, one, three]
    assert store.records("accuracy") == [two, one]
    assert store.records("accuracy", "demo") == [two]
    assert store.records(dataset="ml-1m") == [one, three]


def test_a_complete_run_is_not_overwritten_a_failed_one_is(store: RunStore) -> None:
    failed = make_record(status="failed", error="boo", metrics={})
    store.save(failed)
    done = make_record()
    store.save(done)
    assert store.find(done.run_id) == done
    store.save(make_record(metrics={"ht@10": 0.9}))
    store.save(failed)
    assert store.find(done.run_id) == done


def test_working_folder_goes_when_the_run_is_complete_but_for_keep(store: RunStore) -> None:
    record = make_record()
    work = store.workdir(record.run_id)
    (work / "checkpoint").write_text("x")
    (work / "keep").mkdir()
    (work / "keep" / "weights").write_bytes(b"numbers")
    seal(work / "keep")
    store.save(make_record(status="failed", error="boo"))
    assert (work / "checkpoint").exists()
    store.save(record)
    assert [p.name for p in work.iterdir()] == ["keep"]
    assert store.kept(record.run_id) == work / "keep"
    assert store.kept("0" * 16) is None


def test_what_is_kept_is_used_only_as_it_was_sealed_and_a_line_says_so(store: RunStore) -> None:
    record, lines = make_record(), []  # type: ignore[var-annotated]
    keep = store.workdir(record.run_id) / "keep"
    assert store.kept(record.run_id, lines.append) is None and not lines, "there is nothing, which is no damage"
    keep.mkdir()
    path = keep / "weights.safetensors"
    save_file({"a": np.ones((3, 4), np.float32)}, path)
    assert store.kept(record.run_id) is None, "its writing may have been broken off"
    seal(keep)
    assert store.kept(record.run_id, lines.append) == keep and not lines
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1  # of a weight: safetensors reads it
    for content in (whole[:-1], whole[:4], b"", bytes(flipped), whole + b"\0"):
        path.write_bytes(content)
        lines.clear()
        assert store.kept(record.run_id, lines.append) is None
        assert len(lines) == 1 and record.run_id in lines[0] and "weights.safetensors" in lines[0]
    path.write_bytes(whole)
    assert store.kept(record.run_id) == keep


def test_a_published_failure_is_a_result_and_another_is_not(store: RunStore) -> None:
    failed = make_record(status="failed", error="it diverged")
    store.save(failed)
    assert not store.settled(failed) and store.settled(make_record())
    folder = store.published / "accuracy" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / f"{failed.run_id}.json").write_text(failed.to_json())
    assert store.settled(failed)


def test_kill_in_the_midst_of_saving_leaves_no_half_record(store: RunStore) -> None:
    # killed before each of the two renames (table, record) in turn: nothing, then a table without a record
    code = """
import os, signal, sys
from seqrec_lib import results
from tests.fakes import RANKS, make_ranked, make_record
from tests.results.test_store import RANKS
calls, replace = [], os.replace
def die(source, target):
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(target)
    replace(source, target)
os.replace = die
results.RunStore(sys.argv[1], sys.argv[2]).save(make_record(), {"ranks": RANKS})
"""
    record, _ = make_ranked()
    for renames in range(2):
        process = run_python(code, store.new, store.published, renames)
        assert process.returncode == -signal.SIGKILL
        assert store.find(record.run_id) is None
        assert store.records() == []
        assert len(list(store.new.rglob("*.parquet"))) == renames
    store.save(record, {"ranks": RANKS})  # and the lock of the dead process holds nobody up
    assert store.table(record, "ranks").equals(RANKS)
    assert not list(store.new.rglob("*.tmp"))


def test_two_processes_that_write_the_same_run_leave_one_whole_record(store: RunStore) -> None:
    code = """
import sys, pyarrow as pa
from seqrec_lib.results import RunStore
from tests.fakes import RANKS, make_ranked, make_record
who = int(sys.argv[3])
record = make_record(metrics={"who": who})
RunStore(sys.argv[1], sys.argv[2]).save(record, {"ranks": pa.table({"rank": [who] * 100_000})})
"""
    processes = [run_python(code, store.new, store.published, who, wait=False) for who in (1, 2)]
    assert [process.communicate() and process.returncode for process in processes] == [0, 0]
    (record,) = store.records()
    assert set(store.table(record, "ranks")["rank"].to_pylist()) == {record.metrics["who"]}


def test_a_lock_is_held_across_processes_and_can_be_taken_again_by_its_holder(store: RunStore) -> None:
    code = """
import sys
from seqrec_lib.results import RunStore
store = RunStore(sys.argv[1], sys.argv[2])
print(store.is_locked("0" * 16))
with store.lock("0" * 16, wait=False) as mine:
    print(mine)
"""
    with store.lock("0" * 16), store.lock("0" * 16) as mine:
        held = run_python(code, store.new, store.published, wait=False).communicate()[0]
    free = run_python(code, store.new, store.published, wait=False).communicate()[0]
    assert (mine, held.split(), free.split()) == (True, ["True", "False"], ["False", "True"])


def test_a_place_that_cannot_be_written_is_one_line(store: RunStore) -> None:
    store.new.parent.mkdir(parents=True, exist_ok=True)
    store.new.write_text("a file where the folder should be")
    with pytest.raises(SeqRecError, match="cannot write"):
        store.save(make_record())


def test_full_disk_is_one_line_and_leaves_nothing(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(SeqRecError, match="No space left on device; free space"):
        store.save(make_record())
    assert [p for p in (store.new / "accuracy").rglob("*") if p.is_file()] == []


def test_relative_folders_start_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "study.yml").write_text("")
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.delenv("SEQREC_RUNS", raising=False)
    assert (RunStore().new, RunStore().published) == (tmp_path / ".runs", tmp_path / "results")
    monkeypatch.setenv("SEQREC_RUNS", str(tmp_path / "elsewhere"))
    assert RunStore().new == tmp_path / "elsewhere"

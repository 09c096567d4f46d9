"""Bits that flip in what the study keeps, and archives that mean harm.

Held, for a flipped bit: what is read is what was written, or it is not used, with one expected error or a line. A
record carries no sum of itself; for it, held means that an import takes in no other test metrics, up to the 1e-9
within which they have to be what the ranks give. Held, for an archive: nothing is written but runs that pass the
checks, nothing outside the store, and no error is raised but expected ones.
"""

from __future__ import annotations

import io
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from seqrec_lib import data
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import key
from seqrec_lib.results import RunStore
from seqrec_lib.results.transfer import export_runs, import_runs
from seqrec_lib.train import checkpoint
from seqrec_lib.train.loop import CHECKPOINT, train
from tests.golden.harness import made_up_data
from tests.stress.kills import LONGEST, begin, carry_out, chosen, end_of, store_in
from tests.train import several

REFUSED, SAME = "refused", "same"


def flip_bits(rng: random.Random, amount: Any, folder: Path) -> list[dict[str, Any]]:
    """``amount.flips`` single bits in each kind of file."""
    case, runs = chosen()["sasrec"], folder / "runs"
    if end_of(begin(lambda: carry_out(case, runs), folder / "log"), LONGEST) != 0:
        raise AssertionError((folder / "log").read_text(encoding="utf-8"))
    if end_of(begin(lambda: _train(folder), folder / "log"), LONGEST) != 0:
        raise AssertionError((folder / "log").read_text(encoding="utf-8"))
    store, run_id = store_in(runs), key(case.experiment, case.config)
    record, keep = store.find(run_id), store.kept(run_id)
    assert record is not None and keep is not None
    path = store.path(record)
    table = path.with_name(f"{run_id}.ranks.parquet")

    content = checkpoint.read(folder / CHECKPOINT)
    ranks = store.table(record, "ranks")

    def read_checkpoint() -> str:
        return SAME if _equal(checkpoint.read(folder / CHECKPOINT), content) else "other content"

    def read_weights() -> str:
        return REFUSED if store.kept(run_id) is None else "used"

    def read_table() -> str:
        return SAME if store.table(record, "ranks").equals(ranks) else "other ranks"

    def import_record() -> str:
        return _import(folder, path, table, record)

    counts = [
        _flip("checkpoints", folder / CHECKPOINT, read_checkpoint, rng, amount.flips),
        _flip("weights", keep / "weights.safetensors", read_weights, rng, amount.flips),
        _flip("tables", table, read_table, rng, amount.flips),
        _flip("records, imported", path, import_record, rng, amount.flips),
    ]
    with made_up_data(case.root, folder):
        before = data.load("ml-latest-small", progress=False)
        (cached,) = (folder / "cache/sequences").glob("ml-latest-small-*.npz")

        def read_cache() -> str:
            now = data.load("ml-latest-small", progress=False)
            return SAME if (now.split_hash, now.titles) == (before.split_hash, before.titles) else "other data"

        counts.append(_flip("processed data", cached, read_cache, rng, amount.flips))
    return counts


def _train(folder: Path) -> None:
    model = several.model_of(0, torch.float32)
    train(model, several.SEQUENCES, several.RESUMED, folder)


def _flip(kind: str, path: Path, read: Callable[[], str], rng: random.Random, times: int) -> dict[str, Any]:
    """Flip a bit, read, and put back what was there; a reader may have mended or removed the file."""
    count: dict[str, Any] = {"kind": kind, "tried": times, "held": 0, "refused": 0, "broken": []}
    whole = path.read_bytes()
    for _ in range(times):
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            outcome = read()
        except SeqRecError:
            outcome = REFUSED
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        path.write_bytes(whole)
        count["refused"] += outcome == REFUSED
        if outcome in (REFUSED, SAME):
            count["held"] += 1
        else:
            count["broken"].append(f"bit {bit} of byte {at}: {outcome}")
    return count


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _import(folder: Path, path: Path, table: Path, expected: Any) -> str:
    """What becomes of a run with a changed record, in a tar as `export_runs` writes it."""
    archive, place = folder / "runs.tar", folder / "imported"
    with tarfile.open(archive, "w") as tar:
        for member in (path, table):
            tar.add(member, f"{expected.experiment}/{expected.dataset['name']}/{member.name}")
    shutil.rmtree(place, ignore_errors=True)
    store = RunStore(place, folder / "none")
    if not import_runs(store, archive).added:
        return REFUSED
    (record,) = store.records()
    changed = [
        name
        for name, value in expected.metrics.items()
        if not name.startswith("valid_") and abs(record.metrics.get(name, -1.0) - value) > 1e-9
    ]
    return f"other metrics: {', '.join(changed)}" if changed else SAME


def import_hostile(rng: random.Random, amount: Any, folder: Path) -> list[dict[str, Any]]:
    """``amount.archives`` made-up tars, read in a folder around which nothing may change."""
    case, runs = chosen()["sasrec"], folder / "runs"
    if end_of(begin(lambda: carry_out(case, runs), folder / "log"), LONGEST) != 0:
        raise AssertionError((folder / "log").read_text(encoding="utf-8"))
    good = folder / "good.tar"
    export_runs(store_in(runs), good)
    with tarfile.open(good) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    count: dict[str, Any] = {"kind": "archives of runs", "tried": amount.archives, "held": 0, "broken": []}
    for number in range(amount.archives):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            around = Path(name)
            archive, store = around / "hostile.tar", RunStore(around / "inside" / "new", around / "inside" / "none")
            what = _write_hostile(rng, archive, members, around)
            before = _listing(around)
            wrong = []
            try:
                with suppress(SeqRecError):
                    import_runs(store, archive)
                if any(record.metrics != store_in(runs).records()[0].metrics for record in store.records()):
                    wrong.append("other metrics")
            except Exception as error:
                wrong.append(f"{type(error).__name__}: {error}")
            after = {path for path in _listing(around) if not path.startswith("inside")}
            wrong += [f"written: {path}" for path in sorted(after - before)]
            count["held"] += not wrong
            count["broken"] += [f"archive {number}, {what}: {', '.join(wrong)}"] if wrong else []
    return [count]


def _listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _write_hostile(rng: random.Random, archive: Path, members: dict[str, bytes], around: Path) -> str:
    """A tar that differs from a good one in what no honest one has; says in what."""
    names = list(members)
    prefix = names[0].rpartition("/")[0]
    what = rng.choice(
        ("paths", "links", "devices", "sizes", "bytes", "cut off", "twice", "compressed", "names", "depth")
    )
    with tarfile.open(archive, "w:gz" if what == "compressed" else "w", format=tarfile.PAX_FORMAT) as tar:
        for name, blob in members.items():
            content = blob
            if what == "bytes":
                at = rng.randrange(len(blob))
                content = blob[:at] + rng.randbytes(rng.randrange(1, 64)) + blob[at + rng.randrange(64) :]
            _add(tar, name, content)
        if what == "paths":
            for path in ("../outside", str(around / "absolute"), f"{prefix}/../../../outside", "a\\..\\b", "C:\\x"):
                _add(tar, path + rng.choice(("", ".json")), b"{}")
        elif what == "links":
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member = tarfile.TarInfo(f"{prefix}/{rng.randbytes(8).hex()}.json")
                member.type, member.linkname = kind, rng.choice(("/etc/passwd", "../../..", names[0]))
                tar.addfile(member)
        elif what == "devices":
            for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE):
                member = tarfile.TarInfo(f"{prefix}/{rng.randbytes(8).hex()}.json")
                member.type = kind
                tar.addfile(member)
        elif what == "twice":
            for name in names:
                _add(tar, name, rng.choice((members[name], b"{}", b"")))
        elif what == "names":
            for _ in range(20):
                letters = [chr(rng.choice((0x1B, 0x202E, 0xE9, 0x2F, 0x41, 0x0A, 0x7F))) for _ in range(30)]
                _add(tar, "".join(letters), b"\x1b[2J")
        elif what == "depth":
            name = f"{prefix}/{rng.randbytes(8).hex()}.json"
            _add(tar, name, b"[" * rng.randrange(1, 200_000))
    if what in ("cut off", "sizes"):
        spoilt = bytearray(archive.read_bytes())
        if what == "cut off":
            del spoilt[rng.randrange(len(spoilt)) :]
        else:  # a header that promises more than there is; its sum is made right
            spoilt[124:136] = b"%011o\0" % rng.choice((2**33 - 1, 2**30, 10**9))
            spoilt[148:156] = b" " * 8
            spoilt[148:156] = b"%06o\0 " % sum(spoilt[:512])
        archive.write_bytes(spoilt)
    return what


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))

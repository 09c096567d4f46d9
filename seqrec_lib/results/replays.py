"""Replays: a run carried out again by today's code, and whether it gave the same numbers.

A record's fingerprint names the code that made it. Code changes where it cannot alter a result too: a message, an
option that the run does not use. A replay settles by measurement which kind a change was: the run's metrics and tables
(or, of a long run, the first epochs of its history) are compared to the last digit. Where they are equal, the two
fingerprints stand for the same computation, for this run and for all that are *alike*: those that differ in data set,
seed and the size of numbers, and in nothing that switches code.

Replays lie in one file beside the published runs, ``replays.json``; `seqrec results replay` adds to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.results.record import RUN_ID, RunRecord, canonical_json
from seqrec_lib.results.store import write_file

FREE = ("dataset", "seed")  # settings in which runs that are alike may differ as they like


@dataclass(frozen=True)
class Replay:
    """One replay.

    Attributes:
        run_id, experiment: of the run. alike: of its configuration, see `alike`.
        then, today: fingerprints of the code that made the record and of the code that replayed it.
        epochs: how many were compared; 0: the whole run.
        difference: the first one that was found, in words; empty: all numbers are equal.
        finished: ISO 8601 in UTC. git_commit: of the replay; None where files were changed.
    """

    run_id: str
    experiment: str
    alike: str
    then: str
    today: str
    epochs: int
    difference: str
    finished: str
    git_commit: str | None


def alike(config: Mapping[str, Any]) -> str:
    """Hash of what switches code in a configuration: the same for all runs that a replay speaks for.

    Data sets and seeds are left out at any depth, and a number counts as positive, zero or negative only.

    >>> alike({"seed": 0, "model": "a", "dropout": 0.1}) == alike({"seed": 1, "model": "a", "dropout": 0.4})
    True
    >>> alike({"model": "a", "dropout": 0.1}) == alike({"model": "a", "dropout": 0.0})
    False
    """
    return hashlib.sha256(canonical_json(_switches(config)).encode()).hexdigest()[:16]


def _switches(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _switches(item) for key, item in value.items() if key not in FREE}
    if isinstance(value, (list, tuple)):
        return [_switches(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (value > 0) - (value < 0)
    return value


def replays_file() -> Path:
    """Where replays are kept."""
    return project_root() / "results" / "replays.json"


def read_replays(path: Path | None = None) -> tuple[Replay, ...]:
    """All replays, oldest first; none where there is no file.

    Raises:
        SeqRecError: the file is damaged.
    """
    path = path or replays_file()
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ()


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> tuple[Replay, ...]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        replays = tuple(Replay(**entry) for entry in entries)
        for replay in replays:
            _check(replay)
    except (ValueError, TypeError) as error:
        raise SeqRecError(f"{path}: no list of replays ({error}); restore the file or delete it") from None
    return replays


def _check(replay: Replay) -> None:
    for name in ("run_id", "alike", "then", "today"):
        if not RUN_ID.fullmatch(getattr(replay, name)):
            raise ValueError(f"{name} is {getattr(replay, name)!r}, not 16 hex digits")
    for field in fields(Replay):
        kind = int if field.name == "epochs" else str
        if not isinstance(getattr(replay, field.name), kind) and field.name != "git_commit":
            raise ValueError(f"{field.name} is {getattr(replay, field.name)!r}")


def add_replay(replay: Replay, path: Path | None = None) -> None:
    """Add a replay to the file, in one step; it takes the place of an earlier one of the same run and code."""
    from filelock import FileLock

    path = path or replays_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    same = (replay.run_id, replay.then, replay.today)
    with FileLock(path.with_name(f".{path.name}.lock")):
        _read.cache_clear()  # another process may have written within the clock's grain
        kept = [one for one in read_replays(path) if (one.run_id, one.then, one.today) != same]
        text = json.dumps([asdict(one) for one in [*kept, replay]], indent=1, ensure_ascii=False) + "\n"
        write_file(path, text.encode())


def proof(record: RunRecord, today: str, replays: Iterable[Replay] | None = None) -> tuple[Replay, ...]:
    """The replays by which ``record`` stands for today's code; empty where none do, or where its code is today's.

    Equal numbers link two fingerprints, whichever is older; a chain of links is as good as one.

    Args:
        today: the fingerprint that the record's run would have now.
    """
    same = alike(record.config)
    links = [
        one
        for one in (read_replays() if replays is None else replays)
        if one.experiment == record.experiment and one.alike == same and not one.difference
    ]
    reached: dict[str, tuple[Replay, ...]] = {record.fingerprint: ()}
    grown = True
    while grown and today not in reached:
        grown = False
        for one in links:
            for here, there in ((one.then, one.today), (one.today, one.then)):
                if here in reached and there not in reached:
                    reached[there] = (*reached[here], one)
                    grown = True
    return reached.get(today, ())

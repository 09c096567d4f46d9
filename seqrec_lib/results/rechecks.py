"""Rechecks: published runs that later code carried out again, with the old and the new numbers.

They lie in one file beside the published runs, ``rechecks.json``, which `seqrec results recheck` adds to. A recheck
changes nothing about a record: the goldens hold the code to its numbers. It shows a reader what came out when somebody
looked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from seqrec_lib.checksums import write_file
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.results.record import RUN_ID


@dataclass(frozen=True)
class Recheck:
    """One published run, carried out again.

    Attributes:
        run_id: of the published run.
        finished: ISO 8601 in UTC. git_commit: of the code that carried it out again; "" where files were changed.
        device: name of the machine's device.
        metrics: name -> (published, new).
        seeds: name -> (least, largest) over the published seeds of the same configuration.
    """

    run_id: str
    finished: str
    git_commit: str
    device: str
    metrics: dict[str, tuple[float, float]]
    seeds: dict[str, tuple[float, float]]

    def lines(self) -> list[str]:
        """Old and new of each metric, with the spread of the seeds."""
        texts = []
        for name, (old, new) in self.metrics.items():
            spread = f" (seeds: {self.seeds[name][0]:.4f} to {self.seeds[name][1]:.4f})" if name in self.seeds else ""
            texts.append(f"{name} {old:.4f} published, {new:.4f} now{spread}")
        return texts


def rechecks_file() -> Path:
    """Where rechecks are kept."""
    return project_root() / "results" / "rechecks.json"


def read_rechecks() -> tuple[Recheck, ...]:
    """All rechecks, oldest first; none where there is no file.

    Raises:
        SeqRecError: the file is damaged.
    """
    path = rechecks_file()
    if not path.is_file():
        return ()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(Recheck(**entry) for entry in entries)
        for one in found:
            if not RUN_ID.fullmatch(one.run_id) or not all(len(pair) == 2 for pair in one.metrics.values()):
                raise ValueError(f"{one.run_id}: no run id, or a metric without two values")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SeqRecError(f"{path}: no list of rechecks ({error}); restore the file or delete it") from None
    return found


def rechecks_of(run_ids: Iterable[str]) -> list[Recheck]:
    """The newest recheck of each of these runs that has one."""
    wanted = set(run_ids)
    return list({one.run_id: one for one in read_rechecks() if one.run_id in wanted}.values())


def add_recheck(recheck: Recheck) -> None:
    """Add a recheck to the file, in one step; earlier ones stay."""
    from filelock import FileLock

    path = rechecks_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        entries = [asdict(one) for one in (*read_rechecks(), recheck)]
        write_file(path, (json.dumps(entries, indent=1, ensure_ascii=False) + "\n").encode())

"""What could go wrong is done on purpose: ``make stress``, by hand, for it takes long.

    python -m tests.stress            the full form: 20 kills of each kind of run, 5 minutes of made-up files
    python -m tests.stress --quick    under 5 minutes; it does not replace the figures of a full form
    python -m tests.stress --only kills flips --seed 7

Each part counts what was tried and what broke a promise; the figures go to ``benchmarks/results/stress.json``, which
the book's page *Robustness* shows. The runs are the goldens' (`tests.golden.harness`): tiny, on made-up data, of every
kind. What a part calls *held* is said in its module. Exit status 1 where anything broke.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.conditions import Conditions, keep
from seqrec_lib.report.benchmarks import FOLDER, read
from seqrec_lib.results.provenance import ROOT, git_state
from tests.stress import damage, disk, kills

FULL = {"kills": 20, "flips": 200, "archives": 200, "fuzz_seconds": 300}
QUICK = {"kills": 2, "flips": 40, "archives": 60, "fuzz_seconds": 20}
Count = dict[str, Any]


@dataclass(frozen=True)
class Amount:
    """How much is tried: kills of each kind of run, flips of each kind of file, archives, seconds of made-up files."""

    kills: int
    flips: int
    archives: int
    fuzz_seconds: int


def _fuzz(rng: random.Random, amount: Amount, folder: Path) -> list[Count]:
    """Held: whatever is done to files of ratings, pyarrow's way and the line-by-line way agree, or it is one error."""
    seed = rng.randrange(2**31)
    command = [sys.executable, "-m", "tests.data.fuzz_readers", "--seconds", str(amount.fuzz_seconds)]
    ended = subprocess.run([*command, "--seed", str(seed)], cwd=ROOT, capture_output=True, text=True, check=False)
    tried = sum(int(line.split()[0].replace(",", "")) for line in ended.stdout.splitlines() if not ended.returncode)
    broken = [f"seed {seed}: {ended.stdout[-2000:]} {ended.stderr[-2000:]}"] if ended.returncode else []
    return [{"kind": "files of ratings", "tried": tried, "held": tried, "broken": broken}]


PARTS: dict[str, Callable[[random.Random, Amount, Path], Iterable[Count]]] = {
    "kills": kills.kill_runs,
    "flips": damage.flip_bits,
    "disk": disk.fill_disk,
    "two studies": kills.run_twice_at_once,
    "archives": damage.import_hostile,
    "fuzz": _fuzz,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the quick form")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts; nothing is saved")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn: moments, bits, archives")
    options = parser.parse_args()
    amount = Amount(**(QUICK if options.quick else FULL))
    conditions = Conditions(threads=1)
    parts: dict[str, list[Count]] = {}
    kills.prepare()
    with tempfile.TemporaryDirectory(prefix="seqrec-stress-") as name:
        for part in options.only:
            print(f"{part} ...", flush=True)
            began = time.monotonic()
            folder = Path(name, part)
            folder.mkdir()
            parts[part] = []
            for count in PARTS[part](random.Random(f"{options.seed} {part}"), amount, folder):
                parts[part].append(count)
                words = count.get("skipped") or f"{count['tried']} tried, {count['held']} held"
                print(f"  {count['kind']}: {words}", flush=True)
                for line in count["broken"]:
                    print(f"    BROKEN: {line}", flush=True)
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
    broken = sum(len(count["broken"]) for counts in parts.values() for count in counts)
    if set(options.only) == set(PARTS):
        commit, dirty = git_state()
        form = "quick" if options.quick else "full"
        record = conditions.record("stress", form=form, seed=options.seed, commit=commit, edited=dirty, parts=parts)
        before = read(FOLDER, "stress")
        if options.quick and before is not None and before["form"] == "full":
            print("not saved: there is a record of the full form")
        else:
            keep(record)
    return 1 if broken else 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())

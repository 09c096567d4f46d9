"""A disk that is full: a run whose store lies on a file system of a few hundred kilobytes.

Held: the run ends well or in an expected error that names the disk, and, once there is space, the same call ends with
the numbers of an undisturbed run. Mounting a file system in memory needs root; elsewhere the part is skipped, which its
record says.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

from seqrec_lib.experiments.base import key
from tests.stress.kills import LONGEST, begin, carry_out, chosen, differences, end_of, store_in

KIND = "runs on a full disk"
SIZES = ("32k", "96k", "256k", "512k")


def fill_disk(rng: random.Random, amount: Any, folder: Path) -> list[dict[str, Any]]:
    """One run for each size of the disk."""
    count: dict[str, Any] = {"kind": KIND, "tried": 0, "held": 0, "broken": []}
    if os.geteuid() != 0:
        return [count | {"skipped": "mounting a small file system needs root"}]
    case, log, whole = chosen()["sasrec"], folder / "log", folder / "whole"
    if end_of(begin(lambda: carry_out(case, whole), log), LONGEST) != 0:
        return [count | {"tried": 1, "broken": [log.read_text(encoding="utf-8")[-500:]]}]
    for size in SIZES:
        place = folder / size / "small"
        place.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return [count | {"skipped": "this machine mounts no file system in memory"}]
        try:
            log = folder / f"log {size}"
            full = end_of(begin(lambda place=place: carry_out(case, place), log), LONGEST)  # type: ignore[misc]
            said = log.read_text(encoding="utf-8") if log.is_file() else ""
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            again = end_of(begin(lambda place=place: carry_out(case, place), folder / "log"), LONGEST)  # type: ignore[misc]
            wrong = [] if full == 0 or "free space" in said or "full" in said else [f"said {said[-300:]!r}"]
            wrong += ["it did not go on"] if again else []
            wrong += differences(key(case.experiment, case.config), store_in(whole), store_in(place))
        finally:
            subprocess.run(["umount", str(place)], check=False)
        count["tried"] += 1
        count["held"] += not wrong
        count["broken"] += [f"{size}: {', '.join(wrong)}"] if wrong else []
    return [count]

"""What all benchmarks share: threads and clock, the machine and its load, and where a record goes.

Not run itself; every benchmark is, as a module from the project's folder: ``python -m benchmarks.<name> --help``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqrec_lib.results import environment, now
from seqrec_lib.results.limits import usable_cores
from seqrec_lib.results.provenance import version

RESULTS = Path(__file__).resolve().parent / "results"


class Conditions:
    """Made before the first measurement: the load that other jobs put on the machine is read then, and at the end.

    Args:
        threads: of the computation; 0: all cores.
        clock: wall | cpu, into which other jobs do not count.

    Raises:
        SystemExit: an unknown clock, or the CPU's with several threads, whose seconds it would add up.
    """

    def __init__(self, threads: int = 0, clock: str = "wall") -> None:
        self.threads, self.clock = threads or usable_cores(), clock
        if clock not in ("wall", "cpu") or (clock == "cpu" and self.threads > 1):
            raise SystemExit(f"error: clock {clock!r} with {self.threads} threads; use wall, or cpu with --threads 1")
        self._load = os.getloadavg()[0]

    def record(self, name: str, packages: Sequence[str] = ("torch",), **measured: Any) -> dict[str, Any]:
        """The record of benchmark ``name``: day, machine, load, the versions of ``packages``, and what was measured."""
        where = environment() | {"threads": self.threads}
        where["load_average"] = [round(load, 1) for load in (self._load, os.getloadavg()[0])]
        versions = {package: version(package) for package in packages}
        return {"benchmark": name, "date": now()[:10], "environment": where, "versions": versions} | measured


def check_device(device: str, clock: str) -> None:
    """Refuse what cannot be timed.

    Raises:
        SystemExit: another device than cpu or cuda, a GPU by the clock of the CPU, or a GPU where there is none.
    """
    import torch

    if device not in ("cpu", "cuda") or (device == "cuda" and clock == "cpu"):
        raise SystemExit(f"error: device {device!r} with clock {clock!r}; use cpu, or cuda with --clock wall")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"error: device 'cuda' needs a GPU, and torch {torch.__version__} sees none; use cpu")


def keep(record: dict[str, Any], name: str | None = None, folder: Path = RESULTS) -> None:
    """Write the record to results/<name>.json (or into another folder), by default under its benchmark's name."""
    path = folder / f"{name or record['benchmark']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(f"written to {path}")

"""How many of the machine's cores this process may use, and what follows for timings.

Two limits hold at once: the affinity (which cores: `taskset`, a job scheduler) and the quota of the control group (how
much time on them: a container's `--cpus`). A container with a quota of two cores on a machine of sixty-four sees all
sixty-four in its affinity, and a program with as many threads stands still for most of each period. A timing depends on
both limits, so its record holds them, and under other limits it is another timing.

Sources: Linux's documentation of control groups, version 1 (`cpu.cfs_quota_us`, `cpu.cfs_period_us`) and version 2
(`cpu.max`), and `/proc/self/mountinfo` for where they are mounted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from seqrec_lib.errors import SeqRecError

PROC = Path("/proc/self")


def usable_cores() -> int:
    """Cores that this process can keep busy: those of its affinity, at most the whole cores of its quota, at least
    1."""
    quota = core_quota()
    cores = _affinity()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def core_quota(proc: Path = PROC) -> float | None:
    """Cores' worth of time that the control groups of this process allow, 1.5 for 150 ms in every 100; None: no limit.

    A group is also bound by those above it: the least quota on the way up counts.

    Args:
        proc: where `cgroup` and `mountinfo` of the process lie.
    """
    try:
        groups = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (proc / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    found = [quota for folder in _folders(groups, mounts) if (quota := _quota(folder)) is not None]
    return min(found, default=None)


def check_threads(threads: int) -> None:
    """Refuse more threads than there are cores for them.

    Raises:
        SeqRecError: the line names both numbers and the limits.
    """
    cores = usable_cores()
    if threads > cores:
        quota = core_quota()
        limits = f"{_affinity()} by affinity" + ("" if quota is None else f", a container's quota of {quota:g}")
        raise SeqRecError(f"threads is {threads}; this process can use {cores} ({limits}): ask for at most that")


def timing_limits() -> dict[str, Any]:
    """What a timing's record says of the limits that it was made under, for its environment: ``cores`` usable, and
    ``core_quota``, or None without one."""
    return {"cores": usable_cores(), "core_quota": core_quota()}


def same_limits(made_under: Mapping[str, Any]) -> bool:
    """Whether a timing whose record has this environment was made under the present limits.

    Records from before quotas were read say nothing of one, and are held to their cores alone.
    """
    now = timing_limits()
    quota = now["core_quota"]
    return made_under.get("cores") == now["cores"] and made_under.get("core_quota", quota) == quota


def timing_device(device: str, known: Mapping[str, Any] | None) -> str:
    """The name of the device in a timing's key, so that a timing under other limits is a run of its own.

    Args:
        device: as `hardware` names it; keys from before limits counted hold this alone.
        known: environment of the record under that key; None: there is none.

    Returns:
        ``device`` where nothing is known under it yet or where the known timing was made under the present limits,
        otherwise ``device`` with the present limits behind it.

    >>> timing_device("a CPU", None)
    'a CPU'
    """
    if known is None or same_limits(known):
        return device
    now = timing_limits()
    quota = "" if now["core_quota"] is None else f", quota {now['core_quota']:g}"
    return f"{device}, {now['cores']} usable core{'' if now['cores'] == 1 else 's'}{quota}"


def _affinity() -> int:
    """Cores on which the scheduler may put this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _folders(groups: list[str], mounts: list[str]) -> Iterator[Path]:
    """Folders of the control groups of this process that may hold a quota, in any order.

    Args:
        groups: lines "number:controllers:path"; version 2 has number 0 and no controllers.
        mounts: lines "id parent device root point options ... - kind source options".
    """
    for line in groups:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        unified = number == "0" and not controllers
        if not unified and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            where, what = before.split(" "), after.split(" ")
            if len(where) < 5 or len(what) < 3:
                continue
            if what[0] != "cgroup2" if unified else (what[0] != "cgroup" or "cpu" not in what[2].split(",")):
                continue
            root, point = PurePosixPath(where[3]), Path(where[4])
            yield point
            # Within a container the mount may begin at the container's own group, whose path is then no part of it.
            inside = PurePosixPath(path)
            parts = inside.relative_to(root).parts if inside.is_relative_to(root) else ()
            for depth in range(len(parts)):
                yield point.joinpath(*parts[: depth + 1])


def _quota(folder: Path) -> float | None:
    """Cores that one control group allows; None: no limit, or none that can be read."""
    try:
        if (folder / "cpu.max").is_file():
            allowed, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            allowed, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip() for name in ("quota", "period")
            )
        quota = float("inf") if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return quota if 0 < quota < float("inf") else None

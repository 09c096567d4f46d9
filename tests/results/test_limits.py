"""Cores by affinity and by the quotas of control groups, of both versions, wherever they are mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.results import limits
from seqrec_lib.results.limits import check_threads, core_quota, same_limits, timing_device, usable_cores

V2 = "29 23 0:26 {root} {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 30 0:29 {root} {point} rw,nosuid shared:13 - cgroup cgroup rw,{names}"


def process(folder: Path, groups: str, *mounts: str) -> Path:
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/vda1 rw", *mounts]) + "\n")
    return proc


def allow(folder: Path, text: str) -> None:
    """A control group of version 2 with this quota."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(text + "\n")


def allow_1(folder: Path, quota: int, period: int) -> None:
    """The same of version 1; a quota of -1 is none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_version_2_counts_the_least_quota_on_the_way_up(tmp_path: Path) -> None:
    mount = V2.format(root="/", point=tmp_path / "fs")
    proc = process(tmp_path, "0::/kubepods/pod/box\n", mount)
    assert core_quota(proc) is None, "no group has a file"
    pod = tmp_path / "fs" / "kubepods" / "pod"
    allow(pod / "box", "max 100000")
    assert core_quota(proc) is None
    allow(pod, "150000 100000")
    assert core_quota(proc) == 1.5
    allow(pod / "box", "300000 100000")
    assert core_quota(proc) == 1.5
    allow(pod.with_name("other"), "1000 100000")
    assert core_quota(proc) == 1.5, "another group's is not ours"


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    """Version 1 without a namespace of its own: the mount begins at the container's group."""
    mount = V1.format(root="/docker/abc", point=tmp_path / "cpu", names="cpu,cpuacct")
    proc = process(tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc/job\n0::/\n", mount)
    allow_1(tmp_path / "cpu", -1, 100_000)
    assert core_quota(proc) is None
    allow_1(tmp_path / "cpu", 250_000, 100_000)
    assert core_quota(proc) == 2.5
    allow_1(tmp_path / "cpu" / "job", 50_000, 50_000)
    assert core_quota(proc) == 1.0


def test_the_cpuset_controller_is_no_quota_and_nonsense_is_none(tmp_path: Path) -> None:
    sets = V1.format(root="/", point=tmp_path / "cpuset", names="cpuset")
    proc = process(tmp_path, "3:cpuset:/\n0::/\nnonsense\n", sets, "short line", V2.format(root="/", point="/nowhere"))
    allow(tmp_path / "cpuset", "10000 100000")
    assert core_quota(proc) is None
    assert core_quota(tmp_path / "no such folder") is None
    for text in ("", "100000", "a b", "100000 0", "-5 100000"):
        allow(tmp_path / "cpuset", text)
        assert limits._quota(tmp_path / "cpuset") is None


@pytest.mark.parametrize(
    ("cores", "quota", "usable"), [(8, None, 8), (8, 2.9, 2), (8, 0.3, 1), (2, 16.0, 2), (1, None, 1)]
)
def test_usable_are_whole_cores_by_both_limits(
    monkeypatch: pytest.MonkeyPatch, cores: int, quota: float | None, usable: int
) -> None:
    monkeypatch.setattr(limits, "_affinity", lambda: cores)
    monkeypatch.setattr(limits, "core_quota", lambda: quota)
    assert usable_cores() == usable
    check_threads(usable)
    with pytest.raises(SeqRecError, match=rf"threads is {usable + 1}; this process can use {usable} \("):
        check_threads(usable + 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_timing_with_more_threads_than_cores_is_refused_before_it_starts() -> None:
    """In a process on one core, as by `taskset -c 0`."""
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from seqrec_lib.errors import SeqRecError\n"
        "from seqrec_lib.experiments import get\n"
        "from seqrec_lib.parameters import schema\n"
        "from seqrec_lib.places import project_root\n"
        "for name in ('latency', 'scaling'):\n"
        "    given = schema(project_root() / 'notebooks' / f'{name}.ipynb')\n"
        "    values = {key: parameter.default for key, parameter in given.items()}\n"
        "    assert get(name).plan(values)\n"
        "    try:\n"
        "        get(name).plan(values | {'threads': 16})\n"
        "    except SeqRecError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("threads is 16; this process can use 1 (") for line in lines)


def test_a_timing_under_other_limits_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_affinity", lambda: 2)
    monkeypatch.setattr(limits, "core_quota", lambda: None)
    assert timing_device("a CPU", None) == "a CPU"
    assert timing_device("a CPU", {"cores": 2}) == "a CPU", "a record from before quotas were read"
    assert timing_device("a CPU", {"cores": 2, "core_quota": None}) == "a CPU"
    others: list[dict[str, Any]] = [{"cores": 1}, {"cores": 2, "core_quota": 2.5}, {}]
    assert [timing_device("a CPU", known) for known in others] == ["a CPU, 2 usable cores"] * 3
    monkeypatch.setattr(limits, "core_quota", lambda: 1.5)
    assert timing_device("a CPU", {"cores": 2, "core_quota": None}) == "a CPU, 1 usable core, quota 1.5"
    assert same_limits({"cores": 1, "core_quota": 1.5}) and not same_limits({"cores": 1, "core_quota": 1.25})

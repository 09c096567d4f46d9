"""Where a result comes from: the machine, the packages and the commit that made it.

Nothing here imports a heavy package: what is not loaded is described from its metadata.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from seqrec_lib.results.limits import usable_cores

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = (
    *("torch", "numpy", "pandas", "scipy", "pyarrow"),
    *("transformers", "peft", "trl", "datasets", "accelerate", "papermill"),
)
KERNELS = ("mamba-ssm", "causal-conv1d")
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


def environment() -> dict[str, Any]:
    """Describe the machine, the packages and the commit, as plain JSON values.

    Keys: ``device`` (name of the GPU, else of the CPU), ``device_type`` (cuda | cpu), ``cpu``, ``cores``
    (that this process can keep busy, see `limits`), ``threads`` (of torch once it is loaded), ``gpu`` (name or
    None), ``platform``, ``versions`` (package -> version or None), ``kernels`` (CUDA kernel package -> version or
    None), ``git_commit`` and ``git_dirty`` (None outside a git checkout; results do not count).
    """
    cpu, gpu = cpu_model(), gpu_name()
    commit, dirty = git_state()
    return {
        "device": gpu or cpu,
        "device_type": "cuda" if gpu else "cpu",
        "cpu": cpu,
        "cores": usable_cores(),
        "threads": _threads(),
        "gpu": gpu,
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "kernels": {name: version(name) for name in KERNELS},
        "git_commit": commit,
        "git_dirty": dirty,
    }


def hardware() -> str:
    """Name of the device that a timing depends on: the GPU, else the CPU. Imports torch only where there may be a GPU:
    a page that reads timings need not wait for it."""
    if has_gpu_driver():
        import torch  # noqa: F401  (gpu_name asks it)

    return gpu_name() or cpu_model()


def has_gpu_driver() -> bool:
    """Whether a GPU that torch could use may be there: on Linux only with a device of its driver (NVIDIA's, Windows'
    for its guests, AMD's)."""
    return sys.platform != "linux" or any(Path(device).exists() for device in GPU_DEVICES)


def cpu_model() -> str:
    """Name of the CPU, from /proc/cpuinfo where there is one."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown CPU"


def gpu_name() -> str | None:
    """Name of the first CUDA device, or None; None as well while torch is not loaded, as nothing then used it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def _threads() -> int:
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else usable_cores()


def version(package: str) -> str | None:
    """Installed version of ``package`` from its metadata, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


RESULTS = (":(exclude)results", ":(exclude)benchmarks/results")  # of a checkout: not code


def git_state(root: Path = ROOT) -> tuple[str | None, bool | None]:
    """Commit of the checkout at ``root`` and whether it differs from it; (None, None) where there is none.

    Untracked files count as a difference, as they may be code that a run used; what runs and benchmarks gave does not.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    # The enclosing repository must be the one that holds this code, not one that merely lies around it.
    if commit is None or not _git(root, "ls-files", "--", "seqrec_lib/errors.py"):
        return None, None
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".", *RESULTS)
    return commit, None if changes is None else bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Writes the two lock files from a real resolve of ``pyproject.toml`` by pip (``make lock``).

pip resolves in dry-run mode: nothing is installed. Pins carry no hashes, because torch's CPU and CUDA builds of one
version are different files on different indexes, and the lock must serve both. What only torch's CUDA build needs
(``nvidia-*``, ``cuda-*``, ``triton``) is left to torch, which pins it exactly.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = "3.11.0"  # of the Pythons that pyproject.toml admits
TORCH_OWN = re.compile(r"^(nvidia-|cuda-|triton$)")

CPU_HEAD = """\
# Every package of the study and of its tests, for Python 3.11 and later; torch {torch}.
# Made by `make lock` from a resolve for Python {python}, the oldest: some packages leave old patch releases of Python
# out, which Linux distributions still have. No hashes: torch's CPU and CUDA builds of one version are different files
# on different indexes: `make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu` takes the small CPU build; without
# it pip takes PyPI's build, which also runs on a CPU.
"""
CUDA_HEAD = """\
# The same set for an NVIDIA GPU: CPython 3.12, x86-64 Linux, torch {torch} (PyPI's build is the one for CUDA 13.0).
# Resolved by `make lock` with `pip install --dry-run --python-version 3.12 --only-binary=:all:`, not installed by it.
# Two steps, because the two kernel packages need torch in order to build, and mamba-ssm names packages that only
# Mamba-3 uses (mamba-ssm's Mamba-1 kernel is built on request only):
#   pip install -r requirements-cuda.lock
#   MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-deps --no-build-isolation mamba-ssm==2.3.2.post1 causal-conv1d==1.7.0
"""


def canonical(name: str) -> str:
    """The package's name as indexes compare it: lower case, ``-`` for every run of ``-``, ``_`` and ``.``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(requirements: list[str], options: list[str]) -> dict[str, str]:
    """Canonical name -> version of everything that pip would install for ``requirements``.

    Raises ``subprocess.CalledProcessError`` where pip finds no solution; its message is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--disable-pip-version-check", "--report", str(report), *options, *requirements]
        subprocess.run(command, check=True, cwd=ROOT)
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {}
    for entry in installed:
        name = canonical(entry["metadata"]["name"])
        if name != "seqrec-lib" and not TORCH_OWN.match(name):
            # "+cpu" and "+cu130" name the build, not the version
            found[name] = entry["metadata"]["version"].split("+")[0]
    return found


def for_python(version: str) -> list[str]:
    """pip's options for a resolve for another Python than this one; nothing is written to the target."""
    return ["--python-version", version, "--implementation", "cp", "--only-binary=:all:", "--target", "unused"]


def project_requirements() -> list[str]:
    """What ``seqrec-lib[dev]`` asks for, as requirement strings.

    They are read from ``pyproject.toml`` rather than resolved through ``.[dev]``, because pip cannot build a local
    folder for another Python version.
    """
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


def write(path: Path, head: str, versions: dict[str, str]) -> None:
    """Writes ``head`` and one sorted ``name==version`` line per package."""
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)} packages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-cpu", default="2.13.0")
    parser.add_argument("--torch-cuda", default="2.11.0")
    arguments = parser.parse_args()
    wanted = project_requirements()

    cpu = resolve([*wanted, f"torch=={arguments.torch_cpu}"], for_python(OLDEST))
    write(ROOT / "requirements-cpu.lock", CPU_HEAD.format(torch=cpu["torch"], python=OLDEST), cpu)

    # the CPU lock's versions are constraints, so that the two differ only where torch or Python makes them
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        keep = {name: version for name, version in cpu.items() if name not in {"torch", "setuptools"}}
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in keep.items()), encoding="utf-8")
        options = [*for_python("3.12"), "--constraint", str(constraints)]
        cuda = resolve([*wanted, f"torch=={arguments.torch_cuda}", "einops"], options)
    write(ROOT / "requirements-cuda.lock", CUDA_HEAD.format(torch=cuda["torch"]), cuda)


if __name__ == "__main__":
    main()

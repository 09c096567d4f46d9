"""What `seqrec doctor` tells: the machine, the packages, the kernels, the data, the disk, each with a word of
advice."""

from __future__ import annotations

import os
import shutil
import sys

from seqrec_lib import data
from seqrec_lib.places import cache_folder, project_root
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import environment

Row = tuple[str, str, str]  # what, its value, advice


def diagnose() -> dict[str, list[Row]]:
    """Rows by section. Imports torch, to know whether it sees a GPU."""
    import torch  # noqa: F401  (environment describes the GPU that it sees)

    facts = environment()
    return {
        "Machine": [
            ("device", facts["device"], "" if facts["gpu"] else "no GPU: the demo runs, the paper's data takes hours"),
            ("CPU", f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads", _bf16()),
            ("Python", f"{facts['versions']['python']} at {sys.executable}", ""),
            ("commit", _commit(facts["git_commit"], facts["git_dirty"]), ""),
        ],
        "Packages": [
            (name, version or "not installed", "" if version else f"pip install {name}")
            for name, version in facts["versions"].items()
            if name != "python"
        ],
        "GPU kernels": [
            (name, version or "not installed", "" if version else "pip install '.[gpu]' (needs CUDA)")
            for name, version in facts["kernels"].items()
        ],
        "Data": _data(),
        "Disk": _disk(),
    }


def _commit(commit: str | None, dirty: bool | None) -> str:
    if commit is None:
        return "no git checkout"
    return f"{commit[:12]} with uncommitted changes (such runs are not published)" if dirty else commit[:12]


def _bf16() -> str:
    import torch

    from seqrec_lib.train.loop import usable_precision

    fast = usable_precision("bf16", torch.device("cpu")) == "bf16"
    return "multiplies in bfloat16" if fast else "no instructions for bfloat16: trains in float32"


def _data() -> list[Row]:
    looked_in = os.environ.get("SEQREC_DATA") or str(project_root() / "data")
    rows: list[Row] = [("looked in", looked_in, "SEQREC_DATA names other folders")]
    for name in (name for name, spec in data.DATASETS.items() if spec.base is None):  # the others read the same files
        here, where = data.available(name)
        rows.append((name, where if here else "not found", "" if here else f"seqrec data fetch {name}"))
    return rows


def _disk() -> list[Row]:
    store = RunStore()
    rows = []
    for what, folder in (("new runs", store.new), ("published runs", store.published), ("cache", cache_folder())):
        near = next(place for place in (folder, *folder.parents) if place.exists())
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        free = shutil.disk_usage(near).free
        advice = "little space left" if free < 2_000_000_000 else ""
        rows.append((what, f"{folder}: {used / 1e6:,.1f} MB, {free / 1e9:,.1f} GB free", advice))
    return rows

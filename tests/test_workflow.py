"""The workflow on this machine: killed in the middle and started again, only the rest runs, and the records are those
of a single process. Needs Snakemake 9, which may lie in an environment of its own on the PATH."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_lib.experiments.base import execute
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from workflow.grid import planned

SNAKEMAKE = shutil.which("snakemake")
STUDY = """
profiles:
  demo:
    - notebook: accuracy
      datasets: [demo]
      parameters: {models: [popularity, sasrec], seeds: [0, 1, 2], overrides: {epochs: 1}}
"""
pytestmark = pytest.mark.skipif(SNAKEMAKE is None, reason="Snakemake is not installed")


def command(project: Path, *more: str) -> list[str]:
    chosen = ["profile=demo", "device=cpu", f"python={sys.executable}"]
    return [str(SNAKEMAKE), "--profile", "workflow/profiles/local", *more, "--config", *chosen]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/accuracy.ipynb", tmp_path / "notebooks")
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    (tmp_path / "study.yml").write_text(STUDY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_killed_in_the_middle_and_started_again_only_the_rest_runs(project: Path) -> None:
    jobs = project / "_build/jobs/demo"
    process = subprocess.Popen(command(project, "gather"), start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not (ended := list(jobs.glob("*.done"))) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    error = (process.communicate()[1] or b"").decode()
    assert ended and not (jobs / "runs.tar").exists(), error[-3000:]

    store, runs = RunStore(), planned("demo")
    first = {record.run_id: store.path(record).stat().st_mtime_ns for record in store.records()}
    assert 0 < len(first) < len(runs) == 4, "nothing was left to do, or nothing was done"
    logs = {path.name: path.stat().st_mtime_ns for marker in ended if (path := marker.with_suffix(".log"))}

    again = subprocess.run(command(project, "gather"), capture_output=True, text=True, timeout=900, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    records = {record.run_id: record for record in store.records()}
    assert records.keys() == runs.keys()
    for run, changed in first.items():
        assert store.path(records[run]).stat().st_mtime_ns == changed, "a run that had ended was done again"
    assert all((jobs / name).stat().st_mtime_ns == changed for name, changed in logs.items())
    with tarfile.open(jobs / "runs.tar") as gathered:
        names = {Path(name).name for name in gathered.getnames()}
    assert {f"{run}.json" for run in runs} <= names

    third = subprocess.run(command(project, "gather"), capture_output=True, text=True, timeout=300, check=False)
    assert third.returncode == 0 and "Nothing to be done" in third.stdout + third.stderr

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workflow's runs have
    try:
        single = RunStore(project / "single", project / "nothing")
        for task in runs.values():
            execute(task.experiment, [task.config], store=single, device="cpu", progress=False)
    finally:
        torch.set_num_threads(threads)
    for record in single.records():
        ours = records[record.run_id]
        assert ours.metrics == record.metrics and _losses(ours) == _losses(record)
        assert store.table(ours, "ranks").equals(single.table(record, "ranks"))


def _losses(record: Any) -> list[float]:
    return [entry["loss"] for entry in record.history]


def test_a_record_that_is_gone_is_made_again(project: Path) -> None:
    counted = "{models: [popularity]}"
    (project / "study.yml").write_text(f"{STUDY.partition('{models')[0]}{counted}\n", encoding="utf-8")
    for _ in range(2):
        subprocess.run(command(project, "gather"), check=True, timeout=600)
        (record,) = RunStore().records()
        RunStore().path(record).unlink()


def test_slurm_is_planned_without_a_cluster(project: Path) -> None:
    """The profile is read and every run is a job; nothing is submitted."""
    planner = Path(str(SNAKEMAKE)).parent / "python"
    with_slurm = subprocess.run([planner, "-c", "import snakemake_executor_plugin_slurm"], check=False)
    if with_slurm.returncode:
        pytest.skip("snakemake-executor-plugin-slurm is not installed")
    dry = [part.replace("profiles/local", "profiles/slurm") for part in command(project, "gather", "--dry-run")]
    planned_jobs = subprocess.run(dry, capture_output=True, text=True, timeout=300, check=False)
    assert planned_jobs.returncode == 0, planned_jobs.stderr[-3000:]
    assert (planned_jobs.stdout + planned_jobs.stderr).count("rule run:") == 4

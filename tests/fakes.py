"""Experiments and records made up for tests of the store, the runner and the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.results import RunRecord, run_key
from seqrec_lib.results.tables import describe_table, table_bytes


@dataclass(frozen=True)
class Config:
    dataset: str = "ml-1m"
    seed: int = 0


_Config = Config  # a name for types where an experiment's attribute hides the class's


@dataclass
class FakeExperiment:
    """Counts its calls; ``act`` is what one run does."""

    act: Callable[[_Config, Context], None] = lambda config, context: None
    NAME: str = "fake"
    number: int = 1
    Config: type = Config
    calls: list[int] = field(default_factory=list)

    def revision(self, config: _Config) -> int:
        return self.number

    def plan(self, parameters: Mapping[str, Any]) -> list[_Config]:
        return [Config(parameters["dataset"], seed) for seed in parameters["seeds"]]

    def run(self, config: _Config, context: Context) -> Outcome:
        self.calls.append(config.seed)
        self.act(config, context)
        ranks = pa.table({"rank": pa.array([1, config.seed + 1], pa.int16())})
        metrics = rank_metrics(ranks["rank"].to_numpy(), (10,))
        return Outcome({"name": config.dataset}, metrics, tables={"ranks": ranks})


def make_record(**changes: Any) -> RunRecord:
    """A complete record, with the run id that its fields give unless one is named."""
    values: dict[str, Any] = {
        "experiment": "accuracy",
        "config": {"dataset": "ml-1m", "model": "sasrec", "seed": 0},
        "revision": 1,
        "dataset": {"name": "ml-1m", "split_sha256": "ab"},
        "metrics": {"ht@10": 0.25},
        "history": [{"epoch": 1, "loss": 7.5}],
        "cost": {"wall_seconds": 1.5},
        "environment": {"device": "a CPU", "git_commit": "c0ffee", "git_dirty": False},
        "status": "complete",
        "code": "0123456789abcdef",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T01:00:00+00:00",
        **changes,
    }
    key = run_key(values["experiment"], values["config"], values["revision"], hardware=values.get("hardware"))
    return RunRecord(**({"run_id": key} | values))


RANKS = pa.table({"rank": pa.array([3, 1, 2], pa.int16())})
RANKED = rank_metrics(RANKS["rank"].to_numpy(), (10,))


def make_ranked(table: pa.Table = RANKS, **changes: Any) -> tuple[RunRecord, bytes]:
    """A record whose table "ranks" is described in it and gives its metrics, and the bytes of that table."""
    blob = table_bytes(table)
    return make_record(**{"metrics": RANKED} | changes, tables={"ranks": describe_table(table, blob)}), blob


def make_checkout(folder: Path) -> Path:
    """A git checkout with one commit that looks like this project's."""
    (folder / "seqrec_lib").mkdir(parents=True)
    (folder / "seqrec_lib/errors.py").write_text("")
    (folder / ".gitignore").write_text(".runs/\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)
    return folder


def make_project(folder: Path, notebooks: Mapping[str, list[str]], study: str = "profiles: {}\n") -> Path:
    """A folder that looks like this project: study.yml and notebooks/, each notebook a list of cells.

    The first cell is tagged ``parameters``; a cell that begins with "# " or "(" is Markdown.
    """
    import nbformat

    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    (folder / "study.yml").write_text(study, encoding="utf-8")
    for name, sources in notebooks.items():
        cells = []
        for source in sources:
            markdown = source.startswith(("# ", "("))
            cells.append((nbformat.v4.new_markdown_cell if markdown else nbformat.v4.new_code_cell)(source))
        next(cell for cell in cells if cell.cell_type == "code").metadata["tags"] = ["parameters"]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    return folder


def run_node(program: str, given: Any) -> Any:
    """What a program for Node writes as JSON; ``given`` is its global of that name. Skips the test without Node."""
    if shutil.which("node") is None:
        pytest.skip("no Node")
    head = "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    done = subprocess.run(
        ["node", "-e", head + program], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

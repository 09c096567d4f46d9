"""The code in CONTRIBUTING.md, put where the text says into a copy of the library, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def code(section: str) -> list[str]:
    """The Python blocks of a section, in order."""
    return CODE.findall(TEXT.partition(f"## {section}\n")[2].partition("\n## ")[0])


def insert(path: Path, after: str, text: str) -> None:
    whole = path.read_text(encoding="utf-8")
    assert whole.count(after) == 1, f"{path} has {after!r} {whole.count(after)} times"
    path.write_text(whole.replace(after, after + text), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the library with all additions of CONTRIBUTING.md, and files for its data set."""
    folder = tmp_path_factory.mktemp("copy")
    library = folder / "seqrec_lib"
    shutil.copytree(ROOT / "seqrec_lib", library, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    shutil.copy(ROOT / "study.yml", folder)

    module, entry = code("Add a model")
    (library / "models/average.py").write_text(module)
    insert(library / "models/registry.py", "MODELS: dict[str, ModelSpec] = {\n", entry)
    (entry,) = code("Add a data set")
    insert(library / "data/registry.py", "    for spec in (\n", entry)
    module, entry = code("Add an experiment")
    (library / "experiments/repeats.py").write_text(module)
    insert(library / "experiments/__init__.py", "EXPERIMENTS: dict[str, str] = {\n", entry)

    films = folder / "data/my-films"
    films.mkdir(parents=True)
    pairs = [(user, 1 + (user + step) % 7) for user in range(1, 8) for step in range(6)]
    rows = [f"{user},{film},4.0,{1000 + i}" for i, (user, film) in enumerate(pairs)]
    (films / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n")
    titles = [f"{film},Film {film},Drama" for film in range(1, 8)]
    (films / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles]) + "\n")
    return folder


def run(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "SEQREC_DATA": str(folder / "data"),
        "SEQREC_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_data_set_has_statistics(copy: Path) -> None:
    assert re.search(r"\b42\b", run(copy, "-m", "seqrec_lib", "data", "stats", "my-films"))


EXPERIMENT = """
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import execute
(record,) = execute(get("repeats"), get("repeats").plan({"dataset": "my-films"}), progress=False)
print(record.status, record.metrics)
"""


def test_the_experiment_makes_a_record(copy: Path) -> None:
    # six different films in a row: no user's last one is a repeat
    assert run(copy, "-c", EXPERIMENT).strip() == "complete {'repeat_share': 0.0}"
    assert len(list((copy / ".runs/repeats/my-films").glob("*.json"))) == 1


MODEL = """
import torch
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import execute
from seqrec_lib.models import build
parameters = {"dataset": "my-films", "models": ["popularity", "average"], "seeds": [0], "overrides": {"epochs": 1}}
accuracy = get("accuracy")
for record in execute(accuracy, accuracy.plan(parameters), progress=False):
    print(record.status, record.config["model"], 0 <= record.metrics["ht@10"] <= 1, record.error)
model = build("average", 7, 10, {"d_model": 8}).eval()
alone = model.encode(torch.tensor([[1, 2]]), torch.tensor([2]))
padded = model.encode(torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([2, 3]))[:1]
print(torch.allclose(alone, padded, atol=1e-6))
"""


def test_the_model_trains_ranks_and_does_not_mind_padding(copy: Path) -> None:
    lines = run(copy, "-c", MODEL).splitlines()
    assert lines == ["complete popularity True None", "complete average True None", "True"]


def test_what_is_added_leaves_the_code_of_other_runs_as_it_is(copy: Path) -> None:
    modules = ["seqrec_lib.experiments.accuracy", "seqrec_lib.models.sasrec"]
    program = f"from seqrec_lib.results.code import code_of; print(code_of({modules}))"
    assert run(copy, "-c", program) == run(ROOT, "-c", program)

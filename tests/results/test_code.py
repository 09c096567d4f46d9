"""Hashes of code change with code and only with code; edited code is told from the goldens' by their stamp."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute
from seqrec_lib.models import module_of
from seqrec_lib.results import RunStore, code
from seqrec_lib.results.provenance import ROOT

CODE = '''"""Module."""
def f(x: int) -> str:
    """Function."""
    return f"{x!r:>5}" if x > 0 else "no"  # comment
class C:
    """Class."""
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Writes modules of a package of that name elsewhere, which the hashes are then taken of."""
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(code, "STAMP", tmp_path / "code.json")

    def write(modules: dict[str, str]) -> None:
        for name, text in modules.items():
            path = tmp_path / "seqrec_lib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for cached in (code._read, code.imports_of, code.module_hash):
            cached.cache_clear()

    yield write
    for cached in (code._read, code.imports_of, code.module_hash):
        cached.cache_clear()


def test_prose_and_layout_do_not_change_the_hash(package) -> None:
    package({"module.py": CODE})
    before = code.module_hash("seqrec_lib.module")
    package({"module.py": '# a comment\n\ndef f(x: int) -> str:\n    return (f"{x!r:>5}" if x > 0\n        else "no")\n'
             "class C: 'Other.'\n"})  # fmt: skip
    assert code.module_hash("seqrec_lib.module") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("x > 0", "x >= 0"), ('"no"', '"yes"'), ("!r", "!s"), ("int", "float"), ("class C", "class D"), ("> 0", "> 0.0")],
)
def test_code_changes_the_hash(package, old: str, new: str) -> None:
    package({"module.py": CODE})
    before = code.module_hash("seqrec_lib.module")
    package({"module.py": CODE.replace(old, new)})
    assert code.module_hash("seqrec_lib.module") != before


def test_the_hash_is_the_same_under_every_python(package) -> None:
    package({"module.py": CODE})
    # written down once: a Python with other syntax trees must not take all code for edited
    assert code.module_hash("seqrec_lib.module") == "70ea42290e57cf68"


def test_imports_are_followed_wherever_they_stand_but_not_those_for_types(package) -> None:
    package(
        {
            "__init__.py": "",
            "a.py": "from typing import TYPE_CHECKING\nfrom seqrec_lib.b import x\n"
            "def f():\n    from seqrec_lib.sub import c\n"
            "if TYPE_CHECKING:\n    from seqrec_lib.typed import T\n",
            "b.py": "x = 1",
            "sub/__init__.py": "from .d import y",
            "sub/c.py": "import numpy",
            "sub/d.py": "y = 1",
            "typed.py": "T = int",
            "errors.py": "z = 1",
        }
    )
    inside = {name.removeprefix("seqrec_lib.") for name in code.closure(["seqrec_lib.a"])}
    assert inside == {"a", "b", "sub", "sub.c", "sub.d"}
    with pytest.raises(SeqRecError, match=r"'seqrec_lib\.nothing' is no module"):
        code.closure(["seqrec_lib.nothing"])


def test_edited_is_what_differs_from_the_stamp(package, tmp_path: Path) -> None:
    package({"a.py": "from seqrec_lib.b import x", "b.py": "x = 1"})
    assert code.edited(["seqrec_lib.a"]) == ()  # no stamp: nothing to differ from
    (tmp_path / "code.json").write_text(json.dumps(code.make_stamp(["seqrec_lib.a"])))
    before = code.code_of(["seqrec_lib.a"])
    assert code.edited(["seqrec_lib.a"]) == ()
    package({"b.py": "x = 1  # as before"})
    assert (code.edited(["seqrec_lib.a"]), code.code_of(["seqrec_lib.a"])) == ((), before)
    package({"b.py": "x = 2"})
    assert code.edited(["seqrec_lib.a"]) == ("seqrec_lib.b",)
    assert code.code_of(["seqrec_lib.a"]) != before
    package({"b.py": "x = "})
    with pytest.raises(SeqRecError, match=r"b\.py, line 1"):
        code.edited(["seqrec_lib.a"])


def test_a_models_code_is_its_own_and_not_that_of_other_models() -> None:
    def code_behind(model: str) -> set[str]:
        modules = code.closure(["seqrec_lib.experiments.accuracy", module_of(model)])
        return {name.removeprefix("seqrec_lib.") for name in modules}

    sasrec, mamba = code_behind("sasrec"), code_behind("mamba4rec+residual")
    assert {"models.sasrec", "models.base", "models.building"} <= sasrec
    assert not {name for name in sasrec if name.startswith(("ssm", "serving", "models.mamba4rec", "models.state"))}
    assert {"models.mamba4rec", "models.state_space", "ssm.selective_scan"} <= mamba
    assert not mamba & {"models.sasrec", "models.hydra4rec"}
    assert "models.registry" not in sasrec | mamba  # a model more leaves the code of the others as it is


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"source": "x"}}', "[" * 100_000])
def test_a_damaged_stamp_is_one_line(package, tmp_path: Path, text: str) -> None:
    package({"a.py": "x = 1"})
    (tmp_path / "code.json").write_text(text)
    with pytest.raises(SeqRecError, match="restore the file"):
        code.edited(["seqrec_lib.a"])


def test_hashes_load_nothing_heavy() -> None:
    program = (
        "import sys; from seqrec_lib.results import code; code.code_of(['seqrec_lib.experiments.accuracy']);"
        "print({'torch', 'pandas', 'transformers', 'papermill'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def carried_out(missing: str) -> list[tuple[str, bool, float] | None]:
    """Runs of the two counting models in the stores of the working folder: id, whether by edited code, NDCG@10."""
    configs = accuracy.plan({"dataset": "demo", "models": ["popularity", "markov"], "seeds": [0]})
    records = execute(accuracy, configs, store=RunStore("new", "published"), missing=missing, progress=False)
    return [(r.run_id, r.edited is not None, round(r.metrics["ndcg@10"], 9)) if r else None for r in records]


def html_of(notebook: Path) -> Iterator[str]:
    """What its cells show, each as HTML."""
    for cell in json.loads(notebook.read_text())["cells"]:
        yield from (
            "".join(out["data"]["text/html"]) for out in cell.get("outputs", []) if "text/html" in out.get("data", {})
        )


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the library's code, to be edited; the working folder."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "seqrec_lib", copy / "seqrec_lib", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests/golden").mkdir(parents=True)
    shutil.copy(ROOT / "tests/golden/code.json", copy / "tests/golden")
    (copy / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/accuracy.ipynb", copy / "notebooks")
    (copy / "study.yml").write_text("profiles: {}\n")
    monkeypatch.chdir(copy)
    return copy


def test_an_edited_model_shows_its_own_numbers_beside_the_published_ones(copy: Path) -> None:
    def by_the_copy(*missing: str) -> list[Any]:
        program = "import sys; from tests.results.test_code import carried_out as run; print([*map(run, sys.argv[1:])])"
        command = [sys.executable, "-c", program, *missing]
        done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": f".:{ROOT}"})
        assert done.returncode == 0, done.stderr
        return ast.literal_eval(done.stdout)

    first = carried_out("run")  # in this process, whose code is the copy's before it is edited
    assert [run and run[1] for run in first] == [False, False]
    (copy / "new").rename(copy / "published")
    model = copy / "seqrec_lib/models/popularity.py"
    text = model.read_text()
    model.write_text(text + "\n# a comment\n")
    assert by_the_copy("run") == [first]
    model.write_text(text.replace("class Popularity", "import math\n\n\nclass Popularity"))
    before, changed, after = by_the_copy("skip", "run", "skip")
    assert before == first  # nothing was run with it so far: the published numbers, as they are called
    assert [edited for _, edited, _ in changed] == [True, True]
    assert {run for run, *_ in changed}.isdisjoint(run[0] for run in first if run)
    assert after == changed
    assert carried_out("run") == first


def test_timings_depend_on_the_programs_that_they_time() -> None:
    for experiment in ("latency", "scaling"):
        modules = {name.removeprefix("seqrec_lib.") for name in code.closure([f"seqrec_lib.experiments.{experiment}"])}
        assert {"serving.base", "fast.serving.kernels", "fast.kernels.scan", "latency.clock"} <= modules, experiment


def test_a_notebook_of_an_edited_model_shows_both_rows(copy: Path) -> None:
    configs = accuracy.plan({"dataset": "demo", "models": ["popularity"], "seeds": [0]})
    (published,) = execute(accuracy, configs, store=RunStore(copy / "results", copy / "results"), progress=False)
    assert published is not None
    model = copy / "seqrec_lib/models/popularity.py"
    model.write_text(model.read_text().replace("counts[0] =", "counts = -counts; counts[0] ="))
    given = "{models: [popularity], seeds: [0], metrics: [ndcg@10]}"
    notebook = ["notebooks/accuracy.ipynb", "out.ipynb", "--cwd", "notebooks", "-y", given]
    command = [sys.executable, "-m", "papermill", *notebook]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(copy)})
    assert done.returncode == 0, done.stderr[-3000:]
    (page,) = (text for text in html_of(copy / "out.ipynb") if "Each model on the test split" in text)
    body = BeautifulSoup(page, "html.parser").select("tbody tr")
    rows = {row.contents[0].get_text(): float(next(row.contents[1].stripped_strings)) for row in body}
    edited = [value for name, value in rows.items() if "edited" in name]
    others = [value for name, value in rows.items() if "edited" not in name]
    assert others == [pytest.approx(published.metrics["ndcg@10"], abs=5e-5)]
    assert len(edited) == 1 and edited[0] < others[0] / 2  # the least popular first

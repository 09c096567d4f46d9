"""The import graph of `seqrec_lib`: no circle, nothing upwards, an import within a function only where it has a reason.

There are three reasons. The import brings in another package, which the module does not load at its top. Or the module
is light (it loads none of `HEAVY`) and would otherwise not load what it imports: this keeps `--help` and `plan` light.
Or a comment above the import says why.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"matplotlib", "numba", "pandas", "papermill", "scipy", "torch", "transformers"}

# Module -> what its functions import without a reason so far. This list may only become shorter.
KNOWN = {
    "experiments.arms": "data.registry",
    "experiments.generative": "data data.registry",
    "experiments.latency": "data",
    "experiments.llamarec": "data data.registry language.corpus language.pretrained language.title_tokens",
    "experiments.optimizers": "data data.sequences models",
    "experiments.orpo": "data",
}

# Lowest first, along the way of the data: a module may import from its own layer and from those above it in this table.
LAYERS = (
    "errors terminal places validation checksums progress",
    "data",
    "ssm",
    "models",
    "evaluate",
    "results",
    "optim",
    "train",
    "serving",
    "fast",
    "language",
    "latency",
    "experiments",
    "recommend",
    "report",
    "playground",
    "parameters",
    "study",
    "cli __main__",
)
LAZY = "fast"  # only speed, and may be missing: what is faster by it looks for it within a function

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "seqrec_lib").rglob("*.py"))
}


@cache
def imports_of(module: str, in_functions: bool) -> dict[str, bool]:
    """What a module imports at its top, or within functions: name -> whether a comment says why.

    A name is that of a module of `seqrec_lib`, or of another package that is not Python's own.
    """
    text = FILES[module].read_text(encoding="utf-8")
    found: dict[str, bool] = {}
    for block in _blocks(ast.parse(text), False, in_functions):
        explained = text.splitlines()[block[0].lineno - 2].lstrip().startswith("#")
        for name in (name for statement in block for name in _names(statement)):
            found[name] = found.get(name, True) and explained
    return {name: explained for name, explained in found.items() if name not in {module, *sys.stdlib_module_names}}


def _blocks(node: ast.AST, inside: bool, wanted: bool) -> Iterator[list[ast.stmt]]:
    """Runs of import statements, of those within functions or of the others; none for types alone."""
    inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    block: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)) and inside == wanted:
            block.append(child)
            continue
        if block:
            yield block
            block = []
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not for_types and isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _blocks(child, inside, wanted)
    if block:
        yield block


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        full = [alias.name for alias in statement.names]
    else:
        assert isinstance(statement, ast.ImportFrom) and statement.module and not statement.level
        full = [f"{statement.module}.{alias.name}" for alias in statement.names]
    for name in full:
        if not name.startswith("seqrec_lib"):
            yield name.partition(".")[0]
        else:
            yield name if name in FILES else name.rpartition(".")[0]


@cache
def loaded_by(module: str) -> frozenset[str]:
    """Modules and other packages that are loaded with a module."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [*imports_of(name, False), name.rpartition(".")[0] or name] if name in FILES else []
    return frozenset(seen)


def without_reason(module: str) -> set[str]:
    """Modules that functions of this one import, but need not."""
    found = set()
    for name, explained in imports_of(module, True).items():
        if name in FILES and not explained:
            spared = loaded_by(name) - loaded_by(module)
            light = not HEAVY & loaded_by(module)
            if spared <= FILES.keys() and not (light and name in spared):
                found.add(name)
    return found


def upwards() -> set[tuple[str, str]]:
    """(module, what it imports) where that lies in a later layer, without the package's name."""
    rank = {name: place for place, names in enumerate(LAYERS) for name in names.split()}
    found = set()
    for module in FILES.keys() - {"seqrec_lib"}:
        for in_functions in (False, True):
            for name in imports_of(module, in_functions).keys() & FILES.keys() - {"seqrec_lib"}:
                here, there = module.split(".")[1], name.split(".")[1]
                if rank[there] > rank[here] and not (there == LAZY and in_functions):
                    found.add((module.removeprefix("seqrec_lib."), name.removeprefix("seqrec_lib.")))
    return found


def test_imports_go_along_the_way_of_the_data() -> None:
    assert upwards() == set(), "import from the layers before, or move what is needed there"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("data.made_up", "from seqrec_lib.train import loop", "train.loop"),
        ("data.made_up_too", "def f():\n    from seqrec_lib.cli import main", "cli"),
        ("models.made_up", "from seqrec_lib.fast import cuda_graphs", "fast.cuda_graphs"),
    ],
)
def test_an_import_upwards_is_found(name: str, text: str, found: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "made_up.py").write_text(text)
    monkeypatch.setitem(FILES, f"seqrec_lib.{name}", tmp_path / "made_up.py")
    assert upwards() == {(name, found)}


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {name: {other for other in imports_of(name, False) if other in FILES} for name in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    for name in FILES:
        graph[name] |= {other for other in imports_of(name, True) if other in FILES}
    TopologicalSorter(graph).prepare()


def test_imports_within_functions_have_a_reason() -> None:
    found = {(module, name) for module in FILES for name in without_reason(module)}
    known = {(f"seqrec_lib.{module}", f"seqrec_lib.{name}") for module in KNOWN for name in KNOWN[module].split()}
    assert found - known == set(), "import at the top of the module, or say in a comment why not"
    assert known - found == set(), "take these from the list"

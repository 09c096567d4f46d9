"""Which code decides a run's numbers: the modules that it imports, each with a hash of what it does.

The goldens say whether published numbers still come out of today's code, so this hash never decides whether a
published run is valid. It answers two other questions. Is an unpublished run of today's code? If not, it is made again.
And is the code that of the goldens? Code unlike their stamp (``tests/golden/code.json``) is *edited*, committed or not:
what it computes gets a row of its own beside the published one.

A module's hash covers its syntax tree without docstrings, comments and layout. Modules are found by following imports
from the experiment's module and from those of the models that a configuration names; `SETTINGS` and `SERVICES` are not
followed. Files are read once in a process: a process that goes on after an edit still runs the code that it has loaded.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError

PACKAGE = "seqrec_lib"
ROOT = Path(__file__).resolve().parent.parent.parent
STAMP = ROOT / "tests" / "golden" / "code.json"

# What these choose is in a run's configuration, or in the split hash of its data.
SETTINGS = (
    "seqrec_lib.data.download",
    "seqrec_lib.data.files",
    "seqrec_lib.data.own",
    "seqrec_lib.data.own_table",
    "seqrec_lib.data.readers",
    "seqrec_lib.data.registry",
    "seqrec_lib.data.tables",
    "seqrec_lib.data.times",
    "seqrec_lib.experiments.arms",
    "seqrec_lib.language.ranker_recipes",
    "seqrec_lib.language.recipes",
    "seqrec_lib.models.registry",
    "seqrec_lib.parameters",
    "seqrec_lib.train.recipes",
    "seqrec_lib.validation",
)
# These store, show and name what others compute.
SERVICES = (
    "seqrec_lib",
    "seqrec_lib.errors",
    "seqrec_lib.experiments",
    "seqrec_lib.experiments.base",
    "seqrec_lib.experiments.dependencies",
    "seqrec_lib.places",
    "seqrec_lib.progress",
    "seqrec_lib.terminal",
    "seqrec_lib.results.*",
)


def code_of(modules: Iterable[str]) -> str:
    """Hash of the code of ``modules`` and of all that they import: 16 hex digits.

    Raises:
        SeqRecError: one of them is not a module of this package.
    """
    found = {name: module_hash(name) for name in closure(modules)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def edited(modules: Iterable[str]) -> tuple[str, ...]:
    """Those of ``modules`` and of all that they import whose code is not the goldens'; () without a stamp."""
    stamp = read_stamp()
    if not stamp:
        return ()
    return tuple(name for name in closure(modules) if name not in stamp or module_hash(name) != stamp[name]["code"])


def closure(modules: Iterable[str]) -> list[str]:
    """``modules`` and all modules of the package that they import, at the top or within a function, sorted."""
    found: set[str] = set()
    waiting = [name for name in modules if not _left_out(name)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other in imports_of(name) if other not in found and not _left_out(other)]
    return sorted(found)


@functools.cache
def imports_of(name: str) -> tuple[str, ...]:
    """Modules of the package that one module imports, with the packages that they lie in; not for types alone."""
    found: set[str] = set()
    package = name if _read(name)[0].name == "__init__.py" else name.rpartition(".")[0]
    for node in _nodes(_tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    inside = {one for one in found if one.partition(".")[0] == PACKAGE}
    packages = {one[: one.index(".", n)] for one in inside for n in range(len(one)) if "." in one[n:]}
    return tuple(sorted(one for one in inside | packages if one != name and _is_module(one)))


@functools.cache
def module_hash(name: str) -> str:
    """Hash of what a module does: 16 hex digits."""
    stamped = read_stamp().get(name)
    if stamped is not None and stamped["source"] == _source_hash(name):  # to the letter: no need to take it apart
        return stamped["code"]
    return hashlib.sha256(_shape(_without_docstrings(_tree(name))).encode()).hexdigest()[:16]


def read_stamp() -> Mapping[str, Mapping[str, str]]:
    """Module -> hashes of its ``source`` and of its ``code`` when all goldens passed; empty where there is no such file
    (an installed package).

    Raises:
        SeqRecError: the file is damaged.
    """
    try:
        return _stamp(STAMP, STAMP.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


def make_stamp(modules: Iterable[str]) -> dict[str, dict[str, str]]:
    """What the stamp says for the code as it is now."""
    return {name: {"source": _source_hash(name), "code": module_hash(name)} for name in closure(modules)}


@functools.lru_cache(maxsize=4)
def _stamp(path: Path, _changed: int) -> Mapping[str, Mapping[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: {"source": str(one["source"]), "code": str(one["code"])} for name, one in content.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SeqRecError(f"{path}: no stamp of the code ({error!r}); restore the file") from None


def _source_hash(name: str) -> str:
    return hashlib.sha256(_read(name)[1].encode()).hexdigest()[:16]


def _left_out(name: str) -> bool:
    return name in SETTINGS or any(
        name == one or (one.endswith(".*") and f"{name}.".startswith(one[:-1])) for one in SERVICES
    )


@functools.cache
def _read(name: str) -> tuple[Path, str]:
    stem = ROOT.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if name.partition(".")[0] == PACKAGE and path.is_file():
            return path, path.read_text(encoding="utf-8")
    raise SeqRecError(f"{name!r} is no module of {PACKAGE}; name the module that holds the experiment or model")


def _is_module(name: str) -> bool:
    try:
        return bool(_read(name))
    except SeqRecError:
        return False


def _tree(name: str) -> ast.Module:
    path, text = _read(name)
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise SeqRecError(f"{path}, line {error.lineno}: {error.msg}; correct the code") from None


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _nodes(node)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _shape(node: Any) -> str:
    """Text of a syntax tree. `ast.dump` will not do: its output changes between Python versions (empty fields)."""
    if isinstance(node, ast.AST):
        fields = (
            (name, value)
            for name, value in ast.iter_fields(node)
            if name not in {"kind", "type_comment", "ctx"} and value is not None and value != []
        )
        return f"{type(node).__name__}({', '.join(f'{name}={_shape(value)}' for name, value in sorted(fields))})"
    return f"[{', '.join(map(_shape, node))}]" if isinstance(node, list) else repr(node)

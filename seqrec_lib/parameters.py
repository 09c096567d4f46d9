"""The typed parameters of a notebook: read from its first cell, checked before anything runs.

The cell tagged ``parameters`` is the one schema, each line ``name: type = default  # what it means``. A
comment that starts with alternatives (``# run | skip: ...``) limits the values to them. papermill itself
only warns about an unknown parameter and passes any type, so `seqrec` calls `check` before it starts, and
the cell after ``parameters`` calls `check_notebook` for those who use papermill directly.

The cell is parsed with `ast`, not by `papermill.inspect_notebook`: that drops a line it cannot match without
an error, and importing papermill would cost every notebook more than a second. A test keeps both readings
equal.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
import tokenize
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root

SCALARS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict}
TYPES = (*SCALARS, "list[str]", "list[int]", "list[float]")
NEVER_EMPTY = ("models", "seeds", "metrics", "questions", "retrievers", "arms")  # a page without them shows nothing


@dataclass(frozen=True)
class Parameter:
    """One parameter: ``type`` is one of `TYPES`, ``optional`` allows None, ``choices`` are the values
    allowed (or ())."""

    name: str
    type: str
    default: Any
    help: str = ""
    optional: bool = False
    choices: tuple[str, ...] = ()

    @property
    def annotation(self) -> str:
        """The type as the notebook writes it."""
        return f"{self.type} | None" if self.optional else self.type


def schema(notebook: Path | str) -> dict[str, Parameter]:
    """The parameters of a notebook, in their order, by name.

    Raises:
        SeqRecError: the notebook cannot be read, has no cell tagged ``parameters``, or a line there is not
            ``name: type = default``.
    """
    path = Path(notebook)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        others = ", ".join(sorted(p.stem for p in path.parent.glob("*.ipynb"))) or "none"
        raise SeqRecError(f"unknown notebook {path.stem!r} in {path.parent}; there are {others}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SeqRecError(f"{path}: cannot be read as a notebook ({error}); restore it") from None
    for cell in cells:
        if cell.get("cell_type") == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            return parse("".join(cell["source"]), str(path))
    raise SeqRecError(f"{path}: no cell is tagged 'parameters'; tag the first code cell")


def parse(source: str, where: str) -> dict[str, Parameter]:
    """The parameters that the source of a parameters cell defines; ``where`` names it in errors."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise SeqRecError(f"{where}: the parameters cell is no Python ({error.msg}, line {error.lineno})") from None
    helps = _comments(source)
    parameters: dict[str, Parameter] = {}
    for node in body:
        line = ast.unparse(node)
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise SeqRecError(f"{where}: the parameters cell has {line!r}; write 'name: type = default  # meaning'")
        kind, optional = _type(ast.unparse(node.annotation).replace(" ", ""))
        if kind not in TYPES:
            raise SeqRecError(f"{where}: {line!r} has a type that is not known; use {', '.join(TYPES)}")
        try:
            default = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            raise SeqRecError(f"{where}: {line!r} has no literal default; write a number, text, list or dict") from None
        text = helps.get(node.end_lineno or node.lineno, "")
        parameter = Parameter(node.target.id, kind, default, text, optional, _alternatives(text))
        check({parameter.name: default}, {parameter.name: parameter}, where=where)
        parameters[parameter.name] = parameter
    return parameters


def check(
    values: Mapping[str, Any],
    schema: Mapping[str, Parameter],
    choices: Mapping[str, Collection[str]] | None = None,
    where: str = "parameters",
) -> dict[str, Any]:
    """Check values against a schema and return them; whole numbers given for a float become floats.

    Args:
        values: parameter -> value; need not be all of them.
        choices: further limits on text values (or on the elements of a list, the keys of a mapping), by parameter; a
            model id may carry a suffix (``llamarec+orpo``).
        where: names the origin of the values in errors.

    Raises:
        SeqRecError: an unknown parameter, a value of another type, or one that is not among the choices.
    """
    checked = {}
    for name, value in values.items():
        if name not in schema:
            raise SeqRecError(f"{where}: unknown parameter {name!r}; {suggest(name, schema)}")
        parameter = schema[name]
        problem = _mismatch(value, parameter)
        if problem:
            raise SeqRecError(f"{where}: {name} is {value!r}, expected {parameter.annotation}; {problem}")
        allowed = parameter.choices or (choices or {}).get(name, ())
        for element in value if isinstance(value, (list, dict)) else [value]:
            if allowed and isinstance(element, str) and element.partition("+")[0] not in allowed:
                raise SeqRecError(f"{where}: {name} has the unknown value {element!r}; {suggest(element, allowed)}")
        checked[name] = _converted(value, parameter)
    return checked


def check_notebook(namespace: dict[str, Any], notebook: str) -> dict[str, Any]:
    """Check a notebook's parameters from within; called by the cell after ``parameters``.

    What papermill injected is read from the kernel's list of executed cells, so names that the notebook
    itself defines further down are no unknown parameters when a cell is executed again.

    Args:
        namespace: ``globals()`` of the notebook; numbers given for floats are converted in it.
        notebook: name of the notebook in notebooks/, without ending.

    Returns:
        All parameters with their values, as `plan` takes them.

    Raises:
        SeqRecError: as for `check`; or a parameter is not defined.
    """
    known = schema(project_root() / "notebooks" / f"{notebook}.ipynb")
    for name in _injected(namespace):
        if name not in known:
            raise SeqRecError(f"{notebook}: unknown parameter {name!r}; {suggest(name, known)}")
    for name in known:
        if name not in namespace:
            raise SeqRecError(f"{notebook}: parameter {name} is not defined; execute the first cell")
    values = check({name: namespace[name] for name in known}, known, known_values(known), notebook)
    namespace.update(values)
    return values


def known_values(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The ids of data sets, models and metrics, and devices, for those of ``names`` that take them.

    A notebook that times (it has ``threads``) is told the device; the others may choose.
    """
    metrics = tuple(f"{name}@{k}" for name in ("ht", "ndcg", "mrr") for k in (5, 10, 20))
    values: dict[str, tuple[str, ...]] = {"metric": metrics, "metrics": metrics}
    values["device"] = ("cpu", "cuda") if "threads" in names else ("auto", "cpu", "cuda")
    if "sources" in names:
        from seqrec_lib.language.recipes import ARCHITECTURES

        values["sources"] = tuple(ARCHITECTURES)
    if "dataset" in names or "datasets" in names:
        from seqrec_lib.data.registry import DATASETS

        values["dataset"] = values["datasets"] = tuple(DATASETS)
    if "model" in names or "models" in names:
        from seqrec_lib import models

        values["model"] = values["models"] = (*models.names(), *models.LANGUAGE)
    return {name: allowed for name, allowed in values.items() if name in names}


def suggest(name: str, known: Collection[str]) -> str:
    """ "did you mean 'x'?", or what there is."""
    close = difflib.get_close_matches(name, list(known), n=2)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known are {', '.join(known)}" if known else "there are none"


def _type(annotation: str) -> tuple[str, bool]:
    annotation = annotation.strip("'\"")
    parts = annotation.split("|")
    return "|".join(p for p in parts if p != "None"), "None" in parts


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("#").strip() for t in tokens if t.type == tokenize.COMMENT}


def _alternatives(text: str) -> tuple[str, ...]:
    match = re.match(r"([\w.+-]+(?: \| [\w.+-]+)+)(?=$|[:;,.(]| [-(])", text)
    return tuple(match[1].split(" | ")) if match else ()


def _mismatch(value: Any, parameter: Parameter) -> str:
    """What to do about a value of the wrong type; empty when it is right."""
    if value is None:
        return "" if parameter.optional else "give a value"
    kind = parameter.type
    if kind.startswith("list[") or kind == "dict":
        if isinstance(value, str):
            example = "{key: value}" if kind == "dict" else "[" + value.strip("[]() '\"") + "]"
            return f"papermill -p passes lists and dicts as text: use -y '{parameter.name}: {example}'"
        if kind == "dict":
            return "" if isinstance(value, dict) and all(isinstance(key, str) for key in value) else "give a mapping"
        if not isinstance(value, list):
            return f"give a list, such as [{value}]"
        if not value and parameter.name in NEVER_EMPTY:
            return "name at least one"
        wrong = [item for item in value if not _is_a(item, kind[5:-1])]
        return f"element {wrong[0]!r} is no {kind[5:-1]}" if wrong else ""
    if _is_a(value, kind):
        return ""
    if isinstance(value, str):
        return "give it without quotes (papermill -p or -y, not -r)"
    return f"give a {kind}" if kind != "str" else "give text (in quotes)"


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    if kind == "float":
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return isinstance(value, SCALARS[kind])


def _converted(value: Any, parameter: Parameter) -> Any:
    if parameter.type == "float" and value is not None:
        return float(value)
    if parameter.type == "list[float]" and value is not None:
        return [float(item) for item in value]
    return value


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """Names that papermill's injected cell assigns: the last executed cell that begins with its comment."""
    for source in reversed(namespace.get("In", [])):
        if source.startswith("# Parameters\n"):
            body = ast.parse(source).body
            return [t.id for n in body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    return []

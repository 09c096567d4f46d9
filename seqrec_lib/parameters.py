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
import re
import tokenize
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.validation import adapters, checked, read_json, refuse_unknown, short, suggest

TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict[str, JsonValue]}
TYPES |= {"list[str]": list[str], "list[int]": list[int], "list[float]": list[float]}
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


def schema(notebook: Path | str) -> dict[str, Parameter]:
    """The parameters of a notebook, in their order, by name.

    Raises:
        SeqRecError: the notebook cannot be read, has no cell tagged ``parameters``, or a line there is not
            ``name: type = default``.
    """
    path = Path(notebook)
    if not path.is_file():
        others = sorted(p.stem for p in path.parent.glob("*.ipynb"))
        raise SeqRecError(f"unknown notebook {path.stem!r} in {path.parent}; {suggest(path.stem, others)}")
    content = read_json(path, "restore the notebook")
    try:
        for cell in content["cells"]:
            if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", []):
                return parse("".join(cell["source"]), str(path))
    except (KeyError, TypeError, AttributeError):
        raise SeqRecError(f"{path}: no notebook, its cells cannot be read; restore the notebook") from None
    raise SeqRecError(f"{path}: no cell is tagged 'parameters'; tag the first code cell")


def parse(source: str, where: str) -> dict[str, Parameter]:
    """The parameters that the source of a parameters cell defines; ``where`` names it in errors."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise SeqRecError(f"{where}: the parameters cell is no Python ({error.msg}, line {error.lineno})") from None
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    helps = {t.start[0]: t.string.lstrip("#").strip() for t in tokens if t.type == tokenize.COMMENT}
    parameters: dict[str, Parameter] = {}
    for node in body:
        line = ast.unparse(node)
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise SeqRecError(f"{where}: the parameters cell has {line!r}; write 'name: type = default  # meaning'")
        kinds = ast.unparse(node.annotation).replace(" ", "").strip("'\"").split("|")
        kind, optional = "|".join(k for k in kinds if k != "None"), "None" in kinds
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
            model id may carry a suffix (``llamarec+orpo``), and a data set be a reader's own (``file:mine.csv``), of
            which the id is returned.
        where: names the origin of the values in errors.

    Raises:
        SeqRecError: an unknown parameter, a value of another type, or one that is not among the choices.
    """
    refuse_unknown(values, schema, "parameter", where)
    return {name: _checked(value, schema[name], (choices or {}).get(name, ()), where) for name, value in values.items()}


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
    refuse_unknown(_injected(namespace), known, "parameter", notebook)
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


def _alternatives(text: str) -> tuple[str, ...]:
    match = re.match(r"([\w.+-]+(?: \| [\w.+-]+)+)(?=$|[:;,.(]| [-(])", text)
    return tuple(match[1].split(" | ")) if match else ()


def _checked(value: Any, parameter: Parameter, choices: Collection[str], where: str) -> Any:
    name, kind = parameter.name, TYPES[parameter.type]
    if isinstance(value, str) and parameter.type.startswith(("list", "dict")):
        example = "{key: value}" if parameter.type == "dict" else "[" + value.strip("[]() '\"") + "]"
        raise SeqRecError(
            f"{where}: {name} is {short(value)}; papermill -p passes it as text: use -y '{name}: {example}'"
        )
    if name in NEVER_EMPTY:
        kind = Annotated[kind, Field(min_length=1)]
    types = adapters({name: kind | None if parameter.optional else kind})
    value = checked({name: value}, types, where)[name]
    if name in {"dataset", "datasets"}:
        value = [_dataset(one) for one in value] if isinstance(value, list) else _dataset(value)
    allowed = parameter.choices or choices
    given = [one for one in (value if isinstance(value, (list, dict)) else [value]) if isinstance(one, str)]
    if allowed:
        ours = [one.partition("+")[0] for one in given if not _of_reader(name, one)]
        refuse_unknown(ours, allowed, f"value of {name}", where)
    return value


def _dataset(name: Any) -> Any:
    """A data set as runs name it: the address of a reader's file becomes the id of its content."""
    if isinstance(name, str) and name.startswith("file:"):
        from seqrec_lib.data.own import resolve

        return resolve(name)
    return name


def _of_reader(parameter: str, value: str) -> bool:
    """Whether a value is the id of a reader's data, of which something is known here."""
    if parameter not in {"dataset", "datasets"} or not value.startswith("file-"):
        return False
    from seqrec_lib.data.own import is_own, registered

    return is_own(value) and bool(registered(value))


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """Names that papermill's injected cell assigns: the last executed cell that begins with its comment."""
    for source in reversed(namespace.get("In", [])):
        if source.startswith("# Parameters\n"):
            body = ast.parse(source).body
            return [t.id for n in body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    return []

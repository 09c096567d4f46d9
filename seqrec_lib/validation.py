"""What a setting may be, and the one line that says what is wrong with a value: checked before data, torch or training.

The dataclasses that configure runs are `Checked`: their fields' types, with ranges, are held by pydantic whenever one
is made. A ``plan`` names the types of its parameters by `plans`. A run's id hashes its configuration, so that values
stay as they are, but for a whole number where a fraction belongs (1 is 1.0) and a list where a tuple belongs.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from seqrec_lib.errors import SeqRecError

STRICT = ConfigDict(strict=True, allow_inf_nan=False, defer_build=True)  # True is no number, "1" neither
NOT_PLACES = ("[key]", "list", "dict", "float")  # what pydantic puts between a value's keys: branches of JsonValue
T = TypeVar("T")


def _each_once(values: Any) -> Any:
    return type(values)(dict.fromkeys(values))


Several = (Strict(False), Field(min_length=1), AfterValidator(_each_once))  # of a list or tuple: one at least

Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
Width = Annotated[int, Field(ge=1, le=2**16)]  # of a layer: a wider one fits into no memory
Length = Annotated[int, Field(ge=1, le=100_000)]  # items of a history: positions are stored, and read again and again
Seed = Annotated[int, Field(ge=0, lt=2**64)]  # what torch takes
Seed32 = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy's older generator takes, which transformers seeds
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[list[str], *Several]
AnyNames = Annotated[list[str], Strict(False), AfterValidator(_each_once)]
Seeds = Annotated[list[Seed], *Several]
Seeds32 = Annotated[list[Seed32], *Several]
Settings = dict[str, Any]  # overrides, whose values are checked where they find their place


class Checked:
    """Base of a frozen dataclass that refuses values which its fields' types do not allow.

    Raises:
        SeqRecError: on construction; the line names the field, its value and what it may be.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # of what is `rebuilt`

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, value in checked(vars(self), types_of(kind)).items():
            object.__setattr__(self, name, value)


def checked(values: Mapping[str, Any], types: Mapping[str, TypeAdapter[Any]], where: str = "") -> dict[str, Any]:
    """``values``, each as its type has it; ``types`` are `adapters`, ``where`` names the place in errors.

    >>> checked({"dropout": 0, "seeds": [1, 0, 1]}, adapters({"dropout": Part, "seeds": Seeds}))
    {'dropout': 0.0, 'seeds': [1, 0]}

    Raises:
        SeqRecError: a value has another type or is out of range.
    """
    result = {}
    for name, value in values.items():
        try:
            result[name] = types[name].validate_python(value)
        except ValidationError as error:
            raise SeqRecError(_prefix(where) + _complaint(error, name)) from None
    return result


def rebuilt(kind: type[T], values: Mapping[str, Any]) -> T:
    """A `Checked` dataclass from its fields as JSON has them: mappings for dataclasses within it, lists for tuples.

    Raises:
        SeqRecError: a field is missing or unknown, or has a value that it may not have.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise SeqRecError(_complaint(error)) from None


def adapters(types: Mapping[str, Any]) -> dict[str, TypeAdapter[Any]]:
    """What holds values against each of ``types``, by name."""
    return {
        name: TypeAdapter(kind) if is_dataclass(kind) else TypeAdapter(kind, config=STRICT)
        for name, kind in types.items()
    }


@functools.cache
def types_of(kind: Any) -> dict[str, TypeAdapter[Any]]:
    """What holds values against the types of a dataclass's fields, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return adapters({field.name: hints[field.name] for field in fields(kind)})


def plans(config: type | None = None, **types: Any) -> Callable[[Callable[..., list[T]]], Callable[..., list[T]]]:
    """Decorator of a ``plan``: parameters are checked before it sees them, and each configuration comes once.

    Args:
        config: a dataclass whose fields say what the parameters of their names may be.
        types: those of other parameters; one that is named nowhere is left to the plan.
    """

    def decorate(plan: Callable[..., list[T]]) -> Callable[..., list[T]]:
        known = ({} if config is None else dict(types_of(config))) | adapters(types)

        @functools.wraps(plan)
        def with_checks(parameters: Mapping[str, Any]) -> list[T]:
            given = {name: value for name, value in parameters.items() if name in known}
            configs: list[T] = []
            for one in plan({**parameters, **checked(given, known)}):
                configs += [] if one in configs else [one]  # settings may be dictionaries, which have no hash
            return configs

        return with_checks

    return decorate


def assembled(
    parts: Sequence[type], given: Mapping[str, Any], overrides: Mapping[str, Any], owner: str, fixed: Sequence[str] = ()
) -> list[Any]:
    """An instance of each of ``parts``, dataclasses without a field in common: its defaults, then ``given``, then
    ``overrides``.

    Raises:
        SeqRecError: an override is no field of theirs or is ``fixed``, or a value is not allowed; ``owner`` has them.
    """
    own = {field.name: part for part in parts for field in fields(part)}
    refuse_unknown(overrides, [name for name in own if name not in fixed], "override", owner)
    values = {**given, **overrides}
    return [part(**{name: value for name, value in values.items() if own[name] is part}) for part in parts]


def refuse_unknown(names: Collection[str], known: Collection[str], what: str, where: str = "") -> None:
    """Raise SeqRecError for the first of ``names`` that is not known; ``what`` they name, ``where`` they stand."""
    for name in names:
        if name not in known:
            raise SeqRecError(f"{_prefix(where)}unknown {what} {short(name)}; {suggest(str(name), known)}")


def suggest(name: str, known: Collection[str]) -> str:
    """ "did you mean 'x'?", or what there is."""
    close = difflib.get_close_matches(name, list(known), n=2)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known are {', '.join(known)}" if known else "there are none"


def short(value: Any) -> str:
    """``repr``, cut to what a line can hold."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def read_json(path: Path, remedy: str) -> Any:
    """What a JSON file holds.

    Raises:
        SeqRecError: it cannot be read or is no JSON, or is nested too deeply; the line ends with ``remedy``.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SeqRecError(f"{path}: cannot be read as JSON ({reason}); {remedy}") from None


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""


def _complaint(error: ValidationError, name: str = "") -> str:
    """The first of what pydantic found wrong: which value, what it is, and what it should be."""
    first = error.errors(include_url=False)[0]
    places = [place for place in first["loc"] if place not in NOT_PLACES]
    field = name + "".join(f"[{place!r}]" for place in places) if name else ".".join(map(str, places))
    if first["type"] == "missing":
        return f"{field} is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"{field} is {short(first['input'])}; there is no such field"
    return f"{field} is {short(first['input'])}; {_remedy(first)}"


def _remedy(error: Any) -> str:
    """What pydantic has to say, in this library's words: what the value should be."""
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return suggest(str(error["input"]), choices) if isinstance(error["input"], str) else f"use {', '.join(choices)}"
    text = re.sub(r"^(Input|List|String|Tuple) should", "it should", error["msg"])
    return text.removeprefix("Value error, ").removesuffix(", not 0").replace(" after validation", "")

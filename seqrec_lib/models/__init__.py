"""The study's recommenders by id. Nothing here imports torch until a model is built.

To add one: write a :class:`~seqrec_lib.models.base.SequentialRecommender` and give it a line in :data:`MODELS`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError

if TYPE_CHECKING:
    from seqrec_lib.models.base import SequentialRecommender


@dataclass(frozen=True)
class ModelSpec:
    """A trained model: where its class is, and its architecture's defaults (keyword arguments of the class)."""

    path: str  # "module:Class"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = True


COUNTED: dict[str, str] = {  # floors without parameters, fitted by counting
    "popularity": "seqrec_lib.models.popularity:Popularity",
    "markov": "seqrec_lib.models.popularity:Markov",
}

MODELS: dict[str, ModelSpec] = {
    "sasrec": ModelSpec(
        "seqrec_lib.models.sasrec:SASRec",
        {"d_model": 64, "n_layers": 2, "n_heads": 2, "dropout": 0.2},
    ),
}


def names() -> list[str]:
    """All model ids that the accuracy experiment knows."""
    return [*COUNTED, *MODELS]


def check(model: str) -> None:
    """Raise SeqRecError, with the closest name, if there is no such model."""
    if model not in names():
        close = difflib.get_close_matches(model, names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names())}"
        raise SeqRecError(f"unknown model {model!r}; {hint}")


def source_module(model: str) -> str:
    """The module that holds the model's class."""
    return (COUNTED[model] if model in COUNTED else MODELS[model].path).partition(":")[0]


def load_class(path: str) -> Any:
    """The class at "module:Class"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def build(model: str, n_items: int, max_length: int, architecture: Mapping[str, Any]) -> SequentialRecommender:
    """A freshly initialised model; draws from torch's default generator."""
    return load_class(MODELS[model].path)(n_items, max_length, **architecture)

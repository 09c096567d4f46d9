"""From a model's id to the model. The id of a variant ends in its flags: `mamba4rec+residual+repeats`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqrec_lib.models.registry import path_of

if TYPE_CHECKING:
    from seqrec_lib.models.base import SequentialRecommender


def load_class(model: str) -> Any:
    """The class of a trained or counting model; a variant has the class of the model that it varies."""
    module, _, name = path_of(model).partition(":")
    return getattr(importlib.import_module(module), name)


def build(model: str, n_items: int, max_length: int, architecture: Mapping[str, Any]) -> SequentialRecommender:
    """A freshly initialised trained model; draws from torch's default generator.

    The flags come from the id alone. They are no part of ``architecture``, which run ids are made from.
    """
    _, *flags = model.split("+")
    net: SequentialRecommender = load_class(model)(n_items, max_length, **architecture, **dict.fromkeys(flags, True))
    return net

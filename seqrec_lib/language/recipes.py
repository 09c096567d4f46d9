"""How the models that write queries are made, tuned and decoded on each data set. Nothing here imports torch.

A run's settings are the defaults of `Size`, `Tuning` and `Writing`, then the data set's entry, then the reader's
overrides.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from seqrec_lib.data.registry import base_name
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.tuning import Tuning

ARCHITECTURES = {"gpt4rec": "gpt2", "mamrec": "mamba2"}
"""The language models of the two: what they are from scratch."""

FLOORS = ("bm25-last", "title-markov")
"""Queries without a language model: the last title; the titles that most often followed the last one."""

PRETRAINED: dict[str, Any] = {
    "learning_rate": 1e-4,
    "epochs": 3,
    "weight_decay": 0.01,
    "prompt_tokens": 512,
    "steps": 24,  # its tokenizer has not been trained on these titles, which may take more tokens
}
"""Settings of a model that is not from scratch, before the reader's own."""


@dataclass(frozen=True)
class Writing:
    """From a tuned model to lists of items.

    Attributes:
        beams, steps, length_penalty: of the beam search (`beams.Search`).
        length: K, items of a list. The list of the tables takes one new item from each of K queries.
        fewer: numbers m of queries; for each, another list takes K/m items from each of the first m.
        constants_users: validation users whose queries choose k1 and b, at most.
        k1, b: what is tried for BM25's constants.
    """

    beams: int = 20
    steps: int = 24
    length_penalty: float = 0.0
    length: int = 20
    fewer: tuple[int, ...] = (10, 5)
    constants_users: int = 256
    k1: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    b: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)


SMALL: dict[str, Any] = {"d_model": 64, "n_layers": 3, "heads": 2, "tokens_per_batch": 1024}
"""A model from scratch, and its batch, that a core trains in minutes."""

DATASETS: dict[str, dict[str, Any]] = {
    # Half a minute for both models: of a window of fifty titles the last five are read, so that a user gives one or two
    # texts, not six.
    "demo": {
        "d_model": 32,
        "n_layers": 1,
        "heads": 2,
        "d_state": 16,
        "vocabulary": 1024,
        "positions": 96,
        "history": 50,
        "prompt_tokens": 64,
        "title_tokens": 16,
        "epochs": 1,
        "tokens_per_batch": 2048,
        "learning_rate": 2e-2,
        "dropout": 0.0,
        "beams": 10,
        "length": 10,
        "fewer": (5,),
        "steps": 9,
        "constants_users": 64,
        "k1": (0.5, 1.5),
        "b": (0.0, 0.75),
    },
    # An epoch of MovieLens-100K has about a million tokens of titles, one of MovieLens-1M ten times as many: a few
    # hundred thousand weights, and one to ten million tokens for each of them, are what a core can train in minutes.
    "ml-100k": SMALL | {"epochs": 5, "title_tokens": 24},
    "ml-1m": SMALL | {"epochs": 1, "title_tokens": 24},
    "amazon-2014-beauty": SMALL | {"epochs": 3, "prompt_tokens": 220},
}


def resolve(
    dataset: str, model: str, source: str, overrides: Mapping[str, Any] | None = None
) -> tuple[Size | None, Tuning, Writing]:
    """(size, tuning, writing) of a run; a pretrained source has a size of its own: None.

    Raises:
        SeqRecError: an override is none of their fields, or has a wrong type.
    """
    scratch = source.startswith("scratch:")
    defaults = {"size": asdict(Size()), "tuning": asdict(Tuning()), "writing": asdict(Writing())}
    given = dict(DATASETS.get(base_name(dataset), {})) if scratch or dataset == "demo" else {}
    given |= {} if scratch else PRETRAINED
    chosen = overridden(defaults, given, overrides or {}, model)
    _check(chosen["size"], chosen["writing"])
    size = Size(**chosen["size"]) if scratch else None
    return size, Tuning(**chosen["tuning"]), Writing(**chosen["writing"])


def _check(size: Mapping[str, Any], writing: Mapping[str, Any]) -> None:
    """Raise SeqRecError for settings with which a run would fail only after a while."""
    if size["d_model"] % size["heads"]:
        raise SeqRecError(f"d_model {size['d_model']} is no multiple of heads {size['heads']}; choose one that is")
    for name in ("fewer", "k1", "b"):
        if not writing[name]:
            raise SeqRecError(f"{name} is empty; give at least one number")
    if min(writing["fewer"]) < 1:
        raise SeqRecError(f"fewer is {list(writing['fewer'])}; numbers of queries are at least 1")


def overridden(
    defaults: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], overrides: Mapping[str, Any], owner: str
) -> dict[str, dict[str, Any]]:
    """``defaults``, fields by part, with the values of ``given`` and then of ``overrides`` in their places.

    >>> overridden({"tuning": {"epochs": 3}, "writing": {"beams": 20}}, {"epochs": 1}, {"beams": 5}, "gpt4rec")
    {'tuning': {'epochs': 1}, 'writing': {'beams': 5}}

    Raises:
        SeqRecError: an override is no field of ``owner``, or has another type than its default.
    """
    known = {name: part for part, values in defaults.items() for name in values}
    chosen = {part: dict(values) for part, values in defaults.items()}
    for name, value in given.items():
        chosen[known[name]][name] = value
    for name, value in overrides.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"{owner} has {', '.join(known)}"
            raise SeqRecError(f"unknown override {name!r}; {hint}")
        chosen[known[name]][name] = _like(defaults[known[name]][name], value, name)
    return chosen


def _like(default: Any, value: Any, name: str) -> Any:
    """``value`` if it has the default's type; whole numbers pass as floats, lists as tuples.

    >>> _like((10, 5), [4], "fewer")
    (4,)
    """
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(_like(default[0], element, name) for element in value)
    if type(value) is not type(default):
        raise SeqRecError(f"override {name} is {value!r}; expected {type(default).__name__}, such as {default!r}")
    return value

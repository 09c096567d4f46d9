"""The study's recommenders by id: their classes, settings and variants.

What stands here is in each run's configuration, so that a line more leaves the code of all other runs as it is
(`seqrec_lib.results.code`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seqrec_lib.errors import SeqRecError
from seqrec_lib.validation import Part, Width, adapters, checked, refuse_unknown

Initialisation = Literal["own", "blanket", "blanket-but-dt"]

SETTINGS = adapters(  # what those of an architecture may be
    {
        **dict.fromkeys(("d_model", "n_layers", "n_heads", "d_state", "d_conv", "expand", "headdim"), Width),
        "dropout": Part,
        "initialisation": Initialisation,
    }
)


@dataclass(frozen=True)
class ModelSpec:
    """A trained model.

    Attributes:
        path: "module:Class"; the class takes (n_items, max_length) and the architecture as keyword arguments.
        architecture: their defaults.
        causal: whether a model of that architecture can be trained on all positions of a window at once.
        flags: further settings of the class, off by default; a variant's id ends in those that it sets ("+repeats").
    """

    path: str
    architecture: Mapping[str, Any]
    causal: Callable[[Mapping[str, Any]], bool] = lambda architecture: True
    flags: tuple[str, ...] = ()


COUNTED: dict[str, str] = {  # floors without parameters, fitted by counting
    "popularity": "seqrec_lib.models.popularity:Popularity",
    "markov": "seqrec_lib.models.popularity:Markov",
}

LANGUAGE: dict[str, str] = {  # recommenders with a language model, their floors, and the experiment that runs them
    "bm25-last": "generative",
    "title-markov": "generative",
    "gpt4rec": "generative",
    "mamrec": "generative",
    "llamarec": "llamarec",
}

_STATE_SPACE: dict[str, Any] = {  # settings that those models have in common
    "d_model": 64,
    "n_layers": 1,
    "d_state": 32,
    "d_conv": 4,
    "expand": 2,
    "dropout": 0.2,
    "initialisation": "own",
}
_FLAGS = ("residual", "repeats")

MODELS: dict[str, ModelSpec] = {
    "sasrec": ModelSpec(
        "seqrec_lib.models.sasrec:SASRec",
        {"d_model": 64, "n_layers": 2, "n_heads": 2, "dropout": 0.2},
        flags=("repeats",),
    ),
    "mamba4rec": ModelSpec("seqrec_lib.models.mamba4rec:Mamba4Rec", _STATE_SPACE, flags=_FLAGS),
    "2mamba4rec": ModelSpec(
        "seqrec_lib.models.mamba4rec:TwoMamba4Rec", _STATE_SPACE | {"d_state": 128, "headdim": 64}, flags=_FLAGS
    ),
    "hydra4rec": ModelSpec(
        "seqrec_lib.models.hydra4rec:Hydra4Rec",
        _STATE_SPACE | {"d_conv": 7, "headdim": 64},
        flags=_FLAGS,
        causal=lambda architecture: architecture["n_layers"] == 1,
    ),
}

VARIANTS: dict[str, ModelSpec] = {  # of the models above, with flags: "+residual", "+repeats", "+residual+repeats"
    "+".join((model, *flags)): spec
    for flags in (("residual",), ("repeats",), ("residual", "repeats"))
    for model, spec in MODELS.items()
    if set(flags) <= set(spec.flags)
}
MODELS |= VARIANTS


def names() -> list[str]:
    """All model ids that the accuracy experiment knows."""
    return [*COUNTED, *MODELS]


def check(model: str) -> None:
    """Raise SeqRecError, with the closest name, if there is no such model."""
    if model in LANGUAGE:
        raise SeqRecError(f"{model!r} is run by the experiment {LANGUAGE[model]!r}; use its notebook")
    refuse_unknown([model], names(), "model")


def check_architecture(model: str, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a trained model, checked. Settings that only a reader's own model has are held to the type of
    their default.

    Raises:
        SeqRecError: a value is not allowed, or two do not go together, so that the model could not be built.
    """
    others = {name: type(value) for name, value in MODELS[model].architecture.items() if name not in SETTINGS}
    values = checked(architecture, SETTINGS | adapters(others))
    width, n_heads, headdim = (values.get(name) for name in ("d_model", "n_heads", "headdim"))
    if n_heads and width % n_heads:
        raise SeqRecError(f"n_heads is {n_heads}; it should divide d_model, which is {width}")
    if headdim and (width * values["expand"]) % headdim:
        raise SeqRecError(
            f"headdim is {headdim}; it should divide expand * d_model, which is {width * values['expand']}"
        )
    if model.startswith("hydra4rec") and (values["d_conv"] < 3 or values["d_conv"] % 2 == 0):
        raise SeqRecError(
            f"d_conv is {values['d_conv']}; it should be odd and at least 3: Hydra's convolution is centred"
        )
    return values


def path_of(model: str) -> str:
    """Where the model's class is, as "module:Class"."""
    return COUNTED[model] if model in COUNTED else MODELS[model].path


def module_of(model: str) -> str:
    """The module that holds the model's class."""
    return path_of(model).partition(":")[0]

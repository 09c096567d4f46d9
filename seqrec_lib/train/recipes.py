"""How each model is trained on each data set: frozen settings, one entry per published row.

A run's configuration is the defaults below, then the data set's entry, then the model's, then that of both together,
then the reader's own overrides. Everything ends up in the run's record. A data set in another order of time is trained
as the one in the true order is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from seqrec_lib.data.registry import base_name
from seqrec_lib.errors import SeqRecError
from seqrec_lib.models import COUNTED, MODELS, check
from seqrec_lib.results.record import ADDED_LATER

Precision = Literal["fp32", "softmax-bf16", "bf16"]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        objective: "all-positions" takes the loss at every position of a window; "prefixes" makes each prefix a sample
            of its own and takes the loss at its end (the paper's way, and needed for models that are not causal).
        max_length: inputs of a window; histories are cut to it in evaluation too.
        stride: fresh targets of a window, 0 for max_length (see ``cut_windows``).
        tokens_per_batch: padded positions of an optimizer step of one process.
        epochs, patience: training stops after ``epochs``, or after ``patience`` validations without a better NDCG@10.
        validate_every: epochs between validations.
        learning_rate, weight_decay, warmup_steps: of AdamW; the rate rises linearly over the warm-up.
        schedule: of the rate after it, over ``epochs``: "constant", or "cosine" down to zero.
        clip: largest norm of the gradient.
        average: decay of the exponential moving average of the weights that is validated and kept; 0: none.
        precision: "softmax-bf16" takes the item softmax's products in bfloat16, "bf16" also the model's, each where the
            processor has instructions for it (elsewhere it is many times slower; the record says which it was).
        seed: of initialisation, batches and dropout.
    """

    objective: Literal["all-positions", "prefixes"] = "all-positions"
    max_length: int = 200
    stride: int = 0
    tokens_per_batch: int = 3200
    epochs: int = 100
    patience: int = 10
    validate_every: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 0
    clip: float = 5.0
    average: float = 0.999
    precision: Precision = "fp32"
    seed: int = 0
    schedule: Literal["constant", "cosine"] = field(default="constant", metadata=ADDED_LATER)


FEW_EPOCHS: dict[str, Any] = {  # where the item softmax makes an epoch long, the rate falls to zero over few of them
    "precision": "softmax-bf16",
    "tokens_per_batch": 1600,
    "learning_rate": 2e-3,
    "warmup_steps": 200,
    "schedule": "cosine",
    "epochs": 20,
}
AMAZON = FEW_EPOCHS | {"max_length": 50}

DATASET_TRAINING: dict[str, dict[str, Any]] = {
    "demo": {
        "max_length": 50,
        "epochs": 10,
        "patience": 4,
        "tokens_per_batch": 1600,
        "learning_rate": 5e-3,
        "average": 0.99,
    },
    "ml-1m": FEW_EPOCHS,
    "ml-100k": {"precision": "softmax-bf16", "tokens_per_batch": 1600, "learning_rate": 2e-3},
    "ml-latest-small": {"precision": "softmax-bf16", "tokens_per_batch": 1600, "learning_rate": 2e-3},
    "amazon-2014-beauty": AMAZON | {"epochs": 30},
    "amazon-2018-video-games": AMAZON,
    "amazon-2023-video-games": AMAZON,
    "amazon-2023-beauty-and-personal-care": AMAZON | {"epochs": 5},
}

MODEL_TRAINING: dict[str, dict[str, Any]] = {
    # The length that the paper's parameter count of SASRec implies, and RecBole's default.
    "sasrec": {"max_length": 50},
}

PAIR_TRAINING: dict[tuple[str, str], dict[str, Any]] = {  # (data set, model)
    # Windows of 50 inputs, 25 of them for context only: else the first targets of each see a few items.
    ("ml-1m", "sasrec"): {"stride": 25},
}

DATASET_ARCHITECTURE: dict[str, dict[str, Any]] = {
    "ml-1m": {"dropout": 0.1},
    "ml-100k": {"dropout": 0.4},
    "ml-latest-small": {"dropout": 0.4},
    "amazon-2014-beauty": {"dropout": 0.4},
    "amazon-2018-video-games": {"dropout": 0.4},
    "amazon-2023-video-games": {"dropout": 0.4},
    "amazon-2023-beauty-and-personal-care": {"dropout": 0.4},
}


def resolve(
    dataset: str, model: str, seed: int, overrides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], TrainingConfig | None]:
    """(architecture, training) of a run; counting models have neither.

    ``overrides`` names fields of :class:`TrainingConfig` or arguments of the model's class.

    Raises:
        SeqRecError: an override fits neither, has a wrong type, or the model is unknown.
    """
    check(model)
    if model in COUNTED:
        return {}, None
    dataset = base_name(dataset)
    defaults = MODELS[model].architecture
    architecture = dict(defaults)
    architecture |= {k: v for k, v in DATASET_ARCHITECTURE.get(dataset, {}).items() if k in defaults}
    known: dict[str, Any] = {field.name: field.default for field in fields(TrainingConfig) if field.name != "seed"}
    training = known | DATASET_TRAINING.get(dataset, {})
    for name in dict.fromkeys((model.partition("+")[0], model)):  # a variant is trained as its base, where not said
        training |= MODEL_TRAINING.get(name, {}) | PAIR_TRAINING.get((dataset, name), {})
    for name, value in (overrides or {}).items():
        if name in defaults:
            architecture[name] = _like(defaults[name], value, name)
        elif name in known:
            training[name] = _like(known[name], value, name)
        else:
            choices = [*defaults, *known]
            close = difflib.get_close_matches(name, choices, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"{model} has {', '.join(choices)}"
            raise SeqRecError(f"unknown override {name!r}; {hint}")
    if not MODELS[model].causal(architecture):
        training["objective"] = "prefixes"
    return architecture, TrainingConfig(**training, seed=seed)


def _like(default: Any, value: Any, name: str) -> Any:
    """``value`` if it has the default's type; whole numbers pass as floats.

    >>> _like(0.5, 1, "dropout")
    1.0
    """
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise SeqRecError(f"override {name} is {value!r}; expected {type(default).__name__}, such as {default!r}")
    return value

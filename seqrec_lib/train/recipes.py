"""How each model is trained on each data set: frozen settings, one entry per published row.

A run's configuration is the defaults below, then the data set's entry, then the model's, then that of both together,
then the reader's own overrides. Everything ends up in the run's record. A data set in another order of time is trained
as the one in the true order is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from seqrec_lib.data.own import is_own
from seqrec_lib.data.registry import base_name
from seqrec_lib.errors import SeqRecError
from seqrec_lib.models import COUNTED, MODELS, check, check_architecture
from seqrec_lib.results.record import ADDED_LATER
from seqrec_lib.validation import Checked, Count, CountOrNone, Length, NotNegative, Part, Positive, Seed, refuse_unknown

Precision = Literal["fp32", "softmax-bf16", "bf16"]


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """How a model is trained.

    Attributes:
        objective: "all-positions" takes the loss at every position of a window; "prefixes" makes each prefix a sample
            of its own and takes the loss at its end (the paper's way, and needed for models that are not causal).
        max_length: inputs of a window; histories are cut to it in evaluation too.
        stride: fresh targets of a window, 0 for max_length (see ``cut_windows``).
        tokens_per_batch: padded positions of a batch of windows of similar length, which is an optimizer step of one
            process.
        samples_per_step: windows of an optimizer step, drawn at random whatever their length; they are computed in
            batches of similar length, and their gradients are summed. 0: a step is one batch.
        epochs, patience: training stops after ``epochs``, or after ``patience`` validations without a better NDCG@10.
        validate_every: epochs between validations.
        learning_rate, weight_decay, warmup_steps: of AdamW; the rate rises linearly over the warm-up.
        schedule: of the rate after it, over ``epochs``: "constant", or "cosine" down to zero.
        clip: largest norm of the gradient; 0: any.
        average: decay of the exponential moving average of the weights that is validated and kept; 0: none.
        precision: "softmax-bf16" takes the item softmax's products in bfloat16, "bf16" also the model's, each where the
            processor has instructions for it (elsewhere it is many times slower; the record says which it was).
        negatives: items drawn for each batch, of which its softmax is estimated (`losses.sampled_cross_entropy`). 0:
            the softmax is exact.
        seed: of initialisation, batches, dropout and drawn items.
    """

    objective: Literal["all-positions", "prefixes"] = "all-positions"
    max_length: Length = 200
    stride: CountOrNone = 0
    tokens_per_batch: Count = 3200
    epochs: Count = 100
    patience: CountOrNone = 10
    validate_every: Count = 1
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    warmup_steps: CountOrNone = 0
    clip: NotNegative = 5.0
    average: Part = 0.999
    precision: Precision = "fp32"
    seed: Seed = 0
    schedule: Literal["constant", "cosine"] = field(default="constant", metadata=ADDED_LATER)
    samples_per_step: CountOrNone = field(default=0, metadata=ADDED_LATER)
    negatives: CountOrNone = field(default=0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride > self.max_length:
            raise SeqRecError(f"stride is {self.stride}; it should be at most max_length, which is {self.max_length}")


FEW_EPOCHS: dict[str, Any] = {  # where the item softmax makes an epoch long, the rate falls to zero over few of them
    "precision": "softmax-bf16",
    "tokens_per_batch": 1600,
    "learning_rate": 2e-3,
    "warmup_steps": 200,
    "schedule": "cosine",
    "epochs": 20,
}
AMAZON = FEW_EPOCHS | {"max_length": 50}
SMALL = {"precision": "softmax-bf16", "tokens_per_batch": 1600, "learning_rate": 2e-3}
OWN = "file:"  # every data set that is a reader's own file

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
    "ml-100k": SMALL,
    "ml-latest-small": SMALL,
    "amazon-2014-beauty": AMAZON | {"epochs": 30},
    "amazon-2018-video-games": AMAZON,
    "amazon-2023-video-games": AMAZON,
    "amazon-2023-beauty-and-personal-care": AMAZON | {"epochs": 5},
    # of any size: as long as validation gains, by an average that a few hundred steps fill
    OWN: SMALL | {"max_length": 100, "average": 0.99, "epochs": 40, "patience": 4},
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
    **{name: {"dropout": 0.4} for name in DATASET_TRAINING},
    "demo": {},
    "ml-1m": {"dropout": 0.1},
    OWN: {"dropout": 0.3},
}

Recipe = Literal["study", "public"]

# How the public code of Mamba4Rec (commit 44a0c84), which runs in RecBole, trains every model: each prefix is a sample.
PUBLIC_CODE: dict[str, Any] = {
    "objective": "prefixes",
    "max_length": 200,
    "samples_per_step": 2048,
    "tokens_per_batch": 25_600,  # what is computed at once: 128 samples of 200 items
    "epochs": 300,
    "patience": 10,
    "clip": 0.0,
    "average": 0.0,
    "dropout": 0.2,
    "initialisation": "blanket",
    "d_state": 32,
}
PUBLIC_CODE_AMAZON = {"max_length": 50, "tokens_per_batch": 12_800, "dropout": 0.4}


def resolve(
    dataset: str, model: str, seed: int, overrides: Mapping[str, Any] | None = None, recipe: Recipe = "study"
) -> tuple[dict[str, Any], TrainingConfig | None]:
    """(architecture, training) of a run; counting models have neither.

    Args:
        overrides: fields of :class:`TrainingConfig` or arguments of the model's class.
        recipe: "study" is the study's own; "public" is that of Mamba4Rec's public code, for every model.

    Raises:
        SeqRecError: an override fits neither, a value is not allowed, or the model is unknown.
    """
    own = overrides_by_model([model], overrides or {})[model]
    if model in COUNTED:
        return {}, None
    settings: dict[str, Any] = {}
    if recipe == "public":
        settings |= PUBLIC_CODE | (PUBLIC_CODE_AMAZON if dataset.startswith("amazon") else {})
    else:
        dataset = OWN if is_own(dataset) else base_name(dataset)
        settings |= DATASET_ARCHITECTURE.get(dataset, {}) | DATASET_TRAINING.get(dataset, {})
        for name in dict.fromkeys((model.partition("+")[0], model)):  # a variant is trained as its base, where not said
            settings |= MODEL_TRAINING.get(name, {}) | PAIR_TRAINING.get((dataset, name), {})
    settings |= own
    defaults = MODELS[model].architecture
    architecture = check_architecture(model, {**defaults, **{k: v for k, v in settings.items() if k in defaults}})
    if not MODELS[model].causal(architecture):
        settings["objective"] = "prefixes"
    known = {field.name for field in fields(TrainingConfig)}
    return architecture, TrainingConfig(**{k: v for k, v in settings.items() if k in known}, seed=seed)


def overrides_by_model(models: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of ``overrides``, which are for all ``models``, those that each model has: counting models have none.

    Raises:
        SeqRecError: an unknown model, or an override that none of the models has.
    """
    training = [field.name for field in fields(TrainingConfig) if field.name != "seed"]
    settings: dict[str, list[str]] = {}
    for model in models:
        check(model)
        settings[model] = [] if model in COUNTED else [*MODELS[model].architecture, *training]
    known = dict.fromkeys(name for names in settings.values() for name in names)
    refuse_unknown(overrides, known, "override", ", ".join(settings))
    return {model: {k: v for k, v in overrides.items() if k in names} for model, names in settings.items()}

"""How the rankers of candidates are made and tuned on each data set. Nothing here imports torch.

A run's settings are the defaults of `Size`, `Setting` and `Teaching`, then the data set's entry (for a model from
scratch), then the reader's overrides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from seqrec_lib.data.registry import base_name
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.recipes import overridden

Schedule = Literal["linear", "inverse-sqrt", "constant"]


@dataclass(frozen=True)
class Setting:
    """What a ranker reads, and what is asked of it.

    Attributes:
        prompt: titles | paper-ranking | llamarec.
        candidates: of each prompt. history: titles of history, at most. prompt_tokens: of a prompt, at most.
        negatives, order: of the pools that it is taught on (`candidates.training_pools`).
        vectors: whether title tokens begin with the retriever's item embeddings.
        valid_users: validation users that choose the blend's weight, at most.
        orders: random orders of the candidates that measure what their position does; 0: none.
        lora_rank: adapters of a pretrained model; 0: all weights are trained, which four-bit ones (nf4:) cannot be.
    """

    prompt: Literal["titles", "paper-ranking", "llamarec"] = "titles"
    candidates: int = 20
    history: int = 20
    prompt_tokens: int = 128
    negatives: Literal["random", "retriever", "mixed"] = "random"
    order: Literal["shuffled", "ordered"] = "shuffled"
    vectors: bool = True
    valid_users: int = 512
    orders: int = 5
    lora_rank: int = 0


@dataclass(frozen=True)
class Teaching:
    """Fine-tuning on letters (`ranker_training.Tuning` has the other fields' meaning).

    Attributes:
        lessons: prompts that come first, whose history ends in the answer: what a letter is, without what people like.
        per_user: prefixes of each user, at most.
    """

    objective: Literal["sft", "letters"] = "sft"
    lessons: int = 3200
    per_user: int = 100
    learning_rate: float = 3e-3
    schedule: Schedule = "linear"
    warmup_steps: int = 50
    batch: int = 32
    epochs: int = 1


RETRIEVER: dict[str, dict[str, Any]] = {"demo": {"epochs": 3}}
"""Overrides of the retriever's recipe: the demo's is trained in seconds."""

DATASETS: dict[str, dict[str, Any]] = {
    "ml-1m": {"per_user": 20},
    "amazon-2018-video-games": {"per_user": 3},
    "demo": {"history": 8, "lessons": 1600, "per_user": 5, "learning_rate": 6e-3, "orders": 1, "valid_users": 100},
}

SCRATCH: dict[str, Any] = {"d_model": 64, "n_layers": 2, "heads": 2, "positions": 256}

PRETRAINED: dict[str, Any] = {
    "prompt": "llamarec",
    "prompt_tokens": 1536,
    "learning_rate": 1e-4,
    "warmup_steps": 100,
    "batch": 16,
    "lessons": 0,
    "vectors": False,
    "lora_rank": 8,
}
"""LlamaRec's settings, for a model that is not from scratch."""


def resolve(
    dataset: str, scratch: bool, overrides: Mapping[str, Any] | None = None
) -> tuple[Size | None, Setting, Teaching]:
    """(size, setting, teaching) of a run; a pretrained model has a size of its own: None.

    Raises:
        SeqRecError: an override is none of their fields, or has a wrong type.
    """
    parts = {"size": asdict(Size()), "setting": asdict(Setting()), "teaching": asdict(Teaching())}
    given = SCRATCH | DATASETS.get(base_name(dataset), {}) if scratch else PRETRAINED
    chosen = overridden(parts, given, overrides or {}, "a ranker")
    return Size(**chosen["size"]) if scratch else None, Setting(**chosen["setting"]), Teaching(**chosen["teaching"])

"""How the rankers of candidates are made and tuned on each data set. Nothing here imports torch.

A run's settings are the defaults of `Size`, `Setting` and `Teaching`, then the data set's entry (for a model from
scratch), then the reader's overrides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from seqrec_lib.data.registry import base_name
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.corpus import GPT4REC, NEXT_TITLE
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.quantized import base
from seqrec_lib.language.sources import kind
from seqrec_lib.language.title_tokens import SOURCE, TITLES
from seqrec_lib.results.record import ADDED_LATER
from seqrec_lib.validation import Checked, Count, CountOrNone, NotNegative, Part, Positive, assembled

Schedule = Literal["linear", "inverse-sqrt", "constant"]


@dataclass(frozen=True)
class Setting(Checked):
    """What a ranker reads, and what is asked of it.

    Attributes:
        prompt: titles | paper-ranking | llamarec, which rank by letters; gpt4rec | next-title, which rank by the
            likelihood of titles.
        candidates: of each prompt. history: titles of history, at most. prompt_tokens: of a prompt, at most.
        negatives, order: of the pools that it is taught on (`candidates.training_pools`).
        vectors: whether title tokens begin with the retriever's item embeddings.
        valid_users: validation users that choose the blend's weight, at most.
        orders: random orders of the candidates that measure what their position does; 0: none.
        lora_rank: adapters of a pretrained model; 0: all weights are trained, which four-bit ones (nf4:) cannot be.
        titles: own, or shuffled among the items: the same texts, which say nothing of the items any more.
        lora_alpha, lora_dropout, lora_targets, lora_layers: see `adapters.with_adapter`.
        precision: bf16 multiplies the model's matrices in bfloat16, in tuning and in ranking, where the device has the
            instructions. Logits of some tokens alone (the letters, the catalogue's) stay in the weights' own precision;
            those of a whole vocabulary do not: with the prompt gpt4rec, and the objectives that compare all tokens.
    """

    prompt: Literal["titles", "paper-ranking", "llamarec", "gpt4rec", "next-title"] = "titles"
    candidates: Annotated[int, Field(ge=2, le=26)] = 20  # a letter each
    history: Count = 20
    prompt_tokens: Count = 128
    negatives: Literal["random", "retriever", "mixed"] = "random"
    order: Literal["shuffled", "ordered"] = "shuffled"
    vectors: bool = True
    valid_users: Count = 512
    orders: CountOrNone = 5
    lora_rank: CountOrNone = 0
    titles: Literal["own", "shuffled"] = field(default="own", metadata=ADDED_LATER)
    lora_alpha: Count = field(default=32, metadata=ADDED_LATER)
    lora_dropout: Part = field(default=0.05, metadata=ADDED_LATER)
    lora_targets: Literal["query-value", "all-linear"] = field(default="query-value", metadata=ADDED_LATER)
    lora_layers: Annotated[float, Field(gt=0, le=1)] = field(default=1.0, metadata=ADDED_LATER)
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata=ADDED_LATER)


@dataclass(frozen=True)
class Teaching(Checked):
    """Fine-tuning on letters, or on titles (`Preference` has the other fields' meaning).

    Attributes:
        objective: sft | letters of `objectives`; titles: each token of the titles in a row.
        lessons: prompts that come first, whose history ends in the answer: what a letter is, without what people like.
        per_user: prefixes of each user, at most.
        prompts: of all users, at most, drawn from those; None: all. 0 is no tuning: the model ranks as it is. Rows of
            titles are stretches of the training histories, however many of a user; the last one of a long history
            reaches back into the one before.
    """

    objective: Literal["sft", "letters", "titles"] = "sft"
    lessons: CountOrNone = 3200
    per_user: Count = 100
    learning_rate: Positive = 3e-3
    schedule: Schedule = "linear"
    warmup_steps: CountOrNone = 50
    batch: Count = 32
    epochs: Count = 1
    prompts: CountOrNone | None = field(default=None, metadata=ADDED_LATER)


@dataclass(frozen=True)
class Preference(Checked):
    """How a ranker is tuned on what is chosen and what is rejected.

    Attributes:
        objective, negatives: see `objectives`, whose weights the next three are, and `pairings`.
        schedule, warmup_steps: after the warm-up, linear to zero, constant, or the inverse square root of the step with
            the warm-up as its scale.
        batch: prompts of a step. epochs: prompts, in units of the number of users.
    """

    objective: str = "sft"
    negatives: str = "random"
    lambda_: NotNegative = 0.05
    beta: Positive = 1.0
    gamma: NotNegative = 0.5
    learning_rate: Positive = 3e-4
    schedule: Schedule = "linear"
    warmup_steps: CountOrNone = 20
    batch: Count = 16
    epochs: Count = 5


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

SMALL: dict[str, Any] = PRETRAINED | {
    "prompt": "paper-ranking",
    "prompt_tokens": 512,
    "history": 10,
    "objective": "letters",
    "lora_rank": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "lora_targets": "all-linear",
    "lora_layers": 0.5,
    "learning_rate": 5e-4,
    "warmup_steps": 13,
    "batch": 16,
    "prompts": 2048,
    "valid_users": 512,
    "orders": 2,
}
"""Settings for small pretrained models, whose weights come from a GGUF file: what an evening of a core can tune.

LlamaRec's prompt of 20 titles and 20 candidates has 640 tokens of Gemma's, the paper's with 10 titles 420. Adapters
stand on all linear layers, which QLoRA's authors found necessary to match full fine-tuning (Dettmers et al. 2023), but
in the upper half of the model alone: the backward pass ends there, which spares a third of the work. Their learning
rate is ten times one that is usual for full fine-tuning (Schulman et al. 2025 find that factor). Every prompt is read
once, so that there is no dropout. SPRec tunes its rankers on 2,048 to 4,096 samples (Gao et al. 2025). The loss is
taken over the letters alone: it is the listwise preference loss (`objectives`).
"""

LIKELIHOOD: dict[str, Any] = {"prompts": 0, "orders": 0, "lora_rank": 0}
"""Of a ranker by titles behind GPT4Rec's prompt, which is not tuned."""

NEXT_TITLES: dict[str, Any] = {
    "objective": "titles",
    "history": 20,
    "prompt_tokens": 256,
    "prompts": 3000,
    "batch": 6,
    "warmup_steps": 25,
    "orders": 0,
}
"""Of a ranker that is tuned on titles in a row: some twenty lessons a text, where a prompt with letters is one."""

BY_TITLES = {GPT4REC.name: LIKELIHOOD, NEXT_TITLE.name: NEXT_TITLES}
"""The prompts that list no candidates."""


def resolve(
    dataset: str, source: str, overrides: Mapping[str, Any] | None = None
) -> tuple[Size | None, Setting, Teaching]:
    """(size, setting, teaching) of a run with a ranker of ``source``; a pretrained model has a size of its own: None.

    Raises:
        SeqRecError: an override is none of their fields, or a value is not allowed, also with the others.
    """
    given = SCRATCH | DATASETS.get(base_name(dataset), {})
    if source != SOURCE:
        given = SMALL if kind(base(source)) == "gguf" else PRETRAINED
        given = given | BY_TITLES.get(str((overrides or {}).get("prompt")), {})
        setting, teaching = assembled((Setting, Teaching), given, overrides or {}, "a pretrained ranker")
        if setting.prompt in BY_TITLES and setting.orders:
            raise SeqRecError(f"orders is {setting.orders}; a ranker by titles does not see the candidates' order: 0")
        if setting.prompt == GPT4REC.name and teaching.prompts:
            raise SeqRecError(
                f"prompts is {teaching.prompts}; a ranker by titles is tuned with prompt {NEXT_TITLE.name}, and with "
                f"{GPT4REC.name} not: 0"
            )
        _check_objective(setting, teaching)
        return None, setting, teaching
    size, setting, teaching = assembled((Size, Setting, Teaching), given, overrides or {}, "a ranker")
    _check_objective(setting, teaching)
    if size.n_layers < 2:
        raise SeqRecError(f"n_layers is {size.n_layers}; it should be at least 2: an induction head needs two layers")
    if size.d_model // size.heads % 2:
        raise SeqRecError(
            f"heads is {size.heads} with d_model {size.d_model}; the width of a head should be even: it turns in pairs"
        )
    needed = len(TITLES.render(["title"], ["title"] * setting.candidates).split())
    if setting.prompt_tokens < needed:
        raise SeqRecError(
            f"prompt_tokens is {setting.prompt_tokens}; a title and {setting.candidates} candidates need {needed}"
        )
    if size.positions < setting.prompt_tokens + 1:
        raise SeqRecError(
            f"positions is {size.positions}; prompt_tokens {setting.prompt_tokens} and the answer need more"
        )
    return size, setting, teaching


def _check_objective(setting: Setting, teaching: Teaching) -> None:
    if (setting.prompt == NEXT_TITLE.name) != (teaching.objective == "titles"):
        raise SeqRecError(
            f"objective {teaching.objective!r} with prompt {setting.prompt!r}; titles goes with {NEXT_TITLE.name}, and "
            "nothing else does"
        )

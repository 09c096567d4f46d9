"""How the models that write queries are made, tuned and decoded on each data set. Nothing here imports torch.

A run's settings are the defaults of `Size`, `Tuning` and `Writing`, then the data set's entry, then the reader's
overrides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from seqrec_lib.data.registry import base_name
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.sources import kind
from seqrec_lib.validation import (
    Checked,
    Count,
    CountOrNone,
    NotNegative,
    Positive,
    Several,
    Share,
    Width,
    assembled,
)

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

SMALL_PRETRAINED: dict[str, Any] = PRETRAINED | {
    "learning_rate": 5e-4,
    "epochs": 1,
    "history": 10,
    "prompt_tokens": 160,
    "title_tokens": 28,
    "tokens_per_batch": 1024,
    "loss_on": "answer",
    "lora_rank": 16,
}
"""For small models whose weights come from a GGUF file, as `ranker_recipes.SMALL` has them and says why. On all tokens
the loss over the vocabulary would be four fifths of the work."""


@dataclass(frozen=True)
class Tuning(Checked):
    """How a language model is fine-tuned.

    Attributes:
        epochs: passes over the training interactions. history: titles of a text, at most. prompt_tokens: of its prompt,
            at most (older titles are left out). title_tokens: of one title, at most.
        tokens_per_batch: padded tokens of an optimizer step. weight_decay: of AdamW.
        learning_rate, warmup: linear rise over the share ``warmup`` of the steps, then linear decay.
        loss_on: "all" tokens or the "answer" only.
        lora_rank: 0 trains all weights, else low-rank adapters (peft), which are merged afterwards.
    """

    epochs: Count = 4
    history: Count = 20
    prompt_tokens: Count = 200
    title_tokens: Count = 32
    tokens_per_batch: Count = 2048
    learning_rate: Positive = 2e-3
    warmup: Share = 0.1
    weight_decay: NotNegative = 0.01
    loss_on: Literal["all", "answer"] = "all"
    lora_rank: CountOrNone = 0


@dataclass(frozen=True)
class Writing(Checked):
    """From a tuned model to lists of items.

    Attributes:
        beams, steps, length_penalty: of the beam search (`beams.Search`).
        length: K, items of a list. The list of the tables takes one new item from each of K queries.
        fewer: numbers m of queries; for each, another list takes K/m items from each of the first m.
        constants_users: validation users whose queries choose k1 and b, at most.
        k1, b: what is tried for BM25's constants.
    """

    beams: Width = 20
    steps: Count = 24
    length_penalty: float = 0.0
    length: Count = 20
    fewer: Annotated[tuple[Count, ...], *Several] = (10, 5)
    constants_users: Count = 256
    k1: Annotated[tuple[NotNegative, ...], *Several] = (0.5, 1.0, 1.5, 2.0)
    b: Annotated[tuple[Share, ...], *Several] = (0.0, 0.25, 0.5, 0.75)

    def __post_init__(self) -> None:
        super().__post_init__()
        for m in self.fewer:
            if self.length % m or m > self.beams:
                raise SeqRecError(
                    f"fewer has {m}; it should divide length {self.length} and be at most beams {self.beams}"
                )


SMALL: dict[str, Any] = {"d_model": 64, "n_layers": 3, "heads": 2, "tokens_per_batch": 1024}
"""A model from scratch, and its batch, that a core trains in minutes."""

DATASETS: dict[str, dict[str, Any]] = {
    # Of a window of fifty titles the last five are read, so that a user gives one or two texts, not six.
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
        SeqRecError: an override is none of their fields, or a value is not allowed, also with the others.
    """
    scratch = source.startswith("scratch:")
    given = dict(DATASETS.get(base_name(dataset), {})) if scratch or dataset == "demo" else {}
    if not scratch:
        given |= SMALL_PRETRAINED if kind(source) == "gguf" else PRETRAINED
    size, tuning, writing = assembled((Size, Tuning, Writing), given, overrides or {}, model)
    if not scratch:
        return None, tuning, writing
    needed = tuning.prompt_tokens + max(tuning.title_tokens + 1, writing.steps)
    if source != "scratch:mamba2" and needed > size.positions:
        raise SeqRecError(
            f"positions is {size.positions}; prompt_tokens {tuning.prompt_tokens}, with title_tokens "
            f"{tuning.title_tokens} and an end or with steps {writing.steps}, need {needed}"
        )
    return size, tuning, writing

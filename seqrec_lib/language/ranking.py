"""A language model ranks a retriever's candidates: by their letters, or by their titles.

By letters, as LlamaRec does (Yue et al. 2023), in one forward pass: the prompt lists the user's history and the
candidates, each with a letter, and asks for a letter. The logits of the letters at the prompt's last token are the
candidates' scores: nothing is generated, the output layer sees one position of each prompt and the letters' rows alone,
the instruction is read once, and prompts of similar length share a batch. Training and ranking read the same token ids
of letters, those behind this very prompt (`corpus.answer_ids`).

By titles: the model is asked how likely each candidate's title is to come next. That needs no letters, which a small
model that was not tuned does not know how to use.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Histories, Sequences, bucketed_batches
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.corpus import NEXT_TITLE, Encoder, Prompt, answer_ids, latest_items, letters, pad, split_ids
from seqrec_lib.language.logits import SharedPrefix, continuation_log_probabilities, next_token_logits
from seqrec_lib.language.pretrained import LanguageModel
from seqrec_lib.language.ranker_recipes import Setting
from seqrec_lib.train.checkpoint import Checkpoint
from seqrec_lib.train.loop import usable_precision

SECONDS = 60.0  # between two savings of what is ranked so far; what took less is not kept


@dataclass
class Reading:
    """How far some prompts are ranked: logits (n, K) of those that are done (n,), tokens that were read, seconds."""

    logits: Any = None
    done: Any = None
    tokens: int = 0
    seconds: float = 0.0


class CandidateRanker(ABC):
    """A language model that gives every candidate of a prompt a score.

    Args:
        titles: (n_items + 1,) by item id.
        setting: says how many candidates, titles of history and tokens a prompt has.

    Attributes:
        folder: where checkpoints of tuning and of long rankings lie; None: there are none.
        stage: tells the weights apart that rank in one run: whoever changes them names it anew.
        report, report_share: take a line, and the share done with a line.
    """

    def __init__(self, language: LanguageModel, prompt: Prompt, titles: Sequence[str], setting: Setting) -> None:
        self.model, self.tokenizer = language.model, language.tokenizer
        self.folder: Path | None = None
        self.stage = "first"
        self.report: Callable[[str], None] = lambda line: None
        self.report_share: Callable[[float, str], None] = lambda share, line: None
        self.setting, self.history, self.candidates = setting, setting.history, setting.candidates
        self.encoder = Encoder(self.tokenizer, prompt, titles, prompt_tokens=setting.prompt_tokens)

    @property
    def precision(self) -> str:
        """That of the setting, or fp32 where the device has no instructions for it."""
        return usable_precision(self.setting.precision, self.model.device)

    def products(self) -> torch.autocast:
        """The context within which the model's matrices are multiplied in `precision`."""
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @contextmanager
    def _kept_products(self) -> Iterator[None]:
        """`products`, for many forward passes without gradients: weights are rounded once.

        Autocast keeps the rounded copy of a weight that asks for a gradient, and of no other; within, all ask for one.
        """
        frozen = [p for p in self.model.parameters() if not p.requires_grad and p.is_floating_point()]
        asking = frozen if self.precision == "bf16" else []
        try:
            for parameter in asking:
                parameter.requires_grad_(True)
            with self.products():
                yield
        finally:
            for parameter in asking:
                parameter.requires_grad_(False)

    @abstractmethod
    def prompts(self, sequences: Sequences, histories: Histories, items: np.ndarray) -> list[Any]:
        """A prompt for each history with its candidates (n, K) item ids, in the order given; ``len`` counts tokens."""

    @abstractmethod
    def score_batch(self, prompts: Sequence[Any], prefix: SharedPrefix | None) -> Tensor:
        """(b, K) float32 of a few prompts, of which all of a call begin with ``prefix``."""

    def scores(self, prompts: Sequence[Any], *, batch_tokens: int = 8192) -> np.ndarray:
        """(n, K) float32: each candidate's score in each prompt, whatever the prompts are batched with."""
        return self.read(prompts, batch_tokens=batch_tokens)[0]

    def prefix(self, prompts: Sequence[Any]) -> SharedPrefix | None:
        """What all prompts begin with and is read once; None: nothing."""
        return None

    @torch.no_grad()
    def read(self, prompts: Sequence[Any], *, batch_tokens: int = 8192) -> tuple[np.ndarray, Reading]:
        """`scores`, and what they took."""
        was_training = self.model.training
        self.model.eval()
        n, lengths = len(prompts), np.array([len(ids) for ids in prompts], dtype=np.int64)
        digest = hashlib.sha256(repr(prompts).encode()).hexdigest() if self.folder else ""
        path = self.folder / f"ranked-{self.stage}-{digest[:16]}.pt" if self.folder else None
        file = Checkpoint(path, {"prompts": digest, "stage": self.stage}, {}, seconds=SECONDS, report=self.report)
        reading = file.load(Reading)
        if reading.logits is None:
            reading.logits, reading.done = torch.zeros(n, self.candidates), torch.zeros(n, dtype=torch.bool)
        with self._kept_products():
            prefix = self.prefix(prompts)
            for batch in bucketed_batches(lengths, batch_tokens):
                left = batch[~reading.done.numpy()[batch]]
                if not len(left):
                    continue
                began = time.perf_counter()
                reading.logits[left] = self.score_batch([prompts[i] for i in left], prefix).cpu()
                reading.done[left] = True
                reading.tokens += int(lengths[left].sum())
                reading.seconds += time.perf_counter() - began
                file.save(reading, due=bool(reading.done.all()) and reading.seconds > SECONDS)
                speed = reading.tokens / reading.seconds
                self.report_share(float(reading.done.float().mean()), f"ranking {n} prompts, {speed:,.0f} tokens/s")
        self.model.train(was_training)
        return reading.logits.numpy(), reading


class LetterRanker(CandidateRanker):
    """Scores are the logits of the candidates' letters at the prompt's last token.

    Raises:
        SeqRecError: a letter is not one token of its own behind the prompt, which lists candidates.
    """

    def __init__(self, language: LanguageModel, prompt: Prompt, titles: Sequence[str], setting: Setting) -> None:
        super().__init__(language, prompt, titles, setting)
        names = letters(self.candidates)
        self.letter_ids = answer_ids(self.tokenizer, prompt, list(names))
        trained = [ids[0] for ids in self.encoder.answers(list(names))]
        if trained != self.letter_ids:
            raise SeqRecError(f"prompt {prompt.name!r}: the letters' trained tokens are not those that are ranked by")

    @property
    def letter_tokens(self) -> Tensor:
        """(K,) token ids of the letters, on the model's device."""
        return torch.tensor(self.letter_ids, device=self.model.device)

    def prompts(self, sequences: Sequences, histories: Histories, items: np.ndarray) -> list[list[int]]:
        """Token ids of each history's prompt with its candidates (n, K) item ids, in the order given."""
        return self.encoder.prompts(latest_items(sequences, histories, self.history), items.tolist())

    def prefix(self, prompts: Sequence[Any]) -> SharedPrefix | None:
        """The instruction, for one."""
        return SharedPrefix.of(self.model, prompts)

    def score_batch(self, prompts: Sequence[Any], prefix: SharedPrefix | None) -> Tensor:
        rows = pad(prompts, self.tokenizer.pad_token_id)
        ids, sizes = rows.ids.to(self.model.device), rows.lengths.to(self.model.device)
        return next_token_logits(self.model, ids, sizes, self.letter_tokens, prefix)


class TitleRanker(CandidateRanker):
    """Scores are the candidates' titles' log-probabilities behind the history.

    The prompt lists no candidates, so that their order and their letters play no part. Behind `corpus.GPT4REC` it is
    the mean over a title's tokens, which tells titles of different lengths apart by fit rather than by length. In a row
    of titles (`corpus.NEXT_TITLE`), on which a model can be tuned, it is the sum: the likelihood itself.

    Attributes:
        vocabulary: in a row of titles, (T,) the token ids that titles are written with, rising. Among them alone
            probabilities sum to one, which spares the logits of a large vocabulary. Else None: among all.
    """

    def __init__(self, language: LanguageModel, prompt: Prompt, titles: Sequence[str], setting: Setting) -> None:
        super().__init__(language, prompt, titles, setting)
        self.vocabulary: Tensor | None = None
        if prompt is NEXT_TITLE:
            answers = self.encoder.answers(self.encoder.titles[1:])
            self.vocabulary = torch.tensor(sorted({token for answer in answers for token in answer}))

    def prompts(self, sequences: Sequences, histories: Histories, items: np.ndarray) -> list[Any]:
        heads = self.encoder.prompts(latest_items(sequences, histories, self.history))
        titles = [[self.encoder.titles[item] for item in row] for row in items.tolist()]
        prompt = self.encoder.prompt
        tails = [split_ids(self.tokenizer, [prompt.complete(title) for title in row]) for row in titles]
        return [Continuations(head, tail) for head, tail in zip(heads, tails, strict=True)]

    def score_batch(self, prompts: Sequence[Any], prefix: SharedPrefix | None) -> Tensor:
        columns = None if self.vocabulary is None else self.vocabulary.to(self.model.device)
        sums = torch.stack(
            [continuation_log_probabilities(self.model, own.head, own.tails, columns=columns) for own in prompts]
        ).cpu()
        lengths = torch.tensor([[len(tail) for tail in prompt.tails] for prompt in prompts])
        return sums if columns is not None else sums / lengths


@dataclass(frozen=True)
class Continuations:
    """Token ids of a text, and of what may follow it."""

    head: list[int]
    tails: list[list[int]]

    def __len__(self) -> int:
        return len(self.head) + sum(map(len, self.tails))

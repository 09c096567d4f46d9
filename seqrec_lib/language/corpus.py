"""What a language model reads: titles of items, the prompts around them, the letters of candidates, padded batches.

A prompt is text with two places: the history and, where a model picks from candidates, the candidate pool. What the
model is to write is the *answer*. A prompt never ends in a space: with byte-level tokenizers the space belongs to the
answer's first token (" A" is not "A").

Histories that do not fit are cut at their old end, title by title; a title alone that is too long is cut to its first
tokens. Batches are padded on the right, and what is read is the last real position (`logits.next_token_logits`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seqrec_lib.errors import SeqRecError

if TYPE_CHECKING:
    from torch import Tensor

    from seqrec_lib.data.sequences import Histories, Sequences

IGNORED = -100  # label of a position that takes no part in the loss (torch's and transformers' convention)
TITLE_TOKENS = 32  # tokens of a title, at most (LlamaRec's limit; the longest title of MovieLens-1M has 33 of Llama's)


@dataclass(frozen=True)
class Prompt:
    """Text around titles.

    Attributes:
        text: with ``{history}`` and, where there are candidates, ``{candidates}``; does not end in a space.
        item, joint: how a title of the history is written (``{title}``, ``{n}``), and what stands between two.
        candidate, candidate_joint: the same for candidates (``{title}``, ``{letter}``).
        answer: what the model writes after the text: ``{answer}``, with the space in front of it, if any.
    """

    name: str
    text: str
    item: str = "{title}"
    joint: str = " "
    candidate: str = ""
    candidate_joint: str = " "
    answer: str = " {answer}"

    def render(self, history: Sequence[str], candidates: Sequence[str] = ()) -> str:
        """The prompt for a history (oldest first) and candidates, without an answer.

        >>> GPT4REC.render(["Silent Comet", "Pale Fog"])
        'Previously, the customer has bought: Silent Comet. Pale Fog. In the future, the customer wants to buy'
        """
        items = self.joint.join(self.item.format(title=title, n=n) for n, title in enumerate(history, 1))
        pool = self.candidate_joint.join(
            self.candidate.format(title=title, letter=letter)
            for letter, title in zip(letters(len(candidates)), candidates, strict=True)
        )
        return self.text.format(history=items, candidates=pool)

    def complete(self, answer: str) -> str:
        """The answer as it stands after the prompt."""
        return self.answer.format(answer=answer)


GPT4REC = Prompt(
    "gpt4rec",
    "Previously, the customer has bought: {history} In the future, the customer wants to buy",
    item="{title}.",
)
"""The prompt of GPT4Rec (Li et al. 2023), which MamRec shares."""

NEXT_TITLE = Prompt(
    "next-title", "Previously, the customer has bought: {history}", item="{title}.", answer=" {answer}."
)
"""Titles in a row. What comes next stands where any title of the history stands, so that each of them is a lesson."""

PAPER_RANKING = Prompt(
    "paper-ranking",
    "Instruction: Given the user's history in chronological order, recommend an item from the candidate pool with its "
    "index letter; Input: User history: {history}; Candidate pool: {candidates}; Answer:",
    item="({n}) {title}",
    candidate="({letter}) {title}",
)
"""The ranking prompt that the paper prints (section 3.5)."""

LLAMAREC = Prompt(
    "llamarec",
    "### Instruction:\nGiven user history in chronological order, recommend an item from the candidate pool with its "
    "index letter.\n\n### Input:\nUser history: {history}; \n Candidate pool: {candidates}\n\n### Response:\n",
    item="({n}) {title}",
    joint=" \n ",
    candidate="({letter}) {title}",
    candidate_joint=" \n ",
    answer="{answer}",
)
"""The ranking prompt of LlamaRec's released code (Yue et al. 2023)."""


def letters(count: int) -> str:
    """The index letters of ``count`` candidates, "ABC..."; SeqRecError where there are not so many."""
    if count > len(string.ascii_uppercase):
        raise SeqRecError(f"{count} candidates, but there are {len(string.ascii_uppercase)} letters; ask for fewer")
    return string.ascii_uppercase[:count]


def clean_title(title: str) -> str:
    """The title on one line, single spaces, no control characters; any script stays as it is.

    >>> clean_title("  The Silent\\tComet \\n")
    'The Silent Comet'
    """
    return " ".join(re.sub(r"[\x00-\x1f\x7f\u200b\ufeff]", " ", title).split())


def item_titles(sequences: Sequences) -> tuple[str, ...]:
    """(n_items + 1,) cleaned titles by item id, "" for padding; an item without a title is "item LABEL"."""
    texts = [clean_title(title) for title in sequences.titles]
    named = (text or f"item {label}" for text, label in zip(texts[1:], sequences.item_labels[1:], strict=True))
    return ("", *named)


def latest_items(sequences: Sequences, histories: Histories, count: int) -> list[list[int]]:
    """The last ``count`` items of each history, oldest first; all of a shorter one."""
    first = np.maximum(histories.start, histories.stop - count)
    return [sequences.items[a:b].tolist() for a, b in zip(first, histories.stop, strict=True)]


def split_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without any special token."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if len(texts) else []


def shortened(tokenizer: Any, titles: Sequence[str], tokens: int) -> tuple[str, ...]:
    """Titles cut to at most ``tokens`` tokens, at the boundary of a character."""
    encoded = tokenizer(list(titles), add_special_tokens=False, return_offsets_mapping=True) if titles else {}
    offsets = encoded.get("offset_mapping", ())
    return tuple(
        title if len(own) <= tokens else title[: own[tokens][0]].rstrip()  # in front of the first token too many
        for title, own in zip(titles, offsets, strict=True)
    )


class Encoded(NamedTuple):
    """Token ids of prompt and answer; the answer begins at index ``start``."""

    ids: list[int]
    start: int


class Encoder:
    """Prompts as token ids, cut to a budget.

    Args:
        tokenizer: a fast tokenizer of transformers.
        titles: (n_items + 1,) by item id, from `item_titles`.
        prompt_tokens: tokens of a prompt, at most; the answer comes on top. title_tokens: of one title, at most.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Prompt,
        titles: Sequence[str],
        *,
        prompt_tokens: int,
        title_tokens: int = TITLE_TOKENS,
    ) -> None:
        self.tokenizer, self.prompt, self.prompt_tokens = tokenizer, prompt, prompt_tokens
        given = tokenizer("")["input_ids"]  # what stands in front of a text: [bos] for Llama's, nothing for GPT-2's
        self.first = given[:1] if given and given[0] == tokenizer.bos_token_id else []
        self.titles = shortened(tokenizer, titles, title_tokens)
        written = [" " + prompt.item.format(title=title, n=99) + prompt.joint.rstrip(" ") for title in self.titles]
        self.sizes = np.array([len(ids) for ids in split_ids(tokenizer, written)], dtype=np.int64)

    def prompts(
        self, histories: Sequence[Sequence[int]], candidates: Sequence[Sequence[int]] | None = None
    ) -> list[list[int]]:
        """Token ids of the prompts for histories (item ids, oldest first), each within the budget.

        Where a prompt would be too long, its oldest titles are left out.

        Raises:
            SeqRecError: the candidates alone, or with them the last title, exceed the budget.
        """
        pools = candidates or [()] * len(histories)
        # How many of the last titles fit by their own sizes; the exact count is taken from the whole text.
        sizes = [self.sizes[np.asarray(h[-self.prompt_tokens :], dtype=np.int64)][::-1].cumsum() for h in histories]
        fitting = [int(np.searchsorted(own, self.prompt_tokens, side="right")) for own in sizes]
        kept = [max(min(len(h), 1), n) for h, n in zip(histories, fitting, strict=True)]
        encoded: list[list[int]] = [[] for _ in histories]
        open_ = list(range(len(histories)))
        while open_:
            texts = [
                self.prompt.render(
                    [self.titles[item] for item in histories[i][len(histories[i]) - kept[i] :]],
                    [self.titles[item] for item in pools[i]],
                )
                for i in open_
            ]
            for i, ids in zip(open_, split_ids(self.tokenizer, texts), strict=True):
                encoded[i] = self.first + ids
            open_ = [i for i in open_ if len(encoded[i]) > self.prompt_tokens]
            for i in open_:
                kept[i] -= 1
                if kept[i] < 1:
                    raise SeqRecError(
                        f"a prompt needs more than {self.prompt_tokens} tokens with one title of history; "
                        "raise prompt_tokens, or use fewer candidates or shorter titles"
                    )
        return encoded

    def examples(self, histories: Sequence[Sequence[int]], answers: Sequence[str]) -> list[Encoded]:
        """Prompts with their answers and an end of text: what a model is trained on."""
        both = zip(self.prompts(histories), self.answers(answers), strict=True)
        return [Encoded(head + tail, len(head)) for head, tail in both]

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of answers as they stand after the prompt, with the end of text."""
        end = self.tokenizer.eos_token_id
        return [[*ids, end] for ids in split_ids(self.tokenizer, [self.prompt.complete(text) for text in answers])]


def answer_ids(tokenizer: Any, prompt: Prompt, answers: Sequence[str]) -> list[int]:
    """The one token that each short answer is after this very prompt (a verbalizer's ids).

    LlamaRec's released code looks letters up alone, which with Llama's tokenizer are other tokens than those after its
    prompt: it ranks by tokens that were never trained.

    Raises:
        SeqRecError: an answer is not exactly one token there, or two answers are the same token.
    """
    pool = ["B title"] * min(len(answers), 2) if prompt.candidate else []
    text = prompt.render(["A title"], pool)
    head, *whole = split_ids(tokenizer, [text, *(text + prompt.complete(answer) for answer in answers)])
    tails = [ids[len(head) :] if ids[: len(head)] == head else [] for ids in whole]
    for answer, tail in zip(answers, tails, strict=True):
        if len(tail) != 1:
            raise SeqRecError(
                f"{answer!r} is {len(tail)} tokens after the prompt {prompt.name!r}; use a tokenizer that has it as one"
            )
    found = [tail[0] for tail in tails]
    if len(set(found)) < len(found):
        raise SeqRecError(f"two of the answers {list(answers)} are one token; use another tokenizer")
    return found


class Batch(NamedTuple):
    """Right-padded token ids (B, L) int64 and their lengths (B,)."""

    ids: Tensor
    lengths: Tensor


def pad(rows: Sequence[Sequence[int]], value: int) -> Batch:
    """Rows of token ids as one right-padded batch; ``value`` fills up (any id: it is masked and never read)."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    ids = pad_sequence(tensors, batch_first=True, padding_value=value)
    return Batch(ids, torch.tensor([len(row) for row in rows]))


def collate(examples: Sequence[Encoded], value: int, *, loss_on: str = "answer") -> dict[str, Tensor]:
    """A training batch of transformers: input_ids, attention_mask, labels.

    ``loss_on``: "answer" (what comes after the prompt) or "all" (every token but the first, which has nothing before
    it; the model shifts the labels itself).
    """
    ids, _ = pad([example.ids for example in examples], value)
    mask, _ = pad([[1] * len(example.ids) for example in examples], 0)
    heads = [example.start if loss_on == "answer" else 0 for example in examples]
    labels, _ = pad([[IGNORED] * n + own.ids[n:] for own, n in zip(examples, heads, strict=True)], IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

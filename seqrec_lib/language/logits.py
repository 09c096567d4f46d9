"""What follows a text: logits at its last token, or the loss of what follows, from one forward pass.

The output layer sees one position of each text and, where only some tokens are asked for, only their rows: a vocabulary
of 262,144 tokens is more than half of the work of a model of 270 million weights. What all texts of a call begin with,
such as an instruction, is read once (`SharedPrefix`).

Glossary: B texts, L tokens, V tokens of the vocabulary, K of interest.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seqrec_lib.language.corpus import IGNORED, pad

SHORTEST = 16  # tokens that texts must share to be read once: below, copying what is kept of them costs as much


class _Rows(nn.Module):
    """Some rows of an output layer, multiplied in the weights' own precision: they are few, and what is ranked by."""

    def __init__(self, layer: nn.Module, rows: Tensor) -> None:
        super().__init__()
        weight: Any = layer.weight
        bias: Any = getattr(layer, "bias", None)
        self.weight, self.bias = weight[rows], None if bias is None else bias[rows]

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


@contextmanager
def _rows_alone(model: Any, rows: Tensor) -> Iterator[None]:
    """Within: the model's output layer has these rows only."""
    layer = model.get_output_embeddings()
    model.set_output_embeddings(_Rows(layer, rows))
    try:
        yield
    finally:
        model.set_output_embeddings(layer)


class SharedPrefix:
    """Keys and values of the ``tokens`` tokens that all texts begin with."""

    def __init__(self, cache: Any, tokens: int) -> None:
        self.cache, self.tokens = cache, tokens

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, texts: Sequence[Sequence[int]]) -> SharedPrefix | None:
        """The prefix of texts (token ids); None where it is short, or the model keeps more than keys and values."""
        columns = zip(*texts, strict=False) if len(texts) > 1 else iter(())
        shared = [column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns)]
        shared = shared[: min(map(len, texts), default=0) - 1]  # a token of each text is left to be read
        if len(shared) < SHORTEST:
            return None
        ids = torch.tensor([shared], device=model.device)
        cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).get("past_key_values")
        kept = {type(layer).__name__ for layer in getattr(cache, "layers", [])}
        return cls(cache, len(shared)) if kept and kept <= {"DynamicLayer", "DynamicSlidingWindowLayer"} else None

    def of_batch(self, size: int) -> Any:
        """A copy for a batch, to which the model may append."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(size)
        return cache


def next_token_logits(
    model: Any, ids: Tensor, lengths: Tensor, columns: Tensor | None = None, prefix: SharedPrefix | None = None
) -> Tensor:
    """Logits for what follows each right-padded text, read at its last real token.

    Args:
        ids: (B, L). lengths: (B,), at least 1. columns: token ids (K,) of interest, all by default.
        prefix: what the ids of all texts begin with.

    Returns:
        (B, V) or (B, K), float32.
    """
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    known = 0 if prefix is None else prefix.tokens
    given: dict[str, Any] = {"use_cache": False}
    if prefix is not None:
        given = {"use_cache": True, "past_key_values": prefix.of_batch(len(ids))}
    with _rows_alone(model, columns) if columns is not None else nullcontext():
        out = model(
            input_ids=ids[:, known:], attention_mask=mask, logits_to_keep=(lengths - 1 - known)[:, None], **given
        )
    return out.logits[:, 0].float()


def is_plain_output(config: Any) -> bool:
    """Whether logits are what the output layer gives; some models (Gemma 2, Cohere, Granite) bend or scale them."""
    return not any(getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"))


def _read(model: Any, columns: Tensor | None, **inputs: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What a model gives for each position, and how it becomes logits (of ``columns``), for as many as are wanted."""
    body = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not is_plain_output(body.config):
        return body(**inputs).logits, lambda part: part if columns is None else part[..., columns]
    output = body.get_output_embeddings()
    return body.base_model(**inputs).last_hidden_state, output if columns is None else _Rows(output, columns)


@torch.no_grad()
def continuation_log_probabilities(
    model: Any, head: Sequence[int], tails: Sequence[Sequence[int]], block: int = 64, columns: Tensor | None = None
) -> Tensor:
    """(K,) float32: the sum of the log-probabilities of each tail's tokens behind the head, (the tokens of) a text.

    The head is read once where the model keeps keys and values. Logits are computed for ``block`` positions at a time,
    unless the model does more to them than its output layer (`is_plain_output`).

    Args:
        columns: the token ids among which the probabilities sum to one, with all of the tails'; by default all there
            are.
    """
    prefix = SharedPrefix.of(model, [head, head])
    known = 0 if prefix is None else prefix.tokens
    texts = pad([[*head, *tail] for tail in tails], 0)
    ids = texts.ids.to(model.device)
    mask = (torch.arange(ids.shape[1]) < texts.lengths[:, None]).to(model.device)
    given = {"use_cache": False} if prefix is None else {"past_key_values": prefix.of_batch(len(tails))}
    hidden, output = _read(model, columns, input_ids=ids[:, known:], attention_mask=mask.long(), **given)
    asked = mask[:, known + 1 :].clone()
    asked[:, : len(head) - known - 1] = False
    rows, targets = hidden[:, :-1][asked], ids[:, known + 1 :][asked]
    if columns is not None:
        targets = torch.searchsorted(columns, targets)
    each = [
        -F.cross_entropy(output(part).float(), wanted, reduction="none")
        for part, wanted in zip(rows.split(block), targets.split(block), strict=True)
    ]
    owner = asked.nonzero()[:, 0]
    return torch.zeros(len(tails), device=model.device).index_add_(0, owner, torch.cat(each))


def row_losses(model: Any, ids: Tensor, lengths: Tensor, columns: Tensor) -> Tensor:
    """How well each text is told from its own beginnings: (B, 3) float32, means over its tokens among ``columns``.

    They are the cross-entropy among ``columns``; how often the token is the likeliest; and how far its logit is above
    the best other one.

    Args:
        ids: (B, L), right-padded. lengths: (B,). columns: (T,) token ids in rising order; other tokens are read only.
    """
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    hidden, output = _read(model, columns, input_ids=ids, attention_mask=mask.long(), use_cache=False)
    targets = ids[:, 1:].contiguous()
    place = torch.searchsorted(columns, targets).clamp(max=len(columns) - 1)
    asked = mask[:, 1:] & (columns[place] == targets)
    logits, wanted = output(hidden[:, :-1][asked]).float(), place[asked]
    loss = F.cross_entropy(logits, wanted, reduction="none")
    own = logits.detach().gather(1, wanted[:, None])[:, 0]
    margin = own - logits.detach().scatter(1, wanted[:, None], -torch.inf).amax(1)
    values = torch.stack([loss, (margin > 0).float(), margin], 1)
    sums = values.new_zeros(len(ids), 3).index_add(0, asked.nonzero()[:, 0], values)
    return sums / asked.sum(1, keepdim=True).clamp(min=1)


def answer_loss_in_blocks(model: Any, ids: Tensor, mask: Tensor, labels: Tensor, block: int) -> Tensor:
    """Mean cross-entropy of the next tokens that ``labels`` ask for, (), as the model's own loss has it.

    Logits are computed for ``block`` positions with a label at a time, and in the backward pass once more.

    Args:
        ids, mask, labels: (B, L), labels `corpus.IGNORED` where nothing is asked.
    """
    hidden, output = _read(model, None, input_ids=ids, attention_mask=mask, use_cache=False)
    asked = labels[:, 1:] != IGNORED
    rows, targets = hidden[:, :-1][asked], labels[:, 1:][asked]

    def loss(part: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(output(part).float(), wanted, reduction="sum")

    total = rows.new_zeros(())
    for part, wanted in zip(rows.split(block), targets.split(block), strict=True):
        total = total + checkpoint(loss, part, wanted, use_reentrant=False)
    return total / max(len(targets), 1)

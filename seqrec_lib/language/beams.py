"""Beam search over cached states, a batch of users at a time.

The search is that of transformers' `generate` with `num_beams=m`: at each step the 2m best continuations of a user's
beams are looked at; those among the best m that end (or reach the longest length) are finished, the best m that do not
end go on. A score is the log-probability of the tokens divided by length^length_penalty. A user is done as soon as no
beam can pass the worst of m finished ones; done users leave the batch, which `generate` cannot do. With a length
penalty of 0, this study's default, a score is the log-probability of the whole query. (1, transformers' default,
prefers long titles.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.corpus import pad
from seqrec_lib.language.states import States, states_of
from seqrec_lib.language.trie import TitleTrie

PROMPTS_AT_A_TIME = 2**13  # padded prompt tokens of a batch
BEAMS_AT_A_TIME = 2**10
LOGITS_AT_A_TIME = 2**26  # of all beams of a batch: a quarter of a gigabyte, of which a search holds a few copies


@dataclass(frozen=True)
class Query:
    """What one beam wrote: token ids without the end of text, and its score."""

    tokens: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class Search:
    """beams: kept for each user. steps: tokens of a query at most, with the end of text. length_penalty: see above."""

    beams: int = 20
    steps: int = 24
    length_penalty: float = 0.0


@torch.inference_mode()
def search(
    model: Any,
    prompts: Sequence[Sequence[int]],
    setting: Search,
    end: int,
    *,
    trie: TitleTrie | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> list[list[Query]]:
    """Each prompt's queries, best first: ``setting.beams`` of them, fewer where a trie has fewer titles.

    Args:
        model: GPT-2 and Mamba-2 decode with this study's `states`, others with transformers' own.
        prompts: token ids. end: the end of text. trie: where given, only its rows are written.
        report: takes the share of prompts that are done.

    Raises:
        SeqRecError: prompt and query together are longer than the model's positions.
    """
    longest = max((len(prompt) for prompt in prompts), default=0)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and longest + setting.steps > positions:
        raise SeqRecError(
            f"a prompt of {longest} tokens and a query of {setting.steps} exceed the model's {positions} positions; "
            "lower prompt_tokens or steps"
        )
    was_training, states = model.training, states_of(model)
    model.eval()
    found: list[list[Query]] = [[] for _ in prompts]
    done = 0
    for batch in batches([len(prompt) for prompt in prompts], setting.beams, model.config.vocab_size):
        part = [prompts[i] for i in batch]
        if states is None:
            queries = _generate(model, part, setting, end, trie)
        else:
            queries = _search(states, part, setting, end, trie, next(model.parameters()).device)
        for i, own in zip(batch, queries, strict=True):
            found[i] = own
        done += len(batch)
        report(done / len(prompts))
    model.train(was_training)
    return found


def batches(lengths: Sequence[int], beams: int, vocabulary: int) -> list[list[int]]:
    """Indices of prompts in batches of similar length, within this module's limits."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    rows = min(BEAMS_AT_A_TIME, LOGITS_AT_A_TIME // vocabulary)
    found = []
    begin = 0
    while begin < len(order):
        size = max(1, min(PROMPTS_AT_A_TIME // max(lengths[order[begin]], 1), rows // beams))
        found.append(order[begin : begin + size])
        begin += size
    return found


def _search(
    states: States, prompts: Sequence[Sequence[int]], setting: Search, end: int, trie: TitleTrie | None, device: Any
) -> list[list[Query]]:
    B, m, T = len(prompts), setting.beams, setting.steps
    batch = pad(prompts, end)
    logits = states.start(batch.ids.to(device), batch.lengths.to(device), m, T)[:, None]  # (B, 1, V)
    V = logits.shape[-1]
    users = torch.arange(B, device=device)  # those still searching
    running = torch.zeros(B, 1, device=device)
    written = torch.zeros(B, 1, 0, dtype=torch.int64, device=device)
    nodes = torch.zeros(B, 1, dtype=torch.int64, device=device)
    scores = torch.full((B, m), -torch.inf, device=device)  # of finished queries, best first
    texts = torch.full((B, m, T), end, dtype=torch.int64, device=device)
    for step in range(T):
        logp = torch.log_softmax(logits, dim=-1)
        if trie is not None:
            logp = trie.forbid(logp.flatten(0, 1), nodes.flatten()).view_as(logp)
        logp = logp + running[..., None]
        best, place = _top(logp, 2 * m)
        beam, token = place // V, place % V
        longer = torch.cat([_of(written, beam), token[..., None]], dim=-1)
        ends = (token == end) | (step == T - 1)
        if trie is not None and step == T - 1:
            ends &= token == end  # a title that is not whole is no title
        scores, texts = _finish(scores, texts, users, best, longer, ends, setting.length_penalty)
        running, kept = best.masked_fill(ends, -torch.inf).topk(min(m, best.shape[1]))
        beam, token, written = beam.gather(1, kept), token.gather(1, kept), _of(longer, kept)
        # A user is done when no beam can pass the worst finished query, or none is left.
        worst = scores[users, -1] * (step + 1) ** setting.length_penalty
        on = (running[:, 0] > worst) & (running[:, 0] > -torch.inf)
        if step == T - 1 or not bool(on.any()):
            break
        if trie is not None:
            nodes = trie.advance(nodes.gather(1, beam), token)
        if not bool(on.all()):
            left = on.nonzero()[:, 0]
            users, running, written, beam, token, nodes = (
                x[left] for x in (users, running, written, beam, token, nodes)
            )
            states.keep(left)
        logits = states.step(token, beam)
    return [
        [Query(_cut(row, end), score) for score, row in zip(own, rows, strict=True) if score > -torch.inf]
        for own, rows in zip(scores.tolist(), texts.tolist(), strict=True)
    ]


def _top(logp: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best ``count`` of (B, m, V): values and places in m * V, (B, count); -inf fills up."""
    B, m, V = logp.shape
    each = min(count, V)
    values, tokens = logp.topk(each, dim=-1)  # for each beam first: no beam can give more
    places = tokens + torch.arange(m, device=logp.device)[:, None] * V
    best, index = values.flatten(1).topk(min(count, m * each))
    place = places.flatten(1).gather(1, index)
    short = count - best.shape[1]
    if short > 0:
        best = torch.cat([best, best.new_full((B, short), -torch.inf)], dim=1)
        place = torch.cat([place, place.new_zeros(B, short)], dim=1)
    return best, place


def _of(texts: Tensor, index: Tensor) -> Tensor:
    """Rows (B, k, T) of texts (B, m, T) at indices (B, k)."""
    return texts.take_along_dim(index[..., None].expand(-1, -1, texts.shape[-1]), dim=1)


def _finish(
    scores: Tensor, texts: Tensor, users: Tensor, best: Tensor, longer: Tensor, ends: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Finished queries with those that end now: only the best m continuations of a step may finish."""
    m, length = scores.shape[1], longer.shape[-1]
    new = (best[:, :m] / length**penalty).masked_fill(~ends[:, :m], -torch.inf)
    own = torch.cat([scores[users], new], dim=1)
    rows = torch.cat([texts[users], texts[users].clone()], dim=1)
    rows[:, m:, :length] = longer[:, :m]
    kept, index = own.topk(m)
    scores[users], texts[users] = kept, _of(rows, index)
    return scores, texts


def _cut(tokens: list[int], end: int) -> tuple[int, ...]:
    return tuple(tokens[: tokens.index(end)] if end in tokens else tokens)


def _generate(
    model: Any, prompts: Sequence[Sequence[int]], setting: Search, end: int, trie: TitleTrie | None
) -> list[list[Query]]:
    """The same by transformers: for architectures that `states` does not know."""
    m = setting.beams
    width = max(len(prompt) for prompt in prompts)
    # `generate` goes on from the last column, so padding stands on the left here, masked, with positions counted
    # after it.
    ids = torch.tensor([[end] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    device = next(model.parameters()).device
    allowed = None
    if trie is not None:
        rule = trie

        def allowed(_: int, text: Tensor) -> list[int]:
            node = torch.zeros(1, dtype=torch.int64, device=text.device)
            for token in text[width:].tolist():
                node = rule.advance(node, torch.tensor([token], device=text.device))
            first, last = rule.starts[node].item(), rule.starts[node + 1].item()
            return (rule.keys[first:last] % rule.vocabulary).tolist() or [end]

    out = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        num_beams=m,
        num_return_sequences=m,
        max_new_tokens=setting.steps,
        do_sample=False,
        early_stopping=False,
        length_penalty=setting.length_penalty,
        eos_token_id=end,
        pad_token_id=end,
        prefix_allowed_tokens_fn=allowed,
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = out.sequences[:, width:].tolist()
    if m > 1:
        scores = out.sequences_scores.tolist()
    else:  # one beam is greedy search to transformers, which then gives no score of the whole
        steps = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True).tolist()
        sizes = [len(_cut(row, end)) + (end in row) for row in rows]
        scores = [sum(own[:n]) / n**setting.length_penalty for own, n in zip(steps, sizes, strict=True)]
    queries = [Query(_cut(row, end), score) for row, score in zip(rows, scores, strict=True)]
    return [[q for q in queries[i * m : (i + 1) * m] if q.score > -1e8] for i in range(len(prompts))]

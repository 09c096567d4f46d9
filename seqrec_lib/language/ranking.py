"""LlamaRec (Yue et al. 2023): a language model ranks a retriever's candidates in one forward pass.

The prompt lists the user's history and the candidates, each with a letter, and asks for a letter. The logits of the
letters at the prompt's last token are the candidates' scores: nothing is generated, the output layer sees one position
of each prompt and the letters' rows alone, the instruction is read once, and prompts of similar length share a batch.

The letters' token ids are taken behind this very prompt (`corpus.answer_ids`), and training and ranking read the same
ones. (LlamaRec's released code looks the letters up alone; with Llama-2's tokenizer these are other tokens than the
trained ones.)

Only a target that the retriever found can be ranked. Metrics therefore come twice: over the users whose target is a
candidate, and over all, where a target that was not found keeps its rank in the retriever's list. For cut-offs up to
the number of candidates the second is the first times the share of users found. Floors stand beside both: a random
permutation, the retriever's order, popularity.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Histories, Sequences, bucketed_batches
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.language.candidates import Pools
from seqrec_lib.language.corpus import Encoder, Prompt, answer_ids, letters, pad
from seqrec_lib.language.logits import SharedPrefix, next_token_logits
from seqrec_lib.language.pretrained import LanguageModel
from seqrec_lib.train.checkpoint import Checkpoint

SECONDS = 60.0  # between two savings of what is ranked so far; what took less is not kept


@dataclass
class Reading:
    """How far some prompts are ranked: logits (n, K) of those that are done (n,), tokens that were read, seconds."""

    logits: Any = None
    done: Any = None
    tokens: int = 0
    seconds: float = 0.0


class LetterRanker:
    """A language model that gives every candidate's letter a logit.

    Args:
        language: model and tokenizer.
        prompt: a prompt with candidates; titles: (n_items + 1,) by item id.
        candidates: how many each prompt lists. history: titles of history, at most, the latest ones.
        prompt_tokens: tokens of a prompt, at most (the oldest titles go first).

    Raises:
        SeqRecError: the prompt has no candidates, or a letter is not one token of its own behind it.
    """

    def __init__(
        self,
        language: LanguageModel,
        prompt: Prompt,
        titles: Sequence[str],
        *,
        candidates: int = 20,
        history: int = 20,
        prompt_tokens: int = 1536,
    ) -> None:
        if not prompt.candidate:
            raise SeqRecError(f"prompt {prompt.name!r} lists no candidates; use paper-ranking or llamarec")
        self.model, self.tokenizer = language.model, language.tokenizer
        self.folder: Path | None = None
        self.stage = "first"
        self.report: Callable[[str], None] = lambda line: None
        self.report_share: Callable[[float, str], None] = lambda share, line: None
        self.history, self.candidates = history, candidates
        self.encoder = Encoder(self.tokenizer, prompt, titles, prompt_tokens=prompt_tokens)
        names = letters(candidates)
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
        if items.shape[1] != self.candidates:
            raise SeqRecError(f"pools of {items.shape[1]} candidates for a ranker of {self.candidates}")
        first = np.maximum(histories.start, histories.stop - self.history)
        read = [sequences.items[a:b].tolist() for a, b in zip(first, histories.stop, strict=True)]
        return self.encoder.prompts(read, items.tolist())

    def keep_in(
        self,
        folder: Path,
        report: Callable[[str], None] = lambda line: None,
        report_share: Callable[[float, str], None] = lambda share, line: None,
    ) -> None:
        """From now on, what takes long to rank is kept in a folder as well: a kill costs a minute of it.

        `stage` tells the weights apart that rank in one run: whoever changes them names it anew.
        """
        self.folder, self.report, self.report_share = folder, report, report_share

    def letter_logits(self, prompts: Sequence[Sequence[int]], *, batch_tokens: int = 8192) -> np.ndarray:
        """(n, K) float32: each letter's logit for each prompt, whatever the prompts are batched with."""
        return self.read(prompts, batch_tokens=batch_tokens)[0]

    @torch.no_grad()
    def read(self, prompts: Sequence[Sequence[int]], *, batch_tokens: int = 8192) -> tuple[np.ndarray, Reading]:
        """`letter_logits`, and what they took."""
        was_training = self.model.training
        self.model.eval()
        n, lengths = len(prompts), np.array([len(ids) for ids in prompts], dtype=np.int64)
        file, reading = self._known(prompts)
        if reading.logits is None:
            reading.logits, reading.done = torch.zeros(n, self.candidates), torch.zeros(n, dtype=torch.bool)
        prefix = SharedPrefix.of(self.model, prompts)
        for batch in bucketed_batches(lengths, batch_tokens):
            left = batch[~reading.done.numpy()[batch]]
            if not len(left):
                continue
            began = time.perf_counter()
            rows = pad([prompts[i] for i in left], self.tokenizer.pad_token_id)
            ids, sizes = rows.ids.to(self.model.device), rows.lengths.to(self.model.device)
            reading.logits[left] = next_token_logits(self.model, ids, sizes, self.letter_tokens, prefix).cpu()
            reading.done[left] = True
            reading.tokens += int(lengths[left].sum())
            reading.seconds += time.perf_counter() - began
            if file is not None:
                file.save(reading, due=bool(reading.done.all()) and reading.seconds > SECONDS)
            speed = reading.tokens / reading.seconds
            self.report_share(float(reading.done.float().mean()), f"ranking {n} prompts, {speed:,.0f} tokens/s")
        self.model.train(was_training)
        return reading.logits.numpy(), reading

    def _known(self, prompts: Sequence[Sequence[int]]) -> tuple[Checkpoint | None, Reading]:
        """The file of these prompts, where they are kept, and what is in it."""
        if self.folder is None:
            return None, Reading()
        digest = hashlib.sha256(repr([list(ids) for ids in prompts]).encode()).hexdigest()
        path = self.folder / f"ranked-{self.stage}-{digest[:16]}.pt"
        file = Checkpoint(path, {"prompts": digest, "stage": self.stage}, {}, seconds=SECONDS, report=self.report)
        return file, file.load(Reading)

    def scores(self, sequences: Sequences, histories: Histories, pools: Pools) -> np.ndarray:
        """(n, K): the letters' logits for the pools of histories."""
        return self.letter_logits(self.prompts(sequences, histories, pools.items))


def log_odds(logits: np.ndarray) -> np.ndarray:
    """(n, K) log-odds of each letter among the letters, from their logits."""
    from seqrec_lib.language.orpo import token_log_odds

    values = torch.from_numpy(logits.astype(np.float64))
    return token_log_odds(values, torch.arange(logits.shape[1]).expand(logits.shape)).numpy()


def pool_ranks(scores: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The target's rank within each pool, from 1; ties count against it. 0 where it is not in the pool.

    >>> pool_ranks(np.array([[3.0, 1.0, 3.0], [1.0, 2.0, 3.0]]), np.array([0, -1])).tolist()
    [2, 0]

    Raises:
        ValueError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("the ranker produced NaN or infinite scores: training has diverged")
    own = np.take_along_axis(scores, np.maximum(place, 0)[:, None], 1)
    return np.where(place >= 0, (scores >= own).sum(1), 0)


def overall_ranks(pool_rank: np.ndarray, place: np.ndarray, retriever_rank: np.ndarray, k: int) -> np.ndarray:
    """Every user's rank in the list of ``k`` re-ranked candidates followed by the rest of the retriever's list.

    >>> overall_ranks(np.array([2, 0]), np.array([5, -1]), np.array([6, 31]), 20).tolist()
    [2, 31]
    """
    return np.where(place >= 0, pool_rank, np.maximum(retriever_rank, k + 1)).astype(np.int32)


def random_floor(k: int, cutoffs: Sequence[int] = (5, 10)) -> dict[str, float]:
    """What a random permutation of ``k`` candidates reaches on average where the target is one of them.

    >>> {name: round(value, 4) for name, value in random_floor(20, (10,)).items()}
    {'ht@10': 0.5, 'ndcg@10': 0.2272, 'mrr@10': 0.1464}
    """
    return rank_metrics(np.arange(1, k + 1), cutoffs)


def subset_and_overall(
    pool_rank: np.ndarray, place: np.ndarray, retriever_rank: np.ndarray, k: int, cutoffs: Sequence[int] = (5, 10)
) -> dict[str, float]:
    """Metrics over all users, and with ``subset_`` in front over those whose target was retrieved (if any was)."""
    found = place >= 0
    subset = rank_metrics(pool_rank[found], cutoffs) if found.any() else {}
    overall = rank_metrics(overall_ranks(pool_rank, place, retriever_rank, k), cutoffs)
    return overall | {f"subset_{name}": value for name, value in subset.items()}


def standardised(scores: np.ndarray) -> np.ndarray:
    """Each pool's scores with mean 0 and standard deviation 1 (0 where all are equal)."""
    centred = scores - scores.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12)


def blend(retriever: np.ndarray, ranker: np.ndarray, weight: float) -> np.ndarray:
    """``1 - weight`` parts of the retriever's scores and ``weight`` of the ranker's log-odds, both standardised."""
    return (1 - weight) * standardised(retriever) + weight * standardised(ranker)


def best_blend(retriever: np.ndarray, ranker: np.ndarray, place: np.ndarray, steps: int = 20) -> float:
    """The weight of the ranker with the best NDCG@10, by a grid over [0, 1]; for validation users, never for test.

    The least such weight: a ranker that adds nothing gets none. 0 where no target was retrieved.
    """
    if not (place >= 0).any():
        return 0.0
    weights = np.linspace(0, 1, steps + 1)
    found = place >= 0
    values = [
        rank_metrics(pool_ranks(blend(retriever, ranker, float(w)), place)[found], (10,))["ndcg@10"] for w in weights
    ]
    return float(weights[int(np.argmax(values))])


def permuted(
    score: Callable[[Pools], np.ndarray], pools: Pools, times: int, rng: np.random.Generator
) -> Mapping[str, np.ndarray]:
    """How much the order of the candidates matters: the same pools, ``times`` random orders.

    Returns:
        ``ranks`` (times, n) of the target (0: not in the pool); ``letter_share`` (K,): how often each letter is the
        first choice, 1 / K each where position does not matter; ``mean_logits`` (n, K): each candidate's mean score
        over the orders, in the pools' own order: the ranking with position averaged out.
    """
    n, k = pools.items.shape
    ranks = np.empty((times, n), np.int64)
    first = np.zeros(k)
    total = np.zeros((n, k))
    for number in range(times):
        order = rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)
        arranged = pools.arranged(order)
        logits = score(arranged)
        ranks[number] = pool_ranks(logits, arranged.place)
        first += np.bincount(logits.argmax(1), minlength=k)
        back = np.argsort(order, axis=1)
        total += np.take_along_axis(logits, back, 1)
    return {"ranks": ranks, "letter_share": first / (times * n), "mean_logits": total / times}


def calibrated(logits: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Letter logits less a prior (K,): the logits of a prompt without content, or the mean over prompts."""
    return logits - prior

"""Tuning a ranker: sampled prompts with letters and any objective of :mod:`objectives`, or titles in a row.

One code path for fine-tuning (`sft`) and for every preference objective, so that arms differ in the loss alone. Chosen
and rejected letters share one forward pass, which computes only the letters' logits where the objective asks for no
others. In a row of titles every token is a lesson. A step's prompts go through the model in micro-batches of similar
length, as many tokens at once as the bound on memory allows (`memory`); their gradients add up to that of the whole
step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Histories, bucketed_batches, cut_windows
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.candidates import sample_prefixes, training_pools
from seqrec_lib.language.corpus import pad
from seqrec_lib.language.logits import next_token_logits, row_losses
from seqrec_lib.language.memory import StepPlan, plan_steps, set_checkpointing
from seqrec_lib.language.objectives import LETTERS_ALONE, NEEDS_REFERENCE, Knobs, answer_loss
from seqrec_lib.language.ranker_recipes import Schedule, Teaching
from seqrec_lib.language.ranking import CandidateRanker, LetterRanker, TitleRanker
from seqrec_lib.train.checkpoint import Checkpoint, Stateful, Tensors
from seqrec_lib.train.loop import matmul_rate

if TYPE_CHECKING:
    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.evaluate.ranking import Recommender


MEANS = ("loss", "accuracy", "margin")  # of an epoch
SECONDS = 60.0  # between two checkpoints


@dataclass(frozen=True)
class Tuning:
    """How a ranker is tuned, by AdamW. Defaults: LlamaRec's fine-tuning.

    Attributes:
        schedule, warmup_steps: after the warm-up, linear to zero, constant, or the inverse square root of the step with
            the warm-up as its scale.
        batch: prompts of a step. epochs: passes over the examples. clip: largest norm of the gradient.
        seed: of the order of examples and of dropout.
    """

    objective: str = "sft"
    knobs: Knobs = field(default_factory=Knobs)
    learning_rate: float = 1e-4
    schedule: Schedule = "linear"
    warmup_steps: int = 100
    batch: int = 16
    epochs: int = 1
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0


@dataclass
class Place:
    """How far tuning is: finished steps, sums over the examples of the epoch under way, entries of finished epochs;
    tokens of prompts and seconds so far."""

    step: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0] * len(MEANS))
    history: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Meter:
    """What tuning took: tokens of prompts (padding left out), seconds of steps, FLOP, and the micro-batches' plan. A
    meter that is given to several tunings adds up."""

    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    plan: StepPlan | None = None
    precision: str = "fp32"

    def cost(self, device: torch.device) -> dict[str, Any]:
        """For a record; ``train_matmul_share`` is the share of the device's rate in a large product in `precision`."""
        if self.plan is None:
            return {"train_seconds": 0.0}
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return {
            "train_seconds": self.seconds,
            "train_tokens": self.tokens,
            "train_tokens_per_second": self.tokens / self.seconds,
            "train_matmul_share": self.flops / self.seconds / matmul_rate(device, dtype),
            "micro_batch_tokens": self.plan.tokens,
            "gradient_checkpointing": self.plan.checkpointing,
            "memory_bound_bytes": self.plan.bound,
        }


@dataclass(frozen=True)
class Examples:
    """Lessons in letters: n prompts (token ids) with the index of the chosen letter and of one rejected letter, (n,)
    int64 each."""

    prompts: list[list[int]]
    chosen: np.ndarray
    rejected: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.chosen) == len(self.rejected) or not self.prompts:
            raise SeqRecError(f"{len(self.prompts)} prompts, {len(self.chosen)} chosen, {len(self.rejected)} rejected")
        if (self.chosen == self.rejected).any():
            raise SeqRecError("a pair's chosen and rejected letter are the same; pairs need two candidates")

    def losses(self, ranker: LetterRanker, config: Tuning) -> Callable[[np.ndarray], Tensor]:
        """From indices (b,) to `MEANS` (b, 3). The margin is that between the two letters' logits.

        A reference, where the objective needs one, is the model as it is when this is called.
        """
        device, reference = ranker.model.device, None
        if config.objective in NEEDS_REFERENCE:
            reference = torch.from_numpy(ranker.scores(self.prompts)).to(device)
        chosen, rejected = (torch.from_numpy(x.astype(np.int64)).to(device) for x in (self.chosen, self.rejected))
        columns = ranker.letter_tokens if config.objective in LETTERS_ALONE else None
        letters = ranker.letter_tokens if columns is None else torch.arange(ranker.candidates, device=device)

        def losses(rows: np.ndarray) -> Tensor:
            batch = pad([self.prompts[i] for i in rows], ranker.tokenizer.pad_token_id)
            index = torch.from_numpy(rows).to(device)
            logits = next_token_logits(ranker.model, batch.ids.to(device), batch.lengths.to(device), columns)
            won, lost = chosen[index], rejected[index]
            before = None if reference is None else reference[index]
            pool = logits.detach()[:, letters]
            gap = (pool.gather(1, won[:, None]) - pool.gather(1, lost[:, None]))[:, 0]
            each = answer_loss(config.objective, logits, letters, won, lost, config.knobs, before)
            return torch.stack([each, (gap > 0).to(each.dtype), gap.to(each.dtype)], 1)

        return losses


@dataclass(frozen=True)
class Rows:
    """Lessons in titles: n texts (token ids), in which every token that titles are written with is to be told from what
    stands before, also where it stands in front of the first title."""

    prompts: list[list[int]]

    def losses(self, ranker: TitleRanker, config: Tuning) -> Callable[[np.ndarray], Tensor]:
        """From indices (b,) to `MEANS` (b, 3), as `logits.row_losses` has them."""
        if ranker.vocabulary is None:
            raise SeqRecError("a ranker is tuned on titles in a row; use the prompt next-title")
        device, vocabulary = ranker.model.device, ranker.vocabulary.to(ranker.model.device)

        def losses(rows: np.ndarray) -> Tensor:
            batch = pad([self.prompts[i] for i in rows], ranker.tokenizer.pad_token_id)
            return row_losses(ranker.model, batch.ids.to(device), batch.lengths.to(device), vocabulary)

        return losses


def rate(config: Tuning, step: int, steps: int) -> float:
    """The learning rate's factor at ``step`` (from 0) of ``steps``.

    >>> paper = Tuning(schedule="inverse-sqrt", warmup_steps=100)
    >>> [round(rate(paper, step, 1000), 3) for step in (0, 49, 99, 399)]
    [0.01, 0.5, 1.0, 0.5]
    """
    warm = max(config.warmup_steps, 1)
    done = step + 1
    if done <= config.warmup_steps:
        return done / warm
    if config.schedule == "inverse-sqrt":
        return math.sqrt(warm / done)
    if config.schedule == "linear":
        return (steps - step) / max(steps - config.warmup_steps, 1)
    return 1.0


def tune(
    ranker: Any,
    examples: Examples | Rows,
    config: Tuning,
    *,
    name: str = "tuning",
    data: str = "",
    meter: Meter | None = None,
) -> list[dict[str, Any]]:
    """Tune the ranker's trainable parameters in place; returns one entry per epoch: loss, accuracy, margin.

    ``accuracy``: how often the chosen letter (or a title's token) is above the rejected one (or all others);
    ``margin``: the mean of that difference in logits. Where the ranker has a folder, tuning goes on from the checkpoint
    ``name`` there exactly (on the CPU), and one that was finished is only read.

    Args:
        data: split hash of what the examples were made from. meter: is told what it took.

    Raises:
        SeqRecError: an unknown objective, a loss that is not finite, or a checkpoint that is damaged or of another run.
    """
    model, n = ranker.model, len(examples.prompts)
    lessons = examples.losses(ranker, config)

    def losses(rows: np.ndarray) -> Tensor:
        with ranker.products():
            return lessons(rows)

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    rng = np.random.default_rng(config.seed)
    per_epoch = -(-n // config.batch)
    steps = per_epoch * config.epochs
    lengths = np.array([len(ids) for ids in examples.prompts])
    torch.manual_seed(config.seed)
    trained = Tensors((name, p) for name, p in model.named_parameters() if p.requires_grad)
    path = ranker.folder / f"{name}.pt" if ranker.folder else None
    identity = {**asdict(config), "examples": n, "data": data, "precision": ranker.precision}
    parts: dict[str, Stateful] = {"weights": trained, "optimizer": optimizer}
    file = Checkpoint(path, identity, parts, seconds=SECONDS, report=ranker.report)
    place = file.load(Place)
    model.train()
    longest = lengths.argmax()
    plan = plan_steps(model, lambda: losses(np.array([longest]))[:, 0].mean(), int(lengths[longest]))
    if not plan.kept:
        size = int(lengths[longest])
        ranker.report(f"one prompt of {size} tokens is tuned at a time, and may take more than {plan.bound:,} bytes")
    if plan.checkpointing:
        set_checkpointing(model, True)
    for epoch in range(1, config.epochs + 1):
        batches = np.array_split(rng.permutation(n), per_epoch)
        for rows in batches[max(place.step - (epoch - 1) * per_epoch, 0) :]:
            began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            sums = np.zeros(len(MEANS))
            for part in _micro_batches(rows, lengths, plan.tokens):
                each = losses(part)
                (each[:, 0].sum() / len(rows)).backward()
                sums += each.detach().sum(0).tolist()
            if not np.isfinite(sums[0]):
                raise SeqRecError(f"loss {sums[0]} at step {place.step + 1}; lower the learning rate")
            torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate(config, place.step, steps)
            optimizer.step()
            place.step += 1
            place.totals = [total + one for total, one in zip(place.totals, sums.tolist(), strict=True)]
            place.tokens += int(lengths[rows].sum())
            place.seconds += time.perf_counter() - began
            if place.step == epoch * per_epoch:
                place.history.append({"epoch": epoch} | {k: t / n for k, t in zip(MEANS, place.totals, strict=True)})
                place.totals = [0.0] * len(MEANS)
            file.save(place, due=place.step == steps)
            speed = place.tokens / place.seconds
            line = f"epoch {epoch}/{config.epochs}, loss {sums[0] / len(rows):.3f}, {speed:,.0f} tokens/s"
            ranker.report_share(place.step / steps, line)
    if plan.checkpointing:
        set_checkpointing(model, False)
    model.eval()
    if meter is not None:
        meter.tokens += place.tokens
        meter.seconds += place.seconds
        meter.flops += place.tokens * plan.flops
        meter.plan, meter.precision = plan, ranker.precision
    return place.history


def _micro_batches(rows: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """The rows of a step in parts of similar length, at most ``tokens`` padded tokens each; all at once if they fit."""
    if len(rows) * int(lengths[rows].max()) <= tokens:
        return [rows]
    return [rows[part] for part in bucketed_batches(lengths[rows], tokens)]


def teach(
    ranker: CandidateRanker,
    sequences: Sequences,
    retriever: Recommender,
    teaching: Teaching,
    seed: int,
    meter: Meter | None = None,
) -> list[dict[str, Any]]:
    """Fine-tune on prefixes of the training sequences: lessons, where there are any, then the prompts of use.

    In a lesson the history ends in the answer, and the other candidates are random. So its letter can be found without
    knowing what goes with what, which a model with random weights learns soon. Their loss is that of the letters alone.

    A ranker by titles reads stretches of the training sequences instead; the last of a long one reaches back.

    Returns:
        one entry per epoch, as `tune` has them; lessons are epoch 0.
    """
    setting, rng = ranker.setting, np.random.default_rng([seed, 0x1E77E])
    config = Tuning(
        teaching.objective,
        learning_rate=teaching.learning_rate,
        schedule=teaching.schedule,
        warmup_steps=teaching.warmup_steps,
        batch=teaching.batch,
        epochs=teaching.epochs,
        seed=seed,
    )
    if isinstance(ranker, TitleRanker):
        windows = cut_windows(sequences, setting.history, rng=rng)
        drawn = np.sort(rng.permutation(len(windows))[: teaching.prompts])
        spans = zip(windows.start[drawn].tolist(), windows.stop[drawn].tolist(), strict=True)
        read = [sequences.items[start : stop + 1].tolist() for start, stop in spans]
        answers = [ranker.encoder.titles[items[-1]] for items in read]
        texts = [own.ids for own in ranker.encoder.examples([items[:-1] for items in read], answers)]
        return tune(ranker, Rows(texts), config, data=sequences.split_hash, meter=meter) if texts else []
    prefixes = sample_prefixes(sequences, teaching.per_user, rng)
    if teaching.prompts is not None and teaching.prompts < len(prefixes):
        prefixes = prefixes.take(np.sort(rng.permutation(len(prefixes))[: teaching.prompts]))
    if not len(prefixes):
        return []

    def examples(histories: Histories, shown: int, negatives: str, order: str) -> Examples:
        pools = training_pools(
            retriever, sequences, histories, setting.candidates, rng, negatives=negatives, order=order
        )
        read = Histories(histories.start, histories.stop + shown, histories.targets)
        others = (pools.place + rng.integers(1, setting.candidates, len(pools))) % setting.candidates
        return Examples(ranker.prompts(sequences, read, pools.items), pools.place, others)

    history: list[dict[str, Any]] = []
    if teaching.lessons:
        some = prefixes.take(rng.integers(0, len(prefixes), teaching.lessons))
        lessons = replace(config, objective="letters", schedule="constant", epochs=1)
        shown = examples(some, 1, "random", "shuffled")
        history = tune(ranker, shown, lessons, name="lessons", data=sequences.split_hash, meter=meter)
        history[0]["epoch"] = 0
    prompts = examples(prefixes, 0, setting.negatives, setting.order)
    return history + tune(ranker, prompts, config, data=sequences.split_hash, meter=meter)

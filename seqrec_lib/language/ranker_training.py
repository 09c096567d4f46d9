"""Tuning a ranker: sampled prompts with letters and any objective of :mod:`objectives`, or titles in a row.

One code path for fine-tuning (`sft`) and for every preference objective, so that arms differ in the loss alone; the
loop over its steps is the recommenders' (`seqrec_lib.train.epoch`). Chosen and rejected letters share one forward
pass, which computes only the letters' logits where the objective asks for no others. In a row of titles every token is
a lesson. A step's prompts go through the model in micro-batches of similar length, as many tokens at once as the bound
on memory allows (`memory`); their gradients add up to that of the whole step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Histories, bucketed_batches, cut_windows
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.candidates import sample_prefixes, training_pools
from seqrec_lib.language.corpus import pad
from seqrec_lib.language.logits import next_token_logits, row_losses
from seqrec_lib.language.memory import StepPlan, plan_steps, set_checkpointing
from seqrec_lib.language.objectives import LETTERS_ALONE, NEEDS_REFERENCE, answer_loss
from seqrec_lib.language.ranker_recipes import Preference, Teaching
from seqrec_lib.language.ranking import CandidateRanker, LetterRanker, TitleRanker
from seqrec_lib.train.checkpoint import Checkpoint, Stateful, Tensors, TrainingState
from seqrec_lib.train.epoch import Batches, train_epoch
from seqrec_lib.train.loop import matmul_rate

if TYPE_CHECKING:
    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.evaluate.ranking import Recommender


MEANS = ("loss", "accuracy", "margin")  # of an epoch
SECONDS = 60.0  # between two checkpoints
CLIP = 1.0  # largest norm of the gradient


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

    def losses(self, ranker: LetterRanker, how: Preference) -> Callable[[np.ndarray], Tensor]:
        """From indices (b,) to `MEANS` (b, 3). The margin is that between the two letters' logits.

        A reference, where the objective needs one, is the model as it is when this is called.
        """
        device, reference = ranker.model.device, None
        if how.objective in NEEDS_REFERENCE:
            reference = torch.from_numpy(ranker.scores(self.prompts)).to(device)
        chosen, rejected = (torch.from_numpy(x.astype(np.int64)).to(device) for x in (self.chosen, self.rejected))
        knobs = {name: getattr(how, name) for name in ("beta", "gamma", "lambda_")}
        columns = ranker.letter_tokens if how.objective in LETTERS_ALONE else None
        letters = ranker.letter_tokens if columns is None else torch.arange(ranker.candidates, device=device)

        def losses(rows: np.ndarray) -> Tensor:
            batch = pad([self.prompts[i] for i in rows], ranker.tokenizer.pad_token_id)
            index = torch.from_numpy(rows).to(device)
            logits = next_token_logits(ranker.model, batch.ids.to(device), batch.lengths.to(device), columns)
            won, lost = chosen[index], rejected[index]
            before = None if reference is None else reference[index]
            pool = logits.detach()[:, letters]
            gap = (pool.gather(1, won[:, None]) - pool.gather(1, lost[:, None]))[:, 0]
            each = answer_loss(how.objective, logits, letters, won, lost, before, **knobs)
            return torch.stack([each, (gap > 0).to(each.dtype), gap.to(each.dtype)], 1)

        return losses


@dataclass(frozen=True)
class Rows:
    """Lessons in titles: n texts (token ids), in which every token that titles are written with is to be told from what
    stands before, also where it stands in front of the first title."""

    prompts: list[list[int]]

    def losses(self, ranker: TitleRanker, how: Preference) -> Callable[[np.ndarray], Tensor]:
        """From indices (b,) to `MEANS` (b, 3), as `logits.row_losses` has them."""
        if ranker.vocabulary is None:
            raise SeqRecError("a ranker is tuned on titles in a row; use the prompt next-title")
        device, vocabulary = ranker.model.device, ranker.vocabulary.to(ranker.model.device)

        def losses(rows: np.ndarray) -> Tensor:
            batch = pad([self.prompts[i] for i in rows], ranker.tokenizer.pad_token_id)
            return row_losses(ranker.model, batch.ids.to(device), batch.lengths.to(device), vocabulary)

        return losses


class Part(NamedTuple):
    """Examples of a micro-batch: their indices, their number, and their tokens without padding."""

    rows: np.ndarray
    n: int
    positions: int


class MicroBatches(Batches):
    """An epoch's examples in steps of ``batch`` at most, and these in parts of similar length.

    Args:
        order: of the examples. lengths: their tokens. tokens: padded tokens of a part, at most.
    """

    step_ends: np.ndarray

    def __init__(self, order: np.ndarray, lengths: np.ndarray, batch: int, tokens: int) -> None:
        self.lengths, parts = lengths, []
        for rows in np.array_split(order, -(-len(order) // batch)):
            fits = len(rows) * int(lengths[rows].max()) <= tokens
            parts.append([rows] if fits else [rows[part] for part in bucketed_batches(lengths[rows], tokens)])
        self.batches = [part for own in parts for part in own]
        self.step_ends = np.cumsum([len(own) for own in parts])

    def n_targets(self, step: int) -> int:
        return len(self.batches[step])

    def load(self, step: int) -> Part:
        rows = self.batches[step]
        return Part(rows, len(rows), int(self.lengths[rows].sum()))


def rate(how: Preference, step: int, steps: int) -> float:
    """The learning rate's factor at ``step`` (from 0) of ``steps``.

    >>> paper = Preference(schedule="inverse-sqrt", warmup_steps=100)
    >>> [round(rate(paper, step, 1000), 3) for step in (0, 49, 99, 399)]
    [0.01, 0.5, 1.0, 0.5]
    """
    warm = max(how.warmup_steps, 1)
    done = step + 1
    if done <= how.warmup_steps:
        return done / warm
    if how.schedule == "inverse-sqrt":
        return math.sqrt(warm / done)
    if how.schedule == "linear":
        return (steps - step) / max(steps - how.warmup_steps, 1)
    return 1.0


def tune(
    ranker: Any,
    examples: Examples | Rows,
    how: Preference,
    seed: int = 0,
    *,
    name: str = "tuning",
    data: str = "",
    meter: Meter | None = None,
) -> list[dict[str, Any]]:
    """Tune the ranker's trainable parameters in place, by AdamW; returns one entry per epoch: loss, accuracy, margin.

    ``accuracy``: how often the chosen letter (or a title's token) is above the rejected one (or all others);
    ``margin``: the mean of that difference in logits. Where the ranker has a folder, tuning goes on from the checkpoint
    ``name`` there exactly (on the CPU), and one that was finished is only read.

    Args:
        how: its ``epochs`` are passes over the examples. seed: of the order of examples and of dropout.
        data: split hash of what the examples were made from. meter: is told what it took.

    Raises:
        SeqRecError: an unknown objective, a loss that is not finite, or a checkpoint that is damaged or of another run.
    """
    model, n = ranker.model, len(examples.prompts)
    lessons = examples.losses(ranker, how)
    began, carried = 0.0, 0.0  # when the epoch began, were there nothing but steps; its seconds before a resume

    def losses(rows: np.ndarray) -> Tensor:
        with ranker.products():
            return lessons(rows).mean(0)

    def look() -> None:
        nonlocal began
        loss = state.mean_loss()  # waits for the device, so that the clock is read behind the step
        if not math.isfinite(loss):  # before it is saved
            raise SeqRecError(f"loss {loss} at step {state.total_steps}; lower the learning rate")
        now = time.perf_counter()
        state.epoch_seconds = carried + now - began
        file.save(state, due=False)
        began += time.perf_counter() - now  # seconds are those of steps
        speed = state.positions / state.epoch_seconds
        line = f"epoch {state.epoch + 1}/{how.epochs}, loss {loss:.3f}, {speed:,.0f} tokens/s"
        ranker.report_share(state.total_steps / steps, line)

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=how.learning_rate, weight_decay=0.0)
    rng = np.random.default_rng(seed)
    per_epoch = -(-n // how.batch)
    steps = per_epoch * how.epochs
    lengths = np.array([len(ids) for ids in examples.prompts])
    torch.manual_seed(seed)
    path = ranker.folder / f"{name}.pt" if ranker.folder else None
    identity = {**asdict(how), "seed": seed, "examples": n, "data": data, "precision": ranker.precision}
    parts: dict[str, Stateful] = {"weights": Tensors(trained.items()), "optimizer": optimizer}
    file = Checkpoint(path, identity, parts, seconds=SECONDS, report=ranker.report)
    state = file.load(TrainingState)
    model.train()
    longest = lengths.argmax()
    plan = plan_steps(model, lambda: losses(np.array([longest]))[0], int(lengths[longest]))
    state.flops = plan.flops
    if not plan.kept:
        size = int(lengths[longest])
        ranker.report(f"one prompt of {size} tokens is tuned at a time, and may take more than {plan.bound:,} bytes")
    if plan.checkpointing:
        set_checkpointing(model, True)
    orders = [rng.permutation(n) for _ in range(how.epochs)]
    while state.epoch < how.epochs:
        batches = MicroBatches(orders[state.epoch], lengths, how.batch, plan.tokens)
        done = state.total_steps - state.epoch * per_epoch
        state.step = int(batches.step_ends[done - 1]) if done else 0  # with other memory there are other parts
        began, carried = time.perf_counter(), state.epoch_seconds
        train_epoch(
            batches,
            state,
            lambda part: losses(part.rows),
            optimizer,
            [how.learning_rate],
            factor=lambda step, _: rate(how, step, steps),
            clip=CLIP,
            look=look,
            device=model.device,
        )
        state.end_epoch(**dict(zip(MEANS[1:], state.means()[1:], strict=True)))
        file.save(state)
    if plan.checkpointing:
        set_checkpointing(model, False)
    model.eval()
    if meter is not None:
        tokens = how.epochs * int(lengths.sum())
        meter.tokens += tokens
        meter.seconds += sum(entry["seconds"] for entry in state.history)
        meter.flops += tokens * plan.flops
        meter.plan, meter.precision = plan, ranker.precision
    return [{"epoch": int(own["epoch"])} | {name: own[name] for name in MEANS} for own in state.history]


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
    shared = {own.name for own in fields(Teaching)} & {own.name for own in fields(Preference)}
    how = Preference(**{name: getattr(teaching, name) for name in shared})
    told: dict[str, Any] = {"data": sequences.split_hash, "meter": meter}
    if isinstance(ranker, TitleRanker):
        windows = cut_windows(sequences, setting.history, rng=rng)
        drawn = np.sort(rng.permutation(len(windows))[: teaching.prompts])
        spans = zip(windows.start[drawn].tolist(), windows.stop[drawn].tolist(), strict=True)
        read = [sequences.items[start : stop + 1].tolist() for start, stop in spans]
        answers = [ranker.encoder.titles[items[-1]] for items in read]
        texts = [own.ids for own in ranker.encoder.examples([items[:-1] for items in read], answers)]
        return tune(ranker, Rows(texts), how, seed, **told) if texts else []
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
        lessons = replace(how, objective="letters", schedule="constant", epochs=1)
        shown = examples(some, 1, "random", "shuffled")
        history = tune(ranker, shown, lessons, seed, name="lessons", **told)
        history[0]["epoch"] = 0
    prompts = examples(prefixes, 0, setting.negatives, setting.order)
    return history + tune(ranker, prompts, how, seed, **told)

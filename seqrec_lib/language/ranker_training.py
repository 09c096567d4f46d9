"""Tuning a letter ranker: sampled prompts, one forward pass each, any objective of :mod:`objectives`.

One code path for fine-tuning (`sft`) and for every preference objective, so that arms differ in the loss alone. The
output layer sees the last position of each prompt only, and chosen and rejected letters share that one pass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.corpus import pad
from seqrec_lib.language.objectives import NEEDS_REFERENCE, Knobs, answer_loss, check
from seqrec_lib.language.pretrained import next_token_logits
from seqrec_lib.language.ranker_recipes import Schedule, Setting, Teaching
from seqrec_lib.language.ranking import LetterRanker
from seqrec_lib.train.checkpoint import Checkpoint, Tensors

if TYPE_CHECKING:
    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.evaluate.ranking import Recommender


MEANS = ("loss", "accuracy", "margin")  # of an epoch
SECONDS = 60.0  # between two checkpoints


@dataclass(frozen=True)
class Tuning:
    """How a ranker is tuned. Defaults: LlamaRec's fine-tuning.

    Attributes:
        objective, knobs: the loss.
        learning_rate, schedule, warmup_steps: after the warm-up, linear to zero, constant, or the inverse square root
            of the step with the warm-up as its scale.
        batch: prompts of a step. epochs: passes over the examples.
        weight_decay, clip: of AdamW; largest norm of the gradient.
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


PAPER_ORPO = Tuning("orpo", Knobs(lambda_=0.05), 5e-6, "inverse-sqrt", 100, epochs=5)
"""The paper's setting (section 3.5); its batch size is not given."""


@dataclass
class Place:
    """How far tuning is: finished steps, sums over the examples of the epoch under way, entries of finished epochs."""

    step: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0] * len(MEANS))
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Examples:
    """n prompts (token ids) with the index of the chosen letter and of one rejected letter, (n,) int64 each."""

    prompts: list[list[int]]
    chosen: np.ndarray
    rejected: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.chosen) == len(self.rejected) or not self.prompts:
            raise SeqRecError(f"{len(self.prompts)} prompts, {len(self.chosen)} chosen, {len(self.rejected)} rejected")
        if (self.chosen == self.rejected).any():
            raise SeqRecError("a pair's chosen and rejected letter are the same; pairs need two candidates")


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
    ranker: LetterRanker,
    examples: Examples,
    config: Tuning,
    *,
    report: Callable[[float, str], None] = lambda share, line: None,
    checkpoint: Path | None = None,
    data: str = "",
    warn: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Tune the ranker's trainable parameters in place; returns one entry per epoch: loss, accuracy, margin.

    ``accuracy``: how often the chosen letter is above the rejected one; ``margin``: the mean of that difference in
    logits. A reference, where the objective needs one, is the model as it is when this is called. With a file
    ``checkpoint``, tuning goes on from it exactly (on the CPU), and one that was finished is only read. ``data`` is the
    split hash of what the examples were made from, and ``warn`` takes a line where a checkpoint is damaged.

    Raises:
        SeqRecError: an unknown objective, a loss that is not finite, or a checkpoint that is damaged or of another run.
    """
    check(config.objective)
    model, letters, n = ranker.model, ranker.letter_tokens, len(examples.prompts)
    reference = None
    if config.objective in NEEDS_REFERENCE:
        reference = torch.from_numpy(ranker.letter_logits(examples.prompts)).to(model.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    rng = np.random.default_rng(config.seed)
    per_epoch = -(-n // config.batch)
    steps = per_epoch * config.epochs
    chosen, rejected = (torch.from_numpy(x.astype(np.int64)) for x in (examples.chosen, examples.rejected))
    torch.manual_seed(config.seed)
    trained = Tensors((name, p) for name, p in model.named_parameters() if p.requires_grad)
    file = Checkpoint(
        checkpoint,
        {**asdict(config), "examples": n, "data": data},
        {"weights": trained, "optimizer": optimizer},
        seconds=SECONDS,
        report=warn,
    )
    place = file.load(Place)
    model.train()
    for epoch in range(1, config.epochs + 1):
        batches = np.array_split(rng.permutation(n), per_epoch)
        for rows in batches[max(place.step - (epoch - 1) * per_epoch, 0) :]:
            batch = pad([examples.prompts[i] for i in rows], ranker.tokenizer.pad_token_id)
            device, index = model.device, torch.from_numpy(rows)
            logits = next_token_logits(model, batch.ids.to(device), batch.lengths.to(device))
            won, lost = chosen[index].to(device), rejected[index].to(device)
            before = None if reference is None else reference[index.to(device)]
            loss = answer_loss(config.objective, logits, letters, won, lost, config.knobs, before).mean()
            if not torch.isfinite(loss):
                raise SeqRecError(f"loss {loss.item()} at step {place.step + 1}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate(config, place.step, steps)
            optimizer.step()
            place.step += 1
            pool = logits.detach()[:, letters]
            gap = (pool.gather(1, won[:, None]) - pool.gather(1, lost[:, None]))[:, 0]
            means = (loss.item(), (gap > 0).float().mean().item(), gap.mean().item())
            place.totals = [total + len(rows) * mean for total, mean in zip(place.totals, means, strict=True)]
            if place.step == epoch * per_epoch:
                place.history.append({"epoch": epoch} | {k: t / n for k, t in zip(MEANS, place.totals, strict=True)})
                place.totals = [0.0] * len(MEANS)
            file.save(place, due=place.step == steps)
            report(place.step / steps, f"epoch {epoch}/{config.epochs}, loss {loss.item():.3f}")
    model.eval()
    return place.history


def teach(
    ranker: LetterRanker,
    sequences: Sequences,
    retriever: Recommender,
    setting: Setting,
    teaching: Teaching,
    seed: int,
    *,
    report: Callable[[float, str], None] = lambda share, line: None,
    warn: Callable[[str], None] = lambda line: None,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Fine-tune on prefixes of the training sequences: lessons, where there are any, then the prompts of use.

    In a lesson the history ends in the answer, and the other candidates are random. So its letter can be found without
    knowing what goes with what, which a model with random weights learns soon, and of which the prompts of use then
    ask the fuzzy version. Their loss is taken over the letters alone. Checkpoints of both lie in ``folder``.

    Returns:
        one entry per epoch, as `tune` has them; lessons are epoch 0.
    """
    from seqrec_lib.data.sequences import Histories
    from seqrec_lib.language.candidates import sample_prefixes, training_pools

    rng = np.random.default_rng([seed, 0x1E77E])
    prefixes = sample_prefixes(sequences, teaching.per_user, rng)

    def examples(histories: Histories, shown: int, negatives: str, order: str) -> Examples:
        pools = training_pools(
            retriever, sequences, histories, setting.candidates, rng, negatives=negatives, order=order
        )
        read = Histories(histories.start, histories.stop + shown, histories.targets)
        others = (pools.place + rng.integers(1, setting.candidates, len(pools))) % setting.candidates
        return Examples(ranker.prompts(sequences, read, pools.items), pools.place, others)

    config = Tuning(
        teaching.objective,
        learning_rate=teaching.learning_rate,
        schedule=teaching.schedule,
        warmup_steps=teaching.warmup_steps,
        batch=teaching.batch,
        epochs=teaching.epochs,
        seed=seed,
    )
    history: list[dict[str, Any]] = []
    told: dict[str, Any] = {"report": report, "warn": warn, "data": sequences.split_hash}
    if teaching.lessons:
        rows = rng.integers(0, len(prefixes), teaching.lessons)
        some = Histories(prefixes.start[rows], prefixes.stop[rows], prefixes.targets[rows])
        lessons = replace(config, objective="letters", schedule="constant", epochs=1)
        file = folder / "lessons.pt" if folder else None
        history = tune(ranker, examples(some, 1, "random", "shuffled"), lessons, checkpoint=file, **told)
        history[0]["epoch"] = 0
    file = folder / "tuning.pt" if folder else None
    prompts = examples(prefixes, 0, setting.negatives, setting.order)
    return history + tune(ranker, prompts, config, checkpoint=file, **told)


def with_adapter(
    model: Any,
    *,
    rank: int = 8,
    alpha: int = 32,
    dropout: float = 0.05,
    targets: tuple[str, ...] = ("q_proj", "v_proj"),
) -> Any:
    """The model with low-rank adapters (LlamaRec's by default), which alone are trained.

    Raises:
        SeqRecError: the model has no layer of these names.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), task_type=TaskType.CAUSAL_LM
    )
    try:
        with warnings.catch_warnings():  # peft reads an attribute that transformers has renamed
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            return get_peft_model(model, config)
    except ValueError as error:
        raise SeqRecError(f"no adapter on {', '.join(targets)}: {str(error)[:120]}") from None

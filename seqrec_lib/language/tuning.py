"""Fine-tuning a language model on next titles: GPT4Rec's and MamRec's training, by transformers' Trainer.

A training text is a stretch of a user's training history in GPT4Rec's prompt and the title that came next. Stretches
are those of `cut_windows`, drawn anew each epoch, so that nearly every training interaction is predicted in an epoch,
in the history of some text or as its answer. The loss is taken on all tokens, or on the answer only: a pretrained model
needs no lesson in the prompt, one from scratch learns most from the titles inside it.

Batches hold texts of similar length and are drawn once, from the seed; the Trainer walks through them in order. So an
interrupted run goes on with the very batch that came next, from its last checkpoint, a folder that is sealed
(`seqrec_lib.checksums`).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from seqrec_lib.checksums import SUMS, damage, seal
from seqrec_lib.data.sequences import Sequences, bucketed_batches, cut_windows
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.adapters import with_adapter
from seqrec_lib.language.corpus import Encoder, collate, latest_items
from seqrec_lib.language.hub_format import quiet
from seqrec_lib.language.logits import answer_loss_in_blocks, is_plain_output
from seqrec_lib.language.mixers import fast_mixers
from seqrec_lib.language.pretrained import LanguageModel
from seqrec_lib.language.recipes import Tuning

LARGE = 2**17  # tokens of a vocabulary from which on the loss is taken in blocks (Llama-2 has 2^15, Gemma 2^18)
LOGITS_AT_A_TIME = 2**25
VALIDATION_USERS = 512  # whose next title gives the validation loss, at most


Task = tuple[Any, int]  # item ids of a history, and the item that came next


@dataclass(frozen=True)
class Tuned:
    """history: one entry for each epoch (epoch, loss, valid_loss, seconds). seconds: of the steps of this process."""

    history: list[dict[str, float]]
    seconds: float


class Batches:
    """Batches of texts as a data set of the Trainer, each encoded when it is asked for.

    Args:
        batches: indices of the tasks of each batch.
    """

    def __init__(self, encoder: Encoder, tasks: list[Task], batches: list[np.ndarray], loss_on: str) -> None:
        self.encoder, self.tasks, self.batches, self.loss_on = encoder, tasks, batches, loss_on

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Right-padded token ids, mask and labels."""
        histories, targets = zip(*(self.tasks[i] for i in self.batches[index]), strict=True)
        texts = self.encoder.examples(histories, [self.encoder.titles[target] for target in targets])
        return dict(collate(texts, self.encoder.tokenizer.pad_token_id, loss_on=self.loss_on))


def training_batches(sequences: Sequences, encoder: Encoder, setting: Tuning, seed: int) -> Batches:
    """All batches of a training, epoch after epoch."""
    rng = np.random.default_rng([seed, 0x717E5])
    tasks: list[Task] = []
    batches: list[np.ndarray] = []
    for _ in range(setting.epochs):
        windows = cut_windows(sequences, setting.history, rng=rng)
        spans = zip(windows.start.tolist(), windows.stop.tolist(), strict=True)
        own = [(sequences.items[start:stop], int(sequences.items[stop])) for start, stop in spans]
        batches += [len(tasks) + b for b in bucketed_batches(_lengths(encoder, own), setting.tokens_per_batch, rng)]
        tasks += own
    return Batches(encoder, tasks, batches, setting.loss_on)


def validation_batches(sequences: Sequences, encoder: Encoder, setting: Tuning, seed: int) -> Batches:
    """The next title of some users, drawn by the seed, after their training history."""
    split = sequences.split("valid")
    rng = np.random.default_rng([seed, 0x7A11D])
    some = split.take(np.sort(rng.permutation(len(split))[:VALIDATION_USERS]))
    tasks: list[Task] = list(zip(latest_items(sequences, some, setting.history), some.targets.tolist(), strict=True))
    return Batches(encoder, tasks, bucketed_batches(_lengths(encoder, tasks), 2 * setting.tokens_per_batch), "answer")


def _lengths(encoder: Encoder, tasks: Sequence[Task]) -> np.ndarray:
    """Tokens of texts, from the sizes of their titles."""
    frame = len(encoder.prompts([[]])[0])
    sizes = [encoder.sizes[history].sum() + encoder.sizes[target] for history, target in tasks]
    return frame + np.minimum(np.array(sizes, dtype=np.int64), encoder.prompt_tokens)


def tune(
    language: LanguageModel,
    sequences: Sequences,
    encoder: Encoder,
    setting: Tuning,
    seed: int,
    workdir: Path,
    *,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
    report_share: Callable[[float, str], None] = lambda share, line: None,
) -> tuple[Any, Tuned]:
    """Fine-tune; going on from the last whole checkpoint of the same tuning in ``workdir``, where there is one.

    Returns:
        the model with the weights of the epoch whose validation loss was lowest (adapters merged), and what it took.

    Raises:
        SeqRecError: the prompt and an answer are longer than the model's positions, the loss became NaN, or what there
            is of checkpoints is damaged.
    """
    positions = getattr(language.model.config, "max_position_embeddings", None)
    needed = setting.prompt_tokens + setting.title_tokens + 1
    if positions is not None and needed > positions:
        raise SeqRecError(
            f"prompt_tokens {setting.prompt_tokens} and title_tokens {setting.title_tokens} need {needed} positions, "
            f"the model has {positions}; lower them"
        )
    batches = training_batches(sequences, encoder, setting, seed)
    epoch = max(1, len(batches) // setting.epochs)  # steps; the few batches beyond whole epochs are left out
    model, rank = language.model, setting.lora_rank
    if rank:
        model = with_adapter(model, rank=rank, alpha=2 * rank, targets="all-linear")
    watch = _Watch(epoch, setting.epochs, report, report_share)
    defines = (sequences.split_hash, sorted(asdict(setting).items()), seed, sorted(language.provenance.items()))
    folder = workdir / "tuning" / hashlib.sha256(repr(defines).encode()).hexdigest()[:16]
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,  # an item of the data set is a whole batch
        per_device_eval_batch_size=1,
        max_steps=epoch * setting.epochs,
        train_sampling_strategy="sequential",
        learning_rate=setting.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(setting.warmup * epoch * setting.epochs),
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=epoch,
        save_steps=epoch,
        save_total_limit=2,  # the last one, and the best one or else the one before
        logging_steps=epoch,
        prediction_loss_only=True,
        load_best_model_at_end=True,
        seed=seed,
        use_cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()),
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )
    config = language.model.config
    trainer = (_InBlocks if config.vocab_size > LARGE and is_plain_output(config) else Trainer)(
        model=model,
        args=arguments,
        train_dataset=batches,
        eval_dataset=validation_batches(sequences, encoder, setting, seed),
        data_collator=lambda batches: batches[0],
        optimizers=(_optimizer(model, setting), None),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    with quiet(), fast_mixers(language.model):
        trainer.train(resume_from_checkpoint=_last_whole(folder, report))
    history = _history(trainer.state.log_history, epoch, watch.seconds)
    if not all(np.isfinite(entry["loss"]) and np.isfinite(entry["valid_loss"]) for entry in history):
        raise SeqRecError(f"the loss became NaN or infinite at a learning rate of {setting.learning_rate}; lower it")
    best = trainer.state.best_model_checkpoint  # which the Trainer has read
    if best is None or damage(Path(best)):
        raise SeqRecError(f"the best checkpoint in {folder} is damaged or missing; delete that folder to start afresh")
    model = model.merge_and_unload() if rank else model
    return model.eval(), Tuned(history, sum(watch.seconds.values()))


def _last_whole(folder: Path, report: Callable[[str], None]) -> str | None:
    """The newest checkpoint that is whole, with the best one that it refers to; newer ones are deleted.

    Raises:
        SeqRecError: there are finished ones, and none of them is.
    """
    pattern = re.compile(r"checkpoint-(\d+)")
    places = {int(match[1]): path for path in folder.glob("*") if (match := pattern.fullmatch(path.name))}
    newest = [places[step] for step in sorted(places, reverse=True)]
    whole = next((path for path in newest if not damage(path) and not damage(_best_of(path))), None)
    finished = [path for path in newest if (path / SUMS).exists()]
    if whole is None and finished:
        raise SeqRecError(f"{finished[0]} is damaged, or the best checkpoint is; delete {folder} to start afresh")
    for path in newest[: newest.index(whole)] if whole else newest:
        report(f"{path} is damaged or was broken off, and is deleted; going on from the checkpoint before it")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return str(whole) if whole else None


def _best_of(checkpoint: Path) -> Path:
    """The best checkpoint when this one was written, which may be itself."""
    best = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["best_model_checkpoint"]
    return Path(best) if best else checkpoint


def _optimizer(model: Any, setting: Tuning) -> Any:
    """AdamW that decays matrices only: no norms, biases, nor Mamba's A, D and dt."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": setting.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=setting.learning_rate)


def _history(log: Sequence[dict[str, Any]], epoch: int, seconds: dict[int, float]) -> list[dict[str, float]]:
    """The Trainer's log as one entry for each epoch."""
    entries: dict[int, dict[str, float]] = {}
    for line in log:
        entry = entries.setdefault(round(line["step"] / epoch), {})
        entry |= {
            ours: float(line[theirs])
            for theirs, ours in (("loss", "loss"), ("eval_loss", "valid_loss"))
            if theirs in line
        }
    return [
        {"epoch": float(number)} | entry | ({"seconds": seconds[number]} if number in seconds else {})
        for number, entry in sorted(entries.items())
        if {"loss", "valid_loss"} <= entry.keys()
    ]


class _InBlocks(Trainer):
    """For vocabularies whose logits at all positions would fill the memory."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        block = max(LOGITS_AT_A_TIME // model.config.vocab_size, 1)
        loss = answer_loss_in_blocks(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"], block)
        return (loss, {"loss": loss}) if return_outputs else loss


class _Watch(TrainerCallback):
    """Counts the seconds of steps, passes on how far tuning is, and seals its checkpoints."""

    def __init__(
        self, epoch: int, epochs: int, report: Callable[[str], None], report_share: Callable[[float, str], None]
    ) -> None:
        self.epoch, self.epochs, self.report, self.report_share = epoch, epochs, report, report_share
        self.seconds: dict[int, float] = {}
        self.begin = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        number = -(-state.global_step // self.epoch)
        self.seconds[number] = self.seconds.get(number, 0.0) + time.perf_counter() - self.begin
        self.report_share(state.global_step / (self.epoch * self.epochs), f"tuning, epoch {number}/{self.epochs}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        number = state.global_step // self.epoch
        self.report(f"tuning, epoch {number}/{self.epochs}, valid loss {metrics['eval_loss']:.3f} per token")

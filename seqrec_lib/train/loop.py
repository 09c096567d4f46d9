"""The training of a recommender: batches, precision, clipping, averaging of weights, early stopping, checkpoints.

Every position of a training window is a prediction (`objective="all-positions"`), or every prefix is a sample of
its own whose loss is taken at its end (`objective="prefixes"`, the paper's way, needed for models not causal).

A checkpoint (:mod:`seqrec_lib.train.checkpoint`) holds the model, the optimizer, the averaged weights, the random
state and the place in the epoch, so a run that is killed at any moment and started again ends bit for bit as one that
was not (on a CPU; on a GPU some reductions are not deterministic).

Several processes (`accelerate launch`) take the steps of one: each computes a share of every batch, gradients and
losses are summed over all (:mod:`seqrec_lib.train.processes`), and the first process saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from seqrec_lib.data.sequences import Sequences, batches_by_step, bucketed_batches, cut_windows, padding_share, prefixes
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.ranking import gather_histories, rank_split
from seqrec_lib.models.base import SequentialRecommender
from seqrec_lib.train.checkpoint import VALIDATION_METRIC, Checkpoint, Stateful, Tensors, TrainingState, WeightAverage
from seqrec_lib.train.contracts import Loop, Progress, TrainingResult
from seqrec_lib.train.epoch import Batches, train_epoch
from seqrec_lib.train.recipes import Precision, TrainingConfig
from seqrec_lib.train.step import Batch, TrainingStep

if TYPE_CHECKING:
    from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize

CHECKPOINT = "checkpoint.pt"
# Measuring the rate of products takes a third of a second; it is done again only after an epoch of so many seconds.
RATE_AGAIN = 5.0


class _Batches(Batches):
    """An epoch's batches: a function of (seed, epoch) alone, so that any step can be found again."""

    def __init__(
        self,
        sequences: Sequences,
        config: TrainingConfig,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
        resident: bool = False,
    ) -> None:
        self.sequences, self.config, self.device, self.share = sequences, config, device, share
        self.items = torch.from_numpy(sequences.items).to(device=device, dtype=torch.int64)
        # the same batches, all of them for one process, gathered without waiting
        self.resident = fast.ResidentEpoch(self.items) if resident and (fast := _cuda_graphs()) else None

    def start_epoch(self, epoch: int) -> None:
        config = self.config
        rng = np.random.default_rng([config.seed, epoch])
        if config.objective == "prefixes":
            self.windows = prefixes(self.sequences, config.max_length)
        else:
            self.windows = cut_windows(self.sequences, config.max_length, stride=config.stride or None, rng=rng)
        lengths = self.windows.lengths
        self.step_ends = None
        if config.samples_per_step:
            batches, self.step_ends = batches_by_step(lengths, config.samples_per_step, config.tokens_per_batch, rng)
        else:
            batches = bucketed_batches(lengths, config.tokens_per_batch, rng)
        self.batches, self.padding = batches, padding_share(lengths, batches)
        if self.resident is not None:
            self.resident.fill(self.windows, self.batches)

    def n_targets(self, step: int) -> int:
        chosen = self.batches[step]
        return int((self.windows.stop[chosen] - self.windows.fresh[chosen]).sum())

    def load(self, step: int) -> Batch | None:
        """This process's windows of a batch, and their fresh positions with the targets; None: it has none of them."""
        if self.resident is not None:
            return self.resident.load(step)
        rank, world = self.share
        chosen = self.batches[step][rank::world]  # its windows are ordered by length: the shares are alike
        if not len(chosen):
            return None
        of_windows = (self.windows.start, self.windows.fresh, self.windows.stop)
        start, fresh, stop = (torch.from_numpy(x[chosen]).to(self.device) for x in of_windows)
        items, lengths = gather_histories(self.items, start, stop, None)
        position = start.unsqueeze(1) + torch.arange(items.shape[1], device=self.device)
        trained = (position >= fresh.unsqueeze(1)) & (position < stop.unsqueeze(1))
        targets = self.items[position[trained] + 1]
        return Batch(items, lengths, trained.flatten().nonzero().squeeze(1), targets, None, len(targets))


def choose_loop(
    asked: Loop, device: torch.device, processes: int, own: bool, samples_per_step: int = 0, negatives: int = 0
) -> Loop:
    """The loop that trains: "ordinary", "resident" (fixed shapes, no graphs) or "graphs".

    Args:
        asked: "auto" takes graphs on a GPU where they can be had, and the ordinary loop elsewhere.
        processes: that train together. own: whether optimizer and batches are the loop's own.
        samples_per_step, negatives: as in `TrainingConfig`.

    Raises:
        SeqRecError: what is asked for cannot be had for this run.
    """
    if asked == "ordinary":
        return asked
    reason = None
    if processes > 1:
        reason = f"{processes} processes train together"
    elif samples_per_step:
        reason = "a step sums over several batches"
    elif negatives:
        reason = "a step draws items, and so many that no other step has their number"
    elif not own:
        reason = "another optimizer or rule of batches decides on the host"
    elif asked == "graphs" and device.type != "cuda":
        reason = f"{device.type} has no CUDA graphs"
    elif _cuda_graphs() is None:
        reason = "seqrec_lib.fast is not there"
    if asked == "auto":
        return "graphs" if reason is None and device.type == "cuda" else "ordinary"
    if reason is not None:
        raise SeqRecError(f"loop {asked!r} cannot train this run ({reason}); use 'auto'")
    return asked


def _cuda_graphs() -> Any:
    """Training steps that a GPU replays, with the batches that they read; None without `seqrec_lib.fast`."""
    try:
        # Imported here: the folder may be missing.
        from seqrec_lib.fast import cuda_graphs
    except ModuleNotFoundError:
        return None
    return cuda_graphs


def usable_precision(asked: Precision, device: torch.device) -> Precision:
    """``asked``, or "fp32" where the device has no instructions for bfloat16 products."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # avx512_bf16, amx_bf16 and their like on other processors
        fast = any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
    return asked if fast else "fp32"


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of this machine in a 1536^3 matrix product with the threads in use: the best of four."""
    a = torch.full((1536, 1536), 0.5, device=device, dtype=dtype)  # no random draw: a resumed run must not see one
    best = float("inf")
    for _ in range(4):
        _synchronise(device)
        began = time.perf_counter()
        a @ a
        _synchronise(device)
        best = min(best, time.perf_counter() - began)
    return 2 * 1536**3 / best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_accelerator(device: Literal["auto", "cpu", "cuda"] = "auto") -> Accelerator:
    """Accelerate's view of devices and processes.

    Raises:
        SeqRecError: a GPU is asked for and there is none, or this process has already settled on another device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SeqRecError("device 'cuda' was asked for, and no GPU is visible to torch; use device 'auto' or 'cpu'")
    accelerator = Accelerator(cpu=device == "cpu")
    if device != "auto" and accelerator.device.type != device:
        raise SeqRecError(f"this process already runs on {accelerator.device.type}; restart it to train on {device}")
    return accelerator


def _identity(config: TrainingConfig, sequences: Sequences) -> dict[str, Any]:
    """What a checkpoint must have in common with a run: all but how long it goes on, where that shapes no step."""
    free = {"patience", "epochs"} if config.schedule == "constant" else {"patience"}
    return {"data": sequences.split_hash} | {k: v for k, v in asdict(config).items() if k not in free}


def _rate_factor(config: TrainingConfig, step: int, epochs: float) -> float:
    """What the learning rate is multiplied by at optimizer step ``step``, after ``epochs`` epochs of training."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    decay = 1.0 if config.schedule == "constant" else (1 + math.cos(math.pi * epochs / config.epochs)) / 2
    return warmup * decay


def train(
    model: SequentialRecommender,
    sequences: Sequences,
    config: TrainingConfig,
    workdir: Path,
    *,
    accelerator: Accelerator | None = None,
    listen: Callable[[Progress], None] = lambda progress: None,
    report: Callable[[str], None] = lambda line: None,
    checkpoint_seconds: float = 60.0,
    make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    batch_rule: AdaptiveBatchSize | None = None,
    loop: Loop = "auto",
) -> TrainingResult:
    """Train ``model`` in place; it ends with the weights that validated best. Resumes from ``workdir`` if it can.

    Args:
        workdir: folder for the checkpoint, the same for all processes; delete it to start afresh.
        accelerator: device and processes; `make_accelerator()` if there is none. Any number of processes goes on with
            a checkpoint.
        listen: called after every step, about once a second where steps are replayed (rank 0 only).
        report: takes a line where the newest checkpoint is damaged and the one before is used.
        make_optimizer: builds another optimizer than AdamW; it must round-trip through ``state_dict``. Warm-up and
            schedule scale the ``lr`` of its parameter groups.
        batch_rule: decides how many batches a step sums over; one each if there is none. It goes without
            ``samples_per_step``.
        checkpoint_seconds: at most about this much work is lost to a kill; an epoch's end always saves.
        loop: see `choose_loop`.

    Raises:
        SeqRecError: the loss is not finite, the checkpoint is damaged or of another run (other data, another
            configuration, or further than this one goes), or ``loop`` cannot train this run.
        ValueError: all positions are to be trained of a model that is not causal.
    """
    if config.objective == "all-positions" and not model.causal:
        raise ValueError(f"{type(model).__name__} is not causal: train it with objective='prefixes'")
    if batch_rule is not None and config.samples_per_step:
        raise ValueError("samples_per_step and a batch_rule both decide what a step sums over")
    accelerator = accelerator or make_accelerator()
    device = accelerator.device
    own = make_optimizer is None and batch_rule is None
    loop = choose_loop(loop, device, accelerator.num_processes, own, config.samples_per_step, config.negatives)
    torch.manual_seed(config.seed)
    model.to(device)
    several = accelerator.num_processes > 1
    if several:
        broadcast(list(model.state_dict().values()))
    precision = usable_precision(config.precision, device)
    softmax_dtype = model.item_embedding.weight.dtype if precision == "fp32" else torch.bfloat16
    adamw = partial(torch.optim.AdamW, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    optimizer = (make_optimizer or adamw)(model.parameters())
    base_rates = [float(group["lr"]) for group in optimizer.param_groups]
    step_module = TrainingStep(model, softmax_dtype, config.negatives)
    share = (accelerator.process_index, accelerator.num_processes)
    resident_batches = not several and (device.type == "cuda" or loop != "ordinary")
    batches = _Batches(sequences, config, device, share, resident_batches)
    average = WeightAverage(model, config.average) if config.average else None
    stateful: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    if average is not None:
        names = [name for name, _ in model.named_parameters()]
        stateful["average"] = Tensors(zip(names, average.values, strict=True))
    if batch_rule is not None:
        stateful["batch_rule"] = batch_rule
    checkpoint = Checkpoint(
        workdir / CHECKPOINT, _identity(config, sequences), stateful, seconds=checkpoint_seconds, report=report
    )
    with accelerator.main_process_first():  # it clears away what is damaged
        state = checkpoint.load(TrainingState)
    if not state.could_be_of(config):
        raise SeqRecError(
            f"{workdir / CHECKPOINT} has {state.epoch} epochs and {state.step} steps, where no run with epochs "
            f"{config.epochs}, validate_every {config.validate_every} and patience {config.patience} comes by; "
            "delete its folder to start afresh"
        )
    resident = None
    if loop != "ordinary" and batches.resident is not None:
        graphs = _cuda_graphs()
        recorder = graphs.GraphRecorder(device) if loop == "graphs" else None
        resident = graphs.ResidentTraining(
            step_module, optimizer, average, batches.resident, config, precision, _rate_factor, base_rates, recorder
        )
    rate = 0.0

    def loss_of(part: Batch) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss: Tensor = step_module(part)
        return loss

    def look() -> None:
        state.epoch_seconds = carried + time.perf_counter() - began
        if accelerator.is_main_process:
            listen(Progress(state.epoch + 1, config.epochs, state.step, len(batches), state.mean_loss()))
            checkpoint.save(state, due=False)

    while not state.finished(config):
        batches.start_epoch(state.epoch)
        if not rate or state.history[-1]["seconds"] > RATE_AGAIN:
            rate = max(rate, matmul_rate(device))  # other work on the machine only lowers it
        began, carried = time.perf_counter(), state.epoch_seconds
        step_module.train()
        if resident is not None:
            batches.padding = resident.train_epoch(state, look)
        train_epoch(
            batches,
            state,
            loss_of,
            optimizer,
            base_rates,
            factor=partial(_rate_factor, config),
            clip=config.clip,
            look=look,
            device=device,
            seed=config.seed,
            processes=accelerator if several else None,
            average=average,
            batch_rule=batch_rule,
        )
        _synchronise(device)
        state.epoch_seconds = carried + time.perf_counter() - began
        if batch_rule is not None:
            batch_rule.end_epoch()
        entry = state.end_epoch(
            samples_per_second=state.targets / state.epoch_seconds,
            padding=batches.padding,
            matmul_fraction=state.flops * state.positions / state.epoch_seconds / rate,
        )
        if not np.isfinite(entry["loss"]):
            raise SeqRecError(
                f"training diverged in epoch {state.epoch}: the loss is {entry['loss']}; lower learning_rate "
                f"(now {base_rates[0]:g}) or clip (now {config.clip:g})"
            )
        if state.epoch % config.validate_every == 0 or state.epoch == config.epochs:
            _validate(model, average, state, entry, sequences, accelerator)
        if accelerator.is_main_process:
            checkpoint.save(state)
            listen(Progress(state.epoch, config.epochs, len(batches), len(batches), entry["loss"], entry))

    model.load_state_dict(state.best_weights)
    model.eval()
    return TrainingResult(
        history=state.history,
        best_epoch=state.best_epoch,
        best_valid=state.best_valid,
        seconds=sum(entry["seconds"] for entry in state.history),
        samples=state.total_samples,
        precision=precision,
        loop=resident.loop if resident is not None else loop,
    )


def _validate(
    model: SequentialRecommender,
    average: WeightAverage | None,
    state: TrainingState,
    entry: dict[str, float],
    sequences: Sequences,
    accelerator: Accelerator,
) -> None:
    """Rank the validation split with the averaged weights; keep them if they are the best so far."""
    if average is not None:
        average.swap()
    model.eval()
    valid = sequences.split("valid")
    ranks = rank_split(model, sequences, valid, device=accelerator.device, loss=True, processes=accelerator)
    value = ranks.metrics()[VALIDATION_METRIC]
    entry |= {f"valid_{VALIDATION_METRIC}": value, "valid_loss": float(ranks.loss or 0.0)}
    state.since_best += 1
    if value > state.best_valid:
        state.best_valid, state.best_epoch, state.since_best = value, state.epoch, 0
        state.best_weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    if average is not None:
        average.swap()

"""Training steps that need nothing from the host, and their replay as CUDA graphs.

A step of a small model is some hundred kernels of a few microseconds: the time goes into launching them, not into
arithmetic. Here the whole step (gather, forward, loss, backward, clipping, AdamW, average of the weights) reads its
batch, its learning rate and its counters from the device. It is taken twice as it is for each shape of a batch, then
recorded as a CUDA graph, which one call replays; within an epoch nothing waits for the device but a look once a second.

Order of batches, schedule and checkpoints are those of the loop in `seqrec_lib.train.loop`, so a run that was begun by
one goes on with the other. Sums run over batches that are filled up, in another order, and dropout draws for the
filling too: without dropout both agree to float32's rounding, with it they are two draws of one training.

Glossary: R rows, L positions, P targets of a batch, V rows of the item embeddings, d width.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from seqrec_lib.fast.resident_batches import ResidentEpoch, Shape, rounded
from seqrec_lib.train.checkpoint import TrainingState, WeightAverage
from seqrec_lib.train.contracts import Loop
from seqrec_lib.train.recipes import Precision, TrainingConfig
from seqrec_lib.train.step import TrainingStep

LOOK_SECONDS = 1.0  # between two looks at loss and checkpoint, each of which waits for the device
_STEPS_BEFORE_CAPTURE = 2  # kernels are tuned, loaded and given workspace in these, which a capture does not allow


class GraphRecorder:
    """CUDA graphs on one stream that share a memory pool: nothing of a step outlives it there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        gc.collect()  # a former run's graphs must not be freed in the midst of a capture

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context for everything that belongs to the training."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """A graph of ``step``, which is not carried out; what comes back replays it any number of times.

        Raises:
            RuntimeError: the step does what a capture does not allow. The device is as before, and usable.
        """
        random = torch.cuda.get_rng_state(self.device)
        graph = torch.cuda.CUDAGraph()
        first: list[Exception] = []  # what the step raises; the end of its capture then raises another error
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                try:
                    step()
                except Exception as error:
                    first.append(error)
                    raise
        except Exception as error:
            self._recover(graph, random)
            raise RuntimeError(_one_line((first or [error])[0])) from error
        return graph.replay

    def _recover(self, graph: torch.cuda.CUDAGraph, random: Tensor) -> None:
        """A capture that broke off leaves the random generator waiting for its end: it gets a state of its own."""
        try:
            graph.reset()
        except RuntimeError as error:
            warnings.warn(f"a broken CUDA graph is left behind: {_one_line(error)}", RuntimeWarning, stacklevel=2)
        torch.cuda.synchronize(self.device)
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        # Up to torch 2.11 a broken capture leaves its pool open, and no other may begin in it; later it is closed.
        broken, self.pool = self.pool, torch.cuda.graph_pool_handle()
        with suppress(RuntimeError, AttributeError):
            torch._C._cuda_endAllocateToPool(index, broken)
            torch._C._cuda_releasePool(index, broken)
        fresh = torch.Generator(self.device)
        fresh.set_state(random)
        torch.cuda.default_generators[index].graphsafe_set_state(fresh.graphsafe_get_state())


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


class ResidentTraining:
    """Trains epochs by steps that read all that changes from the device.

    Args:
        optimizer: AdamW with ``fused=True``, after a checkpoint was loaded into it. Its learning rates become tensors.
        epoch: holds the batches, filled before each call of :meth:`train_epoch`.
        factor: what the learning rate is multiplied by, from (config, optimizer steps, epochs of training).
        recorder: None: every step is carried out kernel by kernel.
    """

    def __init__(
        self,
        step_module: TrainingStep,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        epoch: ResidentEpoch,
        config: TrainingConfig,
        precision: Precision,
        factor: Callable[[TrainingConfig, int, float], float],
        base_rates: list[float],
        recorder: GraphRecorder | None,
    ) -> None:
        self.step_module, self.average, self.epoch, self.config = step_module, average, epoch, config
        self.precision, self.factor, self.base_rates, self.recorder = precision, factor, base_rates, recorder
        self.optimizer = optimizer
        self.device = epoch.items.device
        self.rates = [torch.zeros((), device=self.device) for _ in base_rates]
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"], group["capturable"] = rate, self.device.type == "cuda"
        self.optimizer.register_state_dict_post_hook(_portable)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._numbers = torch.zeros((2, 0), device=self.device)  # of each step: rate factor, share of the average
        self._version = 0
        self._seen: Counter[Shape] = Counter()
        self._replays: dict[Shape, Callable[[], None]] = {}

    @property
    def loop(self) -> Loop:
        """The loop that is in use: "resident" also where capturing has failed."""
        return "resident" if self.recorder is None else "graphs"

    def train_epoch(self, state: TrainingState, look: Callable[[], None]) -> float:
        """The steps of an epoch from ``state.step`` on; ``look`` is called about once a second, and at the end.

        Returns:
            The share of positions that are padding, filling included.
        """
        self._prepare(state)
        shapes = [rounded(shape, self.config.max_length, self.config.tokens_per_batch) for shape in self.epoch.shapes]
        with self.recorder.running() if self.recorder else nullcontext():
            looked = time.monotonic()
            for exact, shape in zip(self.epoch.shapes[state.step :], shapes[state.step :], strict=True):
                self._take(shape, state)
                state.step += 1
                state.total_steps += 1
                state.targets += exact.targets
                state.positions += shape.positions
                if time.monotonic() - looked >= LOOK_SECONDS or state.step == len(shapes):
                    look()
                    looked = time.monotonic()
        return 1.0 - self.epoch.real_positions / max(1, sum(shape.positions for shape in shapes))

    def _prepare(self, state: TrainingState) -> None:
        """Put what changes from step to step on the device."""
        if self.epoch.version != self._version:  # there are new buffers: what was recorded reads the old ones
            self._version = self.epoch.version
            self._numbers = torch.zeros((2, self.epoch.capacity), device=self.device)
            self._replays.clear()
        steps = range(len(self.epoch.shapes))
        done = state.total_steps - state.step  # before this epoch
        factors = [self.factor(self.config, done + step, state.epoch + step / len(steps)) for step in steps]
        shares = [self.average.share(done + step + 1) if self.average else 0.0 for step in steps]
        self._numbers[:, : len(steps)] = torch.from_numpy(np.array([factors, shares], dtype=np.float32))
        self.epoch.cursor.fill_(state.step)
        self.loss_sum.fill_(float(state.loss_sum))
        state.loss_sum = self.loss_sum

    def _take(self, shape: Shape, state: TrainingState) -> None:
        replay = self._replays.get(shape)
        if replay is None and self.recorder is not None and self._seen[shape] >= _STEPS_BEFORE_CAPTURE:
            replay = self._record(self.recorder, shape)
        if replay is not None:
            replay()
            return
        self._seen[shape] += 1
        with FlopCounterMode(display=False) if state.flops == 0 else nullcontext() as counter:
            self._step(shape)
        if counter is not None:
            state.flops = counter.get_total_flops() / shape.positions

    def _record(self, recorder: GraphRecorder, shape: Shape) -> Callable[[], None] | None:
        """The recorded step; None, and no more recording, where it fails: one line says why."""
        try:
            self._replays[shape] = recorder.record(lambda: self._step(shape))
        except RuntimeError as error:
            self.optimizer.zero_grad(set_to_none=True)
            self._replays.clear()
            self.recorder = None
            warnings.warn(
                f"training steps run kernel by kernel, as slow as the ordinary loop: a CUDA graph of {shape} could not "
                f"be captured ({error})",
                RuntimeWarning,
                stacklevel=2,
            )
        return self._replays.get(shape)

    def _step(self, shape: Shape) -> None:
        """A whole training step on the batch under the cursor; nothing in it waits for the device."""
        cursor = self.epoch.cursor
        batch = self.epoch.gather(shape)
        # The cache of casts would hand tensors from one capture to the next.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False):
            loss = self.step_module(batch)
        loss.backward()
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.step_module.parameters(), self.config.clip)
        factor, share = self._numbers.index_select(1, cursor).squeeze(1).unbind()
        for rate, base in zip(self.rates, self.base_rates, strict=True):
            torch.mul(factor, base, out=rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.blend(share)
        self.loss_sum += loss.detach().double() * batch.n
        cursor += 1


def _portable(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state as the ordinary loop writes it: a checkpoint is read by either, on any device."""
    for group in state["param_groups"]:
        group["lr"], group["capturable"] = float(group["lr"]), False
    return state

"""USGM and adaptive batching beside Adam (the paper's section 3.6 and Figure 3), on one model and one budget of epochs.

Two kinds of run. "train" trains a model from scratch with an optimizer and a rule for the batch, and keeps the history,
the test metrics and a trace of what optimizer and rule saw. "noise" trains up to a point and measures there how
beta depends on the batch, with nothing else changing: the question on which the paper's rule rests.

Tables:
    trace (of "train"): epoch, step (batches used), m (micro-batches), loss (mean of the epoch so far) and, where there
    are such values, H, D, r, beta, c1, c2, signal, noise; at most `TRACE_ROWS` rows, evenly spread
    noise (of "noise"): step ("real": d = -g / H; "fixed": d of one length), m, draw, beta, r
"""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.arms import Config, cells, plan
from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.validation import refuse_unknown

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import nn

    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.models.base import SequentialRecommender
    from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize
    from seqrec_lib.train.contracts import Progress, TrainingResult

__all__ = ["GOLDEN", "NAME", "Config", "cells", "plan", "revision", "run"]
NAME = "optimizers"
GOLDEN: dict[str, dict[str, Any]] = {
    "optimizers": {
        "dataset": "ml-latest-small",
        "model": "sasrec",
        "seeds": [0],
        "arms": [
            "adam-large", "adamw-cosine", "sgd", "usgm", "usgm-paper", "usgm-noise", "usgm-adam", "probing",
            "probing-noise",
        ],
        "grids": [],
        "epochs": 2,
        "grid_epochs": 1,
        "measure_beta": True,
        "draws": 1,
        "beta_epochs": 1,
        "overrides": {"d_model": 16, "dropout": 0.1, "max_length": 20, "tokens_per_batch": 100, "average": 0.0},
    },
    # few steps: the first goes to the edge of the ball, and what rounding changes there grows with every step
    "usgm-from-zero": {
        "dataset": "ml-latest-small",
        "model": "sasrec",
        "seeds": [0],
        "arms": ["usgm-literal"],
        "grids": [],
        "epochs": 1,
        "grid_epochs": 1,
        "measure_beta": False,
        "draws": 1,
        "beta_epochs": 1,
        "overrides": {"d_model": 16, "dropout": 0.1, "max_length": 20, "tokens_per_batch": 500, "average": 0.0},
    },
}  # fmt: skip
TRACE_ROWS = 120
SIZES = (1, 2, 4, 8, 16, 32)  # micro-batches at which beta is measured


def revision(config: Any) -> int:
    """Raised for the configurations whose results a change alters."""
    return 1


def run(config: Config, context: Context) -> Outcome:
    """Train, or measure beta at one point."""
    from seqrec_lib.data import load

    sequences = load(config.dataset)
    return _measure(config, sequences, context) if config.kind == "noise" else _train(config, sequences, context)


def _train(config: Config, sequences: Sequences, context: Context) -> Outcome:
    from seqrec_lib.evaluate.ranking import rank_split
    from seqrec_lib.optim.adaptive_batching import AdaptiveBatchSize
    from seqrec_lib.train.contracts import rounded

    rule = AdaptiveBatchSize(**config.batching) if config.batching else None
    trace = _Trace(context, rule)
    resumed, began = any(context.workdir.glob("*.pt*")), time.process_time()
    model, result = _fit(config, sequences, context, trace, rule)
    # of this process, validation included: what a busy machine does not change; a resumed run has only a part of it
    computed = {} if resumed else {"cpu_seconds": round(time.process_time() - began, 3)}
    test = rank_split(model, sequences, sequences.split("test"), device=trace.device, loss=True)
    steps = Counter(row["epoch"] for row in trace.rows())
    history = [
        entry | {"samples": result.samples // len(result.history), "steps": steps.get(entry["epoch"], 0)}
        for entry in rounded(result.history)
    ]
    last = history[-1]
    return Outcome(
        dataset=sequences.description(),
        metrics=test.metrics()
        | {
            "test_loss": float(test.loss or 0.0),
            "loss": last["loss"],
            "valid_loss": last["valid_loss"],
            "best_valid_loss": min(entry["valid_loss"] for entry in history),
            "valid_ndcg@10": result.best_valid,
        },
        history=history,
        cost={"train_seconds": result.seconds, "steps": steps.total(), "samples": result.samples} | computed,
        tables={"trace": trace.table()},
    )


def _fit(
    config: Config, sequences: Sequences, context: Context, trace: _Trace, rule: AdaptiveBatchSize | None
) -> tuple[SequentialRecommender, TrainingResult]:
    """The model of a configuration, trained; resumes from the context's folder."""
    import torch

    from seqrec_lib.models import build
    from seqrec_lib.train.loop import make_accelerator, train

    assert config.training is not None
    accelerator = make_accelerator(context.device)
    trace.device = accelerator.device
    torch.manual_seed(config.seed)
    model = build(config.model, sequences.n_items, config.training.max_length, config.architecture)
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        trace.optimizer = build_optimizer(config.optimizer, [(names[id(p)], p) for p in parameters])
        return trace.optimizer

    result = train(
        model,
        sequences,
        config.training,
        context.workdir,
        accelerator=accelerator,
        make_optimizer=make if config.optimizer["name"] != "adamw" else None,
        batch_rule=rule,
        listen=trace.hear,
        report=context.report,
        loop="ordinary",  # every step is heard, and all optimizers go the same way
    )
    return model, result


def _measure(config: Config, sequences: Sequences, context: Context) -> Outcome:
    """Train as configured, then see how beta depends on the batch at the point reached, dropout on as in training."""
    import numpy as np
    import pyarrow as pa
    import torch
    from torch.utils.data import DataLoader

    from seqrec_lib.data.sequences import WindowDataset, cut_windows
    from seqrec_lib.experiments.beta import measure
    from seqrec_lib.train.losses import catalogue_cross_entropy

    assert config.training is not None
    trace = _Trace(context, None)
    model, result = _fit(config, sequences, context, trace, None)
    length = config.training.max_length
    windows = WindowDataset(sequences, cut_windows(sequences, length), length)
    rows = max(1, config.training.tokens_per_batch // length)
    torch.manual_seed(config.seed)
    batches = list(DataLoader(cast(Any, windows), batch_size=rows, shuffle=True, drop_last=True))
    model.train()

    def backward(index: int) -> int:
        inputs, targets = (part.to(trace.device) for part in batches[index])
        hidden = model.hidden(inputs, (inputs > 0).sum(dim=1))
        trained = targets > 0
        loss = catalogue_cross_entropy(hidden[trained], model.item_embedding.weight, targets[trained])
        (loss * trained.sum()).backward()
        return int(trained.sum())

    H = float(trace.rows()[-1]["H"] or 1.0)
    rng = np.random.default_rng(config.seed)
    found = measure(model, backward, len(batches), H=H, sizes=SIZES, draws=int(config.batching["draws"]), rng=rng)
    columns = {name: [row[name] for row in found] for name in found[0]}
    return Outcome(
        dataset=sequences.description(),
        metrics={"H": H, "windows_per_batch": rows, "batches": len(batches), "valid_ndcg@10": result.best_valid},
        tables={"noise": pa.table(columns)},
    )


def build_optimizer(settings: Mapping[str, Any], parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimizer ``settings["name"]`` with the other settings; "inf", which JSON has no number for, is a text.

    Raises:
        SeqRecError: no such optimizer, or a setting is out of range.
    """
    import torch

    from seqrec_lib.optim.probing import ProbingUSGM
    from seqrec_lib.optim.usgm import UniversalSGM

    known: dict[str, Any] = {"sgd": torch.optim.SGD, "usgm": UniversalSGM, "probing": ProbingUSGM}
    refuse_unknown([settings["name"]], known, "optimizer")
    others = {key: math.inf if value == "inf" else value for key, value in settings.items() if key != "name"}
    return known[settings["name"]](parameters, **others)


class _Trace:
    """Hears every step; each goes to a file at once, so that a run that was killed goes on with what it had.

    A step that a resumed run takes again gives the same row again, which replaces the first.
    """

    device: torch.device
    optimizer: torch.optim.Optimizer | None = None

    def __init__(self, context: Context, rule: AdaptiveBatchSize | None) -> None:
        self.context, self.rule = context, rule
        self.path = context.workdir / "trace.jsonl"
        context.workdir.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():  # a kill may have cut off the last line, whose step is done again
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def hear(self, progress: Progress) -> None:
        if progress.epoch_entry is not None:
            self.context.report(f"{progress}, validation loss {progress.epoch_entry['valid_loss']:.3f}")
            return
        self.context.report_share(progress.share, str(progress))
        row: dict[str, float | None] = {"epoch": progress.epoch, "step": progress.step, "loss": progress.loss}
        row |= _state(self.optimizer) | _decisions(self.rule)
        finite = {name: value if value is not None and math.isfinite(value) else None for name, value in row.items()}
        self._append(json.dumps(finite))

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{zlib.crc32(line.encode()):08x} {line}\n")

    def rows(self) -> list[dict[str, float | None]]:
        """One row for each step, in order.

        Raises:
            SeqRecError: a line is not what was written.
        """
        rows = {}
        for line in self.path.read_bytes().split(b"\n")[:-1]:
            if line[:8] != b"%08x" % zlib.crc32(line[9:]):
                raise SeqRecError(f"{self.path} is damaged; delete its folder to start afresh")
            row = json.loads(line[9:])
            rows[row["epoch"], row["step"]] = row
        return [rows[place] for place in sorted(rows)]

    def table(self) -> pa.Table:
        """At most `TRACE_ROWS` rows; columns without a value are left out."""
        import pyarrow as pa

        rows = self.rows()
        kept = rows[:: max(1, math.ceil(len(rows) / TRACE_ROWS))]
        columns = {name: [row.get(name) for row in kept] for name in (kept[-1] if kept else {})}
        types = {"epoch": pa.int32(), "step": pa.int32(), "m": pa.int32()}
        return pa.table(
            {
                name: pa.array(values, types.get(name, pa.float32()))
                for name, values in columns.items()
                if any(value is not None for value in values)
            }
        )


def _state(optimizer: torch.optim.Optimizer | None) -> dict[str, float]:
    from seqrec_lib.optim.usgm import UniversalSGM

    if not isinstance(optimizer, UniversalSGM):
        return {}
    seen = {"H": optimizer.H, "D": optimizer.D, "r": optimizer.r, "beta": optimizer.beta_hat}
    return {name: float(value) for name, value in seen.items()}


def _decisions(rule: AdaptiveBatchSize | None) -> dict[str, float | None]:
    """What the rule saw after this step; m is of the next one."""
    if rule is None:
        return {"m": 1}
    line = rule.coefficients or (None, None)
    return {"m": rule.m, "c1": line[0], "c2": line[1], "signal": rule.signal, "noise": rule.noise}

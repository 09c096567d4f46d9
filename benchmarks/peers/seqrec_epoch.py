"""This library's SASRec, trained by `seqrec_lib.train.loop.train` with its recipe, in turns (see turns.py)."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from turns import Turns, settings


def main() -> None:
    given = settings()
    import torch

    from seqrec_lib.data import load
    from seqrec_lib.models import build
    from seqrec_lib.train.contracts import Progress
    from seqrec_lib.train.loop import _Batches, make_accelerator, train
    from seqrec_lib.train.recipes import resolve

    torch.set_num_threads(given["threads"])
    accelerator = make_accelerator("cpu")
    sequences = load(given["dataset"])
    overrides = {"precision": given["precision"]}
    architecture, config = resolve(given["dataset"], "sasrec", 0, overrides)
    if config is not None and config.max_length != given["length"]:  # without overlap, but for a last window
        overrides |= {"max_length": given["length"], "stride": 0}
        architecture, config = resolve(given["dataset"], "sasrec", 0, overrides)
    assert config is not None
    # no validation and no checkpoint within the turns; the other packages have none there either
    config = replace(config, epochs=10**6, validate_every=10**6)
    torch.manual_seed(0)
    model = build("sasrec", sequences.n_items, config.max_length, architecture)

    batches = _Batches(sequences, config, torch.device("cpu"), (0, 1))  # the very batches that `train` draws
    counts: list[tuple[int, int, int]] = []
    drawing = 0.0

    def draw(epoch: int) -> None:
        """Targets, positions and real tokens of every step of the epoch, counted from 0."""
        nonlocal drawing
        began = time.perf_counter()
        batches.start_epoch(epoch)
        drawing = time.perf_counter() - began
        lengths, fresh = batches.windows.lengths, batches.windows.stop - batches.windows.fresh
        counts[:] = [
            (int(fresh[batch].sum()), len(batch) * int(lengths[batch].max()), int(lengths[batch].sum()))
            for batch in batches.batches
        ]

    draw(0)
    turns = Turns(
        versions={"torch": torch.__version__},
        parameters=model.parameter_counts()[0],
        targets_per_epoch=sum(targets for targets, _, _ in counts),
        tokens_per_batch=config.tokens_per_batch,
        batch=f"up to {config.tokens_per_batch:,} positions",
        epoch_setup_seconds=drawing,
    )

    def listen(progress: Progress) -> None:
        if progress.epoch_entry is None:
            turns.step(*counts[progress.step - 1])
        else:
            draw(progress.epoch)

    with tempfile.TemporaryDirectory() as folder:
        train(model, sequences, config, Path(folder), accelerator=accelerator, listen=listen, checkpoint_seconds=1e9)


if __name__ == "__main__":
    main()

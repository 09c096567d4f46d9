"""One of this library's models, from the raw file until its validation NDCG@10 is good (see time_to_quality.py)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from turns import Stopwatch, peak_memory, send, settings


class _Good(Exception):
    """The goal is reached."""


def main() -> None:
    given = settings()
    watch = Stopwatch(given["clock"])
    import torch

    from seqrec_lib.data import load
    from seqrec_lib.models import build
    from seqrec_lib.train.contracts import Progress
    from seqrec_lib.train.loop import make_accelerator, train
    from seqrec_lib.train.recipes import resolve

    torch.set_num_threads(given["threads"])
    sequences = load(given["dataset"], cache=False)
    architecture, config = resolve(given["dataset"], given["model"], given["seed"])
    assert config is not None
    torch.manual_seed(given["seed"])
    model = build(given["model"], sequences.n_items, config.max_length, architecture)
    send({"versions": {"torch": torch.__version__}, "parameters": model.parameter_counts()[0], "data": watch.seconds()})

    def listen(progress: Progress) -> None:
        entry = progress.epoch_entry
        if entry is None:
            return
        quality = entry["valid_ndcg@10"]
        report = {"epoch": progress.epoch, "seconds": watch.seconds(), "ndcg": quality}
        send(report | {"peak_memory_bytes": peak_memory()})
        if quality >= given["goal"]:
            raise _Good

    with tempfile.TemporaryDirectory() as folder:
        try:
            train(model, sequences, config, Path(folder), accelerator=make_accelerator("cpu"), listen=listen)
        except _Good:
            return


if __name__ == "__main__":
    main()

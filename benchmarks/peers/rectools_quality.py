"""RecTools' SASRec, trained until its own early stopping ends it (see time_to_quality.py). Runs in RecTools'
environment.

What it is stopped by is its own: the loss of each user's validation item, after every epoch. Between two epochs the
watch is paused, and NDCG@10 of the validation items among all items is taken from the model as it is.
"""

from __future__ import annotations

import math
from typing import Any

from rectools_model import make, quiet, read
from turns import Stopwatch, peak_memory, send, settings


def latest(interactions: Any) -> Any:
    """Which rows are a user's last one: what RecTools is to validate on."""
    return (interactions.groupby("user_id").cumcount(ascending=False) == 0).to_numpy()


def main() -> None:
    given = settings()
    watch = Stopwatch(given["clock"])
    import pytorch_lightning as pl
    import torch
    from rectools import Columns, __version__
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    rows = read(given["interactions"], held_out=1)  # test
    last = latest(rows)
    targets = rows[last].set_index(Columns.User)[Columns.Item]
    known = Dataset.construct(rows[~last])

    class Quality(pl.Callback):
        """Says after each epoch how good the model is."""

        def on_train_start(self, trainer: Any, module: Any) -> None:
            versions = {"torch": torch.__version__, "RecTools": __version__, "pytorch-lightning": pl.__version__}
            send(
                {
                    "versions": versions,
                    "parameters": sum(p.numel() for p in module.parameters()),
                    "data": watch.seconds(),
                }
            )

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seconds = watch.seconds()
            with watch.paused():
                model.is_fitted = True  # it is asked in the middle of its training
                found = model.recommend(targets.index.to_numpy(), known, k=10, filter_viewed=False)
                module.train()
                hits = found[found[Columns.Item].to_numpy() == targets.loc[found[Columns.User]].to_numpy()]
                quality = sum(1 / math.log2(1 + rank) for rank in hits[Columns.Rank]) / len(targets)
            report = {"epoch": trainer.current_epoch + 1, "seconds": seconds, "ndcg": quality}
            send(report | {"peak_memory_bytes": peak_memory()})

    def trainer() -> pl.Trainer:
        stop = pl.callbacks.EarlyStopping(SASRecModel.val_loss_name, patience=given["patience"])
        return quiet(pl, max_epochs=given["epochs"], callbacks=[Quality(), stop])

    pl.seed_everything(given["seed"], verbose=False)
    settings_of_model = {"get_val_mask_func": latest, "recommend_torch_device": "cpu"}
    model = make(given | {"model_settings": settings_of_model}, trainer)
    model.fit(Dataset.construct(rows))


if __name__ == "__main__":
    main()

"""RecTools' SASRec, trained by its own Lightning trainer, in turns (see turns.py). Runs in RecTools' environment.

RecTools trains every position of each user's last ``length`` targets: older ones are dropped. The trainer is the one
that the model makes by default, plus a callback that counts.
"""

from __future__ import annotations

from rectools_model import make, quiet, read
from turns import Turns, settings


def main() -> None:
    given = settings()
    import pytorch_lightning as pl
    import torch
    from rectools import __version__
    from rectools.dataset import Dataset

    rows = read(given["interactions"], held_out=2)  # validation and test
    length = given["length"]
    kept = rows.groupby("user_id").size().clip(upper=length + 1)

    class Count(pl.Callback):
        """Tells the turns what each step trained."""

        turns: Turns

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
            self.turns.step(int((batch["y"] != 0).sum()), batch["x"].numel(), int((batch["x"] != 0).sum()))

        def on_train_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
            self.turns = Turns(
                versions={"torch": torch.__version__, "RecTools": __version__, "pytorch-lightning": pl.__version__},
                parameters=sum(p.numel() for p in module.parameters()),
                targets_per_epoch=int((kept - 1).sum()),
                tokens_per_batch=given["rows_per_batch"] * length,
                batch=f"{given['rows_per_batch']:,} rows of {length}",
                epoch_setup_seconds=0.0,
            )

    def trainer() -> pl.Trainer:
        return quiet(pl, max_epochs=10**6, min_epochs=10**6, callbacks=[Count()])

    make(given, trainer).fit(Dataset.construct(rows))


if __name__ == "__main__":
    main()

"""RecTools' SASRec, trained by its own Lightning trainer, in turns (see turns.py). Runs in RecTools' environment.

RecTools trains every position of each user's last ``length`` targets: older ones are dropped. The trainer is the one
that the model makes by default, plus a callback that counts.
"""

from __future__ import annotations

from turns import Turns, settings


def main() -> None:
    given = settings()
    import pandas as pd
    import pytorch_lightning as pl
    import torch
    from rectools import Columns, __version__
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel
    from rectools.models.nn.transformers.net_blocks import PreLNTransformerLayers

    torch.set_num_threads(given["threads"])
    rows = pd.read_csv(given["interactions"], sep="\t", header=0, names=["user_id", "item_id", "datetime"])
    rows = rows[rows.groupby("user_id").cumcount(ascending=False) >= 2]  # the last two are validation and test
    rows[Columns.Datetime] = pd.to_datetime(rows["datetime"], unit="s")
    rows[Columns.Weight] = 1.0
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
        return pl.Trainer(
            max_epochs=10**6,
            min_epochs=10**6,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            devices=1,
            accelerator="cpu",
            callbacks=[Count()],
        )

    # Its own SASRec blocks have a feed-forward network of width d and no setting for it; its pre-norm blocks have 4 d.
    layers = {"transformer_layers_type": PreLNTransformerLayers} if given["d_inner"] == 4 * given["d_model"] else {}
    SASRecModel(
        n_blocks=given["n_layers"],
        n_heads=given["n_heads"],
        n_factors=given["d_model"],
        dropout_rate=given["dropout"],
        session_max_len=length,
        loss="softmax",
        lr=given["learning_rate"],
        batch_size=given["rows_per_batch"],
        get_trainer_func=trainer,
        **layers,
    ).fit(Dataset.construct(rows))


if __name__ == "__main__":
    main()

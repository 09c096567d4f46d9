"""RecTools' SASRec and data at the settings of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def read(path: str, held_out: int) -> Any:
    """The interactions without the last ``held_out`` of each user, as RecTools' columns."""
    import pandas as pd
    from rectools import Columns

    rows = pd.read_csv(path, sep="\t", header=0, names=["user_id", "item_id", "datetime"])
    rows = rows[rows.groupby("user_id").cumcount(ascending=False) >= held_out]
    rows[Columns.Datetime] = pd.to_datetime(rows["datetime"], unit="s")
    rows[Columns.Weight] = 1.0
    return rows


def make(given: dict[str, Any], trainer: Callable[[], Any]) -> Any:
    """The model, not fitted yet; ``trainer`` makes the Lightning trainer that fits it."""
    import torch
    from rectools.models import SASRecModel
    from rectools.models.nn.transformers.net_blocks import PreLNTransformerLayers

    torch.set_num_threads(given["threads"])
    # Its own SASRec blocks have a feed-forward network of width d and no setting for it; its pre-norm blocks have 4 d.
    layers = {"transformer_layers_type": PreLNTransformerLayers} if given["d_inner"] == 4 * given["d_model"] else {}
    return SASRecModel(
        n_blocks=given["n_layers"],
        n_heads=given["n_heads"],
        n_factors=given["d_model"],
        dropout_rate=given["dropout"],
        session_max_len=given["length"],
        loss="softmax",
        lr=given["learning_rate"],
        batch_size=given["rows_per_batch"],
        get_trainer_func=trainer,
        **given.get("model_settings", {}),
        **layers,
    )


def quiet(pl: Any, **settings: Any) -> Any:
    """A Lightning trainer on the CPU that only trains."""
    return pl.Trainer(
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        devices=1,
        accelerator="cpu",
        **settings,
    )

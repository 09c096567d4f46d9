"""RecBole's SASRec and data at the settings of a benchmark, made by RecBole's own functions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any


def make(given: dict[str, Any]) -> tuple[Any, tuple[Any, Any, Any], Any]:
    """(configuration, loaders for training, validation and test, model)."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    torch.set_num_threads(given["threads"])
    interactions = Path(given["interactions"])
    config = Config(
        model="SASRec",
        dataset=interactions.stem,
        config_dict={
            "data_path": str(interactions.parent.parent),
            "checkpoint_dir": tempfile.mkdtemp(),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "use_gpu": False,
            "n_layers": given["n_layers"],
            "n_heads": given["n_heads"],
            "hidden_size": given["d_model"],
            "inner_size": given["d_inner"],
            "hidden_dropout_prob": given["dropout"],
            "attn_dropout_prob": 0.0,  # ours has none
            "MAX_ITEM_LIST_LENGTH": given["length"],
            "train_batch_size": given["rows_per_batch"],
            "learning_rate": given["learning_rate"],
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "eval_args": {
                "split": {"LS": "valid_and_test"},
                "group_by": "user",
                "order": "TO",
                "mode": "full",
            },
            "show_progress": False,
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    return config, loaders, get_model("SASRec")(config, loaders[0]._dataset)

"""RecBole's SASRec, trained by its own trainer, in turns (see turns.py). Runs in RecBole's environment.

RecBole makes every prefix a sample of its own, padded to ``length``, and trains its last position.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turns import Turns, settings


def main() -> None:
    given = settings()
    import recbole
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

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
    data, _, _ = data_preparation(config, create_dataset(config))
    model = get_model("SASRec")(config, data._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    turns = Turns(
        versions={"torch": torch.__version__, "RecBole": recbole.__version__},
        parameters=sum(p.numel() for p in model.parameters()),
        targets_per_epoch=data.sample_size,
        tokens_per_batch=given["rows_per_batch"] * given["length"],
        batch=f"{given['rows_per_batch']:,} rows of {given['length']}",
        epoch_setup_seconds=0.0,
    )

    class Counted:
        """RecBole's own loader; when the trainer asks for a batch, the step before is done."""

        def __iter__(self) -> Iterator[Any]:
            last = None
            for batch in data:
                if last is not None:
                    turns.step(len(last), last["item_id_list"].numel(), int(last["item_length"].sum()))
                yield batch
                last = batch

    for epoch in range(10**6):
        trainer._train_epoch(Counted(), epoch)


if __name__ == "__main__":
    main()

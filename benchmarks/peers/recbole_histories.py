"""RecBole's own histories of a data set, from its raw rows. Runs in RecBole's environment.

The 5-core, the order of time and the split are RecBole's, as its sequential models get them. To the file ``out`` go, as
JSON, the versions and the columns "users" and "items" in the source's ids: an interaction each, a user's in order.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from turns import settings


def main() -> None:
    given = settings()
    import numpy
    import recbole
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    interactions = Path(given["interactions"])
    config = Config(
        model="SASRec",
        dataset=interactions.stem,
        config_dict={
            "data_path": str(interactions.parent.parent),
            "checkpoint_dir": tempfile.mkdtemp(),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "use_gpu": False,
            "user_inter_num_interval": "[5,inf)",
            "item_inter_num_interval": "[5,inf)",
            "MAX_ITEM_LIST_LENGTH": 1,  # each sample then keeps the item before its target: little memory
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
            "show_progress": False,
        },
    )
    splits = [loader._dataset for loader in data_preparation(config, create_dataset(config))]
    histories: dict[int, list[int]] = {}
    for split in splits:  # training, validation, test: a user's targets in order
        users, items, before = (split.inter_feat[name].numpy() for name in ("user_id", "item_id", "item_id_list"))
        for user, item, last in zip(users.tolist(), items.tolist(), before[:, 0].tolist(), strict=True):
            history = histories.setdefault(user, [last])
            if history[-1] != last:
                raise ValueError(f"user {user}: item {last} before the target, {history[-1]} was the one before it")
            history.append(item)
    names = splits[0].field2id_token
    rows = [(names["user_id"][user], names["item_id"][item]) for user, own in histories.items() for item in own]
    versions = {"RecBole": recbole.__version__, "numpy": numpy.__version__, "torch": torch.__version__}
    report = {"versions": versions, "users": [user for user, _ in rows], "items": [item for _, item in rows]}
    Path(given["out"]).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()

"""RecBole's SASRec, trained by its own trainer, in turns (see turns.py). Runs in RecBole's environment.

RecBole makes every prefix a sample of its own, padded to ``length``, and trains its last position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recbole_model import make
from turns import Turns, settings


def main() -> None:
    given = settings()
    import recbole
    import torch
    from recbole.utils import get_trainer

    config, (data, _, _), model = make(given)
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

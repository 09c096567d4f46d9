"""RecTools' SASRec recommends, in turns (see turns.py). Runs in RecTools' environment.

``recommend`` is its one way: it takes the users' rows out of the data set, makes windows of them, encodes, and ranks
the catalogue without the items that a user has had. The model is fitted for a single step, as it is made by fitting.
Its catalogue are the items of the users' latest ``length`` + 1 interactions, at short lengths not all that there are.
"""

from __future__ import annotations

from typing import Any

from rectools_model import make, quiet, read
from turns import answer, settings


def main() -> None:
    given = settings()
    import pytorch_lightning as pl
    import torch
    from rectools import Columns, __version__
    from rectools.dataset import Dataset

    model = make(given, lambda: quiet(pl, max_epochs=1, min_epochs=1, limit_train_batches=1))
    model.fit(Dataset.construct(read(given["interactions"], held_out=0)))  # all: for the catalogue's size
    data, k = Dataset.construct(read(given["interactions"], held_out=1)), given["k"]

    def recommend(users: list[int]) -> list[list[Any]]:
        asked = [user + 1 for user in users]
        found = model.recommend(asked, data, k=k, filter_viewed=True)
        groups = found.groupby(Columns.User)[Columns.Item].agg(list)
        return [groups[user] for user in asked]

    answer(
        {"recommend": recommend},
        k,
        versions={"torch": torch.__version__, "RecTools": __version__, "pytorch-lightning": pl.__version__},
        parameters=sum(p.numel() for p in model.lightning_model.parameters()),
        items=len(model.data_preparator.get_known_item_ids()),
    )


if __name__ == "__main__":
    main()

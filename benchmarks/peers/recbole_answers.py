"""RecBole's SASRec recommends, in turns (see turns.py). Runs in RecBole's environment.

Two ways: ``full_sort_topk``, which is what RecBole documents for recommending to given users and looks them up in its
test data, and the part of it that is the model's, on rows that are at hand. Neither leaves out the items that a user
has had.
"""

from __future__ import annotations

from typing import Any

from recbole_model import make
from turns import answer, settings


def main() -> None:
    given = settings()
    import recbole
    import torch
    from recbole.utils.case_study import full_sort_topk

    _, (_, _, test), model = make(given)
    model.eval()
    dataset, k = test.dataset, given["k"]
    ids = dataset.token2id(dataset.uid_field, [str(user + 1) for user in range(given["users"])])
    order = dataset.inter_feat[dataset.uid_field].numpy().argsort()  # one row for each user in the test data
    rows = order[ids - 1]

    def documented(users: list[int]) -> list[list[Any]]:
        found: list[list[Any]] = full_sort_topk(ids[users], model, test, k=k, device=torch.device("cpu"))[1].tolist()
        return found

    @torch.no_grad()
    def model_alone(users: list[int]) -> list[list[Any]]:
        scores = model.full_sort_predict(dataset[rows[users]]).view(-1, dataset.item_num)
        scores[:, 0] = -torch.inf
        found: list[list[Any]] = torch.topk(scores, k).indices.tolist()
        return found

    for user in (0, 7, given["users"] - 1):  # both ways mean the same user
        if documented([user]) != model_alone([user]):
            raise ValueError(f"the two ways differ for user {user}")
    answer(
        {"documented": documented, "model": model_alone},
        k,
        versions={"torch": torch.__version__, "RecBole": recbole.__version__},
        parameters=sum(p.numel() for p in model.parameters()),
        items=dataset.item_num - 1,
    )


if __name__ == "__main__":
    main()

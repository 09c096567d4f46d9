from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seqrec_lib.data import load
from seqrec_lib.data.sequences import Sequences
from seqrec_lib.evaluate.ranking import rank_split
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute
from seqrec_lib.models import build
from seqrec_lib.models.popularity import Popularity
from seqrec_lib.results import RunStore
from seqrec_lib.train.loop import train
from seqrec_lib.train.recipes import resolve

QUICK = {"epochs": 2, "d_model": 16, "max_length": 20}


def parameters(**changes: object) -> dict[str, object]:
    return {"dataset": "demo", "models": ["popularity", "sasrec"], "seeds": [0], "overrides": QUICK} | changes


def test_a_plan_has_one_run_per_model_and_seed_and_counts_only_once() -> None:
    configs = accuracy.plan(parameters(models=["popularity", "sasrec"], seeds=[0, 1, 2]))
    assert [(c.model, c.seed) for c in configs] == [("popularity", 0), ("sasrec", 0), ("sasrec", 1), ("sasrec", 2)]
    assert configs[0].training is None and configs[1].training is not None
    assert configs[1].training.epochs == 2 and configs[1].architecture["d_model"] == 16


def test_a_run_gives_metrics_ranks_and_weights_that_reproduce_them(store: RunStore) -> None:
    counted, trained = execute(accuracy, accuracy.plan(parameters()), store=store, progress=False)
    assert (counted.error, trained.error) == (None, None)
    data = load("demo")
    for record in (counted, trained):
        ranks = store.table(record, "ranks")
        assert ranks.num_rows == data.n_users == record.dataset["n_users"]
        assert record.metrics["ht@10"] == pytest.approx(np.mean(ranks["rank"].to_numpy() <= 10))
        assert record.metrics["masked_ht@10"] >= record.metrics["ht@10"]
        assert record.dataset["split_sha256"] == data.split_hash
    assert len(trained.history) == trained.cost["epochs"] == 2
    assert trained.cost["parameters"] - trained.cost["parameters_without_embeddings"] == (data.n_items + 1) * 16

    config = accuracy.plan(parameters(models=["sasrec"]))[0]
    model = build("sasrec", data.n_items, 20, config.architecture).eval()
    folder = store.kept(trained.run_id)
    model.load_state_dict(load_file(folder / accuracy.WEIGHTS))
    again = rank_split(model, data, data.split("test"))
    assert again.rank.tolist() == store.table(trained, "ranks")["rank"].to_pylist()


def shuffled(data: Sequences) -> Sequences:
    """The same histories in random order; the held-out items stay where they are."""
    rng = np.random.default_rng(0)
    items = data.items.copy()
    for begin, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        items[begin : end - 2] = rng.permutation(items[begin : end - 2])
    return dataclasses.replace(data, items=items)


@pytest.fixture(scope="module")
def demo_hits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """HT@10 on the demo data: popularity, SASRec as the notebook trains it, and SASRec on shuffled histories."""
    data = load("demo")
    architecture, training = resolve("demo", "sasrec", 0)
    hits = {"popularity": rank_split(Popularity(data), data, data.split("test")).metrics()["ht@10"]}
    for name, sequences in (("sasrec", data), ("sasrec, shuffled", shuffled(data))):
        torch.manual_seed(0)
        model = build("sasrec", data.n_items, training.max_length, architecture)
        train(model, sequences, training, tmp_path_factory.mktemp("run"))
        hits[name] = rank_split(model, sequences, sequences.split("test")).metrics()["ht@10"]
    return hits


def test_the_demo_has_order_to_learn(demo_hits: dict[str, float]) -> None:
    assert demo_hits["sasrec"] >= 2 * demo_hits["popularity"]
    # 1,000 users: two standard errors of a share are at most 0.032
    assert demo_hits["sasrec"] > demo_hits["sasrec, shuffled"] + 0.05

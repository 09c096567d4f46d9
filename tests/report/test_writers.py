"""The page of models that write queries, from made-up runs: floors, the pair, lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.experiments import accuracy, generative
from seqrec_lib.report import floors, frames, writers
from seqrec_lib.results import RunRecord, RunStore, plain
from tests.fakes import make_record

USERS, ITEMS = 300, 1000
SHARES = {"bm25-last": 0.2, "title-markov": 0.4, "gpt4rec": 0.3, "mamrec": 0.5, "popularity": 0.1, "markov": 0.45}


def save(store: RunStore, experiment: Any, config: Any, share: float) -> RunRecord:
    """A run whose lists put the target first for a share of users, and never for the others."""
    ranks = np.where(np.arange(USERS) < share * USERS, 1, ITEMS + 1).astype(np.int32)
    columns = {"rank": ranks, "masked_rank": ranks, "trie_rank": ranks}
    metrics = rank_metrics(ranks, (10,))
    lists = {"list_length": 20.0, "diversity@10": 0.9, "coverage@10": 0.2}
    metrics |= {f"masked_{name}": value for name, value in metrics.items()} | lists
    metrics |= {f"trie_{name}": value for name, value in metrics.items()}
    record = make_record(
        experiment=experiment.NAME, config=plain(config), metrics=metrics,
        dataset={"name": config.dataset, "n_items": ITEMS, "n_users": USERS},
        environment={"device": "a CPU", "language_model": {"parameters": 300_000}},
        history=[{"epoch": n, "loss": 5.0 - n, "valid_loss": 6.0 - n} for n in (1, 2)],
    )  # fmt: skip
    return store.save(record, {"ranks": pa.table(columns)})


def page(store: RunStore, made: bool = True, models: tuple[str, ...] = tuple(SHARES)[:4]) -> tuple[Any, Any]:
    counting = accuracy.plan({"dataset": "ml-100k", "models": ["popularity", "markov"], "seeds": [0]})
    configs = generative.plan({"dataset": "ml-100k", "models": list(models), "seeds": [0, 1]})
    counts = [save(store, accuracy, config, SHARES[config.model]) if made else None for config in counting]
    records = [save(store, generative, config, SHARES[config.model]) if made else None for config in configs]
    runs, _ = floors.gather("generative", configs, records, store)
    return runs, frames.frame(counts, counting, store)


def test_models_stand_beside_floors_and_say_which_are_above_them(store: RunStore) -> None:
    table = writers.models(*page(store), store, "ht@10").set_index("label")
    assert list(table["made"].unique()) == ["from scratch"]
    gpt, mam = (table.loc[f"{name} (from scratch, 0.3 M weights)"] for name in ("GPT4Rec", "MamRec"))
    assert gpt["below"] == "Markov; Markov, as queries" and mam["below"] == "no"
    assert gpt["mean"] == pytest.approx(0.3) and gpt["gap"] == pytest.approx(-0.15) and gpt["gap high"] < 0
    assert (gpt["seeds"], table.loc["Markov", "seeds"]) == (2, 1)
    assert table.loc["At random", "mean"] == pytest.approx(10 / ITEMS)


def test_models_with_another_dropout_are_shown_where_they_were_run(store: RunStore) -> None:
    for model, overrides in (("mamrec", {"same_dropout": True}), ("gpt4rec", {"dropout": 0.0})):
        planned = generative.plan({"dataset": "ml-100k", "models": [model], "seeds": [0], "overrides": overrides})
        save(store, generative, planned[0], 0.2)
    table = writers.models(*page(store), store, "ht@10").set_index("label")
    origin = "from scratch, 0.3 M weights"
    assert table.loc[f"MamRec ({origin}, with dropout)", "mean"] == pytest.approx(0.2)
    assert table.loc[f"GPT4Rec ({origin}, dropout 0.0)", "mean"] == pytest.approx(0.2)
    assert table.loc[f"GPT4Rec ({origin}, dropout 0.1)", "mean"] == pytest.approx(0.3)
    assert f"MamRec ({origin})" in table.index


def test_a_pretrained_model_that_the_store_has_stands_apart_with_the_floors(store: RunStore) -> None:
    (other,) = generative.plan(
        {"dataset": "ml-100k", "models": ["mamrec"], "seeds": [0], "sources": {"mamrec": "state-spaces/mamba2"}}
    )
    save(store, generative, other, 0.6)
    table = writers.models(*page(store), store, "ht@10")
    assert table.groupby("made", sort=False).size().to_dict() == {"from scratch": 7, "pretrained": 6}
    assert table.loc[table["made"] == "pretrained", "label"].iloc[0] == "MamRec (mamba2, 0.3 M weights)"


def test_the_pair_is_compared_by_user(store: RunStore) -> None:
    runs, _ = page(store)
    (row,) = writers.duels(runs, store, ["ht@10"]).to_dict("records")
    assert row["ht@10"] == pytest.approx(0.2) and row["ht@10 low"] > 0 and row["ht@10 p"] < 0.001


def test_each_way_to_a_list_is_a_row(store: RunStore) -> None:
    runs, _ = page(store)
    table = writers.lists(runs)
    assert table[table["label"].str.startswith("MamRec")]["list"].tolist() == list(writers.LISTS.values())
    assert table[table["label"].str.startswith("BM25")]["list"].iloc[0] == "one query, K items"
    curves = writers.curves(runs, store)
    assert curves[(curves["line"] == "validation") & (curves["epoch"] == 2)]["mean"].eq(4.0).all()


def test_nothing_run_says_so(store: RunStore) -> None:
    runs, counted = page(store, made=False)
    assert writers.models(runs, counted, store)["mean"].isna().all()
    assert writers.lists(runs).empty and writers.curves(runs, store).empty
    floors_alone, counted = page(store, models=("bm25-last",))
    assert writers.models(floors_alone, counted, store).empty and writers.duels(floors_alone, store, ["ht@10"]).empty

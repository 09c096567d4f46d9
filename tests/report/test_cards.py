"""Model cards and the compute budget follow from the records: recipe, quality, cost, and what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.pages import cards
from seqrec_lib.report.values import EXHIBITS, VALUES
from seqrec_lib.results import RunStore
from tests.fakes import make_record
from tests.report.test_chapters import put, ranks, runs_of


def test_a_card_has_a_row_for_each_order_and_variant_by_the_recipe(tmp_path: Path) -> None:
    for seed in (0, 1):
        put(tmp_path, "sasrec", seed, ranks(0.3, seed))
    put(tmp_path, "sasrec", 0, ranks(0.3), dataset="ml-1m-recbole")
    put(tmp_path, "sasrec+repeats", 0, ranks(0.6))
    put(tmp_path, "sasrec", 0, ranks(0.9), dropout=0.7)  # an experimenter's own
    put(tmp_path, "mamba4rec", 0, ranks(0.3))
    card = cards.card(runs_of(tmp_path), "sasrec").set_index("data")
    assert set(card.index) == {"MovieLens 1M", "MovieLens 1M, RecBole's order", "MovieLens 1M; repeat bias"}
    first = card.loc["MovieLens 1M"]
    assert first["seeds"] == 2
    assert first["ndcg"] == pytest.approx(0.3)
    assert first["ndcg low"] < 0.3 < first["ndcg high"]
    assert first["minutes"] == pytest.approx(1.5 / 60)
    assert first["recipe"] == "window 50, epochs 20, rate 0.002, cosine, dropout 0.1"
    assert len(first["ids"].split()) == 2


def test_the_published_cards_say_what_was_not_tuned_and_what_has_one_ranking() -> None:
    card = cards.card(Runs.published(), "llamarec")
    untuned = card["data"].str.contains("zero-shot")
    assert untuned.any() and not untuned.all()
    assert set(card.loc[untuned, "recipe"]) == {"candidates 20"}
    assert card.loc[~untuned, "recipe"].str.contains("epochs").all()
    assert card["ndcg"].isna().all() and card["masked"].notna().all()


def test_hours_count_every_core_what_came_before_a_checkpoint_and_what_failed(tmp_path: Path) -> None:
    store = RunStore(new=tmp_path, published=tmp_path / "none")
    machine = {"device": "a CPU", "device_type": "cpu", "threads": 2}
    long = {"wall_seconds": 900.0, "train_seconds": 1800.0, "peak_memory_bytes": 2**30}
    for seed, cost in enumerate(({"wall_seconds": 3600.0}, long)):
        config = {"dataset": "ml-1m", "model": "sasrec", "seed": seed}
        store.save(make_record(config=config, cost=cost, environment=machine), {})
    gone = {"status": "failed", "error": "it diverged", "metrics": {}, "cost": {}, "environment": machine}
    store.save(make_record(config={"dataset": "ml-1m", "model": "sasrec", "seed": 2}, **gone), {})
    runs = Runs(store)
    (row,) = cards.budget(runs).to_dict("records")
    assert (row["runs"], row["failed"], row["memory"]) == (3, 1, 1.0)
    assert row["hours"] == pytest.approx(2 * (1 + 0.5 + 1))
    assert VALUES["budget/hours"](runs) == pytest.approx(5.0)
    assert VALUES["budget/failed"](runs) == 1


def test_without_a_run_there_is_no_card(tmp_path: Path) -> None:
    for name in ("card/orpo", "budget"):
        with pytest.raises(NotRun):
            EXHIBITS[name](runs_of(tmp_path))(caption="none")

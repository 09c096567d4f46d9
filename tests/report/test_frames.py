from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import bootstrap_interval, metric_values
from seqrec_lib.experiments import accuracy
from seqrec_lib.report.frames import COMPLETE, frame, means, over_seeds, users
from seqrec_lib.results import RunStore, run_key
from tests.report.conftest import Made, Training


@pytest.fixture
def made(make) -> Made:
    return make()


def test_a_frame_has_one_row_for_each_planned_run(made):
    runs = frame(made.records, made.configs, made.store)
    assert list(runs["status"]) == [COMPLETE, COMPLETE, COMPLETE, "failed", "not run"]
    assert list(runs["label"]) == ["Popularity", "SASRec", "SASRec", "SASRec", "Mamba4Rec"]
    assert list(runs["training.epochs"].dropna()) == [3, 3, 3, 3]  # popularity has none
    assert runs["ndcg@10"].notna().tolist() == [True, True, True, False, False]
    assert runs["error"].dropna().tolist() == ["ValueError: the model produced NaN"]


def test_a_frame_of_records_alone_leaves_out_what_was_not_run(made):
    assert len(frame(made.records)) == 4
    assert frame([None]).empty


def test_labels_name_the_settings_that_differ(made):
    configs = [made.configs[1], replace(made.configs[1], architecture={"dropout": 0.3}, training=Training(9))]
    runs = frame([None, None], configs)
    assert list(runs["label"]) == ["SASRec (dropout 0.1, epochs 3)", "SASRec (dropout 0.3, epochs 9)"]


def test_a_configuration_that_is_planned_twice_has_one_row(made):
    twice = [*made.records, *made.records], [*made.configs, *made.configs]
    assert len(frame(*twice)) == len(made.configs)


def test_edited_code_is_a_row_beside_the_published_one(made):
    record = made.records[0]
    edited = replace(
        record,
        run_id=run_key(record.experiment, record.config, record.revision, edited="f" * 16),
        edited="f" * 16,
        code="f" * 16,
    )
    (published,) = [record]
    made.store.new.rename(made.store.published)
    runs = frame([edited], made.configs[:1], made.store)
    assert list(runs["run_id"]) == [published.run_id, edited.run_id]
    assert list(runs["label"]) == ["Popularity", "Popularity, edited"]


def test_language_models_say_where_they_come_from_and_what_they_order(made):
    record = replace(
        made.records[0],
        experiment="llamarec",
        config={"dataset": "ml-1m", "model": "llamarec", "source": "nf4:org/Llama", "retriever": {"model": "sasrec"}},
        environment=made.records[0].environment
        | {"language_model": {"name": "org/Llama", "parameters": 6_700_000_000}},
    )
    assert list(frame([record])["label"]) == ["LlamaRec on SASRec (Llama in four bits, 6,700 M weights)"]


def test_means_are_over_seeds_and_intervals_over_users(made):
    runs = frame(made.records, made.configs, made.store)
    table = means(runs, ["ndcg@10", "masked_ndcg@10"], made.store).set_index(["label", "metric"])
    sasrec = table.loc["SASRec", "masked_ndcg@10"]
    ranks = [made.store.table(record, "ranks")["masked_rank"].to_numpy() for record in made.records[1:3]]
    values = np.mean([metric_values(r, "ndcg@10") for r in ranks], axis=0)
    interval = bootstrap_interval(values)
    assert sasrec["mean"] == pytest.approx(values.mean())
    assert (sasrec["low"], sasrec["high"]) == (interval.low, interval.high)
    assert (sasrec["seeds"], sasrec["planned"], sasrec["failed"]) == (2, 3, 1)
    numbers = [record.metrics["masked_ndcg@10"] for record in made.records[1:3]]
    assert sasrec["sd"] == pytest.approx(np.std(numbers, ddof=1))
    assert table.loc["Mamba4Rec", "ndcg@10"][["mean", "sd", "low", "high"]].isna().all()


def test_users_are_none_where_a_list_has_no_ranks(made):
    runs = frame(made.records, made.configs, made.store)
    sasrec = runs[runs["model"] == "sasrec"]
    assert users(sasrec, "trie_ndcg@10", made.store) is None
    assert users(runs[runs["model"] == "mamba4rec"], "ndcg@10", made.store) is None
    assert users(sasrec, "ndcg@10", made.store).mean() == pytest.approx(sasrec["ndcg@10"].mean())


def test_a_frame_of_another_store_is_refused_and_not_averaged_over_what_is_there(made, tmp_path) -> None:
    runs = frame(made.records, made.configs, made.store)
    sasrec = runs[runs["model"] == "sasrec"]
    other = RunStore(tmp_path / "other", tmp_path / "other")
    other.save(made.records[1], {"ranks": made.store.table(made.records[1], "ranks")})  # one of the two seeds
    for ask in (users, lambda *given: means(given[0], [given[1]], given[2])):
        with pytest.raises(SeqRecError, match=rf"run {made.records[2].run_id} of a frame is not in .*other; name"):
            ask(sasrec, "ndcg@10", other)


def test_the_ranks_of_a_run_are_read_once_for_all_metrics(made, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    table = made.store.table
    monkeypatch.setattr(made.store, "table", lambda record, name: reads.append(record.run_id) or table(record, name))
    means(frame(made.records, made.configs, made.store), ["ht@10", "ndcg@10", "masked_ndcg@10"], made.store)
    assert sorted(reads) == sorted(record.run_id for record in made.records[:3])


def test_means_over_seeds_have_students_interval() -> None:
    runs = pd.DataFrame(
        {"label": ["A"] * 3 + ["B"], "status": ["complete"] * 3 + ["not run"], "x": [6.0, 6.01, 6.02, None]}
    )
    first, second = over_seeds(runs, ["x", "absent"]).to_dict("records")
    expected = stats.t.interval(0.95, 2, 6.01, stats.sem([6.0, 6.01, 6.02]))
    assert (first["x low"], first["x high"]) == pytest.approx(expected) and first["seeds"] == 3
    assert np.isnan([second["x"], second["x low"], first["absent"]]).all() and second["seeds"] == 0


def test_a_run_by_the_public_codes_recipe_says_so_and_lists_no_settings() -> None:
    both = [*plan("study"), *plan("public")]
    table = frame([None] * len(both), both)
    assert table["label"].tolist() == ["SASRec", "SASRec, public recipe"]


def plan(recipe: str) -> list[accuracy.Config]:
    return accuracy.plan({"dataset": "ml-1m", "models": ["sasrec"], "seeds": [0], "recipe": recipe})

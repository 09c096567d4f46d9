"""The accuracy page's frames, from simulated ranks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from seqrec_lib.evaluate.statistics import compare_pairs
from seqrec_lib.report import accuracy
from seqrec_lib.report.frames import frame, users
from seqrec_lib.report.published import REPORTED, reported

METRICS = ["ht@10", "ndcg@10"]


@pytest.fixture
def page(make):
    def build(dataset: str = "ml-1m"):
        made = make(dataset)
        runs = frame(made.records, made.configs, made.store)
        return made, runs, accuracy.models(runs, METRICS, made.store)

    return build


def test_models_have_both_rankings_the_best_first(page):
    made, _, table = page()
    assert list(table["label"]) == ["SASRec", "Popularity", "Mamba4Rec"]
    sasrec = table.iloc[0]
    values = [record.metrics["masked_ndcg@10"] for record in made.records[1:3]]
    assert sasrec["masked_ndcg@10"] == pytest.approx(np.mean(values))
    assert sasrec["ndcg@10 low"] < sasrec["ndcg@10"] < sasrec["ndcg@10 high"]
    assert (sasrec["seeds"], sasrec["planned"]) == (2, 3)
    drawn = accuracy.both_rankings(table, "ndcg@10", "ml-1m")
    assert len(drawn) == 4 and drawn["paper"].notna().sum() == 1  # the paper has SASRec, among all items
    assert "paper" not in accuracy.both_rankings(table, "ndcg@10", "file-mine-0123456789ab")


def test_a_ranker_of_candidates_has_masked_numbers_only(page):
    made, runs, _ = page()
    ranker = frame([replace(made.records[1], experiment="llamarec")]).assign(label="LlamaRec", model="llamarec")
    both = pd.concat([runs, ranker], ignore_index=True)
    table = accuracy.models(both, METRICS, made.store).set_index("label")
    assert np.isnan(table.loc["LlamaRec", "ndcg@10"])
    assert table.loc["LlamaRec", "masked_ndcg@10"] == made.records[1].metrics["ndcg@10"]
    assert table.loc["LlamaRec", "masked_ndcg@10 low"] > 0


def test_a_verdict_compares_intervals_and_only_numbers_about_the_same_data(page):
    _, _, table = page()
    found = accuracy.beside_paper(table, METRICS, "ml-1m-recbole").set_index(["model", "metric"])
    true_order = accuracy.beside_paper(table, METRICS, "ml-1m").set_index(["model", "metric"])
    assert true_order.loc["SASRec", "HT@10"]["verdict"] == "other order"
    ours = found.loc["SASRec", "NDCG@10"]
    assert ours["verdict"] == "matches" and found.loc["SASRec", "HT@10"]["verdict"] == "ours higher"
    assert ours["difference"] == pytest.approx(ours["ours"] - float(ours["paper"]))
    assert found.loc["Hydra4Rec", "NDCG@10"]["verdict"] == "not run"
    assert accuracy.beside_paper(table, METRICS, "demo").empty


def test_hydras_amazon_row_is_judged_on_the_catalogue_that_its_size_names(page):
    _, _, table = page("amazon-2014-beauty")
    hydra = table.iloc[[0]].assign(model="hydra4rec", label="Hydra4Rec")
    found = accuracy.beside_paper(pd.concat([table, hydra]), ["ht@10"], "amazon-2014-beauty").set_index("model")
    assert found.loc["SASRec", ["verdict", "catalogue"]].tolist() == ["other data", "2023"]
    assert found.loc["Hydra4Rec", "catalogue"] == "2014" and found.loc["Hydra4Rec", "verdict"] != "other data"


def test_language_models_from_scratch_get_no_verdict(page):
    _, _, table = page()
    scratch = table.iloc[[0]].assign(model="gpt4rec", label="GPT4Rec (from scratch, 0.3 M weights)")
    found = accuracy.beside_paper(pd.concat([table, scratch]), ["ht@10"], "ml-1m").set_index("model")
    assert found.loc["GPT4Rec", "verdict"] == "not run"


def test_pairs_are_each_model_with_sasrec_and_neighbours(page):
    made, runs, table = page()
    found = accuracy.pairs(runs, table, "ndcg@10", made.store).set_index("pair")
    assert list(found.index) == ["Popularity − SASRec", "Mamba4Rec − SASRec", "Popularity − Mamba4Rec"]
    values = [users(runs[runs["label"] == label], "ndcg@10", made.store) for label in ("Popularity", "SASRec")]
    (test,) = compare_pairs([("a", values[0], "b", values[1])])
    first = found.iloc[0]
    assert (first["ndcg@10"], first["ndcg@10 p"]) == (test.difference.estimate, test.p_holm)
    assert found.iloc[1:][["ndcg@10", "masked_ndcg@10"]].isna().all(axis=None)  # Mamba4Rec was not run


def test_curves_are_means_and_ranges_over_seeds(page):
    made, runs, _ = page()
    made.records[1].history[2]["valid_ndcg@10"] = 0.35
    last = accuracy.curves(runs, made.records).iloc[-1]
    assert last[["label", "epoch", "low", "high"]].tolist() == ["SASRec", 3, pytest.approx(0.15), 0.35]
    assert last["mean"] == pytest.approx(0.25)


def test_costs_are_means_with_the_papers_size_beside_them(page):
    _, runs, _ = page()
    found = accuracy.costs(runs, "ml-1m").set_index("label")
    assert found.loc["SASRec", ["parameters", "paper", "epochs"]].tolist() == [321_984, "320k", 3]
    assert list(found.index) == ["Popularity", "SASRec"]


def test_where_nothing_was_run_frames_are_empty(make):
    made = make()
    nothing = frame([None, None], made.configs[:2])
    table = accuracy.models(nothing, METRICS, made.store)
    assert table["ndcg@10"].isna().all()
    assert accuracy.curves(nothing, [None, None]).empty and accuracy.costs(nothing, "ml-1m").empty
    assert accuracy.both_rankings(table, "ndcg@10", "ml-1m").empty


@pytest.mark.parametrize("dataset", REPORTED["dataset"].unique())
def test_what_others_report_is_in_order_and_names_its_source(dataset):
    rows = reported(f"{dataset}-recbole" if dataset == "ml-1m" else dataset)
    assert len(rows) == (REPORTED["dataset"] == dataset).sum()
    assert list(rows["ht"]) == [
        row.ht for row in rows.sort_values(["seen", "ht"], ascending=[False, True]).itertuples()
    ]
    assert ((rows["ndcg"].fillna(0.01) < rows["ht"]) & (rows["ht"] < 1)).all()
    assert all('href="https://' in source.html for source in rows["source"])
    assert reported("demo").empty

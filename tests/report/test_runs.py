from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import metric_values
from seqrec_lib.report.runs import gather
from seqrec_lib.results import run_key
from tests.report.conftest import Made


@dataclass(frozen=True)
class Setting:
    dataset: str = "demo"
    model: str = "sasrec"
    seed: int = 0
    architecture: dict = field(default_factory=dict)


def test_seeds_of_one_configuration_are_one_model(make):
    popularity, sasrec, mamba = make().runs
    assert (popularity.label, sasrec.label, mamba.label) == ("Popularity", "SASRec", "Mamba4Rec")
    assert sasrec.seeds == (0, 1, 2)
    assert (len(sasrec.complete), len(sasrec.failed)) == (2, 1)
    values = [record.metrics["ndcg@10"] for record in sasrec.complete]
    assert sasrec.mean("ndcg@10") == pytest.approx(sum(values) / 2)
    assert sasrec.spread("ndcg@10") == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert popularity.spread("ndcg@10") is None
    assert mamba.mean("ndcg@10") is None
    assert mamba.user_means("ndcg@10") is None


def test_user_means_average_the_ranks_of_complete_runs(make):
    sasrec = make().runs[1]
    first, second, third = sasrec.ranks
    assert third is None
    expected = (metric_values(first, "mrr@10") + metric_values(second, "mrr@10")) / 2
    assert np.array_equal(sasrec.user_means("mrr@10"), expected)
    assert sasrec.user_means("mrr@10").mean() == pytest.approx(sasrec.mean("mrr@10"))
    assert sasrec.user_means("masked_mrr@10").mean() == pytest.approx(sasrec.mean("masked_mrr@10"))


def test_variants_are_rows_of_their_own_and_twins_count_once():
    plain, variant = Setting(architecture={"dropout": 0.1}), Setting(architecture={"dropout": 0.4})
    runs = gather([plain, variant, variant, Setting(model="markov")], [None] * 4, store=None)
    assert [own.label for own in runs] == ["SASRec (dropout 0.1)", "SASRec (dropout 0.4)", "Markov"]
    assert [len(own.records) for own in runs] == [1, 1, 1]


def test_records_must_belong_to_the_plan():
    with pytest.raises(SeqRecError, match="1 configurations but 2 records"):
        gather([Setting()], [None, None], store=None)


def test_a_run_of_edited_code_is_a_row_of_its_own_after_the_published_one(make: Callable[..., Made]) -> None:
    made = make()
    config, published = made.configs[1], made.records[1]
    assert published is not None
    shutil.copytree(made.store.new, made.store.published, ignore=shutil.ignore_patterns(".*"))
    code = "feedfeedfeedfeed"
    values = (published.experiment, published.config, published.revision, (), None, code)
    edited = replace(published, run_id=run_key(*values), code=code, edited=code)
    edited = made.store.save(edited, {"ranks": made.store.table(published, "ranks")})
    rows = gather([config, made.configs[0]], [edited, made.records[0]], made.store)
    assert [(row.label, row.records) for row in rows] == [
        ("SASRec", (published,)), ("SASRec, edited", (edited,)), ("Popularity", (made.records[0],)),
    ]  # fmt: skip

from dataclasses import dataclass, field

import numpy as np
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.report.runs import gather
from seqrec_lib.report.statistics import metric_values


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

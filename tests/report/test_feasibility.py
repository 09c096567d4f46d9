import numpy as np
import pytest

from seqrec_lib.report import audit
from seqrec_lib.report.feasibility import feasible, mrr_range, rounding_needed
from seqrec_lib.report.paper import METRICS, PAPER, Printed
from seqrec_lib.report.sizes import CATALOGUES_2014, WIDTH, explained_by, hydra_body, implied_ids


def printed(ht, ndcg, mrr, digits=3):
    return {name: Printed(f"{value:.{digits}f}") for name, value in zip(METRICS, (ht, ndcg, mrr), strict=True)}


def impossible(rounding):
    return {(row.table, row.model) for row in PAPER if len(row.metrics) == 3 and not feasible(row, rounding)}


def test_nine_rows_of_the_paper_are_impossible_at_half_a_unit_and_seven_at_a_whole_one():
    half = {
        *((1, model) for model in ("gpt4rec", "2mamba4rec", "llamarec")),
        *((2, model) for model in ("mamrec", "gpt4rec", "2mamba4rec", "llamarec")),
        *((3, model) for model in ("mamrec", "gpt4rec")),
    }
    assert impossible(0.5) == half
    assert len(half) == 9
    assert impossible(1.0) == half - {(1, "2mamba4rec"), (2, "2mamba4rec")}


def test_numbers_that_come_from_ranks_are_possible():
    rng = np.random.default_rng(0)
    for _ in range(30):
        ranks = rng.geometric(rng.uniform(0.01, 0.9), 200)
        hit = ranks <= 10
        numbers = printed(hit.mean(), (hit / np.log2(ranks + 1)).mean(), (hit / ranks).mean())
        assert rounding_needed(numbers) <= 0.5 + 1e-6


def test_all_hits_at_rank_two_by_hand():
    # h = 0.4, so NDCG = 0.4 / log2(3) = 0.2524 and MRR = 0.2
    assert rounding_needed(printed(0.4, 0.2524, 0.2, 4)) <= 0.5
    # the same HT and MRR need no more NDCG than ranks 1 and 10 spread wide, and no less than rank 2 alone;
    # NDCG 0.30 lies above both
    assert rounding_needed(printed(0.4, 0.30, 0.2)) > 10


def test_the_least_rounding_is_the_brink_of_feasibility():
    numbers = printed(0.048, 0.031, 0.028)
    needed = rounding_needed(numbers)
    _, high = mrr_range(numbers["ht@10"], numbers["ndcg@10"], needed + 1e-4)
    assert high >= 0.028 - (needed + 1e-4) * 0.001
    _, high = mrr_range(numbers["ht@10"], numbers["ndcg@10"], needed - 1e-2)
    assert high < 0.028 - (needed - 1e-2) * 0.001


def test_mrr_range_covers_what_ranks_give_and_sees_a_contradiction():
    rng = np.random.default_rng(1)
    for _ in range(20):
        ranks = rng.integers(1, 30, size=500)
        hit = ranks <= 10
        ht, ndcg = Printed(f"{hit.mean():.4f}"), Printed(f"{(hit / np.log2(ranks + 1)).mean():.4f}")
        low, high = mrr_range(ht, ndcg)
        assert low - 1e-9 <= (hit / ranks).mean() <= high + 1e-9
    assert mrr_range(Printed("0.100"), Printed("0.200")) is None


def test_hydras_printed_sizes_belong_to_the_2014_catalogues():
    rows = {(row.dataset, row.model): row for row in PAPER if implied_ids(row)}
    unexplained = [key for key, row in rows.items() if explained_by(row) != "Table 4"]
    assert unexplained == [(name, "hydra4rec") for name in CATALOGUES_2014]
    for name, items in CATALOGUES_2014.items():
        row = rows[(name, "hydra4rec")]
        assert items + 1 in implied_ids(row) and "2014" in explained_by(row)
        low, high = row.parameters.range()
        assert low <= hydra_body() + WIDTH * (items + 1) <= high


def test_the_pages_rows_say_what_the_program_finds():
    for rounding, count in ((0.5, 9), (1.0, 7)):
        rows = audit.rows(rounding)
        assert (rows.loc[rows["complete"], "possible"] == "no").sum() == count
    assert (~rows["complete"]).sum() == 1 and rows["complete"].sum() == 20
    assert audit.implied_catalogues()["explained"].str.contains("2014").sum() == 2
    assert audit.sasrec_lengths()["fits"].tolist() == ["yes", "no", "no"]


@pytest.mark.parametrize(("rounding", "count"), [(0.0, 9), (11.0, 0)])
def test_extremes_of_rounding(rounding, count):
    # the rows that half a unit allows are possible to the digit, and 10.4 units explain the farthest row
    assert len(impossible(rounding)) == count

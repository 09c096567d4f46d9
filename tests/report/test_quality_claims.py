"""The verdicts on accuracy: users compared with themselves, data set by data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seqrec_lib.report import quality_claims
from seqrec_lib.report.runs import ModelRuns

USERS = 300
RNG = np.random.default_rng(0)
BASE = RNG.integers(1, 40, USERS)


class Record:
    complete = True
    run_id = "0" * 16


def runs(dataset: str, **ranks: Any) -> list[ModelRuns]:
    return [
        ModelRuns(dataset, model, model, (0,), (Record(),), (np.asarray(own),), (None,))  # type: ignore[arg-type]
        for model, own in ranks.items()
    ]


def better(places: int) -> np.ndarray:
    """Everybody's item that many places further up."""
    return np.maximum(1, BASE - places)


def test_on_average_is_the_mean_over_the_models_that_ran() -> None:
    first = runs("ml-1m", sasrec=BASE, mamba4rec=better(6), hydra4rec=BASE)
    (verdict, _) = quality_claims.verdicts([first])
    assert verdict.word == "upheld"
    assert "mean of Mamba4Rec, Hydra4Rec minus SASRec (1 seed): NDCG@10 +" in verdict.reason
    second = runs("ml-100k", sasrec=better(6), mamba4rec=BASE)
    (both, _) = quality_claims.verdicts([first, second, runs("demo", sasrec=BASE)])
    assert both.word == "partly" and "demo" not in both.reason and len(both.run_ids) == 5  # none of demo
    (neither, _) = quality_claims.verdicts([runs("ml-1m", sasrec=BASE, mamba4rec=BASE)])
    assert neither.word == "not upheld"


def test_both_rankings_are_asked_whether_state_space_models_rank_better() -> None:
    def both(masked: np.ndarray) -> list[ModelRuns]:
        own = runs("ml-1m", sasrec=BASE, mamba4rec=better(6))
        return [replace(one, masked_ranks=(ranks,)) for one, ranks in zip(own, (BASE, masked), strict=True)]

    for masked, word in ((better(6), "upheld"), (BASE + 6, "partly")):
        (verdict, _) = quality_claims.verdicts([both(masked)])
        assert verdict.word == word and "; MovieLens 1M, seen items left out: NDCG@10 " in verdict.reason
        assert len(verdict.run_ids) == 2


def test_both_rankings_are_asked_whether_hydra_is_similar() -> None:
    own = runs("ml-1m", mamba4rec=BASE, hydra4rec=BASE)
    unlike = [replace(one, masked_ranks=(ranks,)) for one, ranks in zip(own, (BASE, better(8)), strict=True)]
    (_, verdict) = quality_claims.verdicts([unlike])
    assert verdict.word == "partly" and "; MovieLens 1M, seen items left out: NDCG@10 +" in verdict.reason


def test_seeds_are_told() -> None:
    own = runs("ml-1m", sasrec=BASE, mamba4rec=better(6))
    several = replace(own[0], records=(Record(),) * 3, ranks=(BASE,) * 3)
    (verdict, _) = quality_claims.verdicts([[several, own[1]]])
    assert "minus SASRec (1 to 3 seeds)" in verdict.reason


def test_a_tenth_is_where_similar_ends_and_an_interval_across_it_is_left_open() -> None:
    base = np.full(USERS, 2)  # an NDCG@10 of 0.63 each; a hit at 1 has 1.58 times that
    for hits, word, ends in ((0.12, "upheld", ""), (0.17, "not tested yet", ", left open"), (0.4, "not upheld", "")):
        other = np.where(np.arange(USERS) < hits * USERS, 1, base)
        (_, verdict) = quality_claims.verdicts([runs("ml-1m", mamba4rec=base, hydra4rec=other)])
        assert verdict.word == word and verdict.reason.endswith(ends), (hits, verdict.reason)
    open_one = runs("ml-100k", mamba4rec=base, hydra4rec=np.where(np.arange(USERS) < 0.17 * USERS, 1, base))
    (_, verdict) = quality_claims.verdicts([runs("ml-1m", mamba4rec=base, hydra4rec=base), open_one])
    assert verdict.word == "upheld" and "left open" in verdict.reason  # what is open does not count


@pytest.mark.parametrize(("change", "word"), [(0, "upheld"), (8, "not upheld")])
def test_similar_is_within_a_tenth(change: int, word: str) -> None:
    (_, verdict) = quality_claims.verdicts([runs("ml-1m", mamba4rec=BASE, hydra4rec=better(change))])
    assert verdict.word == word
    assert verdict.run_ids == ("0" * 16,) * 2


def test_without_both_models_nothing_is_said() -> None:
    for verdict in quality_claims.verdicts([runs("ml-1m", sasrec=BASE), []]):
        assert (verdict.word, verdict.reason, verdict.run_ids) == ("not tested yet", "", ())


def test_a_page_without_runs_says_so_in_one_line() -> None:
    assert quality_claims.quality_claims_table(runs("ml-1m", sasrec=BASE)).text.endswith("this page: not run.")
    table = quality_claims.quality_claims_table(runs("ml-1m", sasrec=BASE, mamba4rec=better(6))).text
    assert "Upheld." in table and "not tested yet" in table

"""The paper's rows of two data sets in one table, beside ours of one."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqrec_lib.report.older_catalogue import older_catalogue
from seqrec_lib.report.runs import ModelRuns

BASE = np.random.default_rng(0).integers(1, 40, 300)


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


def test_the_rows_say_which_catalogue_their_size_fits_and_what_one_catalogue_shows() -> None:
    ran = runs("amazon-2014-beauty", sasrec=better(3), mamba4rec=better(0), hydra4rec=better(0))
    found = older_catalogue(ran, "amazon-2014-beauty")
    assert found is not None
    lines = {line.split("  ")[0].strip(): line for line in found.text.splitlines()}
    assert "2014" in lines["Hydra4Rec"] and "0.070" in lines["Hydra4Rec"]
    assert "2023" in lines["Mamba4Rec"] and "0.048" in lines["Mamba4Rec"]
    assert lines["2Mamba4Rec"].rstrip().endswith("–")
    assert "from Mamba4Rec's by +46%" in found.text and "here, it differs by +0.0% (+0.0% to +0.0%)" in found.text
    assert "one of data more than of models" in found.text


def test_a_distance_like_the_papers_is_not_excluded() -> None:
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 40, 300)
    ran = runs("amazon-2014-beauty", mamba4rec=ranks, hydra4rec=np.maximum(1, ranks - 9))
    found = older_catalogue(ran, "amazon-2014-beauty")
    assert found is not None and "does not exclude" in found.text


def test_without_the_pair_the_table_stands_alone_and_elsewhere_nothing_does() -> None:
    alone = older_catalogue(runs("amazon-2014-beauty", sasrec=better(0)), "amazon-2014-beauty")
    assert alone is not None and "On one, here" not in alone.text
    for dataset in ("ml-1m", "demo", "amazon-2018-video-games"):
        assert older_catalogue(runs(dataset, sasrec=better(0)), dataset) is None

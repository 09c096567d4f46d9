"""What the chapter on larger sizes says follows from what was measured by the rule of three."""

from __future__ import annotations

import pytest

from seqrec_lib.report import benchmarks
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.pages import scale
from seqrec_lib.report.values import EXHIBITS, VALUES

RECORD = {"sets": [{"items": 200_000, "rows": [{"name": "counting", "seconds": 4.0, "users": 2_000}]}]}


def test_a_measured_time_is_multiplied_by_how_much_larger_the_catalogue_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "read", lambda folder, name: RECORD)
    runs = Runs.published()
    assert VALUES["scale/user-milliseconds"](runs) == pytest.approx(2)
    assert VALUES["scale/user-seconds"](runs) == pytest.approx(2e-3 * 500)  # 100 million are 500 times 200,000
    assert VALUES["scale/core-years"](runs) == pytest.approx(1e8 / (365.25 * 24 * 3600))


def test_without_a_timing_it_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "read", lambda folder, name: None)
    with pytest.raises(NotRun):
        VALUES["scale/user-milliseconds"](Runs.published())


def test_a_table_of_items_has_four_bytes_for_each_number() -> None:
    assert VALUES["scale/items-gb"](Runs.published()) == pytest.approx(25.6)
    assert VALUES["scale/trained-gb"](Runs.published()) == pytest.approx(3 * 25.6)
    assert scale.INDEXES["HNSW, 32 neighbours"] - scale.INDEXES["exact"] == 2 * 32 * 4
    assert "25.6" in EXHIBITS["scale-index"](Runs.published())(caption="x").html


def test_only_the_cache_of_attention_grows_with_the_history() -> None:
    html = EXHIBITS["scale-state"](Runs.published())(caption="x").html
    states = scale.Scaling.read(Runs.published().newest("scaling", "ml-1m"), Runs.published().store)
    assert states is not None and "SASRec" in html
    by_length = states.memory[states.memory["path"] == "served"].groupby("model")["state"].nunique()
    assert by_length["sasrec"] > 1 and (by_length.drop("sasrec") == 1).all()

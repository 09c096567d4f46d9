"""What the chapter on larger sizes says follows from what was measured by the rule of three."""

from __future__ import annotations

import pandas as pd
import pytest

from seqrec_lib.report import benchmarks
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.pages import scale
from seqrec_lib.report.scaling import Scaling
from seqrec_lib.report.values import EXHIBITS, VALUES


def test_a_measured_time_is_multiplied_by_how_much_larger_the_catalogue_is(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = pd.DataFrame({0: [1_000.0, 20_000.0], 1: [3_000.0, 20_000.0]}, index=[10_000, 1_000_000])  # microseconds
    monkeypatch.setattr(Scaling, "curve", lambda *_: curve)
    runs = Runs.published()
    assert VALUES["scale/timed-items"](runs) == 1_000_000
    assert VALUES["scale/request-milliseconds"](runs) == pytest.approx(20)
    assert VALUES["scale/request-seconds"](runs) == pytest.approx(0.02 * 100)
    assert VALUES["scale/core-years"](runs) == pytest.approx(2 * 1e8 / (365.25 * 24 * 3600))


def test_a_table_of_items_has_four_bytes_for_each_number() -> None:
    runs = Runs.published()
    assert VALUES["scale/items-gb"](runs) == pytest.approx(25.6)
    assert VALUES["scale/trained-gb"](runs) == pytest.approx(3 * 25.6)
    assert scale.INDEXES["HNSW, 32 neighbours"] - scale.INDEXES["exact"] == 2 * 32 * 4
    assert "25.6" in EXHIBITS["scale-index"](runs)(caption="x").html


def test_only_the_cache_of_attention_grows_with_the_history() -> None:
    runs = Runs.published()
    assert "SASRec" in EXHIBITS["scale-state"](runs)(caption="x").html
    memory = Scaling.newest(runs, "ml-1m").memory
    lengths = memory[memory["path"] == "served"].groupby("model")["state"].nunique()
    assert lengths["sasrec"] > 1 and (lengths.drop("sasrec") == 1).all()


def test_without_a_record_of_large_data_it_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"form": "json", "reviews": 24, "cpu_seconds": 90.0, "peak_memory_bytes": 3e9}
    rows = [row | {"users": 1, "items": 2, "interactions": 3}, row | {"form": "csv", "cpu_seconds": 60.0}]
    monkeypatch.setattr(benchmarks, "read", lambda folder, name: {"rows": rows})
    runs = Runs.published()
    assert (VALUES["large-data/minutes"](runs), VALUES["large-data/gb"](runs)) == (1.5, 3.0)
    monkeypatch.setattr(benchmarks, "read", lambda folder, name: None)
    with pytest.raises(NotRun):
        VALUES["large-data/reviews"](runs)


def test_training_at_the_large_size_has_an_evaluation_where_there_was_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {"model": "sasrec", "negatives": 2048, "epoch_seconds": 1800.0, "evaluation_seconds": 600.0}
    exact = {"model": "sasrec", "negatives": 0, "epoch_seconds": 7200.0}
    rows = [row | {"steps": 9, "peak_memory_bytes": 4e9} for row in (drawn, exact)]
    monkeypatch.setattr(benchmarks, "read", lambda folder, name: {"rows": rows} if name == "large_training" else None)
    runs = Runs.published()
    assert (VALUES["large-training/drawn-hours"](runs), VALUES["large-training/exact-hours"](runs)) == (0.5, 2.0)
    html = EXHIBITS["large-training"](runs)(caption="x").html
    assert "2,048 items drawn" in html and html.count("<tr>") == 3 and "120" in html

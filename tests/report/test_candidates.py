"""Which model: the rule marks the fastest of those within the margin, and what was not run is not marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqrec_lib.report import candidates
from seqrec_lib.report.candidates import MARK
from seqrec_lib.report.frames import frame as frame_of
from seqrec_lib.report.scaling import Scaling
from seqrec_lib.results import RunStore
from tests.fakes import make_record as make_plain_record
from tests.report.test_timings import make_timings

USERS = 4000


class Candidates:
    """Three runs in a store. A share of the users, the same ones for all models, has its item first."""

    def __init__(self, folder: Path) -> None:
        self.store = RunStore(folder / "new", folder / "published")
        self.records = []
        for model, hits in (("sasrec", 0.30), ("mamba4rec", 0.299), ("hydra4rec", 0.15)):
            ranks = np.where(np.arange(USERS) < hits * USERS, 1, 5000).astype(np.int32)
            record = make_plain_record(config={"dataset": "d", "model": model, "seed": 0}, cost={"parameters": 7})
            self.records.append(self.store.save(record, {"ranks": pa.table({"rank": ranks, "masked_rank": ranks + 1})}))

    def compare(self, timings, scaling, metric: str = "ndcg@10", margin: float = 0.05) -> pd.DataFrame:
        found = candidates.compare(frame_of(self.records), self.store, timings, scaling, metric, margin)
        return found.assign(model=[NAMES[name] for name in found["model"]])


NAMES = {"SASRec": "sasrec", "Mamba4Rec": "mamba4rec", "Hydra4Rec": "hydra4rec"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Candidates:
    return Candidates(tmp_path_factory.mktemp("candidates"))


def test_the_fastest_within_the_margin_is_marked(runs: Candidates) -> None:
    frame = runs.compare(make_timings(), None).set_index("model")
    assert frame["mark"].to_dict() == {"sasrec": "", "mamba4rec": MARK, "hydra4rec": ""}  # hydra4rec is the fastest
    assert frame["within"].to_dict() == {"sasrec": True, "mamba4rec": True, "hydra4rec": False}
    assert frame.loc["sasrec", "value"] == pytest.approx(0.3) and frame.loc["sasrec", "allowed"] == pytest.approx(0.015)
    assert frame.loc["hydra4rec", "behind"] == pytest.approx(-0.15) == frame.loc["hydra4rec", "distance"]
    assert frame["judged"].tolist() == ["yes", "yes", "no"] and np.isnan(frame.loc["sasrec", "distance"])
    assert frame.loc["mamba4rec", "request"] == pytest.approx(0.5, rel=0.5)  # MEDIANS are microseconds
    assert frame.loc["mamba4rec", "event"] == pytest.approx(0.05, rel=0.5)


def test_no_margin_leaves_the_best_and_a_wide_one_the_fastest(runs: Candidates) -> None:
    narrow = runs.compare(make_timings(), None, margin=0.0).set_index("model")
    assert narrow["mark"].to_dict() == {"sasrec": MARK, "mamba4rec": "", "hydra4rec": ""}
    wide = runs.compare(make_timings(), None, margin=0.9).set_index("model")
    assert wide["mark"].to_dict() == {"sasrec": "", "mamba4rec": "", "hydra4rec": MARK}


def test_seen_items_may_be_left_out_or_ranked(runs: Candidates) -> None:
    ranked, left_out = (runs.compare(None, None, name) for name in ("ndcg@10", "masked_ndcg@10"))
    assert ranked["value"].iloc[0] == pytest.approx(0.3)
    assert left_out["value"].iloc[0] == pytest.approx(0.3 / np.log2(3))


def test_without_timings_nothing_is_marked_and_without_runs_there_is_no_row(runs: Candidates) -> None:
    frame = runs.compare(None, None)
    assert not frame["mark"].any() and frame["request"].isna().all()
    assert candidates.compare(frame_of([]), runs.store, make_timings(), None, "ndcg@10", 0.05).empty


def test_it_says_how_long_each_model_was_trained(runs: Candidates) -> None:
    long = frame_of(runs.records).assign(epochs=40.0, best_epoch=31.0)
    compared = candidates.compare(long, runs.store, None, None, "ndcg@10", 0.05)
    assert set(compared["trained"]) == {"31 of 40"}
    assert runs.compare(None, None)["trained"].isna().all()


def test_the_state_is_that_of_the_shortest_and_the_longest_history(runs: Candidates) -> None:
    columns = ["model", "path", "length", "peak", "state"]
    sizes = [
        ("sasrec", "served", 50, 0, 1024),
        ("sasrec", "served", 800, 0, 16384),
        ("mamba4rec", "served", 50, 0, 512),
    ]
    sizes += [("mamba4rec", "served", 800, 0, 512), ("mamba4rec", "module", 50, 0, 9999)]
    scaling = Scaling(make_plain_record(), pd.DataFrame(), pd.DataFrame(sizes, columns=columns))
    frame = runs.compare(None, scaling).set_index("model")
    assert frame.loc["sasrec", ["state_short", "state_long"]].tolist() == [1.0, 16.0]
    assert frame.loc["mamba4rec", ["state_short", "state_long"]].tolist() == [0.5, 0.5]
    assert frame.loc["hydra4rec", ["state_short", "state_long"]].isna().all()
    assert candidates.measured_lengths(scaling) == [50, 800] and candidates.measured_lengths(None) == []


def test_what_was_found_in_a_file_is_shown_with_what_was_skipped() -> None:
    facts = {
        "columns": {"user": "who", "item": "<b>what</b>"}, "form": "number", "unit": "ms", "first": "2020-01-01",
        "last": "2020-02-01", "in_order": False,
        "like_missing": {"user": {"NULL": 37}, "item": {}}, "ties": [0.25, 0.5],
        "interactions": 12345, "skipped": 1, "users": 7,
        "items": 8, "titled": 0, "other_titles": 0, "repeated": 3, "duplicates": 1,
        "rounds": [[12345, 7, 8], [900, 5, 6]],
        "complaints": ["a.csv, line 3: bad in '<script>'"],
    }  # fmt: skip
    html = candidates.file_tables(facts).html
    assert "user &#x27;NULL&#x27;, kept, which reads like a missing value" in html and ">37<" in html
    assert all(text in html for text in ("ms", "12,345", "25.0", "900", "&lt;b&gt;what", "&lt;script&gt;"))
    assert "<script>" not in html.replace("<style>", "")

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from seqrec_lib.report import datasets
from seqrec_lib.report.paper import paper_name


@pytest.fixture
def made(make):
    made = make()
    metrics = {
        "users": 6040, "items": 3416, "interactions": 999_611,
        "users_with_padding": 6041, "items_with_padding": 3417,
        "length_mean": 165.5, "tied_last_two": 0.25, "repeated_pairs": 0,
        "first_timestamp": 956_703_932, "last_timestamp": 1_046_454_590_000,
    }  # fmt: skip
    tables = {
        "lengths": pa.table({"from": [5, 9], "to": [8, 40], "users": [30, 70]}),
        "popularity": pa.table({"rank_share": [0.0, 0.2, 1.0], "interaction_share": [0.0, 0.6, 1.0]}),
    }
    record = replace(made.records[4] or made.records[0], metrics=metrics, tables={})
    made.store.path(made.records[0]).unlink()
    return made.store, made.store.save(record, tables)


def test_counts_stand_beside_the_papers_and_say_whose_data_those_are(made):
    _, record = made
    found = datasets.counts(record, "ml-1m").set_index("count")
    assert found["ours"].tolist() == [6040, 3416, 999_611]
    assert found.loc["Items", ["padded", "paper"]].tolist() == [3417, 3417]
    beauty = datasets.counts(record, "amazon-2014-beauty")["paper_data"][0]
    assert beauty == paper_name("amazon-2023-beauty-and-personal-care")
    assert datasets.counts(None, "demo")[["ours", "paper", "paper_data"]].isna().all(axis=None)


def test_shape_shows_what_there_is_and_reads_milliseconds(made):
    _, record = made
    values = datasets.shape(record).set_index("what")["value"]
    assert values["Users whose last two tie"] == "25.0%"
    assert values["First and last day"] == "2000-04-25 to 2003-02-28"
    assert pd.isna(values["Density"])
    assert datasets.shape(None).empty


def test_curves_are_shares(made):
    store, record = made
    lengths = datasets.lengths(record, store)
    assert lengths["interactions"].tolist() == [8, 40] and lengths["share"].tolist() == [0.3, 1.0]
    popularity = datasets.popularity(record, store)
    assert popularity[popularity["curve"] == "items as they are"]["share"].tolist() == [0.0, 0.6, 1.0]
    assert datasets.lengths(None, store).empty and datasets.popularity(None, store).empty

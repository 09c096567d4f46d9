from dataclasses import replace

import pandas as pd
import pytest

from seqrec_lib.report import datasets
from seqrec_lib.results import RunStore


@pytest.fixture
def record(make):
    done = make().records[0]
    metrics = {
        "users": 6040, "items": 3416, "interactions": 999_611,
        "users_with_padding": 6041, "items_with_padding": 3417,
        "length_mean": 165.5, "length_50%": 96.0, "tied_last_two": 0.25, "repeated_pairs": 0,
        "first_timestamp": 956_703_932, "last_timestamp": 1_046_454_590_000,
    }  # fmt: skip
    return replace(done, metrics=metrics)


def verdicts(piece):
    return [line.split("  ")[-1].strip() for line in piece.text.splitlines()[2:5]]


def test_counts_are_equal_to_table_4_with_the_padding_id(record):
    piece = datasets.counts_table(record, "ml-1m")
    assert verdicts(piece) == ["= equal, padding id included", "= equal, padding id included", "= equal"]
    assert "6,041" in piece.text
    other = replace(record, metrics=record.metrics | {"items": 3706, "items_with_padding": 3707})
    assert verdicts(datasets.counts_table(other, "ml-1m"))[1] == "+289"
    assert verdicts(datasets.counts_table(record, "amazon-2014-beauty")) == ["≠ other data"] * 3
    assert verdicts(datasets.counts_table(record, "demo")) == ["· not in the paper"] * 3
    assert verdicts(datasets.counts_table(None, "ml-1m")) == ["○ not run"] * 3


def test_shape_shows_what_there_is_and_reads_milliseconds(record):
    text = datasets.shape_table(record, "ml-1m").text
    assert "25.0%" in text
    assert "2000-04-25 to 2003-02-28" in text
    assert "not run" in datasets.shape_table(None, "ml-1m").text


def test_figures_and_their_alt_text():
    lengths = pd.DataFrame({"from": [5, 9], "to": [8, 40], "users": [30, 70]})
    assert "from 5 to 40" in datasets.lengths_alt(lengths)
    assert "most users (70) have 9 to 40" in datasets.lengths_alt(lengths)
    assert datasets.lengths_figure(lengths, "demo") is not None
    popularity = pd.DataFrame({"rank_share": [0, 0.2, 1], "interaction_share": [0, 0.6, 1]})
    assert "has 30% of interactions" in datasets.popularity_alt(popularity)
    assert datasets.popularity_figure(popularity, "demo") is not None


def test_without_a_run_there_is_nothing_to_draw(tmp_path):
    empty = datasets.numbers(None, "lengths", RunStore(tmp_path / "a", tmp_path / "b"))
    assert datasets.lengths_figure(empty, "demo") is None
    assert datasets.popularity_figure(empty, "demo") is None
    assert "not run" in datasets.lengths_alt(empty)
    assert "not run" in datasets.popularity_alt(empty)

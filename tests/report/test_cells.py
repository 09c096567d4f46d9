from __future__ import annotations

import pandas as pd
import pytest

from seqrec_lib.report.feasibility import feasible
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.pages.cells import COMMANDS, TITLES, cells
from seqrec_lib.report.paper import PAPER, TABLE_4, Printed
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return cells(Runs.published())


def test_each_printed_number_is_a_row_once(frame: pd.DataFrame) -> None:
    printed = [
        number
        for row in PAPER
        for number in (*row.metrics.values(), row.latency, row.parameters, row.body)
        if number is not None
    ]
    assert len(frame) == len(printed) + 3 * len(TABLE_4)
    assert not frame.duplicated(["table", "data", "model", "quantity"]).any()


def test_each_number_of_ours_has_a_command_that_the_page_lists(frame: pd.DataFrame) -> None:
    assert set(frame["basis"].dropna()) <= set(COMMANDS)
    text = (ROOT / "book" / "cells.md").read_text(encoding="utf-8")
    for basis, command in COMMANDS.items():
        assert f"| {basis} | `{command}` |" in text


def test_words_on_quality_follow_from_the_interval_and_the_printed_digits(frame: pd.DataFrame) -> None:
    quality = frame[frame["quantity"].isin(TITLES.values())]
    judged = quality[quality["verdict"].isin(["reproduced", "higher", "lower"])]
    assert len(judged) >= 12
    for row in judged.itertuples():
        low, high = Printed(row.paper).range()
        word = "higher" if row.low > high else "lower" if row.high < low else "reproduced"
        assert row.verdict == word, row


def test_impossible_rows_are_marked_and_never_pass_as_other_data(frame: pd.DataFrame) -> None:
    impossible = {row.table for row in PAPER if not feasible(row)}
    marked = frame[frame["possible"].eq(False)]
    assert set(marked["table"]) == impossible
    assert not set(marked["verdict"]) & {"other data", "not run"}


def test_latencies_are_seconds_and_counts_are_those_of_the_layers(frame: pd.DataFrame) -> None:
    cell = frame.set_index(["table", "model", "quantity"])
    assert 1e-5 < cell.loc[(3, "SASRec", "latency"), "ours"] < 1e-1
    assert cell.loc[(3, "SASRec", "parameters"), "ours"] == 321_984  # RecBole's SASRec at length 50, by hand
    assert cell.loc[(4, "–", "users"), "verdict"].tolist().count("reproduced") == 1


def test_without_runs_nothing_is_judged(tmp_path) -> None:
    empty = cells(Runs(RunStore(new=tmp_path / "none", published=tmp_path / "none")))
    quality = empty[empty["quantity"].isin(TITLES.values())]
    assert set(quality["verdict"]) == {"not run", "infeasible"}
    assert quality["ours"].isna().all()

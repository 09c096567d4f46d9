"""The table of what others report, and the sentences that set ours beside it."""

from __future__ import annotations

import pandas as pd
import pytest

from seqrec_lib.report.published import REPORTED, reported_table


def frame(*rows: tuple[str, float | None, float | None]) -> pd.DataFrame:
    columns = ("model", "mean", "masked_mean")
    return pd.DataFrame([{"metric": "ht@10"} | dict(zip(columns, row, strict=True)) for row in rows], dtype=object)


def test_ours_stand_beside_the_range_of_others() -> None:
    ours = frame(
        ("sasrec", 0.27, 0.34),
        ("2mamba4rec", 0.26, 0.33),
        ("2mamba4rec+repeats", 0.35, 0.35),
        ("popularity", 0.01, 0.02),
        ("llamarec", None, 0.1),
        ("hydra4rec", None, None),
    )
    true, recbole, ties = (reported_table(f"ml-1m{end}", ours) for end in ("", "-recbole", "-ties-item-id"))
    assert true is not None and recbole is not None and ties is not None
    # seen items left out: eSASRec's benchmark, and Klenitskiy and Vasilev; ranked: none is known in the true order
    assert "0.2929 to 0.3164 there, 0.3300 to 0.3400 here and 0.3500 with a repeat bias." in true.text
    assert true.text.count(" there, ") == 1
    # seen items ranked: what builds on RecBole
    assert "0.2990 to 0.3344 there, 0.2600 to 0.2700 here and 0.3500 with a repeat bias." in recbole.text
    assert recbole.text.count(" there, ") == 1
    assert " there, " not in ties.text and "DiSAM4Rec" in ties.text


def test_no_sentence_without_runs_and_no_table_without_others() -> None:
    shown = reported_table("ml-1m", frame(("popularity", 0.01, 0.02)))
    assert shown is not None and "HT@10 is" not in shown.text
    assert reported_table("demo", frame(("sasrec", 0.1, 0.1))) is None


@pytest.mark.parametrize("dataset", REPORTED)
def test_rows_are_in_order_and_name_their_source(dataset: str) -> None:
    rows = REPORTED[dataset]
    assert list(rows) == sorted(rows, key=lambda row: (row.masked, row.ht))
    for row in rows:
        assert 0 < float(row.ndcg or 0.01) < float(row.ht) < 1
        assert row.source[1].startswith("https://")

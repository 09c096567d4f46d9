"""Tables whose rows a reader chooses and sorts, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from playwright.sync_api import Browser

from seqrec_lib.report import kit
from seqrec_lib.results.provenance import ROOT

SHOWN = "() => [...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"


def test_rows_are_chosen_and_sorted_by_value(browser: Browser, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"name": ["a", "b", "c", "d"], "size": ["14M", "840k", "7B", "–"], "kind": ["x", "y", "x", "y"]}
    )
    columns = [kit.Column("name", "Name"), kit.Column("size", "Size"), kit.Column("kind", "Kind")]
    table = kit.table(frame, columns, caption="Sizes", filters=("kind",)).html
    script = (ROOT / "book/_static/tables.js").as_uri()
    path = tmp_path / "page.html"
    path.write_text(f"<html lang=en><body>{table}<script src='{script}'></script></body></html>", encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate(SHOWN) == ["a", "b", "c", "d"]
    page.get_by_role("button", name="Size").click()
    assert page.evaluate(SHOWN) == ["b", "a", "c", "d"]  # by value, what is no number last
    page.get_by_role("button", name="Size").click()
    assert page.evaluate(SHOWN) == ["c", "a", "b", "d"]
    page.get_by_label("Kind").select_option("x")
    assert page.evaluate(SHOWN) == ["c", "a"]
    assert page.get_by_role("status").text_content() == "2 of 4 rows"
    page.close()


def test_a_table_without_filters_has_no_script_hook() -> None:
    frame = pd.DataFrame({"name": ["a"], "more": [1.5]})
    plain = kit.table(frame, [kit.Column("name", "Name")], caption="Plain", csv=("more",))
    assert "data-filters" not in plain.html
    assert "more" in plain.text or "data:text/csv" in plain.html

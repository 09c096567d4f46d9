"""The built book's search, from the disk: spellings and snippets. Needs Node, and a Chromium for the last test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study.book import build
from tests.browser.check_book import check_search
from tests.fakes import run_node
from tests.study.test_book import PAGES, book_project

SCRIPT = ROOT / "book" / "_static" / "search" / "search.js"


def node(program: str, given: Any) -> Any:
    return run_node(
        f"const {{ spellings, combinations, snippet }} = require({json.dumps(str(SCRIPT))});{program}", given
    )


@pytest.mark.parametrize(
    ("british", "american"),
    [
        ("licence", "license"),
        ("optimiser", "optimizer"),
        ("normalisation", "normalization"),
        ("behaviour", "behavior"),
        ("neighbours", "neighbors"),
        ("catalogue", "catalog"),
        ("centre", "center"),
        ("modelling", "modeling"),
        ("analyse", "analyze"),
        ("grey", "gray"),
    ],
)
def test_a_word_is_looked_for_in_both_spellings(british: str, american: str) -> None:
    found = node("console.log(JSON.stringify(given.map(spellings)));", [british, american])
    assert american in found[0]
    assert british in found[1]


def test_other_words_have_one_spelling() -> None:
    words = ["model", "history", "licensing", "order", "state"]
    found = node("console.log(JSON.stringify(given.map((word) => spellings(word)[0])));", words)
    assert found == words
    assert node("console.log(JSON.stringify(combinations(given)));", [["a", "b"], ["c"]]) == [["a", "c"], ["b", "c"]]


def test_a_snippet_stands_around_the_word_and_is_cut_at_blanks() -> None:
    text = "start " * 40 + "the Licence (MIT) of it " + "end " * 100
    found = node(
        "console.log(JSON.stringify(snippet(given.text, given.words)));", {"text": text, "words": ["licen", "("]}
    )
    assert found["cut"] == [True, True]
    assert found["parts"][1] == "Licen"
    assert "".join(found["parts"]) in text
    assert len("".join(found["parts"])) <= 220
    assert found["parts"][0].startswith("start")
    assert node("console.log(JSON.stringify(snippet(given, ['none'])));", text) is None


def test_the_search_finds_the_other_spelling_and_shows_where(browser: Browser, tmp_path: Path) -> None:
    project = book_project(tmp_path)
    (project / "book" / "how.md").write_text("# How\n\nThe data keep their own licences.\n", encoding="utf-8")
    html = build(project, PAGES, {}, lambda line: None).parent
    assert list(check_search(browser, html, "licenses")) == []
    (html / "_static" / "search" / "texts.js").write_text("globalThis.SearchTexts = {};", encoding="utf-8")
    assert list(check_search(browser, html, "licenses", 2_000)) == ["search.html: no snippet for 'licenses'"]
    (html / "_static" / "search" / "search.js").write_text("", encoding="utf-8")
    assert list(check_search(browser, html, "licenses", 2_000)) == ["search.html: no result for 'licenses'"]

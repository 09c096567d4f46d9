"""The page *Try it*, from the disk in a headless Chromium: its own HTML and scripts, on models with random weights."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser

from seqrec_lib.models import build
from seqrec_lib.models.registry import MODELS
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.values import EXHIBITS
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import live_model
from tests.browser.check_book import check_try

ITEMS = 25
PAGE = '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>T</title>{head}</head>'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The two panels of book/try.md with the book's scripts and styles, and two untrained models."""
    import seqrec_lib.report.pages  # noqa: F401  (registers the exhibit)

    chapter = (ROOT / "book" / "try.md").read_text(encoding="utf-8")
    models = re.search(r'^<div id="live-models".*?^<script src="_static/live/page.js"></script>$', chapter, re.S | re.M)
    evening = EXHIBITS["evening-by-hand"](Runs(RunStore()))(caption="An evening").html
    style = '<link rel="stylesheet" href="_static/custom.css">'
    text = PAGE.replace("{head}", style) + f"<body><main>{models[0]}{evening}</main></body></html>"
    shutil.copytree(ROOT / "book" / "_static" / "live", tmp_path / live_model.FOLDER)
    shutil.copy(ROOT / "book" / "_static" / "custom.css", tmp_path / "_static")
    (tmp_path / "try.html").write_text(text, encoding="utf-8")
    return tmp_path / "try.html"


def write_models(page: Path) -> None:
    torch.manual_seed(0)
    contents = []
    for model, title in live_model.MODELS.items():
        architecture = {**MODELS[model].architecture, "d_model": 16} | (
            {"headdim": 16, "d_state": 8} if model.startswith("2mamba") else {}
        )
        net = build(model, ITEMS, 10, architecture)
        net.repeats.data.fill_(-1.0)
        contents.append({"title": title, **live_model.model_content(net, model.partition("+")[0], architecture)})
    data = {"titles": [f"Film {i}" for i in range(ITEMS + 1)], "models": contents}
    folder = page.parent / live_model.FOLDER
    (folder / "demo.js").write_text(f"globalThis.SeqRecData = {json.dumps(data)};", encoding="utf-8")
    entries = [{"dataset": "demo", "title": "Demo", "file": "demo.js"}]
    (folder / live_model.INDEX).write_text(f"globalThis.SeqRecModels = {json.dumps(entries)};", encoding="utf-8")


def test_the_page_answers(browser: Browser, page: Path) -> None:
    write_models(page)
    assert list(check_try(browser, page)) == []


def test_without_weights_the_page_says_how_to_get_them(browser: Browser, page: Path) -> None:
    (page.parent / live_model.FOLDER / live_model.INDEX).write_text("globalThis.SeqRecModels = [];", encoding="utf-8")
    assert list(check_try(browser, page)) == []
    tab = browser.new_page()
    tab.goto(page.as_uri())
    assert tab.locator("[data-part=missing]").is_visible()
    assert tab.locator("[data-part=controls]").is_hidden()


@pytest.mark.parametrize(
    ("script", "was", "becomes", "finding"),
    [
        ("page.js", "const SHOWN = 10", "const SHOWN = 9", "18 titles appear"),
        ("page.js", "model.scores(state, history, biased)", "model.scores(state, history, true)", "repeat bias"),
        ("page.js", "start(globalThis.SeqRecData)", "start(undefined)", "exception"),
        ("evening.js", "rows = moved(rows, from, to);", "", "still RecBole's"),
        ("evening.js", 'addEventListener("pointermove", follow)', "", "dragged to the end"),
    ],
)
def test_what_is_broken_is_found(
    browser: Browser, page: Path, script: str, was: str, becomes: str, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_models(page)
    monkeypatch.setattr("tests.browser.check_book.PATIENCE", 2_000)
    path = page.parent / live_model.FOLDER / script
    text = path.read_text(encoding="utf-8")
    assert was in text
    path.write_text(text.replace(was, becomes, 1), encoding="utf-8")
    found = []
    for line in check_try(browser, page):
        found.append(line)
        if finding in line:
            break
    assert found and finding in found[-1], found

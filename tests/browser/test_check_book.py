"""The browser check finds what it names. Needs a Chromium; skipped where there is none."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import check_book
from tests.browser.check_book import View

AXE = "window.axe = { run: async () => ({ violations: [] }) };"
PAGE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><title>A page</title></head>
<body><main><button class="search-button__button">Search</button>{body}</main></body></html>"""


NARROW = "width: 100px; overflow-x: auto"


def table(style: str, head: str = "<th>A name</th><th>A number</th>") -> str:
    """A table of 600 pixels in a box of 300."""
    return (
        '<div class="table-scroll" style="width: 300px; overflow-x: auto">'
        f'<table style="width: 600px"><thead><tr>{head}</tr></thead>'
        f'<tbody><tr><th style="{style}">a</th><td>1</td></tr></tbody></table></div>'
    )


def chart(shown: int, *texts: tuple[str, int, int]) -> str:
    """A chart of 200 by 100 units, shown ``shown`` pixels wide, with texts at places."""
    inside = "".join(f'<text x="{x}" y="{y}">{words}</text>' for words, x, y in texts)
    return (
        f'<figure class="chart"><svg viewBox="0 0 200 100" width="{shown}" height="{shown // 2}" '
        f'font-size="12.4">{inside}</svg></figure>'
    )


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("<p>Fine.</p>", None),
        ("<script>console.error('broken')</script>", "console: broken"),
        ("<script>throw new Error('broken')</script>", "exception: broken"),
        ('<img src="missing.png" alt="x">', "request failed"),
        ('<img src="http://127.0.0.1:9/x.png" alt="x">', "request to another machine"),
        ('<div style="width: 3000px">wide</div>', "wider than the window"),
        (f"<main><p>{'9' * 400}</p></main>", 'example <p class=""> 999'),
        ('<button class="search-button__button">Search</button>', "2 search fields"),
        (chart(200, ("all is well", 5, 50)), None),
        (chart(200, ("a long text that needs room", 150, 50)), "leaves the canvas"),
        (chart(200, ("one", 20, 50), ("two", 30, 52)), "'one' covers 'two'"),
        (chart(100, ("small", 5, 50)), "text of 6.2 px"),
        (f'<div class="table-scroll kit" style="{NARROW}"><div style="width: 300px">x</div></div>', "its box"),
        (f'<table class="table" style="display: block; {NARROW}"><tr><td>{"9" * 40}</td></tr></table>', "its box"),
        (f'<div class="math" style="{NARROW}"><div style="width: 300px">x</div></div>', "its box"),
    ],
)
def test_each_fault_is_found(browser: Browser, tmp_path: Path, body: str, finding: str | None) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE.replace("{body}", body), encoding="utf-8")
    found = View(browser, 1280, "light").check(page, tmp_path / "shot.png", AXE)
    if finding is None:
        assert found == []
    else:
        assert any(finding in line for line in found), found
    assert (tmp_path / "shot.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (table("position: sticky; left: 0; width: 80px"), None),
        (table("width: 80px"), "names of rows out of view"),
        (table("position: sticky; left: 0; width: 400px"), "names of rows out of view"),
        (
            table("position: sticky; left: 0", "<th style='width: 400px'>A name</th><th>Verdict</th>"),
            "verdicts out of view",
        ),
        ("<p style='width: 500px'>wide</p>", "wider than the window"),
    ],
)
def test_a_phone_shows_names_and_verdicts(browser: Browser, tmp_path: Path, body: str, finding: str | None) -> None:
    page = tmp_path / "page.html"
    head = '<head><meta name="viewport" content="width=device-width">'
    page.write_text(PAGE.replace("<head>", head).replace("{body}", body), encoding="utf-8")
    found = View(browser, 390, "light").check(page, None, AXE)
    if finding is None:
        assert found == []
    else:
        assert any(finding in line for line in found), found


def test_axe_itself_finds_what_a_blind_reader_would_miss(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    picture = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    page.write_text(PAGE.replace("{body}", f'<img src="{picture}">'), encoding="utf-8")
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    (found,) = View(browser, 1280, "light").check(page, None, axe)
    assert found.startswith("axe image-alt (critical")


def test_the_wrong_theme_and_axes_findings_are_told(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE.replace("{body}", ""), encoding="utf-8")
    violation = "{ id: 'image-alt', impact: 'critical', nodes: [{ html: '<img>' }] }"
    mild = "{ id: 'region', impact: 'moderate', nodes: [{ html: '<p>' }] }"
    axe = f"window.axe = {{ run: async () => ({{ violations: [{violation}, {mild}] }}) }};"
    found = View(browser, 1280, "dark").check(page, None, axe)
    assert found == ["the page shows theme 'light'", "axe image-alt (critical, 1 places): <img>"]


def test_a_heavy_book_is_named_with_its_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_bytes(b"x" * 600_000)
    (tmp_path / "b.html").write_bytes(b"x" * 500_000)
    assert not check_book.too_heavy(tmp_path)
    monkeypatch.setattr(check_book, "LIMIT", 10**6)
    (found,) = check_book.too_heavy(tmp_path)
    assert "1.1 MB, more than 1; its largest files are a.html 0.6 MB, b.html 0.5 MB" in found

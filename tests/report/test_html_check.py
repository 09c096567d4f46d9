"""The static checks of the built book find what they name, and nothing in a sound page."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqrec_lib.report.html_check import check_html

PAGE = """<!DOCTYPE html>
<html lang="en"><head><title>A page</title><link rel="stylesheet" href="style.css">
<link rel="canonical" href="https://example.org/page.html"></head>
<body><nav><h2>Side bar</h2></nav>
<div class="onlyprint"><h1>A page</h1><p>for print</p></div>
<main><article><h1 id="top">A page</h1>
{body}
<h2 id="end">End</h2><p><a href="#top">up</a> <a href="https://example.org">out</a> <a href="mailto:a@b.c">write</a></p>
</article></main></body></html>"""
FINE = '<img src="figure.png" alt="A curve that rises."><table><tr><th>a</th></tr><tr><td>1</td></tr></table>'


def build(folder: Path, body: str = FINE, name: str = "page.html", page: str = PAGE) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(page.replace("{body}", body), encoding="utf-8")
    (folder / "style.css").write_text("body { background: url('figure.png'); }\n")
    (folder / "figure.png").write_bytes(b"not read")
    return folder


def test_a_sound_page_has_no_findings(tmp_path: Path) -> None:
    assert check_html(build(tmp_path)) == []
    assert check_html(tmp_path, ["page"]) == []


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "from another machine"),
        ('<script src="//cdn.example.org/x.js"></script>', "from another machine"),
        ('<p style="background: url(https://example.org/x.png)">x</p>', "from another machine"),
        ('<iframe src="http://example.org"></iframe>', "from another machine"),
        ('<img src="figure.png">', "without alt text"),
        ('<img src="figure.png" alt=" ">', "empty alt text"),
        ('<img src="figure.png" alt="_images/0a1b2c.png">', "is a path"),
        ('<img src="figure.png" alt="<Figure size 640x480>">', "is a path or an object"),
        ("<table><tr><td>1</td></tr></table>", "without header cells"),
        ("<h1>Another</h1>", "2 headings of level 1"),
        ("<h3>Too deep</h3>", "level 3 right below level 1"),
        ('<p id="top">x</p>', "'top' occurs 2 times"),
        ("<pre>Traceback (most recent call last):\n  ...</pre>", "a traceback"),
        ("<p>{{ dataset }}</p>", "an unfilled placeholder"),
        ('<a href="missing.html">x</a>', "which does not exist"),
        ('<img src="missing.png" alt="A curve.">', "which does not exist"),
        ('<a href="#nowhere">x</a>', "no such anchor"),
        ('<a href="page.html#nowhere">x</a>', "no such anchor"),
    ],
)
def test_each_fault_is_found(tmp_path: Path, body: str, finding: str) -> None:
    findings = check_html(build(tmp_path, body))
    assert len(findings) == 1, findings
    assert finding in findings[0]
    assert findings[0].startswith("page.html")


def test_headings_for_print_do_not_count_but_others_after_them_do(tmp_path: Path) -> None:
    page = PAGE.replace("<main>", "").replace("</main>", "").replace("<article>", "<main><article>")
    assert check_html(build(tmp_path, page=page.replace("</article>", "</article></main>"))) == []
    inside = build(tmp_path, '<div class="onlyprint"><h1>Again</h1></div>')
    assert check_html(inside) == []
    assert "2 headings" in check_html(build(tmp_path, '<div class="onlyprint"><p>x</p></div><h1>Again</h1>'))[0]


def test_language_title_and_style_sheets(tmp_path: Path) -> None:
    build(tmp_path, page=PAGE.replace(' lang="en"', "").replace("<title>A page</title>", ""))
    (tmp_path / "style.css").write_text("/* url(https://fine.example.org) */ @import 'https://example.org/x.css';")
    findings = check_html(tmp_path)
    assert [finding.split(": ", 1)[0] for finding in findings] == ["page.html", "page.html", "style.css"]
    assert "no lang" in findings[0]
    assert "no title" in findings[1]
    assert "https://example.org/x.css" in findings[2]


def test_placeholders_in_scripts_are_their_own_business(tmp_path: Path) -> None:
    assert check_html(build(tmp_path, "<script>const t = '{{ x }}';</script>")) == []


def test_the_set_of_pages_is_checked_both_ways(tmp_path: Path) -> None:
    build(tmp_path)
    build(tmp_path, name="search.html")
    assert check_html(tmp_path, ["page"]) == []
    findings = check_html(tmp_path, ["other", "search"])
    assert findings == [
        "other.html: the page is missing",
        "page.html: nobody asked for this page; remove it or name it in the table of contents",
    ]


def test_an_empty_folder_is_no_book(tmp_path: Path) -> None:
    assert "build the book first" in check_html(tmp_path)[0]


def test_redirects_are_followed_and_not_read_as_pages(tmp_path: Path) -> None:
    build(tmp_path)
    redirect = '<meta http-equiv="Refresh" content="0; url=page.html">'
    (tmp_path / "index.html").write_text(redirect)
    assert check_html(tmp_path, ["page"]) == []
    (tmp_path / "index.html").write_text(redirect.replace("page.html", "gone.html"))
    assert "gone.html, which does not exist" in check_html(tmp_path, ["page"])[0]


def test_links_between_folders(tmp_path: Path) -> None:
    build(tmp_path, FINE + '<a href="notebooks/demo.html#end">x</a>')
    body = '<a href="../page.html#top">x</a><img src="../figure.png" alt="A curve.">'
    build(tmp_path, body, "notebooks/demo.html", PAGE.replace('"style.css"', '"../style.css"'))
    assert check_html(tmp_path) == []

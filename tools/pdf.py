"""The built book as one PDF, printed by a headless Chromium (``make pdf``): a title page, contents with links, then
every page in the order of the side bar. What is folded in the browser stays folded."""

from __future__ import annotations

import datetime
import posixpath
import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from playwright.sync_api import sync_playwright

from seqrec_lib.report.site import read_site
from seqrec_lib.study import load_study, read_yaml
from seqrec_lib.study.book import documents, expand_toc
from tests.browser.check_book import PATIENCE, find_chromium

ROOT = Path(__file__).resolve().parent.parent
ARTICLE = re.compile(r'<article class="bd-article"[^>]*>(.*)</article>', re.S)
TITLE = re.compile(r"<h1>((?:(?!</h1>).)*?)<a class=\"headerlink\"", re.S)
TAG = re.compile(r"<[a-zA-Z][^>]*>")
LINK = re.compile(r'\b(href|src|id|for|aria-labelledby|aria-describedby)="([^"]*)"')
SCRIPT = re.compile(r"<script\b.*?</script>", re.S)
FOOT = (
    '<div style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span> / '
    '<span class="totalPages"></span></div>'
)
STYLE = """
@page { size: A4; margin: 18mm 16mm; }
body { background: #fff; font-size: 9.5pt; }
.chapter, .contents { break-before: page; }
.cover { padding-top: 60mm; }
.contents li { list-style: none; }
a.headerlink, p.download, button { display: none !important; }
table.dataframe { font-size: 7pt !important; }
table.dataframe :is(th, td) { white-space: normal !important; padding: 1pt 3pt !important; }
figure, tr, img, svg { break-inside: avoid; }
:is(h1, h2, h3) { break-after: avoid; }
img, svg { max-width: 100%; }
pre { white-space: pre-wrap; }
"""


def one_page(html: Path, names: Sequence[str], site: dict[str, str], title: str, today: datetime.date) -> str:
    """All documents of the built book as one page of HTML, which has to lie in its folder."""
    texts = {name: (html / f"{name}.html").read_text(encoding="utf-8") for name in names}
    head = re.search(r"<head>(.*?)</head>", texts[names[0]], re.S)
    assert head is not None, f"{names[0]}.html has no head"
    styles = "".join(re.findall(r'<link[^>]*rel="stylesheet"[^>]*>|<link[^>]*href="[^"]*\.css[^"]*"[^>]*>', head[1]))
    found = {name: TITLE.search(text) for name, text in texts.items()}
    titles = {name: match[1].strip() if match else escape(name) for name, match in found.items()}
    contents = "".join(f'<li><a href="#{anchor(name)}">{heading}</a></li>' for name, heading in titles.items())
    chapters = "".join(
        f'<section class="chapter" id="{anchor(name)}">{"".join(chapter(name, text, set(names)))}</section>'
        for name, text in texts.items()
    )
    cover = (
        f"<h1>{escape(title)}</h1><p>{escape(site['authors'])}. {escape(site['release'])}, printed {today:%d %B %Y}</p>"
        f"<p>{escape(site['repository'])}</p><p>Text and figures: CC BY 4.0. Code: MIT.</p>"
    )
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"{styles}<style>{STYLE}</style>"
        '<script>window.MathJax = { options: { processHtmlClass: "tex2jax_process|mathjax_process|math" } };</script>'
        '<script defer src="_static/mathjax/tex-chtml.js"></script></head>'
        f'<body><div class="bd-article"><section class="cover">{cover}</section>'
        f'<section class="contents"><h1>Contents</h1><ul>{contents}</ul></section>{chapters}</div></body></html>'
    )


def anchor(name: str, part: str = "") -> str:
    """The anchor of a document within the one page, or of a part of it."""
    return f"page--{name.replace('/', '--')}" + (f"--{part}" if part else "")


def chapter(name: str, text: str, names: set[str]) -> Iterator[str]:
    """The article of a document, its anchors and links made those of the one page."""
    match = ARTICLE.search(text)
    article = SCRIPT.sub("", match[1]) if match else ""
    folder = posixpath.dirname(name)

    def change(link: re.Match[str]) -> str:
        attribute, value = link[1], link[2]
        if attribute not in {"href", "src"}:
            return f'{attribute}="{" ".join(anchor(name, word) for word in value.split())}"'
        if value.startswith("#"):
            return f'{attribute}="#{anchor(name, value[1:])}"'
        if re.match(r"[a-z]+:|//", value):
            return link[0]
        path, _, part = value.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        other = path.removesuffix(".html")
        return f'{attribute}="#{anchor(other, part)}"' if other in names else f'{attribute}="{path}"'

    position = 0
    for tag in TAG.finditer(article):
        yield article[position : tag.start()]
        yield LINK.sub(change, tag[0])
        position = tag.end()
    yield article[position:]


def print_book(html: Path, names: Sequence[str], site: dict[str, str], title: str, out: Path) -> None:
    """Write the PDF. Raises SystemExit where there is no book."""
    missing = next((name for name in names if not (html / f"{name}.html").is_file()), None)
    if missing:
        sys.exit(f"error: {html} has no page {missing}; build the book first: make book")
    page_file = html / "print.html"
    page_file.write_text(one_page(html, names, site, title, datetime.date.today()), encoding="utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with sync_playwright() as playwright:
            options = ["--no-sandbox", "--disable-dev-shm-usage"]
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
            page = browser.new_page(color_scheme="light")
            page.set_default_timeout(PATIENCE)
            page.goto(page_file.as_uri(), wait_until="load")
            page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")
            page.pdf(
                path=out, prefer_css_page_size=True, print_background=True, tagged=True, outline=True,
                display_header_footer=True, header_template="<span></span>", footer_template=FOOT,
            )  # fmt: skip
            browser.close()
    finally:
        page_file.unlink()


def main() -> None:
    config, site = read_yaml(ROOT / "_config.yml"), read_site(ROOT)
    names = documents(expand_toc(read_yaml(ROOT / "book" / "_toc.yml"), load_study(ROOT).pages()))
    out = ROOT / "_build" / "release" / f"book-{site['release']}.pdf"
    print_book(ROOT / "_build" / "html", names, site, config["title"], out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

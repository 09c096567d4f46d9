"""Static checks of the built book: what a browser, a blind reader or a machine without a network would stumble over.

``check_html(folder, pages)`` reads every page of a folder of HTML and returns findings, one line each. It runs after
every build and in the tests. What only a browser can tell (console errors, overflow on a phone) is
``make check-book``'s part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString

_RESOURCES = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href", "object": "data", "script": "src",
    "source": "src", "video": "src",
}  # fmt: skip
_LOADED = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "preconnect"}  # by a <link> of that kind
_GENERATED = ("search.html", "genindex.html")
"""Pages that Sphinx adds to a book; they are checked, but no table of contents names them."""


class _Page:
    """One file of HTML: its ids, and the addresses that it links to or loads, each with its line and what names it."""

    def __init__(self, path: Path) -> None:
        self.soup = soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        self.ids = [str(tag.get("id", tag.get("name"))) for tag in soup.find_all(_is_anchor)]
        self.links = [(_line(tag), "link", str(tag["href"])) for tag in soup.select("a[href]")]
        sources = [(tag, tag.get(_RESOURCES[tag.name])) for tag in soup.find_all([*_RESOURCES])]
        loaded = [(tag, str(address)) for tag, address in sources if address is not None and not _is_plain_link(tag)]
        for tag in soup.find_all(style=True):
            loaded += [(tag, address) for address in re.findall(r"url\(\s*['\"]?([^'\")]+)", str(tag["style"]))]
        self.resources = [(_line(tag), f"<{tag.name}>", address) for tag, address in loaded]
        refresh = soup.select_one("meta[http-equiv=refresh i]")
        self.redirect = None if refresh is None else str(refresh.get("content", "")).partition("url=")[2]


def _line(tag: Tag | None) -> str:
    return f":{tag.sourceline}" if tag else ""


def _is_anchor(tag: Tag) -> bool:
    return tag.has_attr("id") or (tag.name == "a" and tag.has_attr("name"))


def _is_plain_link(tag: Tag) -> bool:
    """Links in the head that load nothing: author, next page, canonical address."""
    return tag.name == "link" and not _LOADED & set(" ".join(tag.get_attribute_list("rel")).lower().split())


def _is_external(address: str) -> bool:
    return bool(re.match(r"(?i)(https?:|ftp:|wss?:|//)", address.strip()))


def check_html(folder: Path, pages: Sequence[str] = ()) -> list[str]:
    """Findings about the pages below ``folder``, sorted; an empty list is a pass.

    Args:
        folder: the built book.
        pages: names of the pages that must exist, relative, with or without ".html" ("notebooks/accuracy-demo").
            Where it is given, no other page may exist either, save the search page and the index.
    """
    files = sorted(path for path in folder.rglob("*.html") if "_static" not in path.relative_to(folder).parts)
    if not files:
        return [f"{folder}: no page at all; build the book first"]
    read = {path.relative_to(folder).as_posix(): _Page(path) for path in files}
    findings = list(_page_set(set(read), pages))
    for name, page in read.items():
        findings += [f"{name}{where}: {what}" for where, what in _check_page(page, name in _GENERATED)]
        findings += [f"{name}{where}: {what}" for where, what in _check_links(folder, name, page, read)]
    findings += list(_check_styles(folder))
    return sorted(findings)


def _page_set(found: set[str], pages: Sequence[str]) -> Iterator[str]:
    if not pages:
        return
    wanted = {name if name.endswith(".html") else f"{name}.html" for name in pages}
    for name in sorted(wanted - found):
        yield f"{name}: the page is missing"
    for name in sorted(found - wanted - {*_GENERATED, "index.html"}):
        yield f"{name}: nobody asked for this page; remove it or name it in the table of contents"


def _check_page(page: _Page, generated: bool) -> Iterator[tuple[str, str]]:
    """Yields (":line" or "", finding)."""
    soup = page.soup
    if page.redirect is not None:
        return
    if not soup.select("html[lang]:not([lang=''])"):
        yield "", "<html> has no lang"
    if not any(title.get_text().strip() for title in soup.select("head title")):
        yield "", "the page has no title"
    for line, tag, address in page.resources:
        if _is_external(address):
            yield line, f"{tag} loads {address[:100]} from another machine; vendor it"
    for image in soup.select("img"):
        source, words = str(image.get("src", "")), str(image.get("alt", "")).strip()
        path_like = re.fullmatch(r"\S*(/\S+|\.(png|svg|jpe?g|gif|webp))", words, re.IGNORECASE)
        if not words:
            yield (
                _line(image),
                f"<img> {'with an empty' if 'alt' in image.attrs else 'without'} alt text: {source[:60]}",
            )
        elif path_like or words == source or words.startswith("<Figure"):
            yield _line(image), f"<img> whose alt text is a path or an object: {words[:60]}"
    for table in soup.select("table:not([role=presentation], [role=none])"):
        cells = [cell.name for cell in table.select("td, th") if cell.find_parent("table") is table]
        if cells and "th" not in cells:
            yield _line(table), "a table without header cells (<th>)"
    # the theme's side bars have headings of their own, and it repeats the title for print, which no browser shows
    within = [h for h in soup.find_all(re.compile("^h[1-6]$")) if h.find_parent(["article", "main"])]
    headings = [(int(h.name[1]), h) for h in within if not h.find_parent(class_="onlyprint")]
    titles = sum(level == 1 for level, _ in headings)
    if titles != 1 and not generated:
        yield "", f"{titles} headings of level 1; a page has one"
    for (before, _), (level, heading) in pairwise(headings):
        if level > before + 1:
            yield _line(heading), f"a heading of level {level} right below level {before}"
    for identifier, times in Counter(page.ids).items():
        if times > 1:
            yield "", f"the id {identifier!r} occurs {times} times"
    for text in soup.find_all(string=True):
        for sign, meaning in (("Traceback (most recent call last)", "a traceback"), ("{{", "an unfilled placeholder")):
            if type(text) is NavigableString and sign in text:  # scripts, styles and comments have types of their own
                yield _line(text.parent), f"{meaning} in the text: {' '.join(text.split())[:80]}"


def _check_links(folder: Path, name: str, page: _Page, read: dict[str, _Page]) -> Iterator[tuple[str, str]]:
    here = folder / name
    targets = [*page.links, *page.resources, *([("", "redirect", page.redirect)] if page.redirect else [])]
    for line, kind, address in targets:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or address in {"", "#"}:
            continue
        path = (here.parent / unquote(parts.path)).resolve() if parts.path else here.resolve()
        if not path.exists():
            yield line, f"{kind} to {address[:100]}, which does not exist"
        elif parts.fragment and path.suffix == ".html":
            other = read.get(path.relative_to(folder.resolve()).as_posix())
            if other is not None and unquote(parts.fragment) not in other.ids:
                yield line, f"{kind} to {address[:100]}: the page has no such anchor"


def _check_styles(folder: Path) -> Iterator[str]:
    """Style sheets that pull something from another machine."""
    for path in sorted(folder.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL)
        for address in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", text):
            if _is_external(address):
                yield f"{path.relative_to(folder).as_posix()}: loads {address[:100]} from another machine; vendor it"

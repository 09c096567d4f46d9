"""Static checks of the built book: what a browser, a blind reader or a machine without a network would stumble over.

``check_html(folder, pages)`` reads every page of a folder of HTML and returns findings, one line each. It runs after
every build and in the tests; on its own: ``python -m seqrec_lib.report.html_check _build/html``. What only a browser
can tell (console errors, overflow on a phone) is ``make check-book``'s part.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from seqrec_lib.terminal import escape

_RESOURCES = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href", "object": "data", "script": "src",
    "source": "src", "video": "src",
}  # fmt: skip
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_LOADED = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "preconnect"}  # by a <link> of that kind
_GENERATED = ("search.html", "genindex.html")
"""Pages that Sphinx adds to a book; they are checked, but no table of contents names them."""


@dataclass
class _Table:
    line: int
    headers: int = 0
    cells: int = 0
    presentation: bool = False


class _Page(HTMLParser):
    """What one file of HTML holds, as far as the checks ask.

    Headings count inside <article> or <main> only: the theme's side bars have their own. The theme repeats the title in
    a header for print (class "onlyprint"), which no browser shows or reads out; headings in there don't count.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.lang: str | None = None
        self.title = ""
        self.headings: list[tuple[int, int]] = []  # (level, line) within the article
        self.images: list[tuple[int, str | None, str]] = []  # (line, alt, src)
        self.links: list[tuple[int, str]] = []
        self.resources: list[tuple[int, str, str]] = []  # (line, tag, address)
        self.ids: list[str] = []
        self.tables: list[_Table] = []
        self.text: list[tuple[int, str]] = []  # what a reader sees
        self.redirect: str | None = None
        self._open: list[str] = []
        self._tables: list[_Table] = []
        self._print_only: int | None = None  # depth of the open element that is for print only
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        given = {name for name, _ in attrs}
        line = self.getpos()[0]
        if tag not in _VOID:
            self._open.append(tag)
            if self._print_only is None and "onlyprint" in values.get("class", "").split():
                self._print_only = len(self._open)
        if tag == "html":
            self.lang = values.get("lang")
        if "id" in given:
            self.ids.append(values["id"])
        elif tag == "a" and "name" in given:
            self.ids.append(values["name"])
        if tag in _RESOURCES and _RESOURCES[tag] in given and not _is_plain_link(tag, values):
            self.resources.append((line, tag, values[_RESOURCES[tag]]))
        for style in re.findall(r"url\(\s*['\"]?([^'\")]+)", values.get("style", "")):
            self.resources.append((line, tag, style))
        if tag == "img":
            self.images.append((line, values.get("alt") if "alt" in given else None, values.get("src", "")))
        if tag == "a" and "href" in given:
            self.links.append((line, values["href"]))
        if re.fullmatch("h[1-6]", tag) and self._print_only is None and {"article", "main"} & set(self._open):
            self.headings.append((int(tag[1]), line))
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.redirect = values.get("content", "").partition("url=")[2]
        if tag == "table":
            self._tables.append(_Table(line, presentation=values.get("role") in {"presentation", "none"}))
            self.tables.append(self._tables[-1])
        if tag in {"td", "th"} and self._tables:
            self._tables[-1].headers += tag == "th"
            self._tables[-1].cells += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" and self._tables:
            self._tables.pop()
        if tag in self._open:  # unclosed tags in between end here, as in a browser
            while self._open.pop() != tag:
                pass
        if self._print_only is not None and len(self._open) < self._print_only:
            self._print_only = None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "title" and "head" in self._open:
            self.title += data
        elif "script" not in self._open and "style" not in self._open and data.strip():
            self.text.append((self.getpos()[0], data))


def _is_plain_link(tag: str, values: dict[str, str]) -> bool:
    """Links in the head that load nothing: author, next page, canonical address."""
    return tag == "link" and not _LOADED & set(values.get("rel", "").lower().split())


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
    if page.redirect is not None:
        return
    if not page.lang:
        yield "", "<html> has no lang"
    if not page.title.strip():
        yield "", "the page has no title"
    for line, tag, address in page.resources:
        if _is_external(address):
            yield f":{line}", f"<{tag}> loads {address[:100]} from another machine; vendor it"
    for line, alt, source in page.images:
        words = (alt or "").strip()
        path_like = re.fullmatch(r"\S*(/\S+|\.(png|svg|jpe?g|gif|webp))", words, re.IGNORECASE)
        if not words:
            yield f":{line}", f"<img> {'without' if alt is None else 'with an empty'} alt text: {source[:60]}"
        elif path_like or words == source or words.startswith("<Figure"):
            yield f":{line}", f"<img> whose alt text is a path or an object: {words[:60]}"
    for table in page.tables:
        if table.cells and not table.headers and not table.presentation:
            yield f":{table.line}", "a table without header cells (<th>)"
    levels = [level for level, _ in page.headings]
    if levels.count(1) != 1 and not generated:
        yield "", f"{levels.count(1)} headings of level 1; a page has one"
    for (before, _), (level, line) in zip(page.headings, page.headings[1:], strict=False):
        if level > before + 1:
            yield f":{line}", f"a heading of level {level} right below level {before}"
    for identifier in sorted({i for i in page.ids if page.ids.count(i) > 1}):
        yield "", f"the id {identifier!r} occurs {page.ids.count(identifier)} times"
    for line, text in page.text:
        for sign, meaning in (("Traceback (most recent call last)", "a traceback"), ("{{", "an unfilled placeholder")):
            if sign in text:
                yield f":{line}", f"{meaning} in the text: {' '.join(text.split())[:80]}"


def _check_links(folder: Path, name: str, page: _Page, read: dict[str, _Page]) -> Iterator[tuple[str, str]]:
    here = folder / name
    targets = [(line, address, "link") for line, address in page.links]
    targets += [(line, address, f"<{tag}>") for line, tag, address in page.resources]
    if page.redirect:
        targets.append((0, page.redirect, "redirect"))
    for line, address, kind in targets:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or address in {"", "#"}:
            continue
        path = (here.parent / unquote(parts.path)).resolve() if parts.path else here.resolve()
        if not path.exists():
            yield f":{line}", f"{kind} to {address[:100]}, which does not exist"
            continue
        if parts.fragment and path.suffix == ".html":
            other = read.get(path.relative_to(folder.resolve()).as_posix())
            if other is not None and unquote(parts.fragment) not in other.ids:
                yield f":{line}", f"{kind} to {address[:100]}: the page has no such anchor"


def _check_styles(folder: Path) -> Iterator[str]:
    """Style sheets that pull something from another machine."""
    for path in sorted(folder.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL)
        for address in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", text):
            if _is_external(address):
                yield f"{path.relative_to(folder).as_posix()}: loads {address[:100]} from another machine; vendor it"


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m seqrec_lib.report.html_check FOLDER [PAGE ...]``; exit status 1 where there are findings."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        print("usage: python -m seqrec_lib.report.html_check FOLDER [PAGE ...]", file=sys.stderr)
        return 2
    folder = Path(given[0])
    findings = check_html(folder, given[1:])
    for finding in findings:
        print(escape(finding))
    print(f"{folder}: {len(findings)} finding{'' if len(findings) == 1 else 's'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""Opens every page of the built book in a real headless Chromium, from the disk, as a reader would.

    python tests/browser/check_book.py _build/html --screenshots _build/screenshots

For each page, at 1280 and 390 pixels, light and dark: no console error, no failed request, no request to another
machine, nothing wider than the window, no text of a chart that leaves its canvas, covers another or is smaller than
10 pixels, no table or equation wider than its box at 1280, the names of a table's rows and its verdicts in view at 390,
no serious finding of axe-core (WCAG 2.1 A and AA). Then the search is used, the page *Try it* is clicked through, and
the book is weighed. The Chromium is the system's (``CHROMIUM``, or the first of chromium, chromium-browser,
google-chrome on the PATH); playwright drives it through the
Node that its own wheel carries, so that no Node has to be installed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

LIMIT = 20 * 10**6  # bytes of the whole book
WIDTHS = (1280, 390)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SEARCH_FIELDS = ".search-button__button, main form.bd-search, article form.bd-search"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 180_000  # milliseconds for one step of the browser: a busy machine is no finding
TALLEST = 12_000  # pixels of a screenshot; longer pages are cut there
OTHER_SPELLINGS = ("license", "normalized")  # the book is written in British English
AXE_RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
    "preload": False,  # it would fetch style sheets, which browsers refuse on file://
}
GRAVE = {"serious", "critical"}

OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return null;
  const scrolls = e => e && e !== document.body &&
    (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
  const texts = e => [...e.childNodes].filter(n => n.nodeType === 3);
  const right = e => Math.max(e.getBoundingClientRect().right, ...texts(e).map(n => {
    const range = document.createRange();  // a long word stands out of its box
    range.selectNodeContents(n);
    return range.getBoundingClientRect().right;
  }));
  const boxes = [...document.querySelectorAll('main *')].filter(e => right(e) > width + 1 && !scrolls(e.parentElement));
  const box = boxes.find(e => ![...e.children].some(c => boxes.includes(c))) || document.documentElement;
  const tag = `<${box.tagName.toLowerCase()} class="${box.className}">`;
  const words = box.textContent.trim().slice(0, 40);
  return `${document.documentElement.scrollWidth} px of ${width}, for example ${tag} ${words}`;
}"""


CHARTS = """() => [...document.querySelectorAll('figure.chart svg')].filter(svg => svg.getBoundingClientRect().width)
  .flatMap(svg => {
    const frame = svg.getBoundingClientRect();
    const scale = frame.width / svg.viewBox.baseVal.width;
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    const found = [];
    const size = parseFloat(getComputedStyle(svg).fontSize) * scale;
    if (texts.length && size < 10) found.push(`text of ${size.toFixed(1)} px`);
    texts.forEach(([words, box], i) => {
      const across = box.left < frame.left - 1 || box.right > frame.right + 1;
      if (across || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        found.push(`'${words}' leaves the canvas`);
      for (const [other, there] of texts.slice(i + 1)) {
        const across = Math.min(box.right, there.right) - Math.max(box.left, there.left);
        const down = Math.min(box.bottom, there.bottom) - Math.max(box.top, there.top);
        if (across > 1 && down > 3) found.push(`'${words}' covers '${other}'`);
      }
    });
    return found;
  })"""

_SHOWN = ".filter(box => box.clientWidth)"
_BOXES = f"[...document.querySelectorAll('.table-scroll, table.table:not(.table-scroll *)')]{_SHOWN}"
_NAME = "(box.getAttribute('aria-label') || box.textContent).trim().replace(/\\s+/g, ' ').slice(0, 60)"

TABLES = f"""() => [...{_BOXES}, ...[...document.querySelectorAll('div.math')]{_SHOWN}]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => `${{box.scrollWidth}} px in ${{box.clientWidth}}: ${{{_NAME}}}`)"""

KEYS = f"""() => {_BOXES}.flatMap(box => {{
  const place = cell => cell.getBoundingClientRect();
  const frame = place(box), found = [];
  const head = [...box.querySelectorAll('thead th')].find(cell => /^verdict/i.test(cell.textContent.trim()));
  if (head && place(head).right > frame.right + 1) found.push(`verdicts out of view: ${{{_NAME}}}`);
  box.scrollLeft = box.scrollWidth;  // nothing moves where the table fits
  const name = box.querySelector('tbody tr > *');
  if (name && (place(name).left < frame.left - 1 || place(name).width > 0.7 * frame.width && box.scrollLeft))
    found.push(`names of rows out of view: ${{{_NAME}}}`);
  box.scrollLeft = 0;
  return found;
}})"""


def find_chromium() -> str:
    """Path of the browser. Raises SystemExit with a hint where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named if named and Path(named).exists() else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        sys.exit("error: no Chromium found; install it (apt-get install chromium) or name it: CHROMIUM=/path/to/chrome")
    return found


class View:
    """A window of one width and theme, which goes from page to page and collects what goes wrong on each."""

    def __init__(self, browser: Browser, width: int, theme: Literal["light", "dark"]) -> None:
        self.width, self.theme = width, theme
        self.problems: list[str] = []
        self.page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("requestfailed", lambda r: self.problems.append(f"request failed: {r.url} ({r.failure})"))
        self.page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.problems.append(f"request to another machine: {request.url}")

    def check(self, path: Path, screenshot: Path | None, axe: str) -> list[str]:
        """Findings about one page; axe looks at the wide view, where everything shows."""
        self.problems.clear()
        try:
            return self._look(path, screenshot, axe) + self.problems
        except Error as error:
            return [f"the browser gave up: {error.message.splitlines()[0]}", *self.problems]

    def _look(self, path: Path, screenshot: Path | None, axe: str) -> list[str]:
        page = self.page
        page.goto(path.as_uri(), wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")  # formulae change the layout
        found = []
        shown = page.evaluate("() => document.documentElement.dataset.theme")
        if shown != self.theme:
            found.append(f"the page shows theme {shown!r}")
        if overflow := page.evaluate(OVERFLOW):
            found.append(f"wider than the window: {overflow}")
        fields = page.locator(SEARCH_FIELDS).filter(visible=True).count()
        if fields != 1 and path.name != "search.html":  # the search page has a field of its own
            found.append(f"{fields} search fields")
        found += [f"a chart: {what}" for what in page.evaluate(CHARTS)]
        if self.width == WIDTHS[0]:
            found += [f"wider than its box: {what}" for what in page.evaluate(TABLES)]
        else:
            found += [f"a table: {what}" for what in page.evaluate(KEYS)]
        for formula in page.locator("mjx-merror").all():
            found.append(f"a formula that MathJax cannot read: {formula.get_attribute('data-mjx-error')}")
        if screenshot is not None:
            height = min(page.evaluate("() => document.documentElement.scrollHeight"), TALLEST)
            page.screenshot(
                path=screenshot, clip={"x": 0, "y": 0, "width": self.width, "height": height}, full_page=True
            )
        if self.width == WIDTHS[0]:
            found += accessibility(page, axe)
        return found


def accessibility(page: Page, axe: str) -> Iterator[str]:
    """Serious and critical findings of axe-core, one line for each rule with its first place."""
    page.evaluate(axe)
    for violation in page.evaluate("(rules) => axe.run(document, rules)", AXE_RULES)["violations"]:
        if violation["impact"] in GRAVE:
            nodes = violation["nodes"]
            yield f"axe {violation['id']} ({violation['impact']}, {len(nodes)} places): {nodes[0]['html'][:160]}"


def check_search(browser: Browser, folder: Path, word: str, patience: float = 60_000) -> Iterator[str]:
    """The search, from the disk: ``word`` must lead to at least one page, and a result must show where it says it."""
    view = View(browser, WIDTHS[0], "light")
    view.page.goto(f"{(folder / 'search.html').as_uri()}?q={word}", wait_until="load")
    for what, selector in (("result", "#search-results li a"), ("snippet", "#search-results li .context mark")):
        try:
            view.page.wait_for_selector(selector, timeout=patience)
        except Error:
            yield f"search.html: no {what} for {word!r}"
            break
    yield from (f"search.html: {problem}" for problem in view.problems)


def check_try(browser: Browser, path: Path) -> Iterator[str]:
    """The page *Try it*, with the keyboard and on a phone: a title gives ten more from each model, the bias and the
    measurement change what is shown, and a moved row gives RecBole another test item."""
    for theme, width in zip(THEMES, WIDTHS, strict=True):
        view = View(browser, width, theme)
        try:
            view.page.goto(path.as_uri(), wait_until="load")
            yield from _use_evening(view.page)
            if view.page.locator("#live-models [data-part=missing]").is_hidden():
                yield from _use_models(view.page)
        except Error as error:
            yield f"{path.name}: the browser gave up: {error.message.splitlines()[0]}"
        yield from (f"{path.name} ({width} px, {theme}): {problem}" for problem in view.problems)


def _use_models(page: Page) -> Iterator[str]:
    part = page.locator("#live-models")
    page.wait_for_selector("#live-models [data-part=controls]:not([hidden])")
    part.locator("input[list]").fill(part.locator("datalist option").first.get_attribute("value") or "")
    page.keyboard.press("Enter")
    if (found := part.locator(".live-next").count()) != 20:
        yield f"{found} titles appear for a history of one, expected ten from each of two models"
    seen = part.locator("[data-part=answers] em")
    before = part.locator("[data-part=answers]").inner_text()
    part.locator("[data-part=bias]").press("Space")
    if before == part.locator("[data-part=answers]").inner_text() and not seen.count():
        yield "the switch of the repeat bias changes nothing"
    part.locator(".live-next").nth(1).press("Enter")
    if "2 in the history" not in part.locator("[role=status]").inner_text():
        yield "the status does not say that the history has two titles"
    part.locator("[data-part=measure]").click()
    page.wait_for_selector("#live-models [data-part=measure]:not([disabled])")
    if part.locator("polyline[points*=' ']").count() != 4:
        yield "the charts do not show both models after the measurement"
    yield from (f"after the measurement, a chart: {what}" for what in page.evaluate(CHARTS))
    if overflow := page.evaluate(OVERFLOW):
        yield f"in use, wider than the window: {overflow}"


def _use_evening(page: Page) -> Iterator[str]:
    panel = page.locator("#evening")
    rows, tests = panel.locator("[data-part=file] > li"), panel.locator("[data-part=orders] .test")

    def items() -> list[str]:
        return [text[0] for text in tests.all_inner_texts()]

    before = items()
    letter = before[1]  # RecBole's test item: the last of its ties in the file
    panel.locator(f"li[data-letter={letter}] button[data-by='-1']").focus()
    for _ in range(rows.count()):
        if rows.first.get_attribute("data-letter") != letter:
            page.keyboard.press("Enter")  # the focus stays on the button of the row that moves
    if items()[1] == letter:
        yield f"row {letter} was moved to the top with the keyboard, and is still RecBole's test item"
    rows.first.scroll_into_view_if_needed()
    top, bottom = rows.first.bounding_box(), rows.last.bounding_box()
    assert top is not None and bottom is not None
    page.mouse.move(top["x"] + 20, top["y"] + 10)
    page.mouse.down()
    page.mouse.move(bottom["x"] + 20, bottom["y"] + bottom["height"] / 2, steps=5)
    page.mouse.up()
    if rows.last.get_attribute("data-letter") != letter or items()[1] != letter:
        yield f"row {letter} was dragged to the end and is not RecBole's test item"
    panel.locator("[data-part=reset]").click()
    if items() != before:
        yield "the evening is not as it was after the reset"


def too_heavy(folder: Path) -> list[str]:
    """A finding on a book of more than `LIMIT` bytes, with its largest parts."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = sorted(sizes, key=lambda path: -sizes[path])[:3]
    parts = ", ".join(f"{path.relative_to(folder).as_posix()} {sizes[path] / 1e6:.1f} MB" for path in largest)
    total, most = sum(sizes.values()) / 1e6, LIMIT / 1e6
    return [f"the book weighs {total:.1f} MB, more than {most:.0f}; its largest files are {parts}"] * (total > most)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the built book")
    parser.add_argument("--screenshots", type=Path, help="folder for the pictures; emptied first")
    parser.add_argument("--search", default="leave-one-out", help="a word that the search must find")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    pages = sorted(p for p in folder.rglob("*.html") if "_static" not in p.relative_to(folder).parts)
    if not pages:
        sys.exit(f"error: no page below {folder}; build the book first: make book")
    if arguments.screenshots:
        shutil.rmtree(arguments.screenshots, ignore_errors=True)
        arguments.screenshots.mkdir(parents=True)
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    findings: list[str] = []
    with sync_playwright() as playwright:
        # a container's root has no sandbox, and its /dev/shm is small
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        print(f"Chromium {browser.version}: {len(pages)} pages, {len(WIDTHS) * len(THEMES)} views each")
        views = [View(browser, width, theme) for theme in THEMES for width in WIDTHS]
        for path in pages:
            name, before = path.relative_to(folder).as_posix(), len(findings)
            for view in views:
                picture = f"{name.removesuffix('.html').replace('/', '-')}-{view.width}-{view.theme}.png"
                shot = arguments.screenshots / picture if arguments.screenshots else None
                findings += [f"{name} ({view.width} px, {view.theme}): {what}" for what in view.check(path, shot, axe)]
            print(f"  {'ok      ' if len(findings) == before else 'FINDINGS'} {name}")
        for word in (arguments.search, *OTHER_SPELLINGS):
            findings += check_search(browser, folder, word)
        if (path := folder / "try.html") in pages:
            findings += check_try(browser, path)
        findings += too_heavy(folder)
        browser.close()
    for finding in findings:
        print(finding)
    print(
        f"{len(pages)} pages, {len(findings)} findings"
        + (f"; screenshots in {arguments.screenshots}" if arguments.screenshots else "")
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""Chapters: Markdown that a person wrote, with values, exhibits and evidence put in by name.

::

    SASRec hits {{ ml-1m/sasrec/ht@10:.3f }} of users. {{ holds: ml-1m-sasrec-above-print }}

    :::{exhibit} quality-by-order
    :alt: What the figure shows, in words.
    The caption, with {{ values }} if need be.
    :::

    ::::{when} ml-1m-recbole/sasrec/ht@10
    Sentences that need these runs.
    ::::{otherwise}
    What stands here until they are made.
    ::::

``holds`` stands behind a conclusion and becomes a link to its evidence at the end of the page. A statement that the
published runs do not bear out, a name that nobody knows, and a value without runs outside of ``when`` break the build,
with file, line and sentence. A reader's own runs break nothing: where they disagree, a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import seqrec_lib.report.pages  # noqa: F401  (registers what chapters name)
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.report import statements
from seqrec_lib.report.evidence import evidence_section, own_note
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.kit import show
from seqrec_lib.report.site import read_site
from seqrec_lib.report.statements import Evidence
from seqrec_lib.report.values import EXHIBITS, Names

MARK = re.compile(
    r"\{\{\s*(?:holds:\s*(?P<holds>[\w\s,.+-]+?)|(?P<value>[\w./@+%-]+?)(?::(?P<form>[^{}\s:]+))?)\s*\}\}"
)
WHEN = re.compile(r"^::::\{when\}\s+(?P<names>.+?)\s*$")
OTHERWISE = re.compile(r"^::::\{otherwise\}\s*$")
EXHIBIT = re.compile(r"^:::\{exhibit\}\s+(?P<name>\S+)\s*$")
ALT = re.compile(r"^:alt:\s*(?P<alt>.+?)\s*$")

Line = tuple[int, str]  # number in the file, from 1, and text


@dataclass
class Chapter:
    """A rendered chapter: its Markdown, the statements it cites with their evidence, and what is wrong with it."""

    text: str
    cited: dict[str, Evidence] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass
class Book:
    """What all chapters are rendered with: published runs, a reader's own (None: not asked), the accepted estimates."""

    published: Names
    own: Names | None = None
    accepted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, own: Runs | None = None) -> Book:
        """The book in the project's folder ``root``."""
        site = read_site(root)
        return cls(Names(Runs.published(), site), Names(own, site) if own else None, statements.accepted(root))

    def render(self, text: str, name: str) -> Chapter:
        """The chapter with the file name ``name``; its problems are collected, one line each."""
        return _Renderer(self, name).render(text)


def render_folder(book: Book, folder: Path) -> dict[str, Evidence]:
    """Render every Markdown file of ``folder`` in place; returns the evidence of all statements that are cited.

    Raises:
        SeqRecError: something is wrong with a chapter; one line for each finding.
    """
    chapters = _render_all(book, folder)
    problems = [problem for chapter in chapters.values() for problem in chapter.problems]
    if problems:
        raise SeqRecError("\n".join(problems))
    for path, chapter in chapters.items():
        path.write_text(chapter.text, encoding="utf-8")
    return {name: evidence for chapter in chapters.values() for name, evidence in chapter.cited.items()}


def _render_all(book: Book, folder: Path) -> dict[Path, Chapter]:
    """The files of a folder that have anything to put in, rendered; nothing is written."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    return {
        path: book.render(text, f"book/{path.name}")
        for path, text in texts.items()
        if MARK.search(text) or "{exhibit}" in text or "{when}" in text
    }


def main() -> None:
    """``make evidence``: write down the estimates that the book's sentences now rest on, for the next error message."""
    root = project_root()
    chapters = _render_all(Book.read(root), root / "book").values()
    cited = {name: evidence for chapter in chapters for name, evidence in chapter.cited.items()}
    statements.accept(root, cited)
    print(f"{statements.ACCEPTED}: {len(cited)} statements")
    for problem in (problem for chapter in chapters for problem in chapter.problems):
        print(problem)


class _Renderer:
    """One pass over one chapter."""

    def __init__(self, book: Book, name: str) -> None:
        self.book, self.name = book, name
        self.chapter = Chapter("")

    def render(self, text: str) -> Chapter:
        lines = list(enumerate(text.split("\n"), 1))
        given = self.book.published.runs.given
        given.clear()
        rendered = [line for part in self._exhibits(list(self._branches(lines))) for line in part]
        if self.chapter.cited or given:
            rendered += ["", *evidence_section(self.chapter.cited, given, self.book.published).split("\n")]
        self.chapter.text = "\n".join(rendered)
        return self.chapter

    def _problem(self, line: int, what: str) -> None:
        self.chapter.problems.append(f"{self.name}, line {line}: {what}")

    def _branches(self, lines: Sequence[Line]) -> Iterator[Line]:
        """The lines without those of branches that are not shown."""
        opened: int | None = None
        shown = there = True
        for number, text in lines:
            if match := WHEN.match(text):
                if opened is not None:
                    self._problem(number, f"a `when` within that of line {opened}; end that first")
                opened, there = number, self._there(match["names"].split(), number)
                shown = there
            elif opened is not None and OTHERWISE.match(text):
                shown = not there
            elif opened is not None and text.rstrip() == "::::":
                opened, shown = None, True
            elif shown:
                yield number, text
        if opened is not None:
            self._problem(opened, "this `when` has no end; write :::: below it")

    def _there(self, names: Sequence[str], line: int) -> bool:
        try:
            return all(map(self.book.published.there, names))
        except SeqRecError as error:
            self._problem(line, str(error))
            return False

    def _exhibits(self, lines: Sequence[Line]) -> Iterator[list[str]]:
        """Lines in which names are replaced; each exhibit is one list."""
        position = 0
        while position < len(lines):
            number, text = lines[position]
            match = EXHIBIT.match(text)
            if not match:
                yield [self._fill(lines, position)]
                position += 1
                continue
            end = next((i for i in range(position, len(lines)) if lines[i][1].rstrip() == ":::"), None)
            if end is None:
                self._problem(number, f"the exhibit {match['name']!r} has no end; write ::: below it")
                return
            body = [self._fill(lines, i) for i in range(position + 1, end)]
            yield self._exhibit(match["name"], body, number)
            position = end + 1

    def _exhibit(self, name: str, body: Sequence[str], line: int) -> list[str]:
        alt = next((match["alt"] for text in body if (match := ALT.match(text))), None)
        caption = " ".join(text.strip() for text in body if text.strip() and not ALT.match(text))
        if not caption or name not in EXHIBITS:
            lacks = "no caption" if name in EXHIBITS else "no function"
            self._problem(line, f"the exhibit {name!r} has {lacks}; write it")
            return []
        try:
            piece = EXHIBITS[name](self.book.published.runs)(caption=caption, **({"alt": alt} if alt else {}))
        except TypeError as error:
            if "'alt'" not in str(error):
                raise
            self._problem(
                line, f"the exhibit {name!r} is a figure without alt text, or a table with it ({error}); mend :alt:"
            )
            return []
        except NotRun as missing:
            return ["", f'<p class="not-run">{escape(caption)} Not run: {escape(str(missing))}.</p>', ""]
        return ["", re.sub(r"\n\s*\n", "\n", piece.html), ""]  # Markdown ends a block of HTML at an empty line

    def _fill(self, lines: Sequence[Line], position: int) -> str:
        number, text = lines[position]

        def fill(match: re.Match[str]) -> str:
            if match["holds"]:
                names = [name.strip() for name in match["holds"].split(",")]
                return "".join(self._link(name, number, sentence(lines, position, match.start())) for name in names)
            try:
                return show(self.book.published.value(match["value"]), match["form"] or "")
            except NotRun as missing:
                hint = "put the sentence into a `when` that names it"
                self._problem(number, f"{match['value']} was not run ({missing}); {hint}")
            except (SeqRecError, ValueError) as error:
                self._problem(number, str(error))
            return ""

        return MARK.sub(fill, text)

    def _link(self, name: str, line: int, said: str) -> str:
        try:
            evidence = self.book.published.evidence(name)
        except SeqRecError as error:
            self._problem(line, str(error))
            return ""
        if evidence is None:
            self._problem(line, f"“{said}” rests on {name}, which was not run; put it into a `when` that names it")
            return ""
        if not evidence.held:
            was = self.book.accepted.get(name)
            old = replace(evidence, **was) if was else "not on record"
            fault = f"“{said}” no longer holds: {name} was {old}, is {evidence}"
            self._problem(line, f"{fault}; rewrite the sentence, then `make evidence`")
        self.chapter.cited[name] = evidence
        note = "" if self.book.own is None else own_note(evidence, self.book.own.evidence(name))
        title = escape(f"evidence: {name}", quote=True)
        return f'<a class="evidence" href="#evidence-{name}" title="{title}">evidence</a>{note}'


def sentence(lines: Sequence[Line], position: int, end: int) -> str:
    """The last sentence before column ``end`` of the line at ``position``, within its paragraph."""
    first = position
    while first and lines[first - 1][1].strip():
        first -= 1
    before = " ".join([*(text.strip() for _, text in lines[first:position]), lines[position][1][:end].strip()])
    plain = MARK.sub(lambda match: "" if match["holds"] else "…", before).strip()
    return re.split(r"(?<=[.!?])\s+", plain)[-1]


if __name__ == "__main__":
    main()

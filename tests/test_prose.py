"""The book's prose: it is complete, its sources are sound, and it builds with warnings as errors, without a network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seqrec_lib.report.chapters import Book
from seqrec_lib.report.html_check import check_html
from seqrec_lib.study import load_study, read_yaml
from seqrec_lib.study.book import documents, expand_toc, stage

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))


def all_documents() -> list[str]:
    return documents(expand_toc(read_yaml(BOOK / "_toc.yml"), load_study(ROOT).pages()))


def test_configuration_and_contents_have_no_key_twice() -> None:
    config = read_yaml(ROOT / "_config.yml")
    assert config["execute"]["execute_notebooks"] == "off"
    assert read_yaml(BOOK / "_toc.yml")["root"] == "index"


def test_every_page_is_in_the_table_of_contents_and_every_entry_is_a_page() -> None:
    entries = {name for name in all_documents() if not name.startswith("notebooks/")}
    assert entries == {page.stem for page in PAGES}


def test_every_citation_has_an_entry_and_every_entry_is_complete() -> None:
    from pybtex.database import parse_file

    entries = parse_file(str(BOOK / "references.bib")).entries
    for key, entry in entries.items():
        assert entry.persons["author"], key
        assert {"title", "year"} <= set(entry.fields), key
        assert re.fullmatch(r"[a-z]+\d{4}", key), key
        assert key.endswith(entry.fields["year"]), key
        arxiv = re.search(r"arxiv\.org/abs/(.*)", entry.fields.get("url", ""))
        if arxiv:
            assert re.fullmatch(r"\d{4}\.\d{4,5}", arxiv[1]), key
    cited = {
        key.strip()
        for page in PAGES
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text(encoding="utf-8"))
        for key in keys.split(",")
    }
    assert cited
    assert cited <= set(entries)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_one_title_and_promises_nothing(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX|to come|coming soon|lorem)\b", text, re.IGNORECASE)


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_WORDS = 40
PRIVATE = re.compile(r"\b(arms?|floors?|as served|by modules|older code|own row)\b", re.IGNORECASE)


def hard_to_read(text: str) -> list[str]:
    """Sentences of more than `MOST_WORDS` words, and words that only this project knows where the text has not defined
    them yet (a definition has the word in italics), outside of code, tables and HTML."""
    text = re.sub(r"```.*?```", "\n", text, flags=re.DOTALL)
    text = re.sub(r"^(?:[|(#<]|:[:a-z]).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\{\{\s*holds:.*?\}\}|\*\*", "", text)
    for word in re.findall(rf"\*{PRIVATE.pattern}\*", text, re.IGNORECASE):
        before, _, after = text.partition(f"*{word}*")
        text = before + re.sub(rf"\b{word}s?\b", "X", after, flags=re.IGNORECASE)
    text = re.sub(r"\{\{.*?\}\}|`[^`]*`|\[([^\]]*)\]\([^)]*\)", lambda match: match[1] or "X", text)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n|^[-*] ", text, flags=re.MULTILINE)]
    sentences = [sentence for block in blocks for sentence in re.split(r"(?<=[.!?:])\s+", block)]
    long = [sentence for sentence in sentences if len(sentence.split()) > MOST_WORDS]
    return long + [match[0] for block in blocks for match in PRIVATE.finditer(block)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "glossary"], ids=lambda page: page.stem)
def test_a_page_reads_easily(page: Path) -> None:
    assert hard_to_read(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_reads_easily(page: Path) -> None:
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert hard_to_read(text) == []


def test_what_is_hard_to_read_is_found() -> None:
    assert hard_to_read("# T\n\nShort. " + "word " * 40 + "end.\n")
    assert hard_to_read("# T\n\nThis arm is fast.\n") == ["arm"]
    assert hard_to_read("# T\n\nThis arm is fast. An *arm* is a way to train. Two arms differ.\n") == ["arm"]
    assert hard_to_read("# T\n\nterm\n: " + "word " * 41 + "end.\n")
    assert not hard_to_read("# T\n\n**" + "word " * 20 + "end.** " + "word " * 20 + "end.\n")
    assert not hard_to_read("# T\n\n" + "A short sentence. " * 20 + "\n\n| " + "cell " * 60 + "|\n")


def test_the_pages_name_commands_that_exist() -> None:
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", make, re.MULTILINE))
    from seqrec_lib.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    commands |= {str(group.name) for group in app.registered_groups}
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets, page.name
        assert set(re.findall(r"`(?:\.venv/bin/)?seqrec ([a-z]+)", text)) <= commands, page.name


def test_the_pages_name_code_that_exists() -> None:
    sources = [*PAGES, *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "README.md"]
    named = {
        name for page in sources for name in re.findall(r"`(seqrec_lib[\w/.]*)`", page.read_text(encoding="utf-8"))
    }
    paths = [ROOT / (name if "/" in name else name.replace(".", "/")) for name in named]
    assert paths
    assert [path for path in paths if not path.exists() and not path.with_suffix(".py").is_file()] == []


def test_the_architecture_page_names_the_parts_that_exist() -> None:
    text = (BOOK / "architecture.md").read_text(encoding="utf-8")
    named = {ROOT / "seqrec_lib" / name for name in re.findall(r"^  (\w+(?:/|\.py)) ", text, re.MULTILINE)}
    parts = [path for path in (ROOT / "seqrec_lib").iterdir() if not path.name.startswith("_")]
    helpers = {ROOT / "seqrec_lib" / name for name in ("errors.py", "places.py")}
    assert named <= set(parts)
    assert {path for path in parts if path.suffix == ".py" or any(path.glob("*.py"))} <= named | helpers


def test_mathjax_is_whole_and_has_its_licence() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    script = BOOK / "_static" / config["sphinx"]["config"]["mathjax_path"]
    assert '"3.2.2"' in script.read_text(encoding="utf-8")
    assert "Apache License" in (script.parent / "LICENSE").read_text(encoding="utf-8")
    assert len(list((script.parent / "output/chtml/fonts/woff-v2").glob("*.woff"))) == 23


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prose staged and built as the study does it, with a page that says so in place of each notebook."""
    folder = tmp_path_factory.mktemp("book")
    source = folder / "source"
    pages = load_study(ROOT).pages()
    read = Book.read
    with pytest.MonkeyPatch.context() as patched:  # what runs of this machine's own would add takes as long again
        patched.setattr(Book, "read", lambda root, own: read(root))
        stage(ROOT, source, pages, {page.name: "not executed in this test" for page in pages})
    command = [sys.executable, "-c", "import sys; from jupyter_book.cli.main import main; sys.exit(main())"]
    command += ["build", str(source), "--path-output", str(folder), "-W", "-n", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "_build" / "html"


def test_the_book_builds_without_a_warning_and_passes_its_checks(built: Path) -> None:
    assert check_html(built, all_documents()) == []


def test_the_built_book_asks_no_other_machine_for_anything(built: Path) -> None:
    page = (built / "protocol.html").read_text(encoding="utf-8")
    assert "thebe" not in page
    assert "cdn" not in page
    assert page.count("mathjax/tex-chtml.js") == 1
    assert (built / "_static/mathjax/tex-chtml.js").is_file()
    assert "leave-one-out" in (built / "glossary.html").read_text(encoding="utf-8")


def test_the_book_is_built_by_the_release_that_reads_its_configuration() -> None:
    import jupyter_book

    assert jupyter_book.__version__.startswith("1.")

"""What goes out: the PDF, the archive with its checksums, the workflows."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from seqrec_lib.study.live_model import FOLDER
from tests.browser.check_book import CHROMIUM_NAMES
from tools.archive import pack

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SITE = {"authors": "A. Author", "release": "v9", "repository": "https://example.org/r.git"}


@pytest.fixture
def html(tmp_path: Path) -> Path:
    """Two pages as the theme writes them."""
    folder = tmp_path / "html"
    for name, body in {
        "index": 'See <a href="notebooks/n.html#there">there</a> and <a href="#end">the end</a>.<p id="end">End</p>',
        "notebooks/n": '<img src="../_images/a.svg" alt="A"><p id="there">There: <a href="https://x.org/">x</a></p>',
    }.items():
        title = name.rpartition("/")[2].title()
        printed = f'<div class="onlyprint"><h1>{title}</h1></div>'
        heading = f'<h1>{title}<a class="headerlink" href="#t" title="Link">#</a></h1>'
        page = folder / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(
            '<html><head><link rel="stylesheet" href="_static/a.css"></head><body><nav>Side bar</nav>'
            f'{printed}<article class="bd-article"><script>run()</script>{heading}{body}</article></body></html>'
        )
    (folder / "_images").mkdir()
    (folder / "_images" / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    return folder


def test_an_archive_unpacks_to_the_book_and_is_the_same_twice(html: Path, tmp_path: Path) -> None:
    first, second = (pack(html, "v9", tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert (tmp_path / "out/book-v9/notebooks/n.html").read_bytes() == (html / "notebooks/n.html").read_bytes()
    assert (first.parent / "SHA256SUMS").read_text() == (
        f"{hashlib.sha256(first.read_bytes()).hexdigest()}  book-v9.tar.gz\n"
    )


def test_titles_of_real_data_are_not_archived(html: Path, tmp_path: Path) -> None:
    (html / FOLDER).mkdir(parents=True)
    (html / FOLDER / "demo.js").write_text("")
    pack(html, "v9", tmp_path / "free")
    (html / FOLDER / "ml-1m.js").write_text("")
    with pytest.raises(
        SystemExit, match=r"ml-1m\.js holds titles that are not ours; build the book from a fresh clone"
    ):
        pack(html, "v9", tmp_path / "not")
    assert not (tmp_path / "not").exists()
    with pytest.raises(SystemExit, match=r"no book in .*; build it first"):
        pack(tmp_path, "v9", tmp_path / "out")


def test_the_book_is_one_page_with_links_within_it(html: Path) -> None:
    pytest.importorskip("playwright", reason="tools.pdf prints with it")
    import datetime

    from tools.pdf import one_page

    text = one_page(html, ["index", "notebooks/n"], SITE, "A book", datetime.date(2026, 1, 2))
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    links = [link for link in re.findall(r'href="#([^"]*)"', text) if not link.endswith("--t")]
    assert set(links) <= set(ids)
    assert "page--notebooks--n--there" in links
    assert 'src="_images/a.svg"' in text
    assert '<a href="https://x.org/">' in text
    assert "v9, printed 02 January 2026" in text
    assert "run()" not in text
    assert "Side bar" not in text


def test_the_pdf_opens(html: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="tools.pdf prints with it")
    if not any(map(shutil.which, CHROMIUM_NAMES)) or shutil.which("pdfinfo") is None:
        pytest.skip("no Chromium or no pdfinfo")
    from tools.pdf import print_book

    out = tmp_path / "release" / "book.pdf"
    print_book(html, ["index", "notebooks/n"], SITE, "A book", out)
    shown = subprocess.run(["pdfinfo", out], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^Title: +A book$", shown, re.M)
    assert re.search(r"^Pages: +4$", shown, re.M)  # title, contents and one for each
    assert not (html / "print.html").exists()
    with pytest.raises(SystemExit, match="has no page gone; build the book first"):
        print_book(html, ["gone"], SITE, "A book", out)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_there_is(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content[True]  # "on" is a truth value in YAML 1.1
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    for run in (step["run"] for step in steps if "run" in step):
        for command in re.findall(r"^make ((?:[a-z-]+ ?)+)", run, re.M):
            assert set(command.split()) <= set(targets[1].split()), run
        for script in re.findall(r"python (\S+\.py)", run):
            assert (ROOT / script).is_file(), run
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert all("timeout-minutes" in job for job in content["jobs"].values())


def test_there_are_workflows_that_test_publish_release_and_audit() -> None:
    assert [path.stem for path in WORKFLOWS] == ["audit", "pages", "release", "test"]

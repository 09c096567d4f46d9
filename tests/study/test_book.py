"""Staging and building: no two pages share a label or title, a failed page says so, an old book is never
shown as new."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.report.html import not_run
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import Page, read_yaml
from seqrec_lib.study import book as book_module
from seqrec_lib.study.book import build, documents, expand_toc, fill, stage
from tests.fakes import make_project, make_record

TOC = {
    "format": "jb-book",
    "root": "index",
    "parts": [
        {"caption": "Results", "chapters": [{"file": "notebooks/n", "title": "{{ dataset_title }}"}, {"file": "how"}]}
    ],
}
LANGUAGE = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
PAGES = [Page("n", "demo", {}), Page("n", "ml-1m", {})]


def test_the_data_sets_name_is_filled_into_text_and_labels() -> None:
    text = "# Accuracy: {{ dataset_title }}\n\n({{dataset}}-results)=\n## Results on {{dataset}}\n"
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("'{{ dataset }}'")]
    raw = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    text, code = ("".join(cell["source"]) for cell in fill(raw, "ml-1m")["cells"])
    assert text == "# Accuracy: MovieLens 1M\n\n(ml-1m-results)=\n## Results on ml-1m\n"
    assert code == "'{{ dataset }}'"


def test_folded_cells_say_what_is_inside() -> None:
    def code(source: str, *tags: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})

    cells = [
        nbformat.v4.new_markdown_cell("# N"),
        code('dataset: str = "demo"', "parameters"),
        code('dataset = "ml-1m"', "injected-parameters"),
        code("from seqrec_lib import report", "hide-input"),
        code("kit.figure(x)", "hide-input"),
        code("report.table()"),
    ]
    raw = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    filled = fill(raw, "ml-1m")["cells"]
    prompts = [cell["metadata"].get("mystnb", {}).get("code_prompt_show") for cell in filled[1:]]
    assert prompts == [
        "Show the notebook's parameters and their defaults",
        "Show this page's parameters",
        "Show the imports",
        "Show the code of this figure",
        None,
    ]
    assert all("hide-input" in cell["metadata"]["tags"] for cell in filled[1:5])
    open_page = fill(raw, None)["cells"]  # a page of its own has its own defaults: they stay in sight
    assert "hide-input" not in open_page[1]["metadata"]["tags"]


def test_table_of_contents_has_one_entry_per_page() -> None:
    toc = expand_toc(TOC, PAGES)
    assert documents(toc) == ["index", "notebooks/n-ml-1m", "notebooks/n-demo", "how"]  # simulated data last
    assert [entry.get("title") for entry in toc["parts"][0]["chapters"]] == ["MovieLens 1M", "Demo (simulated)", None]
    assert TOC["parts"][0]["chapters"][0]["file"] == "notebooks/n"  # type: ignore[index]  # the input stays as it was
    apart = {"root": "index", "parts": [{"chapters": [{"file": "how", "sections": [{"file": "notebooks/n"}]}]}]}
    apart["parts"].append({"chapters": [{"file": "notebooks/demo"}]})  # type: ignore[attr-defined]
    assert documents(expand_toc(apart, PAGES)) == ["index", "how", "notebooks/n-ml-1m", "notebooks/n-demo"]
    no_sections = expand_toc(apart, PAGES[:1])["parts"][0]["chapters"]  # a list without an entry is refused by Sphinx
    assert no_sections == [{"file": "how"}]
    with pytest.raises(SeqRecError, match="names 'notebooks/n', which no profile"):
        expand_toc(TOC, [])
    with pytest.raises(SeqRecError, match="no 'file: notebooks/m'"):
        expand_toc(TOC, [*PAGES, Page("m", None, {})])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project of `book_project`."""
    return book_project(tmp_path)


def book_project(tmp_path: Path) -> Path:
    """A project with this repository's own book configuration, two prose pages and two executed copies."""
    make_project(tmp_path, {"n": ["# Accuracy: {{ dataset_title }}", "x: int = 1"]})
    shutil.copy2(ROOT / "_config.yml", tmp_path)
    for folder in ("_static", "_extensions"):
        shutil.copytree(ROOT / "book" / folder, tmp_path / "book" / folder)
    book = tmp_path / "book"
    (book / "_toc.yml").write_text(json.dumps(TOC))
    (book / "references.bib").write_text("")
    (book / "index.md").write_text("# A book\n")
    (book / "how.md").write_text("# How\n\nSee {ref}`demo-results`.\n")
    executed = tmp_path / "_build" / "executed"
    executed.mkdir(parents=True)
    text = "# Accuracy: {{ dataset_title }}\n\n({{dataset}}-results)=\n## Results\n\n{ref}`{{dataset}}-results`"
    cell = nbformat.v4.new_markdown_cell(text)
    code = nbformat.v4.new_code_cell("print(1)", execution_count=1)
    code.outputs = [nbformat.v4.new_output("stream", text="the outcome\n")]
    for page in PAGES:
        content = nbformat.v4.new_notebook(cells=[cell, code], metadata=LANGUAGE)
        nbformat.write(content, executed / f"{page.name}.ipynb")
    return tmp_path


def test_book_is_built_and_replaced_only_by_a_good_one(project: Path) -> None:
    index = build(project, PAGES, {}, lambda line: None)
    assert index == project / "_build/html/index.html"
    page = (project / "_build/html/how.html").read_text()
    assert '<meta property="og:title" content="How" />' in page
    assert '<meta property="og:description" content="See Results." />' in page
    html = project / "_build/html/notebooks"
    assert "Accuracy: Demo (simulated)" in (html / "n-demo.html").read_text()
    assert "the outcome" in (html / "n-ml-1m.html").read_text()

    # what nobody opens is left out, and the search has the pages' text
    assert "the outcome" not in (project / "_build/html/_sources/notebooks/n-ml-1m.ipynb").read_text()
    assert list((project / "_build/html").rglob("*.map")) == []
    texts = (project / "_build/html/_static/search/texts.js").read_text()
    assert '"how": "How See Results."' in texts
    assert "texts.js" not in index.read_text()

    # a warning fails the build, and the old book stays as it was
    (project / "book/how.md").write_text("# How\n\nSee {ref}`nowhere`.\n")
    with pytest.raises(SeqRecError, match=r"the book was not built: how\.md:3: WARNING: .*nowhere.* previous book"):
        build(project, PAGES, {}, lambda line: None)
    assert "the outcome" in (html / "n-ml-1m.html").read_text()

    # a failed notebook's page says so and shows nothing of an earlier execution
    (project / "book/how.md").write_text("# How\n")
    build(project, PAGES, {"n-ml-1m": "no luck; try again"}, lambda line: None)
    text = (html / "n-ml-1m.html").read_text()
    assert "Accuracy: MovieLens 1M" in text
    assert "no luck; try again" in text
    assert "the outcome" not in text


def test_a_page_without_an_executed_copy_is_an_error(project: Path) -> None:
    (project / "_build/executed/n-demo.ipynb").unlink()
    with pytest.raises(SeqRecError, match=r"page n-demo has no executed copy .*; run `seqrec study`"):
        build(project, PAGES, {}, lambda line: None)


@pytest.mark.parametrize(
    ("address", "button"), [("https://example.org/study", False), ("https://github.com/me/study", True)]
)
def test_authors_and_repository_come_from_the_citation_file(
    project: Path, tmp_path: Path, address: str, button: bool
) -> None:
    authors = [{"given-names": "Ada", "family-names": "Byron"}, {"name": "A group"}]
    citation = {"title": "A study", "authors": authors, "repository-code": address, "version": "1.2.0"}
    (project / "CITATION.cff").write_text(json.dumps(citation))
    (project / "book/how.md").write_text("# How\n\n{{ site/authors }}: {{ site/repository }} {{ site/release }}\n")
    stage(project, tmp_path / "source", PAGES, {})
    config = read_yaml(tmp_path / "source/_config.yml")
    assert (config["author"], config["copyright"]) == ("Ada Byron, A group", "2026, Ada Byron, A group")
    assert config["html"]["use_repository_button"] is button
    assert config.get("repository") == ({"url": address} if button else None)
    assert f"Ada Byron, A group: {address}.git v1.2.0" in (tmp_path / "source/how.md").read_text()


def test_own_runs_are_asked_only_where_there_are_any(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("SEQREC_RUNS", str(tmp_path / "runs"))
    asked: list[bool] = []
    monkeypatch.setattr(book_module, "render_folder", lambda book, folder: asked.append(book.own is not None) or {})
    stage(project, tmp_path / "source", PAGES, {})
    RunStore().save(make_record())
    stage(project, tmp_path / "source", PAGES, {})
    assert asked == [False, True]


def shows(*pieces: str) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("display(...)")
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": piece, "text/plain": "x"}) for piece in pieces]
    return cell


def test_sections_that_show_nothing_are_named_in_one_line() -> None:
    markdown = nbformat.v4.new_markdown_cell
    quiet = nbformat.v4.new_code_cell("x = 1")
    quiet.outputs = [nbformat.v4.new_output("stream", text="1 run: 1 not run\n")]
    nothing = not_run("Stages").html
    cells = [
        markdown("# Latency: {{ dataset_title }}"),
        markdown("## How it is answered"),
        quiet,
        markdown("## One request"),
        shows(nothing),
        markdown("More on that."),
        shows(f"{nothing}\n{nothing}", nothing),
        markdown("## A simulation"),
        shows(nothing, "<p>98 %</p>"),
        markdown("## Batches"),
        shows(nothing),
        markdown("What would change it.\n\n## Where these numbers come from"),
        shows("<p>Planned: 1 run</p>"),
    ]
    raw = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    filled = fill(raw, "ml-1m")["cells"]
    text = "\n".join(cell["source"] for cell in filled if cell["cell_type"] == "markdown")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## How it is answered",
        "## A simulation",
        "## Where these numbers come from",
    ]
    command = "make study PROFILE=paper DATASETS=ml-1m"
    assert f"**Not run here yet** (`{command}` runs what is missing): *One request*; *Batches*\n" in text
    assert text.index("Not run here yet") < text.index("## A simulation") and "More on that" not in text
    nbformat.validate(nbformat.from_dict(dict(raw, cells=filled)))
    assert any("`make study` runs" in cell["source"] for cell in fill(raw, "demo")["cells"])
    assert len(raw["cells"]) == len(cells)  # the executed copy keeps everything
    mine = "\n".join("".join(cell["source"]) for cell in fill(raw, "file-mine-0123456789ab")["cells"])
    assert "as `seqrec study --data` does not run them or their runs failed: *One request*; *Batches*" in mine

"""From executed notebooks to the book: stage them with book/ in ``_build/source``, then build there.

Two executed copies of one notebook must not share a title or a label, so the data set's name is filled into them while
staging. The book is built in a fresh folder and takes the old one's place only when the build has succeeded.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from seqrec_lib.errors import SeqRecError
from seqrec_lib.report.chapters import Book, render_folder
from seqrec_lib.report.evidence import copy_records
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.html_check import check_html
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.site import configured, read_site
from seqrec_lib.results import RunStore
from seqrec_lib.study import live_model
from seqrec_lib.study.plans import Page
from seqrec_lib.study.sections import text_of, without_empty_sections
from seqrec_lib.study.weight import slim
from seqrec_lib.study.yaml_files import read_yaml
from seqrec_lib.validation import read_json

PLACEHOLDER = re.compile(r"\{\{\s*(dataset|dataset_title)\s*\}\}")
SIMULATED = "notebooks/demo"  # in a table of contents: all pages of the demo data, in one place
RECORD_LINK = re.compile(r"_static/records/([0-9a-f]{16})\.json")
# without a grammar that takes seconds to compile (see papermill_job)
BUILD = "import sys; sys.modules['rfc3987_syntax'] = None; from jupyter_book.cli.main import main; sys.exit(main())"


def build(root: Path, pages: Sequence[Page], failed: Mapping[str, str], say: Callable[[str], None] = print) -> Path:
    """Stage the executed pages and build the book; returns its first page.

    Args:
        root: the project's folder, with ``_config.yml``, ``book/`` and ``_build/executed/``.
        pages: all pages of the book that are notebooks.
        failed: page name -> why its notebook failed; such a page says so instead of showing results.

    Raises:
        SeqRecError: the table of contents does not fit the pages, Sphinx warns, or the built pages fail their
            checks. The book of the previous build, if any, then stays where it is.
    """
    with FileLock(root / "_build" / ".book.lock"):
        say("book: building")
        source, fresh, final = (root / "_build" / name for name in ("source", "fresh", "html"))
        documents = stage(root, source, pages, failed)
        shutil.rmtree(fresh, ignore_errors=True)
        log = root / "_build" / "book.log"
        command = [sys.executable, "-c", BUILD, "build", ".", "--path-output", str(fresh), "-W", "-n", "--keep-going"]
        with log.open("wb") as stream:
            done = subprocess.run(command, cwd=source, stdout=stream, stderr=subprocess.STDOUT, check=False)
        html = fresh / "_build" / "html"
        missing = [name for name in documents if not (html / f"{name}.html").is_file()]
        if done.returncode != 0 or missing:
            problems = _problems(log, source) or [f"no page {name}" for name in missing] or ["no reason given"]
            old = f"; {final} is still the previous book" if final.exists() else ""
            raise SeqRecError(f"the book was not built: {_first_of(problems)}; see {log}{old}")
        slim(html)
        if findings := check_html(html, documents):
            raise SeqRecError(f"the built pages fail their checks: {_first_of(findings)}; see {html}")
        old_book = root / "_build" / "html.old"
        shutil.rmtree(old_book, ignore_errors=True)
        if final.exists():
            final.rename(old_book)
        html.rename(final)
        shutil.rmtree(old_book, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)
        return final / "index.html"


def stage(root: Path, source: Path, pages: Sequence[Page], failed: Mapping[str, str]) -> list[str]:
    """Fill ``source`` with the book's sources; returns the names of its documents, as the table of contents has them.

    Raises:
        SeqRecError: a chapter says what published runs do not bear out, or a page was not executed.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source, ignore=shutil.ignore_patterns("_build", "_toc.yml"))
    config = configured(read_yaml(root / "_config.yml"), read_site(root))
    (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    store = RunStore()
    cited = render_folder(Book.read(root, Runs(store) if store.has_own_runs() else None), source)
    run_ids = [run_id for evidence in cited.values() for run_id in evidence.run_ids]
    run_ids += [run_id for path in source.glob("*.md") for run_id in RECORD_LINK.findall(path.read_text("utf-8"))]
    live_model.export(source)  # the weights that the page *Try it* runs
    # Methods chapters quote the library's own code.
    package = Path(__file__).resolve().parent.parent
    shutil.copytree(package, source / "code" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    toc = expand_toc(_read_toc(root), pages)
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False, allow_unicode=True), encoding="utf-8")
    folder = source / "notebooks"
    folder.mkdir(exist_ok=True)
    for page in pages:
        if page.name in failed:
            text = _failed_page(root / "notebooks" / f"{page.notebook}.ipynb", page, failed[page.name])
            (folder / f"{page.name}.md").write_text(text, encoding="utf-8")
            continue
        copy = root / "_build" / "executed" / f"{page.name}.ipynb"
        if not copy.is_file():
            raise SeqRecError(f"page {page.name} has no executed copy at {copy}; run `seqrec study` or `seqrec book`")
        notebook = read_json(copy, "run `seqrec book` again")
        text = json.dumps(fill(notebook, page.dataset), indent=1)
        run_ids += RECORD_LINK.findall(text)
        (folder / copy.name).write_text(text, encoding="utf-8")
    copy_records(run_ids, store, source)
    return documents(toc)


def expand_toc(toc: dict[str, Any], pages: Sequence[Page]) -> dict[str, Any]:
    """The table of contents with every ``notebooks/<notebook>`` replaced by the pages of that notebook, and `SIMULATED`
    by the pages of the demo data. An entry's ``title`` may name the data set, as a notebook's text does.

    Raises:
        SeqRecError: it names a notebook that no profile has, or leaves one out.
    """
    apart = SIMULATED in documents(toc)
    by_notebook: dict[str, list[Page]] = {page.notebook: [] for page in pages}
    simulated = [page for page in pages if page.dataset == "demo"]
    for page in [page for page in pages if page.dataset != "demo"] + ([] if apart else simulated):
        by_notebook[page.notebook].append(page)
    used = set()

    def expand(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        expanded = []
        for entry in entries:
            file = str(entry.get("file", ""))
            if file == SIMULATED:
                expanded += [{"file": f"notebooks/{page.name}"} for page in simulated]
            elif file.startswith("notebooks/"):
                notebook = file.removeprefix("notebooks/").removesuffix(".ipynb")
                if notebook not in by_notebook:
                    raise SeqRecError(
                        f"book/_toc.yml names {file!r}, which no profile of study.yml has; add or remove it"
                    )
                used.add(notebook)
                for page in by_notebook[notebook]:
                    texts = {key: _replace(str(value), page.dataset) for key, value in entry.items()}
                    expanded.append(texts | {"file": f"notebooks/{page.name}"})
            else:
                lists = {key: expand(value) for key, value in entry.items() if isinstance(value, list)}
                expanded.append({key: value for key, value in (entry | lists).items() if value != []})
        return expanded

    result = toc | {key: expand(value) for key, value in toc.items() if isinstance(value, list)}
    for notebook in by_notebook.keys() - used:
        raise SeqRecError(f"book/_toc.yml has no 'file: notebooks/{notebook}', which study.yml executes; add it")
    return result


def documents(toc: Mapping[str, Any]) -> list[str]:
    """Names of all documents of a table of contents, the root first."""
    found = [str(toc["root"])] if "root" in toc else []
    if "file" in toc:
        found.append(str(toc["file"]))
    for value in toc.values():
        if isinstance(value, list):
            found += [name for entry in value for name in documents(entry)]
    return found


def fill(notebook: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    """An executed notebook with the data set's name in its text: ``{{ dataset }}`` and ``{{ dataset_title }}`` are
    replaced in Markdown cells, also in a label. Sections that have nothing to show leave (`sections`).
    """
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell = cell | {"source": _replace(text_of(cell["source"]), dataset)}
        cells.append(_folded(cell, dataset))
    return notebook | {"cells": without_empty_sections(cells, dataset) if dataset else cells}


def _folded(cell: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    """A code cell with a line to unfold it by that says what is inside; on the page of a data set, the notebook's
    defaults (which are about the demo data) and the values in their place are folded too."""
    tags = cell["metadata"].get("tags", [])
    if "injected-parameters" in tags or (dataset and "parameters" in tags):
        tags = [*tags, "hide-input"]
    if cell["cell_type"] != "code" or "hide-input" not in tags:
        return cell
    source = text_of(cell["source"])
    if "injected-parameters" in tags:
        inside = "this page's parameters"
    elif "parameters" in tags:
        inside = "the notebook's parameters and their defaults"
    elif "kit.figure(" in source:
        inside = "the code of this figure"
    else:
        inside = "the imports" if source.startswith(("from ", "import ")) else "the code"
    prompts = {f"code_prompt_{verb.lower()}": f"{verb} {inside}" for verb in ("Show", "Hide")}
    notes = cell["metadata"] | {"tags": tags, "mystnb": cell["metadata"].get("mystnb", {}) | prompts}
    return cell | {"metadata": notes}


def _replace(text: str, dataset: str | None) -> str:
    """A text with its placeholders filled for the page of a data set."""
    words = {"dataset": dataset or "", "dataset_title": dataset_name(dataset) if dataset else ""}
    return PLACEHOLDER.sub(lambda match: words[match[1]], text)


def _failed_page(notebook: Path, page: Page, reason: str) -> str:
    cells = read_json(notebook, "restore the notebook")["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in text_of(cell["source"]).splitlines()]
    heading = next((line for line in lines if line.startswith("# ")), f"# {page.name}")
    title = _replace(heading, page.dataset)
    return f"{title}\n\nThis page's notebook failed, so it shows no results:\n\n```text\n{reason}\n```\n"


def _read_toc(root: Path) -> dict[str, Any]:
    toc = read_yaml(root / "book" / "_toc.yml")
    if not isinstance(toc, dict) or "root" not in toc:
        raise SeqRecError(f"{root / 'book' / '_toc.yml'}: no key 'root'; write a table of contents of format jb-book")
    return toc


def _first_of(findings: Sequence[str]) -> str:
    return findings[0] + (f" (and {len(findings) - 1} more)" if len(findings) > 1 else "")


def _problems(log: Path, source: Path) -> list[str]:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace")).splitlines()
    marked = [line.strip() for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL|Error):", line)]
    return [line.replace(f"{source}/", "") for line in marked] or lines[-1:]

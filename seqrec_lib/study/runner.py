"""The study: study.yml says which notebook runs with which parameters; papermill executes them; book.py
builds the book.

A profile (demo, paper) is a list of notebooks with parameters and data sets; each pair of notebook and data
set is one page, named ``<notebook>-<dataset>``. All pages of all profiles make the book: those of the chosen
profile carry out what is missing, the others only read records. Everything in study.yml is checked before
anything starts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqrec_lib import parameters
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import describe
from seqrec_lib.places import project_root
from seqrec_lib.results import RunStore
from seqrec_lib.study.execution import Failure
from seqrec_lib.study.plans import Page, configs_of, on_device, run_states
from seqrec_lib.study.pool import Job, execute_pages
from seqrec_lib.study.yaml_files import read_yaml
from seqrec_lib.validation import refuse_unknown

Say = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """What study.yml says: the folder it lies in and, by profile, the pages."""

    root: Path
    profiles: Mapping[str, tuple[Page, ...]]

    def pages(self) -> list[Page]:
        """All pages, each once, in the order of study.yml."""
        found: dict[str, Page] = {}
        for pages in self.profiles.values():
            for page in pages:
                found.setdefault(page.name, page)
        return list(found.values())

    def select(self, profile: str, datasets: Sequence[str] = (), notebooks: Sequence[str] = ()) -> list[Page]:
        """Pages of a profile, all or those of some notebooks and data sets (a page without a data set is of each).

        Raises:
            SeqRecError: no such profile, or it has no page of such a data set or notebook.
        """
        refuse_unknown([profile], self.profiles, "profile")
        pages = self.profiles[profile]
        there = list(dict.fromkeys(page.dataset for page in pages if page.dataset))
        known = list(dict.fromkeys(page.notebook for page in pages))
        for what, asked, names in (("page of data set", datasets, there), ("page of notebook", notebooks, known)):
            refuse_unknown(asked, names, what, f"profile {profile!r}")
        return [
            page
            for page in pages
            if (not datasets or page.dataset is None or page.dataset in datasets)
            and (not notebooks or page.notebook in notebooks)
        ]


@dataclass
class Result:
    """What a study did: failed notebooks, failed runs (described), and the book's first page, or None: not built."""

    failures: list[Failure] = field(default_factory=list)
    failed_runs: list[str] = field(default_factory=list)
    index: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures and not self.failed_runs


def load_study(root: Path | None = None) -> Study:
    """Read and check study.yml.

    Raises:
        SeqRecError: no valid YAML, a key twice, an unknown key, notebook, data set or parameter, a parameter
            of the wrong type, or two pages of one name in a profile.
    """
    root = root or project_root()
    path = root / "study.yml"
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != {"profiles"} or not isinstance(content["profiles"], dict):
        raise SeqRecError(f"{path}: expected one key 'profiles' that maps names to lists; correct the file")
    profiles = {}
    for profile, entries in content["profiles"].items():
        if not isinstance(entries, list):
            raise SeqRecError(f"{path}: profile {profile!r} is {entries!r}, expected a list of notebooks")
        pages = [page for entry in entries for page in _pages(root, f"{path}: profile {profile!r}", entry)]
        names = [page.name for page in pages]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise SeqRecError(f"{path}: profile {profile!r} has the page {twice!r} twice; remove one")
        profiles[str(profile)] = tuple(pages)
    return Study(root, profiles)


def _pages(root: Path, where: str, entry: Any) -> Iterator[Page]:
    if not isinstance(entry, dict) or not isinstance(entry.get("notebook"), str):
        raise SeqRecError(f"{where}: {entry!r} names no notebook; write '- notebook: accuracy'")
    refuse_unknown(entry, ("notebook", "parameters", "datasets"), "key", where)
    notebook = entry["notebook"]
    where = f"{where}, notebook {notebook!r}"
    schema = parameters.schema(root / "notebooks" / f"{notebook}.ipynb")
    choices = parameters.known_values(schema)
    given = entry.get("parameters") or {}
    datasets = entry.get("datasets")
    if isinstance(datasets, list) and all(isinstance(name, str) for name in datasets):
        datasets = dict.fromkeys(datasets)
    if not _is_mapping(given) or not (datasets is None or _is_mapping(datasets)):
        raise SeqRecError(f"{where}: parameters is a mapping, datasets a list of names (or a mapping to parameters)")
    for name, special in (datasets or {}).items():
        if special is not None and not _is_mapping(special):
            raise SeqRecError(f"{where}: data set {name!r} has {special!r}; expected a mapping of parameters")
    if "dataset" in schema and not datasets:
        raise SeqRecError(f"{where}: no data set is given; write 'datasets: [demo]'")
    if "dataset" not in schema and datasets:
        raise SeqRecError(f"{where}: it has no parameter 'dataset'; remove 'datasets'")
    for dataset, special in (datasets or {None: None}).items():
        own = {"dataset": dataset} if dataset is not None else {}
        values = parameters.check({**given, **(special or {}), **own}, schema, choices, where)
        yield Page(notebook, values.get("dataset", dataset), values)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def run_pages(
    study: Study,
    pages: Sequence[Page],
    missing: str = "run",
    *,
    build: bool = True,
    device: str = "auto",
    say: Say = print,
) -> Result:
    """Execute pages with ``missing``, render all others of study.yml from records, and build the book.

    Args:
        pages: some of study.yml's, or others.
        missing: run | skip, for these pages.
        build: False leaves it at these pages, without the others and the book (for a cluster job).
        device: auto | cpu | cuda, for those of them that train.
        say: takes each line of progress.

    Raises:
        SeqRecError: a page's parameters do not go together, or the book could not be built. A notebook that fails is no
            exception but an entry of the result.
    """
    chosen = [on_device(page, device) for page in pages]
    for page in chosen:  # all before the first of them starts, which may take hours
        try:
            configs_of(page)
        except SeqRecError as error:
            raise SeqRecError(f"page {page.name!r}: {error}") from None
    others = [page for page in study.pages() if page.name not in {p.name for p in chosen}] if build else []
    jobs = [Job(page, missing) for page in chosen] + [Job(page, "skip") for page in others]
    result = Result(execute_pages(study.root, jobs, say))
    if missing == "run":
        store = RunStore()
        result.failed_runs = [
            f"{page.name}: {describe(state.config)}: {state.record.error}"
            for page in chosen
            for state in run_states(page, store)
            if state.record is not None and not store.settled(state.record)  # a published failure is a result
        ]
    if build:
        result.index = _build(study, chosen + others, result, say)
    return result


def build_book(*, say: Say = print) -> Result:
    """Render every page from records and build the book: no data, no weights, no training.

    Pages on real data sets see published records only; those on the demo data, which is never published, what
    this machine has run.
    """
    study = load_study()
    with tempfile.TemporaryDirectory(prefix="seqrec-") as empty:
        jobs = [Job(page, "skip", {} if page.dataset == "demo" else {"SEQREC_RUNS": empty}) for page in study.pages()]
        result = Result(execute_pages(study.root, jobs, say))
        result.index = _build(study, study.pages(), result, say)
    return result


def _build(study: Study, pages: Sequence[Page], result: Result, say: Say) -> Path:
    from seqrec_lib.study.book import build

    return build(study.root, pages, {f.page.name: f.reason for f in result.failures}, say)

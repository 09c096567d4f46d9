"""What the book's pages say to the paper's claims: each verdict from the records behind the pages that show it.

The pages are those of a profile of study.yml, so that a verdict rests on what a reader finds in the book and on nothing
else that a store may hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import execute
from seqrec_lib.report import (
    benchmarks,
    language,
    optimizer_claims,
    optimizers,
    preferences,
    quality_claims,
    rankers,
    speed_claims,
)
from seqrec_lib.report.claims import ClaimVerdict, together
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import gather
from seqrec_lib.report.scaling import Scaling
from seqrec_lib.report.timings import Timings, found
from seqrec_lib.results import RunRecord, RunStore
from seqrec_lib.study.plans import values_of

if TYPE_CHECKING:
    from seqrec_lib.study.runner import Page

# Claim -> notebook and its section that shows why.
SHOWN: Mapping[str, tuple[str, str]] = {
    "speed-ssm": ("latency", "Are the differences real?"),
    "speed-hydra": ("latency", "Are the differences real?"),
    "cpu": ("latency", "Are the differences real?"),
    "speed-sasrec": ("scaling", "Can attention explain the paper's SASRec?"),
    "quality-ssm": ("accuracy", "Are the differences between models real?"),
    "quality-hydra": ("accuracy", "Are the differences between models real?"),
    "quality-mamrec": ("generative", "Is MamRec better than GPT4Rec?"),
    "quality-llamarec": ("llamarec", "Does the ranker add to its retriever?"),
    "orpo": ("orpo", "Before and after"),
    "usgm": ("optimizers", "Figure 3, redone"),
    "batching-fit": ("optimizers", "Can the paper's rule for the batch stop?"),
    "batching-plateau": ("optimizers", "What the batch did"),
    "usgm-robustness": ("optimizers", "How robust they are"),
}

# And where else what it says is shown.
ALSO_SHOWN: Mapping[str, tuple[str, str]] = {"speed-sasrec": ("latency", "How long one request takes")}

TITLES: Mapping[str, str] = {
    "latency": "Latency",
    "scaling": "Scaling",
    "accuracy": "Accuracy",
    "generative": "Writing queries",
    "llamarec": "Ranking with letters",
    "orpo": "Tuning on preferences",
    "optimizers": "USGM and adaptive batching",
}
"""Notebook -> the title of its pages, which says the data set too."""


def book_verdicts(profile: str = "paper", store: RunStore | None = None) -> list[ClaimVerdict]:
    """A verdict for every claim that the pages of ``profile`` have runs for, with links to those pages.

    Raises:
        SeqRecError: study.yml is wrong, or it has no such profile.
    """
    from seqrec_lib.study.runner import load_study

    store = store or RunStore()
    pages = load_study().select(profile)
    read = {name: [_Read(page, store) for page in pages if page.notebook == name] for name, _ in SHOWN.values()}
    timings = [Timings.read(page.timed("latency")[0], store) for page in read["latency"]]
    accuracy = [gather(page.configs, page.records, store) for page in read["accuracy"]]
    waits = benchmarks.read(benchmarks.FOLDER, "query_latency")
    timed_on = [page.page.dataset or "" for page in read["latency"]]
    verdicts = [*speed_claims.verdicts(timings, waits, timed_on), *quality_claims.verdicts(accuracy)]
    verdicts += _first(
        [speed_claims.sasrec(Scaling.read(page.timed("scaling")[0], store), timings)] for page in read["scaling"]
    )
    written = [own for page in read["generative"] for own in language.rows(page.configs, page.records, store)]
    verdicts.append(language.pair_verdict(written))
    by_letters = {
        page.name: rankers.verdict(rankers.rows(page.configs, page.records, store), store) for page in read["llamarec"]
    }
    tuned = {
        page.name: preferences.verdict(preferences.compare(preferences.rows(page.configs, page.records, store), store))
        for page in read["orpo"]
    }
    verdicts += [verdict for verdict in (together(by_letters), together(tuned)) if verdict is not None]
    verdicts += _first(
        optimizer_claims.verdicts(optimizers.gather(page.cells, page.configs, page.records), store)
        for page in read["optimizers"]
    )
    return [_with_links(verdict, read) for verdict in verdicts]


def _benchmarked(read: Sequence[_Read], datasets: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The latency pages that show the benchmark of language models, whose record is no run."""
    section = "On a GPU, and language models"
    pages = [own for own in read if own.page.dataset in datasets]
    return tuple((own.page.name, f"Latency, {own.name}: {section}") for own in pages)


class _Read:
    """A page with what it plans and the records there are."""

    def __init__(self, page: Page, store: RunStore) -> None:
        self.page, self.store, self.values = page, store, values_of(page)
        self.experiment = get(page.notebook)
        self.configs = self.experiment.plan(self.values)
        self.records = execute(self.experiment, self.configs, store=store, missing="skip", progress=False)

    @property
    def name(self) -> str:
        """The data set, as a reader writes it."""
        return dataset_name(self.page.dataset or "")

    @property
    def cells(self) -> Sequence[Any]:
        """Where the runs stand on the optimizers' page."""
        from seqrec_lib.experiments.optimizers import cells

        return cells(self.values)

    def timed(self, experiment: str) -> list[RunRecord | None]:
        """The records, with those of other machines where this one has none."""
        return found(self.configs, self.records, self.store, experiment)


def _first(pages: Any) -> list[ClaimVerdict]:
    """Of pages that judge the same claims, the first that has an answer to each."""
    chosen: dict[str, ClaimVerdict] = {}
    for verdicts in pages:
        for verdict in verdicts:
            known = chosen.get(verdict.claim.id)
            if known is None or _said(verdict) > _said(known):
                chosen[verdict.claim.id] = verdict
    return list(chosen.values())


def _said(verdict: ClaimVerdict) -> tuple[bool, bool]:
    """How much a verdict says: a word, or at least what the runs show."""
    return verdict.word != "not tested yet", bool(verdict.run_ids)


def _with_links(verdict: ClaimVerdict, read: Mapping[str, Sequence[_Read]]) -> ClaimVerdict:
    """The verdict with the pages whose records it rests on."""
    if verdict.claim.id == "ssm-against-llm" and verdict.word != "not tested yet":
        waits = benchmarks.read(benchmarks.FOLDER, "query_latency") or {}
        return replace(verdict, evidence=_benchmarked(read["latency"], waits.get("datasets", {})))
    if verdict.claim.id not in SHOWN or not verdict.run_ids:
        return verdict
    links = []
    for notebook, section in [own[verdict.claim.id] for own in (SHOWN, ALSO_SHOWN) if verdict.claim.id in own]:
        for page in read[notebook]:
            records = page.timed(notebook) if notebook in ("latency", "scaling") else page.records
            if {record.run_id for record in records if record is not None} & set(verdict.run_ids):
                links.append((page.page.name, f"{TITLES[notebook]}, {page.name}: {section}"))
    return replace(verdict, evidence=tuple(links))

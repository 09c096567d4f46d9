"""The verdicts on the paper's claims, from all records of the study's pages on real data.

What each says is decided beside its tables (`speed_claims`, `optimizers`, `language`); here they are gathered, so that
one table can show them all. A claim without runs stays "not tested yet".
"""

from __future__ import annotations

from pathlib import Path

from seqrec_lib.report import benchmarks, language, optimizers, speed_claims
from seqrec_lib.report.claims import ClaimVerdict
from seqrec_lib.report.timings import Timings, found
from seqrec_lib.results import RunStore
from seqrec_lib.study import load_study
from seqrec_lib.study.plans import page_runs, values
from seqrec_lib.study.runner import Page


def from_records(root: Path | None = None, store: RunStore | None = None) -> list[ClaimVerdict]:
    """A verdict for every claim that some experiment of this study tests; runs on simulated data do not count.

    Raises:
        SeqRecError: study.yml or a record cannot be read.
    """
    store = store or RunStore()
    pages = [page for page in load_study(root).pages() if page.dataset != "demo"]
    return [*_speed(pages, store), *_optimizers(pages, store), _language(pages, store)]


def _speed(pages: list[Page], store: RunStore) -> list[ClaimVerdict]:
    timings = []
    for page in pages:
        if page.notebook == "latency":
            records = found(*page_runs(page, store), store, "latency")
            timings += [Timings.read(record, store) for record in records]
    return speed_claims.verdicts(timings, benchmarks.read(benchmarks.FOLDER, "query_latency"))


def _optimizers(pages: list[Page], store: RunStore) -> list[ClaimVerdict]:
    from seqrec_lib.experiments.optimizers import cells

    verdicts: list[ClaimVerdict] = []
    for page in pages:
        if page.notebook == "optimizers":
            gathered = optimizers.gather(cells(values(page)), *page_runs(page, store))
            verdicts += optimizers.verdicts(gathered)
    return verdicts


def _language(pages: list[Page], store: RunStore) -> ClaimVerdict:
    runs = []
    for page in pages:
        if page.notebook == "generative":
            runs += language.rows(*page_runs(page, store), store)
    return language.pair_verdict(runs)

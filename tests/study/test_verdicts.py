"""The verdicts of the book rest on its pages: sections exist, links lead to pages that have the records."""

from __future__ import annotations

import json
from pathlib import Path

from seqrec_lib.places import project_root
from seqrec_lib.report.claims import CLAIMS
from seqrec_lib.results import RunStore
from seqrec_lib.study.runner import load_study
from seqrec_lib.study.verdicts import SHOWN, TITLES, book_verdicts


def test_every_section_that_is_named_exists() -> None:
    assert set(SHOWN) <= {claim.id for claim in CLAIMS}
    for notebook, section in SHOWN.values():
        cells = json.loads((project_root() / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
        headings = [
            line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).split("\n")
        ]
        assert f"## {section}" in headings


def test_a_store_without_records_tests_nothing(tmp_path: Path) -> None:
    everything = book_verdicts("demo", RunStore(tmp_path / "new", tmp_path / "published"))
    found = [verdict for verdict in everything if verdict.claim.id != "ssm-against-llm"]  # has a benchmark's record too
    assert {verdict.word for verdict in found} == {"not tested yet"}
    assert not any(verdict.evidence for verdict in found)
    assert {"usgm", "batching-fit", "speed-ssm", "speed-sasrec", "quality-hydra"} <= {v.claim.id for v in found}


def test_published_records_are_judged_and_linked(tmp_path: Path) -> None:
    pages = {page.name for page in load_study().select("paper")}
    found = {v.claim.id: v for v in book_verdicts("paper", RunStore(tmp_path / "new"))}
    for verdict in found.values():
        if verdict.claim.id != "ssm-against-llm":  # rests on a benchmark, whose record is no run
            assert bool(verdict.run_ids) == bool(verdict.evidence)
        assert {page for page, _ in verdict.evidence} <= pages
        if verdict.run_ids:
            assert verdict.reason
    assert ("latency-ml-1m", "Latency, MovieLens 1M: Are the differences real?") in found["speed-hydra"].evidence
    assert [page for page, _ in found["ssm-against-llm"].evidence] == ["latency-ml-1m", "latency-ml-100k"]


def test_links_have_the_titles_of_the_pages() -> None:
    for notebook, title in TITLES.items():
        cells = json.loads((project_root() / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
        assert "".join(cells[0]["source"]).startswith(f"# {title}: ")

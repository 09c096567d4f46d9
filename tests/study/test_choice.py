"""A reader's own data are answered for by the model that the page *Which model should I use?* marks for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from seqrec_lib.data import own
from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute
from seqrec_lib.recommend import recommend
from seqrec_lib.report.timings import Timings
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import choice
from seqrec_lib.study import own as own_study
from seqrec_lib.study.plans import Page, values_of
from tests.study.test_own import mine, seqrec

__all__ = ["mine"]  # a fixture

MODELS = ("markov", "sasrec")


@pytest.fixture
def studied(mine: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, float]]:
    """(id, milliseconds by model, which a test may change) of data whose candidates were trained for an epoch; any of
    them may be the best one."""
    name, times = own.register(mine, {}), dict.fromkeys(MODELS, 1.0)
    monkeypatch.setattr(own_study, "CANDIDATES", MODELS)
    monkeypatch.setattr(choice, "values_of", lambda page: values_of(page) | {"margin": 1.0})
    timings = SimpleNamespace(
        rows=[(model, "served") for model in MODELS], median=lambda model, path: Interval(times[model])
    )
    monkeypatch.setattr(Timings, "read", lambda record, store: timings)
    configs = accuracy.plan(values_of(own_study.pages(name, ROOT, epochs=1)[-1]))
    assert all(record and record.complete for record in execute(accuracy, configs, progress=False))
    return name, times


@pytest.mark.parametrize("fastest", MODELS)
def test_the_marked_model_answers_and_is_named(studied, mine: Path, fastest: str) -> None:
    name, times = studied
    times[fastest] = 0.5
    marked = choice.recommended(name)
    assert marked is not None and marked.config["model"] == fastest
    done = seqrec("recommend", "--data", str(mine), "i5", "--user", "u0", "-k", "2")
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"model: {fastest}, recommended for these data by the page *Which model?*\n")
    titles = [title for title, _ in recommend(["i5"], name, fastest, 2, user="u0")]
    assert all(title in done.output for title in titles)
    other = seqrec("recommend", "--data", str(mine), "i5", "--model", "popularity")
    assert other.exit_code == 0 and other.output.startswith("model: popularity\n")


def test_the_run_on_the_page_answers_not_a_newer_variant(studied) -> None:
    name, times = studied
    times["sasrec"] = 0.5
    marked, store = choice.recommended(name), RunStore()
    assert marked is not None
    before = recommend(["i5"], name, "sasrec", 3, run=marked)
    overrides = {"epochs": 1, "d_model": 8}
    variant = accuracy.plan({"dataset": name, "models": ["sasrec"], "seeds": [0], "overrides": overrides})
    execute(accuracy, variant, store=store, progress=False)
    assert choice.recommended(name) == marked
    assert recommend(["i5"], name, "sasrec", 3, run=marked) == before != recommend(["i5"], name, "sasrec", 3)


def test_without_times_or_a_candidate_nothing_is_recommended(studied, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = studied
    assert choice.recommended(name) is not None
    monkeypatch.setattr(own_study, "CANDIDATES", (*MODELS, "2mamba4rec"))  # which was not run
    assert choice.recommended(name) is None
    monkeypatch.setattr(own_study, "CANDIDATES", MODELS)
    monkeypatch.setattr(Timings, "read", lambda record, store: None)
    assert choice.recommended(name) is None


@pytest.mark.parametrize(("missing", "rerun"), [("run", True), ("skip", False)])
def test_what_the_page_says_of_missing_runs_holds_for_all_of_them(
    missing: str, rerun: bool, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, object, object]] = []

    def execute(experiment, configs, **how):
        asked.append((experiment.NAME, how["missing"], how["rerun"]))
        return [None for _ in configs]

    monkeypatch.setattr(choice, "execute", execute)
    page = Page("which_model", "demo", {"dataset": "demo", "missing": missing, "rerun": rerun})
    made = choice.choose(values_of(page), store)
    assert asked == [("accuracy", missing, rerun), ("latency", missing, rerun)]
    assert made.marked is None and set(made.records) == {None}

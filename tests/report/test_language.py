"""Models that write queries on other pages: labels, which runs are shown, and the verdict on the pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.report import language
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.results import RunRecord, RunStore
from tests.fakes import make_record

USERS = 300


def config(model: str, seed: int = 0, source: str = "scratch:x", dataset: str = "ml-100k") -> dict[str, Any]:
    return {"dataset": dataset, "model": model, "seed": seed, "source": source, "tuning": {"epochs": 3}}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "new", tmp_path / "published")


@pytest.fixture
def save(store: RunStore) -> Callable[..., RunRecord]:
    def build(values: dict[str, Any], ranks: np.ndarray, **made: Any) -> RunRecord:
        record = make_record(
            experiment="generative",
            config=values,
            dataset={"name": values["dataset"]},
            metrics=rank_metrics(ranks),
            environment={"device": "a CPU", "language_model": {"parameters": 297_536, **made}},
        )
        return store.save(record, {"ranks": pa.table({"rank": ranks, "masked_rank": ranks})})

    return build


def hits(share: float, seed: int = 0) -> np.ndarray:
    """Ranks of which ``share`` are 1, the rest outside every list; the same users first."""
    order = np.random.default_rng(seed).permutation(USERS)
    return np.where(order < share * USERS, 1, 2000).astype(np.int32)


def test_a_label_says_where_a_model_comes_from_and_its_size(store: RunStore, save: Any) -> None:
    configs = [config("gpt4rec"), config("mamrec"), config("gpt4rec", source="gpt2")]
    records = [save(configs[0], hits(0.1)), None, save(configs[2], hits(0.2), name="gpt2", parameters=124_439_808)]
    found = language.rows(configs, records, store)
    assert [own.label for own in found] == [
        "GPT4Rec (from scratch, 0.3 M weights)", "GPT4Rec (gpt2, 124 M weights)", "MamRec (from scratch)",
    ]  # fmt: skip
    assert [own.other_model for own in found] == [True, False, True]


def test_other_pages_show_complete_runs_a_missing_model_once_and_pretrained_ones(store: RunStore, save: Any) -> None:
    planned = [config(model, seed) for model in ("gpt4rec", "mamrec") for seed in range(4)]
    planned.append(config("bm25-last", source=""))
    records = [save(values, hits(0.1, values["seed"])) if n in (1, 3) else None for n, values in enumerate(planned)]
    failed = make_record(experiment="generative", config=planned[0], status="failed", error="x")
    records[0] = failed
    save(config("mamrec", 7, "/weights/mamba"), hits(0.3), name="mamba")
    save(config("mamrec", 7, "/weights/mamba", "ml-1m"), hits(0.3), name="mamba")  # of another data set
    found, behind = language.beside(planned, records, store)
    assert [(own.model, own.seeds, len(own.complete)) for own in found] == [
        ("gpt4rec", (1, 3), 2), ("mamrec", (0,), 0), ("mamrec", (7,), 1), ("bm25-last", (0,), 0),
    ]  # fmt: skip
    assert [record is None for record in behind] == [False, False, True, True, False]
    assert found[2].label.startswith("MamRec (mamba")


def pair(store: RunStore, save: Any, shares: dict[str, list[float]], dataset: str = "ml-100k") -> list[ModelRuns]:
    configs = [config(m, s, dataset=dataset) for m, own in shares.items() for s in range(len(own))]
    records = [save(c, hits(shares[c["model"]][c["seed"]])) for c in configs]
    return language.rows(configs, records, store)


@pytest.mark.parametrize(
    ("gpt4rec", "mamrec", "word"),
    [
        ([0.10, 0.11], [0.30, 0.31], "partly"),
        ([0.10, 0.30], [0.40, 0.29], "partly"),  # told apart on the whole, but not higher with every seed
        ([0.20, 0.20], [0.21, 0.20], "not tested yet"),  # not told apart
        ([0.10], [0.30], "partly"),  # one seed says nothing about another
        ([0.40], [0.20], "not tested yet"),
    ],
)
def test_the_verdict_asks_users_and_seeds(
    store: RunStore, save: Any, gpt4rec: list[float], mamrec: list[float], word: str
) -> None:
    runs = pair(store, save, {"gpt4rec": gpt4rec, "mamrec": mamrec})
    verdict = language.pair_verdict(runs)
    assert verdict.word == word
    pretrained = language.pair_verdict([replace(own, other_model=False) for own in runs])
    if word == "not tested yet":  # models from scratch refute nothing
        assert pretrained.word == "not upheld"
    else:  # and show a part at best
        assert pretrained.word == ("upheld" if (gpt4rec, mamrec) == ([0.10, 0.11], [0.30, 0.31]) else "partly")
    assert len(verdict.run_ids) == len(gpt4rec) + len(mamrec)
    difference = np.mean(mamrec) - np.mean(gpt4rec)  # of NDCG@10: a hit counts 1
    assert f"NDCG@10 {difference:+.4f}" in verdict.reason and "from scratch" in verdict.reason
    assert ("seed by seed" in verdict.reason) == (len(gpt4rec) > 1) != ("one seed" in verdict.reason)


def test_one_data_set_of_two_is_partly_and_none_is_not_tested(store: RunStore, save: Any) -> None:
    first = pair(store, save, {"gpt4rec": [0.1, 0.1], "mamrec": [0.3, 0.3]})
    second = pair(store, save, {"gpt4rec": [0.3, 0.3], "mamrec": [0.1, 0.1]}, "ml-1m")
    verdict = language.pair_verdict(first + second)
    assert verdict.word == "partly" and "MovieLens 100K" in verdict.reason and "MovieLens 1M" in verdict.reason
    alone = language.pair_verdict([first[0], second[1]])  # of two data sets: nothing side by side
    assert alone.word == "not tested yet" and "not run" in alone.reason
    without = [replace(own, ranks=(None, None)) for own in first]
    assert language.pair_verdict(without).word == "not tested yet"


def test_the_papers_own_rows_for_the_pair_are_counted() -> None:
    text = language.paper_pair_sentence().text
    assert "In 5 of the paper's 6 rows" in text
    assert "MamRec on Beauty" not in text and text.count("MamRec on") == 2 and text.count("GPT4Rec on") == 3
    assert "In 0 of" in language.paper_pair_sentence(rounding=11.0).text


@pytest.mark.parametrize(("steps", "said"), [(24, True), (32, True), (33, False)])  # the end of text takes a step too
def test_free_queries_shorter_than_a_title_are_said(steps: int, said: bool) -> None:
    config = {"tuning": {"title_tokens": 32}, "writing": {"steps": steps}}
    runs = [SimpleNamespace(complete=[]), SimpleNamespace(complete=[SimpleNamespace(config=config)])]
    notes = language._cut_titles(runs)  # type: ignore[arg-type]
    assert bool(notes) == said and (not said or f"after {steps} tokens" in notes[0])

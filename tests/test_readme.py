"""The README's table of results: written from published records, and never behind them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import key
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.results import RunStore
from seqrec_lib.results.record import plain
from seqrec_lib.study import load_study
from seqrec_lib.study.plans import run_states
from tests.fakes import make_record
from tools.readme import BEGIN, END, results_table, updated

ROOT = Path(__file__).resolve().parent.parent


def test_the_readme_shows_what_the_published_records_say() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == updated(text, results_table(ROOT)), "run make readme"


def test_without_records_the_table_says_so(tmp_path: Path) -> None:
    assert results_table(ROOT, tmp_path) == "No run has been published yet.\n"


def test_a_row_holds_the_papers_numbers_and_ours(tmp_path: Path) -> None:
    page = next(p for p in load_study(ROOT).pages() if p.name == "accuracy-ml-1m")
    store = RunStore(new=tmp_path, published=tmp_path)
    configs = [state.config for state in run_states(page, store) if state.config.model == "sasrec"]
    for config, value in zip(configs, (0.29, 0.31), strict=False):
        store.save(
            make_record(
                config=plain(config), metrics={"ht@10": value, "ndcg@10": value / 2, "masked_ndcg@10": value / 2 + 0.01}
            )
        )
    table = results_table(ROOT, tmp_path)
    (row,) = [line for line in table.splitlines() if "SASRec" in line]
    assert row.startswith("| SASRec | 0.224 | 0.3000 ± 0.0141 | 0.117 | 0.1500 ± 0.0071 | 0.1600 ± 0.0071 | 2 |")
    assert f"<summary>{dataset_name('ml-1m')}</summary>" in table and table.count("<details>") == 1


def test_the_papers_rows_stand_first_in_both_orders_of_time(tmp_path: Path) -> None:
    store = RunStore(new=tmp_path, published=tmp_path)
    for name, value in (("accuracy-ml-1m", 0.2), ("accuracy-ml-1m-recbole", 0.3)):
        page = next(p for p in load_study(ROOT).pages() if p.name == name)
        for state in run_states(page, store):
            if state.config.model in {"sasrec", "markov"} and state.config.seed == 0:
                metrics = {"ht@10": value, "ndcg@10": value, "masked_ndcg@10": value}
                store.save(make_record(config=plain(state.config), metrics=metrics))
    first = results_table(ROOT, tmp_path).partition("<details>")[0]
    assert "| SASRec | 0.224 | 0.3000 | 0.2000 |" in first
    assert "Markov" not in first, "the paper has no such row"


def test_a_model_that_writes_queries_stands_below_the_others_with_its_label(tmp_path: Path) -> None:
    store = RunStore(new=tmp_path, published=tmp_path)
    values = {"ht@10": 0.1, "ndcg@10": 0.05, "masked_ndcg@10": 0.06}
    for notebook, model in (("accuracy", "sasrec"), ("generative", "mamrec")):
        page = next(p for p in load_study(ROOT).pages() if p.name == f"{notebook}-ml-1m")
        config = next(state.config for state in run_states(page, store) if state.config.model == model)
        made = {"language_model": {"parameters": 1_090_000}}
        store.save(make_record(experiment=notebook, config=plain(config), metrics=values, environment=made))
    table = results_table(ROOT, tmp_path)
    first, second = [line for line in table.splitlines() if "| 0.1000 |" in line]
    assert first.startswith("| SASRec |")
    assert second.startswith("| MamRec (from scratch, 1.1 M weights) | 0.201 | 0.1000 | 0.072 |")
    assert second.endswith("| 1 | other model |") and "no pretrained one" in table


def test_only_the_part_between_the_markers_changes() -> None:
    assert updated(f"a {BEGIN} old {END} b", "new") == f"a {BEGIN}\n\nnew\n{END} b"
    for broken in ("no markers", f"{END} {BEGIN}", BEGIN):
        with pytest.raises(SeqRecError, match="markers"):
            updated(broken, "new")


def test_the_readmes_first_lines_give_the_numbers_of_the_records() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Quick start")[0]
    store = RunStore(ROOT / "nowhere", ROOT / "results")
    for dataset, model in (
        ("ml-1m-recbole", "mamba4rec"), ("ml-1m-recbole", "sasrec"), ("ml-1m", "mamba4rec"), ("ml-1m", "sasrec"),
    ):  # fmt: skip
        configs = accuracy.plan({"dataset": dataset, "models": [model], "seeds": [0, 1, 2], "overrides": {}})
        records = [store.find(key(accuracy, config)) for config in configs]
        values = [record.metrics["ht@10"] for record in records if record is not None]
        assert f"{sum(values) / len(values):.3f}" in head, (dataset, model)
    (first, *_) = json.loads((ROOT / "benchmarks/results/time_order.json").read_text(encoding="utf-8"))["recbole"]
    moved = first["differences"]["true"]
    assert f"{moved['test'] / moved['users']:.1%}".replace("%", " %") in head

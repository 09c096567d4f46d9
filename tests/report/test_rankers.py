"""The pages of rankers and of tuning on preferences, from made-up runs: orders, floors, changes; and nothing run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from seqrec_lib.experiments import llamarec, orpo
from seqrec_lib.experiments.base import key
from seqrec_lib.language.assessment import Assessment, position_bias
from seqrec_lib.language.candidates import Pools
from seqrec_lib.language.pairings import KINDS
from seqrec_lib.report import floors, kit, preferences, rankers
from seqrec_lib.results import RunRecord, RunStore, plain

USERS, K = 300, 20
COST = {
    "wall_seconds": 10.0, "parameters": 180_000, "parameters_without_embeddings": 98_000, "train_seconds": 60.0,
    "retriever_milliseconds_per_user": 0.5, "milliseconds_per_user": 1.5, "before_milliseconds_per_user": 1.5,
    "prompt_tokens": 63.0, "steps": 100, "pairs": 300, "ties": 40,
}  # fmt: skip


def assessment(skill: float, seed: int) -> tuple[Assessment, np.ndarray]:
    """Made-up users; the ranker's logits favour the target by ``skill``, and the first letter by 1."""
    rng = np.random.default_rng(0)
    place = np.where(rng.random(USERS) < 0.4, rng.integers(0, K, USERS) // 2, -1)
    items = np.tile(np.arange(1, K + 1, dtype=np.int32), (USERS, 1))
    scores = -np.tile(np.arange(K, dtype=np.float32), (USERS, 1))
    found = Assessment(Pools(items, scores, place), np.where(place >= 0, place + 1, 50))
    logits = np.random.default_rng(seed).standard_normal((USERS, K)) + np.eye(K)[0]
    logits += skill * (np.arange(K) == place[:, None])
    found.add("", logits)
    found.add("popularity_", np.random.default_rng(9).standard_normal((USERS, K)))
    found.add_blend(logits, 0.5)
    return found, logits


def save(
    store: RunStore, experiment: Any, config: Any, metrics: Any, columns: Any, letters: Any = None, **cost: float
) -> RunRecord:
    made = {"ranks": pa.table(columns)} | ({"letters": pa.table(letters)} if letters else {})
    record = RunRecord(
        run_id=key(experiment, config), experiment=experiment.NAME, config=plain(config),
        revision=experiment.revision(config), parents=experiment.parents(config), dataset={"name": config.dataset},
        environment={"device": "Test CPU", "language_model": {"kind": "scratch", "parameters": 180_000}},
        status="complete", code="0" * 16, started="2026-11-20T10:00:00.000+00:00",
        finished="2026-11-20T10:05:00.000+00:00", metrics=metrics, history=[], cost=COST | cost,
    )  # fmt: skip
    return store.save(record, made)


def always(scores: np.ndarray) -> Callable[[Pools], np.ndarray]:
    return lambda pools: scores


def ranker_runs(store: RunStore, skill: float) -> Any:
    parameters = {"dataset": "ml-1m", "retrievers": ["sasrec"], "seeds": [0, 1]}
    configs = llamarec.plan(parameters)
    records = []
    for config in configs:
        found, logits = assessment(skill, config.seed)
        letters = position_bias(found, always(logits[found.found]), logits, np.zeros(K), 2, np.random.default_rng(0))
        records.append(save(store, llamarec, config, found.metrics, found.columns, letters))
    return configs, records


def orders_of(store: RunStore, skill: float) -> pd.DataFrame:
    configs, records = ranker_runs(store, skill)
    runs, _ = floors.gather("llamarec", configs, records, store)
    return rankers.orders(runs, store).set_index("label")


def test_every_order_of_the_candidates_has_its_own_numbers(store: RunStore) -> None:
    table = orders_of(store, 0.0)
    own = "LlamaRec on SASRec (from scratch, 0.18 M weights)"
    orders = [own, f"{own}, blended with its retriever", "SASRec: the retriever's order", "SASRec: by popularity"]
    assert list(table.index) == [*orders, "SASRec: at random", "LlamaRec as the paper prints it"]
    records = store.records("llamarec")
    for label, prefix in zip(orders, ("", "blend_", "retriever_", "popularity_"), strict=True):
        row = table.loc[label]
        assert row["mean"] == pytest.approx(np.mean([record.metrics[f"{prefix}ndcg@10"] for record in records]))
        assert row["low"] < row["mean"] < row["high"] and row["seeds"] == 2
        assert row["found"] == pytest.approx(np.mean([record.metrics[f"{prefix}subset_ndcg@10"] for record in records]))
    assert table.loc["SASRec: at random", "found"] == pytest.approx(0.2272, abs=1e-4)
    assert table.loc["LlamaRec as the paper prints it", "mean"] == 0.067  # Table 3
    gaps = table.loc[orders, "mean"] - table.loc["SASRec: the retriever's order", "mean"]
    assert np.allclose(table.loc[orders, "gap"].drop("SASRec: the retriever's order"), gaps.drop(gaps.index[2]))
    assert np.isnan(table.loc["SASRec: the retriever's order", "gap"])


@pytest.mark.parametrize(("skill", "below"), [(9.0, "no"), (0.0, "the retriever's order"), (-9.0, "at random")])
def test_a_ranker_below_a_floor_is_marked_by_the_table(store: RunStore, skill: float, below: str) -> None:
    table = orders_of(store, skill)
    assert below in table["below"].iloc[0]
    assert table.loc[[label for label in table.index if label.startswith("SASRec: ")], "below"].isna().all()
    columns = [kit.Column("label", "Order"), kit.Column("below", "Below a floor", missing="-")]
    shown = floors.tables(table.reset_index(), columns, caption="Orders").text
    assert shown.count("at random") >= 1 and "Orders, pretrained: not run" in shown


def test_pretrained_rankers_stand_apart_with_floors_of_their_own(store: RunStore) -> None:
    configs, records = ranker_runs(store, 1.0)
    quick = {"prompt": "llamarec", "lora_rank": 8}
    (other,) = llamarec.plan(
        {"dataset": "ml-1m", "retrievers": ["sasrec"], "seeds": [0], "source": "a/model", "overrides": quick}
    )
    found, _ = assessment(2.0, 5)
    made = save(store, llamarec, other, found.metrics, found.columns)
    runs, shown = floors.gather("llamarec", configs, records, store)
    assert shown[-1] == made and len(shown) == 3
    table = rankers.orders(runs, store)
    assert table.groupby("made", sort=False).size().to_dict() == {"from scratch": 6, "pretrained": 6}
    again, _ = floors.gather("llamarec", [*configs, other], [*records, made], store)
    assert len(again) == 3  # a planned one counts once


def test_memory_of_the_papers_ranker_is_computed_from_its_sizes() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())  # the defaults are Llama's first 7B, whose sizes Llama-2 7B has
    assert sum(p.numel() for p in model.parameters()) == rankers.LLAMA_7B
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    assert sum(layer.weight.numel() for layer in layers.values()) == rankers.LLAMA_7B_LINEAR
    taken = [layer for name, layer in layers.items() if name.endswith(("q_proj", "v_proj"))]
    assert sum(8 * (m.in_features + m.out_features) for m in taken) == rankers.LLAMA_7B_ADAPTERS
    table = rankers.memory()  # 16 bytes of each; 4, and adapters; in four bits
    assert table["frozen"].tolist() == pytest.approx([0, 26.95, 4.39], abs=0.005)
    assert table["together"].tolist() == pytest.approx([107.81, 27.02, 4.46], abs=0.005)


def test_letters_are_shares_by_place_with_the_range_of_seeds(store: RunStore) -> None:
    configs, records = ranker_runs(store, 0.0)
    runs, _ = floors.gather("llamarec", configs, records, store)
    frame = rankers.letters(runs, store)
    sums = frame.groupby(["panel", "line"])["mean"].sum()
    assert len(sums) == 6 and np.allclose(sums, 1.0)
    assert (frame["low"] <= frame["mean"] + 1e-12).all() and frame["place"].max() == K


def preference_runs(store: RunStore, gains: dict[str, float | tuple[float, float]], **cost: float) -> pd.DataFrame:
    """Two seeds of each arm, which gains as much with both, or as a pair says; DPO was not run."""
    configs = orpo.plan({"dataset": "ml-1m", "retriever": "sasrec", "arms": [*gains, "dpo"], "seeds": [0, 1]})
    records: list[RunRecord | None] = []
    for config in configs:
        if config.arm == "dpo":
            records.append(None)
            continue
        _, before = assessment(1.0, config.seed)
        gain = gains[config.arm]
        found, _ = assessment(1.0 + (gain[config.seed] if isinstance(gain, tuple) else gain), config.seed)
        found.add("before_", before)
        found.metrics |= {"kl": 0.01, "changed": 0.1, "popularity": 0.8, "before_popularity": 0.8}
        records.append(save(store, orpo, config, found.metrics, found.columns, **cost))
    return preferences.named(floors.gather("orpo", configs, records, store)[0])


def test_arms_are_compared_with_what_they_started_from_and_with_more_fine_tuning(store: RunStore) -> None:
    runs = preference_runs(store, {"sft": 1.0, "orpo-paper": 0.0, "orpo": 3.0, "orpo-leaky": (9.0, -1.0)})
    table = preferences.changes(runs, store).set_index("label")
    assert list(table.index[:3]) == [preferences.BEFORE, "More fine-tuning", "ORPO, the paper's setting and pairs"]
    paper, orpo_row, leak = (table.loc[preferences.LABELS[arm]] for arm in ("orpo-paper", "orpo", "orpo-leaky"))
    assert (paper["gap"], paper["p"], paper["up"]) == (0.0, 1.0, 0)
    assert orpo_row["gap low"] > 0 and orpo_row["p"] < 0.05 and orpo_row["up"] == 2
    assert orpo_row["beside low"] > 0 > paper["beside high"]
    assert leak["up"] == 1 and leak["seeds"] == 2  # its seeds disagree
    assert np.isnan(table.loc["More fine-tuning", "beside"]) and np.isnan(table.loc["DPO", "mean"])
    assert table.loc["Candidates: the retriever's order", "mean"] > 0
    assert table.loc[preferences.BEFORE, "below"] == "no" and pd.isna(table.loc["DPO", "below"])


def test_the_papers_figures_have_its_number_beside_before(store: RunStore) -> None:
    runs = preference_runs(store, {"orpo-paper": 0.0})
    bars = preferences.figures(runs, store, "orpo-paper")
    assert list(bars["when"]) == ["before", "after"] * 3
    assert bars[bars["when"] == "before"]["paper"].tolist()[:2] == [0.148, 0.067]  # Table 3; no MRR is printed
    assert bars[bars["when"] == "after"]["paper"].isna().all() and (bars["low"] < bars["high"]).all()
    assert preferences.figures(runs, store, "simpo").empty


@pytest.mark.parametrize(("pairs", "said"), [(7, False), (8, True)])
def test_the_papers_pairs_without_ratings_are_called_so(store: RunStore, pairs: int, said: bool) -> None:
    runs = preference_runs(store, {"orpo-paper": 0.0})
    named = preferences.named(runs.assign(pairs=pairs, users=8))
    assert ("no ratings" in named["label"].iloc[0]) == said
    assert ("last two" in named["rejected"].iloc[0]) != said


def test_each_kind_of_rejected_item_has_a_name() -> None:
    assert set(preferences.REJECTED) == set(KINDS)
    assert set(preferences.LABELS) == set(orpo.ARMS)


def test_nothing_run_says_so(store: RunStore) -> None:
    configs = llamarec.plan({"dataset": "demo", "retrievers": ["sasrec"], "seeds": [0]})
    runs, _ = floors.gather("llamarec", configs, [None], store)
    assert rankers.orders(runs, store)["mean"].isna().all() and rankers.letters(runs, store).empty
    arms = orpo.plan({"dataset": "demo", "retriever": "sasrec", "arms": ["orpo"], "seeds": [0]})
    runs = preferences.named(floors.gather("orpo", arms, [None], store)[0])
    assert preferences.changes(runs, store)["mean"].isna().all() and preferences.figures(runs, store, "orpo").empty

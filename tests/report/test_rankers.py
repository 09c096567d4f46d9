"""The pages of rankers and of tuning on preferences, from made-up runs; and what shows where nothing was run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.experiments import llamarec, orpo
from seqrec_lib.experiments.base import key
from seqrec_lib.language.assessment import Assessment, position_bias
from seqrec_lib.language.candidates import Pools
from seqrec_lib.report import preference_figures, preferences, rankers, tables
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


def save(store: RunStore, experiment: Any, config: Any, metrics: Any, columns: Any, letters: Any = None) -> RunRecord:
    made = {"ranks": pa.table(columns)} | ({"letters": pa.table(letters)} if letters else {})
    record = RunRecord(
        run_id=key(experiment, config), experiment=experiment.NAME, config=plain(config),
        revision=experiment.revision(config), parents=experiment.parents(config), dataset={"name": config.dataset},
        environment={"device": "Test CPU", "language_model": {"kind": "scratch", "parameters": 180_000}},
        status="complete", code="0" * 16, started="2026-11-20T10:00:00.000+00:00",
        finished="2026-11-20T10:05:00.000+00:00", metrics=metrics, history=[], cost=COST,
    )  # fmt: skip
    return store.save(record, made)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "new", tmp_path / "published")


def ranker_runs(store: RunStore, skill: float) -> Any:
    parameters = {"dataset": "ml-1m", "retrievers": ["sasrec"], "seeds": [0, 1]}
    configs = llamarec.plan(parameters)
    records = []
    for config in configs:
        found, logits = assessment(skill, config.seed)
        own = logits[found.found]
        letters = position_bias(found, lambda p, own=own: own, logits, np.zeros(K), 2, np.random.default_rng(0))
        records.append(save(store, llamarec, config, found.metrics, found.columns, letters))
    return configs, records, rankers.rows(configs, records, store)


def test_other_pages_show_what_was_run_among_the_masked_numbers_alone(store: RunStore) -> None:
    planned = llamarec.plan({"dataset": "ml-1m", "retrievers": ["sasrec", "2mamba4rec"], "seeds": [0, 1, 2]})
    nothing, records = rankers.beside(planned, [None] * 6, store)
    assert [(own.label, own.complete) for own in nothing] == [("LlamaRec on SASRec (from scratch)", [])]
    assert records == [None]
    configs, made, _ = ranker_runs(store, 2.0)
    (over,) = llamarec.plan({"dataset": "ml-1m", "retrievers": ["2mamba4rec"], "seeds": [1]})
    found, _ = assessment(0.0, 1)
    other = save(store, llamarec, over, found.metrics, found.columns)
    by_key = {key(llamarec, c): r for c, r in zip([*configs, over], [*made, other], strict=True)}
    shown, records = rankers.beside(planned, [by_key.get(key(llamarec, config)) for config in planned], store)
    assert [(own.model, len(own.complete)) for own in shown] == [("llamarec", 2), ("llamarec+2mamba4rec", 1)]
    assert len(records) == 3
    frame = tables.accuracy_frame(shown, ["ndcg@10"])
    assert frame["mean"].isna().all() and frame["masked_interval"].notna().all()
    assert frame["masked_mean"].iloc[1] == found.metrics["ndcg@10"]
    assert list(frame["verdict"]) == ["masked only"] * 2
    text = tables.accuracy_tables(frame, "ml-1m").text
    assert "not run" not in text.lower().partition("how to read")[0]
    assert (
        text.count("LlamaRec on 2Mamba4Rec") == 1 and text.count("LlamaRec on SASRec") == 2
    )  # with the paper's number
    assert "leads" not in tables.summary(frame, "ml-1m").text


def test_floors_are_rows_beside_the_ranker_with_their_own_numbers(store: RunStore) -> None:
    _, records, (own,) = ranker_runs(store, 0.0)
    assert own.label == "LlamaRec on SASRec (from scratch, 0.18 M weights)"
    shown = rankers.with_floors([own], store)
    assert [part.label for part in shown] == [
        own.label, "LlamaRec on SASRec, blended (from scratch, 0.18 M weights)",
        "SASRec: retriever's order", "SASRec: by popularity",
    ]  # fmt: skip
    for part, prefix in zip(shown[1:], ("blend", "retriever", "popularity"), strict=True):
        assert part.mean("ndcg@10") == np.mean([r.metrics[f"{prefix}_ndcg@10"] for r in records])
        values = part.user_means("ndcg@10")
        assert values is not None and values.mean() == pytest.approx(part.mean("ndcg@10"))
    text = str(rankers.candidates_table([own], store, "ml-1m"))
    assert text.count("at random") == 1 and "0.2272" in text
    frame = tables.accuracy_frame(shown)
    by_label = frame[frame["metric"] == "ht@10"].set_index("label")
    assert by_label.loc[own.label, "verdict"] == "other model"  # the paper's is pretrained
    assert set(by_label["verdict"].iloc[1:]) == {"not in the paper"}  # SASRec's row is no number for its order
    assert "6,738,415,616" in str(rankers.cost_table([own], "ml-1m"))


def test_memory_of_the_papers_ranker_is_computed_from_its_sizes() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())  # the defaults are Llama's first 7B, whose sizes Llama-2 7B has
    assert sum(p.numel() for p in model.parameters()) == rankers.LLAMA_7B
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    assert sum(layer.weight.numel() for layer in layers.values()) == rankers.LLAMA_7B_LINEAR
    taken = [layer for name, layer in layers.items() if name.endswith(("q_proj", "v_proj"))]
    assert sum(8 * (m.in_features + m.out_features) for m in taken) == rankers.LLAMA_7B_ADAPTERS
    text = str(rankers.memory_table())
    for gigabytes in ("107.81", "26.95", "27.02", "4.39", "4.46"):  # 16 bytes of each; 4; with adapters; in four bits
        assert f" {gigabytes}" in text


def test_an_order_that_no_seed_touches_is_one_run(store: RunStore) -> None:
    _, _, (own,) = ranker_runs(store, 8.0)
    twice = replace(
        own, records=own.records[:1] * 3, ranks=own.ranks[:1] * 3, masked_ranks=(None,) * 3, seeds=(0, 1, 2)
    )
    by_label = {part.model: part for part in rankers.with_floors([twice], store)}
    assert len(by_label["retriever"].complete) == 1 and by_label["retriever"].spread("ndcg@10") is None
    assert len(by_label["llamarec"].complete) == 3


def test_position_bias_is_drawn_and_told(store: RunStore) -> None:
    _, _, runs = ranker_runs(store, 0.0)
    frame = rankers.letters_frame(runs, store)
    assert list(frame["letter"]) == list("ABCDEFGHIJKLMNOPQRST")
    assert rankers.letters_figure(frame) is not None
    assert "the letter that is chosen most is" in rankers.letters_alt(frame)
    assert "Less the mean logits" in str(rankers.bias_table(runs, "ml-1m"))


def preference_runs(store: RunStore, gains: dict[str, float | tuple[float, float]]) -> Any:
    """Two seeds of each arm, which gains as much with both, or as a pair says."""
    configs = orpo.plan({"dataset": "ml-1m", "retriever": "sasrec", "arms": [*gains, "dpo"], "seeds": [0, 1]})
    records: list[RunRecord | None] = []
    for config in configs:
        if config.arm == "dpo":  # not run
            records.append(None)
            continue
        _, before = assessment(1.0, config.seed)
        gain = gains[config.arm]
        found, _ = assessment(1.0 + (gain[config.seed] if isinstance(gain, tuple) else gain), config.seed)
        found.add("before_", before)
        found.metrics |= {"kl": 0.01, "changed": 0.1, "popularity": 0.8, "before_popularity": 0.8}
        found.metrics |= {"permuted_subset_ndcg@10": 0.3, "before_permuted_subset_ndcg@10": 0.25}
        records.append(save(store, orpo, config, found.metrics, found.columns))
    return configs, records, preferences.rows(configs, records, store)


def test_arms_are_compared_with_what_they_started_from(store: RunStore) -> None:
    _, _, runs = preference_runs(store, {"orpo-paper": 0.0, "orpo": 3.0, "orpo-leaky": -3.0})
    changes = preferences.compare(runs, store)
    assert [preferences.reading(c) for c in changes] == ["not told apart", "higher", "lower", "not run"]
    assert changes[0].difference is not None and changes[0].difference.estimate == 0.0
    text = str(preferences.changes_table(changes, "ml-1m"))
    assert "+0.0500" in text and "not run" in text
    summary = str(preferences.summary(changes))
    assert "Against before, higher: ORPO." in summary
    assert "Against before, lower: ORPO on the test items (a leak)." in summary
    assert "Against before, not told apart: ORPO, the paper's" in summary
    assert "Beside" not in summary  # more fine-tuning was not run

    apart = [(0.01, 0.02), (-0.01, 0.02), (-0.02, -0.01)]
    beside = [replace(c, against=Interval(0.0, *ends)) for c, ends in zip(changes, apart, strict=False)]
    summary = str(preferences.summary(beside))
    assert "Beside as many steps of more fine-tuning, higher: ORPO, the paper's" in summary
    assert "Beside as many steps of more fine-tuning, lower: ORPO on the test items (a leak)." in summary
    assert preference_figures.arms_figure(changes) is not None
    assert "0.0100" in str(preferences.behaviour_table(runs, "ml-1m"))
    bars = preference_figures.bars_frame(runs, store)
    assert set(bars["arm"]) == {"ORPO, the paper's setting and pairs"}
    assert bars[bars["when"] == "before"]["paper"].tolist()[:2] == [0.148, 0.067]  # Table 3; no MRR is printed
    assert bars[bars["when"] == "after"]["paper"].isna().all()
    assert preference_figures.bars(bars) is not None and "after" in preference_figures.bars_alt(bars)


def test_an_arm_whose_seeds_disagree_is_neither_higher_nor_lower(store: RunStore) -> None:
    _, _, runs = preference_runs(store, {"sft": 0.0, "orpo": 3.0, "orpo-leaky": (9.0, -1.0)})
    changes = preferences.compare(runs, store)
    assert [preferences.reading(c) for c in changes] == ["not told apart", "higher", "seeds differ", "not run"]
    assert changes[1].against_agree and not changes[2].against_agree
    summary = str(preferences.summary(changes))
    assert "Against before, seeds differ: ORPO on the test items (a leak)." in summary
    assert "more fine-tuning, higher: ORPO." in summary
    assert "more fine-tuning, higher over users, with seeds that differ: ORPO on the test items" in summary
    assert str(preferences.changes_table(changes, "ml-1m")).count(", seeds differ") == 1


@pytest.mark.parametrize(("pairs", "said"), [(7, False), (8, True)])
def test_the_papers_pairs_without_ratings_are_called_so(store: RunStore, pairs: int, said: bool) -> None:
    configs, records, _ = preference_runs(store, {"orpo-paper": 0.0})
    changed = [
        record and replace(record, cost=record.cost | {"pairs": pairs, "ties": 0}, dataset={"n_users": 8}, tables={})
        for record in records
    ]
    assert ("no ratings" in preferences.rows(configs, changed, store)[0].label) == said


def test_nothing_run_says_so(store: RunStore) -> None:
    configs = llamarec.plan({"dataset": "demo", "retrievers": ["sasrec"], "seeds": [0]})
    runs = rankers.rows(configs, [None], store)
    assert "not run" in str(rankers.candidates_table(runs, store, "demo"))
    assert rankers.letters_figure(rankers.letters_frame(runs, store)) is None
    arms = orpo.plan({"dataset": "demo", "retriever": "sasrec", "arms": ["orpo"], "seeds": [0]})
    rows = preferences.rows(arms, [None], store)
    changes = preferences.compare(rows, store)
    assert preference_figures.arms_figure(changes) is None
    assert preference_figures.bars(preference_figures.bars_frame(rows, store)) is None

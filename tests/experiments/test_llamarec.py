from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy, llamarec, orpo
from seqrec_lib.experiments.base import Context, execute, key
from seqrec_lib.language import ranker_recipes
from seqrec_lib.language.pretrained import Size, from_scratch
from seqrec_lib.report import floors
from seqrec_lib.results import RunStore
from tests.conftest import make_sequences, random_sequences
from tests.language import gguf

QUICK = {
    "d_model": 64, "heads": 2, "history": 4, "candidates": 5, "lessons": 32, "per_user": 2, "valid_users": 8,
    "orders": 2, "warmup_steps": 1,
}  # fmt: skip


def parameters(**changes: Any) -> dict[str, Any]:
    return {"dataset": "demo", "retrievers": ["sasrec"], "seeds": [0], "overrides": QUICK} | changes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Sequences:
    data = random_sequences(0, n_users=20, n_items=40, longest=10)
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: data)
    monkeypatch.setitem(ranker_recipes.RETRIEVER, "demo", {"epochs": 1})
    return data


def test_a_plan_has_a_run_for_each_retriever_kind_of_negatives_and_seed() -> None:
    configs = llamarec.plan(
        parameters(retrievers=["sasrec", "2mamba4rec"], negatives=["random", "mixed"], seeds=[0, 1])
    )
    assert [(c.retriever.model, c.setting.negatives, c.seed) for c in configs[:4]] == [
        ("sasrec", "random", 0), ("sasrec", "random", 1), ("sasrec", "mixed", 0), ("sasrec", "mixed", 1),
    ]  # fmt: skip
    assert len(configs) == 8 and len({key(llamarec, c) for c in configs}) == 8
    assert llamarec.parents(configs[0]) == (key(accuracy, configs[0].retriever),)
    (pretrained,) = llamarec.plan(parameters(source="some/model", overrides={}))
    assert pretrained.size is None and pretrained.setting.prompt == "llamarec" and pretrained.setting.lora_rank == 8
    (four_bits,) = llamarec.plan(parameters(source="nf4:some/model", overrides={}))
    assert replace(four_bits, source="some/model") == pretrained
    assert key(llamarec, four_bits) != key(llamarec, pretrained)
    with pytest.raises(SeqRecError, match="precision is bf16 for nf4:"):
        llamarec.plan(parameters(source="nf4:some/model", overrides={"precision": "bf16"}))


def test_without_random_orders_nothing_is_said_of_places(store: RunStore, small: Sequences) -> None:
    (config,) = llamarec.plan(parameters(overrides=QUICK | {"orders": 0}))
    (record,) = execute(llamarec, [config], store=store, progress=False, device="cpu")
    assert record is not None and record.error is None
    assert list(record.tables) == ["ranks"] and not [name for name in record.metrics if name.startswith("permuted_")]


def test_a_run_ranks_beside_its_floors_and_builds_on_its_retrievers_weights(store: RunStore, small: Sequences) -> None:
    (config,) = llamarec.plan(parameters())
    (record,) = execute(llamarec, [config], store=store, progress=False, device="cpu")
    assert record is not None and record.error is None
    assert store.kept(record.run_id) is not None
    (parent,) = record.parents
    found = store.find(parent)
    assert found is not None and found.complete and store.kept(parent) is not None  # it was run, and recorded
    ranks = store.table(record, "ranks").to_pandas()
    assert len(ranks) == small.n_users
    place = ranks["place"].to_numpy()
    assert record.metrics["recall@5"] == (place >= 0).mean()
    retrieved = ranks["retriever_rank"].to_numpy()
    assert (retrieved[place >= 0] == place[place >= 0] + 1).all() and (retrieved[place < 0] > 5).all()
    for name in ("rank", "blend_rank", "popularity_rank"):
        own = ranks[name].to_numpy()
        assert (own[place < 0] == retrieved[place < 0]).all() and set(own[place >= 0]) <= set(range(1, 6))
    assert [entry["epoch"] for entry in record.history] == [0, 1]
    assert record.environment["language_model"]["kind"] == "scratch" and record.environment["precision"] == "fp32"
    (row,) = floors.gather("llamarec", [config], [record], store)[0].to_dict("records")
    assert "from scratch" in row["label"] and row["made"] == "from scratch"
    again = execute(llamarec, [config], store=store, missing="skip", progress=False)
    assert again[0] is not None and again[0].run_id == record.run_id


def narrow(n_items: int, longest: int) -> Sequences:
    """Users of 5 to ``longest`` different items; the last one's test history is the longest."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(5, longest, 19).tolist(), longest]
    return make_sequences([(rng.permutation(n_items)[:n] + 1).tolist() for n in lengths], n_items)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (narrow(12, 12), "tiny: 5 candidates, but a history leaves only 1 of 12 items unseen; set candidates"),
        (narrow(12, 9), "tiny: 5 candidates, but a history leaves only 4 of 12 items unseen"),
        (narrow(4, 6), "tiny: 5 candidates, but a history leaves only 1 of 4 items unseen"),
        (make_sequences([[1, 2, 3, 4]] * 20, 40), "tiny: no user has 5 interactions"),
    ],
    ids=["every item was seen", "one item short", "fewer items than candidates", "nothing to learn from"],
)
def test_what_the_data_do_not_hold_is_said_before_any_training(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, data: Sequences, message: str
) -> None:
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: data)
    monkeypatch.setattr(llamarec, "load_retriever", lambda *_: pytest.fail("a retriever is trained"))
    (record,) = execute(llamarec, llamarec.plan(parameters()), store=store, progress=False, device="cpu")
    assert record is not None and record.error is not None and record.error.startswith(message)
    assert not store.records("accuracy")


def test_data_that_hold_just_enough_are_ranked(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    data = narrow(12, 8)
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: data)
    monkeypatch.setitem(ranker_recipes.RETRIEVER, "demo", {"epochs": 1})
    for kind in ("random", "retriever", "mixed"):
        plan = llamarec.plan(parameters(negatives=[kind], overrides=QUICK | {"lessons": 4, "per_user": 50}))
        (record,) = execute(llamarec, plan, store=store, progress=False, device="cpu")
        assert record is not None and record.error is None, kind


def test_a_recorded_retriever_without_weights_is_trained_again_and_its_record_stays(
    store: RunStore, small: Sequences
) -> None:
    (config,) = llamarec.plan(parameters())
    (before,) = execute(accuracy, [config.retriever], store=store, progress=False, device="cpu")
    assert before is not None and before.complete
    weights = store.kept(before.run_id)
    first = (weights / accuracy.WEIGHTS).read_bytes()
    shutil.rmtree(weights)
    (record,) = execute(llamarec, [config], store=store, progress=False, device="cpu")
    assert record is not None and record.error is None
    assert store.find(before.run_id) == before
    again = store.kept(before.run_id)
    assert again is not None and (again / accuracy.WEIGHTS).read_bytes() == first
    assert [path.name for path in again.parent.iterdir()] == ["keep"]


def test_a_retriever_is_not_taken_from_other_data(
    store: RunStore, small: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the retriever's run is of other histories under the same name; a retriever of these is trained."""
    (config,) = llamarec.plan(parameters())
    (before,) = execute(accuracy, [config.retriever], store=store, progress=False, device="cpu")
    assert before is not None and before.complete
    theirs = store.kept(before.run_id)
    was = (theirs / accuracy.WEIGHTS).read_bytes()
    items = small.items.copy()
    items[:40] = items[:40][::-1]
    other = replace(small, items=items)
    monkeypatch.setattr("seqrec_lib.data.load", lambda name, **_: other)
    assert other.split_hash != small.split_hash
    context = Context(store.workdir("0" * 16), device="cpu")
    net = llamarec.load_retriever(config.retriever, other, context)
    assert (theirs / accuracy.WEIGHTS).read_bytes() == was and store.find(before.run_id) == before
    mine = llamarec.load_retriever(config.retriever, small, context)
    assert not torch.equal(net.item_embedding.weight, mine.item_embedding.weight)


def tiny_llama(folder: Path, data: Sequences) -> dict[str, Any]:
    """A checkpoint in the hub's format; comes back with overrides that suit it."""
    text = "### Instruction User history Candidate pool Response (A) (B) (C) (D) (E) (1) (2) (3) (4)"
    made = from_scratch("llama", [text, *data.titles[1:]], Size(64, 1, 2, 8, 512, 400), 0)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return {k: v for k, v in QUICK.items() if k not in {"d_model", "heads", "lessons"}} | {"prompt_tokens": 500}


def test_a_checkpoint_in_a_folder_takes_adapters_and_ranks(tmp_path: Path, store: RunStore, small: Sequences) -> None:
    quick = tiny_llama(tmp_path / "tiny-llama", small)
    (config,) = llamarec.plan(parameters(source=str(tmp_path / "tiny-llama"), overrides=quick))
    (record,) = execute(llamarec, [config], store=store, progress=False, device="cpu")
    assert record is not None and record.error is None
    assert record.environment["language_model"]["kind"] == "folder"
    (row,) = floors.gather("llamarec", [config], [record], store)[0].to_dict("records")
    assert "tiny-llama" in row["label"] and row["made"] == "pretrained"
    assert np.isfinite(list(record.metrics.values())).all()


def test_in_four_bits_a_ranker_is_tuned_kept_and_tuned_further(
    tmp_path: Path, store: RunStore, small: Sequences
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes has no build for this machine")
    quick = tiny_llama(tmp_path / "tiny-llama", small)
    source = f"nf4:{tmp_path / 'tiny-llama'}"
    (config,) = orpo.plan(
        {"dataset": "demo", "retriever": "sasrec", "arms": ["dpo"], "seeds": [0], "source": source, "overrides": quick,
         "tuning": {"batch": 10, "epochs": 2, "learning_rate": 1e-2}}
    )  # fmt: skip
    (further,) = execute(orpo, [config], store=store, progress=False, device="cpu")
    assert further is not None and further.error is None
    record = store.find(further.parents[0])  # the fine-tuned ranker was run first
    assert record is not None and record.error is None and record.history[0]["loss"] > 0
    made = record.environment["language_model"]
    assert (made["kind"], made["name"], made["architecture"]) == ("folder", "tiny-llama", "llama")
    assert made["quantisation"]["type"] == "nf4" and made["quantisation"]["weight_bytes"] < 4 * made["parameters"]
    assert further.environment["language_model"] == made
    assert "precision" not in record.environment | further.environment  # it is the four-bit weights' own
    adapters = 2 * 8 * (64 + 64)  # of one layer: two matrices of rank 8 for the query, two for the value
    assert record.cost["parameters"] == made["parameters"] + adapters
    assert further.cost["parameters"] == made["parameters"] + 2 * adapters
    before = store.table(further, "ranks")["before_rank"].to_numpy()
    assert (before == store.table(record, "ranks")["rank"].to_numpy()).all()
    assert further.metrics["before_ndcg@10"] == record.metrics["ndcg@10"]
    kept = store.kept(record.run_id)
    names = {path.name for path in (kept / llamarec.KEPT).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json"} <= names
    assert "model.safetensors" not in names
    (row,) = floors.gather("llamarec", [config.base], [record], store)[0].to_dict("records")
    assert "tiny-llama in four bits" in row["label"] and row["made"] == "pretrained"


def test_a_gguf_model_ranks_as_it_is_and_tuned_and_is_tuned_further(
    tmp_path: Path, store: RunStore, small: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero-shot, tuned, tuned with titles of other items, and DPO from the tuned one; labels tell them apart."""
    pytest.importorskip("gguf", reason="the package gguf is an extra: pip install '.[llm]'")
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    tiny = gguf.gemma()
    tiny.config.max_position_embeddings = 4096
    source = f"gguf:{gguf.write(tmp_path / 'tiny.gguf', tiny)}"
    quick = {"history": 2, "candidates": 5, "prompts": 12, "valid_users": 20, "prompt_tokens": 900, "warmup_steps": 1}
    settings: list[dict[str, Any]] = [{"prompts": 0}, {}, {"titles": "shuffled"}]
    configs = [c for own in settings for c in llamarec.plan(parameters(source=source, overrides=quick | own))]
    records = execute(llamarec, configs, store=store, progress=False, device="cpu")
    assert [record.error for record in records if record is not None] == [None] * 3
    zero, tuned, other = (record for record in records if record is not None)
    assert zero.history == [] and store.kept(zero.run_id) is None and store.kept(tuned.run_id) is not None
    assert zero.cost["train_seconds"] == 0 and tuned.cost["train_tokens"] > 12 * 100
    assert tuned.cost["memory_bound_bytes"] == 6e9 and 0 < tuned.cost["train_matmul_share"] < 1
    untuned = {name: value for name, value in quick.items() if name != "prompts"} | {"prompt": "gpt4rec"}
    in_a_row = quick | {"prompt": "next-title"}
    by_titles = [llamarec.plan(parameters(source=source, overrides=own))[0] for own in (untuned, in_a_row)]
    titles, told = execute(llamarec, by_titles, store=store, progress=False, device="cpu")
    assert titles is not None and titles.error is None and "letters" not in titles.tables
    assert told is not None and told.error is None and told.history[0]["loss"] > 0
    assert store.kept(titles.run_id) is None and store.kept(told.run_id) is not None
    assert titles.metrics["recall@5"] == zero.metrics["recall@5"]
    assert titles.metrics["subset_ndcg@10"] != zero.metrics["subset_ndcg@10"]
    found = store.table(zero, "ranks")["place"].to_numpy() >= 0
    assert 0 < found.sum() < len(found)  # it was asked about these users alone
    assert zero.cost["prompt_tokens"] > 100 and zero.metrics["recall@5"] == found.mean()
    labels = floors.gather("llamarec", configs, records, store)[0]["label"].tolist()
    assert all("tiny.gguf" in label for label in labels)
    label, other_label = floors.gather("llamarec", by_titles, [titles, told], store)[0]["label"][:2]
    assert label.startswith("Likelihood of titles on SASRec") and "zero-shot" in label
    assert other_label.startswith("Titles in a row on SASRec") and "zero-shot" not in other_label
    assert "zero-shot" in labels[0] and "zero-shot" not in labels[1] and "shuffled titles" in labels[2]
    assert other.metrics["retriever_ndcg@10"] == tuned.metrics["retriever_ndcg@10"]
    (config,) = orpo.plan(
        {"dataset": "demo", "retriever": "sasrec", "arms": ["dpo"], "seeds": [0], "source": source, "overrides": quick,
         "tuning": {"batch": 10, "epochs": 1}}
    )  # fmt: skip
    assert config.base == configs[1]
    for no_letters, message in ((untuned, "prompts is 0"), (in_a_row, "prompts is 12, prompt next-title")):
        with pytest.raises(SeqRecError, match=message):
            orpo.plan(
                {"dataset": "demo", "retriever": "sasrec", "arms": ["dpo"], "seeds": [0], "source": source,
                 "overrides": no_letters}
            )  # fmt: skip
    (further,) = execute(orpo, [config], store=store, progress=False, device="cpu")
    assert further is not None and further.error is None
    assert further.metrics["before_ndcg@10"] == pytest.approx(tuned.metrics["ndcg@10"])
    assert further.environment["language_model"]["name"] == "tiny.gguf"

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.experiments import generative
from seqrec_lib.experiments.base import execute, key
from seqrec_lib.language.pretrained import Size, from_scratch
from seqrec_lib.report import floors, frames, writers
from seqrec_lib.results import RunStore, plain
from tests.conftest import random_sequences

QUICK = {
    "d_model": 16, "n_layers": 1, "heads": 2, "d_state": 8, "vocabulary": 320, "positions": 96, "history": 4,
    "prompt_tokens": 64, "title_tokens": 8, "epochs": 1, "beams": 5, "length": 10, "fewer": [5], "steps": 6,
    "constants_users": 8,
}  # fmt: skip


def parameters(**changes: Any) -> dict[str, Any]:
    models = ["bm25-last", "title-markov", "gpt4rec", "mamrec"]
    return {"dataset": "demo", "models": models, "seeds": [0], "sources": {}, "overrides": QUICK} | changes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Sequences:
    data = random_sequences(0, n_users=20, n_items=12, longest=10)
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: data)
    return data


def test_a_plan_trains_each_seed_and_runs_floors_once() -> None:
    configs = generative.plan(parameters(seeds=[0, 1]))
    assert [(c.model, c.seed) for c in configs] == [
        ("bm25-last", 0), ("title-markov", 0), ("gpt4rec", 0), ("gpt4rec", 1), ("mamrec", 0), ("mamrec", 1),
    ]  # fmt: skip
    assert [c.source for c in configs[1:3]] == ["", "scratch:gpt2"]
    (pretrained,) = generative.plan(parameters(models=["gpt4rec"], sources={"gpt4rec": "gpt2"}, overrides={}))
    assert pretrained.size is None and pretrained.tuning is not None and pretrained.tuning.learning_rate == 1e-4


def test_runs_give_ranks_for_each_list_and_say_where_the_model_came_from(store: RunStore, small: Sequences) -> None:
    configs = generative.plan(parameters())
    records = execute(generative, configs, store=store, progress=False, device="cpu")
    for config, record in zip(configs, records, strict=True):
        assert record is not None and record.error is None
        prefixes = [""] if config.tuning is None else ["", "m5_", "trie_"]
        ranks = store.table(record, "ranks")
        for prefix in prefixes:
            own = ranks[f"{prefix}rank"].to_numpy()
            assert len(own) == small.n_users and set(own) <= {*range(1, 11), small.n_items + 1}
    runs, _ = floors.gather("generative", configs, records, store)
    assert ["from scratch" in label for label in runs["label"]] == [False, False, True, True]
    own = runs[runs["model"] == "gpt4rec"]
    lists = writers.lists(own)
    assert len(lists) == 3 and lists["ht@10"].notna().all()
    for prefix in ("", "m5_", "trie_"):
        values = frames.users(own, f"{prefix}ht@10", store)
        assert values is not None and values.mean() == pytest.approx(records[2].metrics[f"{prefix}ht@10"])
    made = [record.environment["language_model"] for record in records[2:] if record is not None]
    assert made[0]["kind"] == "scratch"
    assert abs(made[1]["parameters"] / made[0]["parameters"] - 1) < 0.1  # one layer: few sizes to choose from
    again = execute(generative, configs, store=store, missing="skip", progress=False)
    assert [record and record.run_id for record in again] == [record and record.run_id for record in records]


def test_another_model_in_the_same_folder_is_another_run(tmp_path: Path, store: RunStore, small: Sequences) -> None:
    folder, keys = tmp_path / "model", []
    overrides = {name: value for name, value in QUICK.items() if name not in Size.__dataclass_fields__}
    for seed in (0, 1):
        made = from_scratch("gpt2", [f" {title}." for title in small.titles[1:]], Size(16, 1, 2, 8, 256, 320), seed)
        made.model.save_pretrained(folder)
        made.tokenizer.save_pretrained(folder)
        chosen = parameters(models=["gpt4rec"], sources={"gpt4rec": str(folder)}, overrides=overrides)
        (config,) = generative.plan(chosen)
        keys.append(key(generative, config))
    assert len(set(keys)) == 2
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")  # since it was planned
    (record,) = execute(generative, [config], store=store, progress=False, device="cpu")
    assert (
        record is not None and record.error is not None and "not the one that the run was planned with" in record.error
    )
    for model in ("bm25-last", "gpt4rec"):  # what is no folder keeps the key that it always had
        (config,) = generative.plan(parameters(models=[model], overrides={}))
        assert "source_sha256" not in plain(config)


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2", "gpt_neox"])
def test_a_checkpoint_in_a_folder_is_tuned_and_writes(
    tmp_path: Path, store: RunStore, small: Sequences, architecture: str
) -> None:
    """The paper's two, and Pythia's architecture: the control that shares Mamba's tokenizer and corpus."""
    folder = tmp_path / f"tiny-{architecture}"
    scratch = "gpt2" if architecture == "gpt_neox" else architecture
    made = from_scratch(scratch, [f" {title}." for title in small.titles[1:]], Size(16, 1, 2, 8, 256, 320), 0)
    if architecture == "gpt_neox":
        special: dict[str, Any] = {
            "vocab_size": len(made.tokenizer),
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }
        config = GPTNeoXConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=256, **special,
        )  # fmt: skip
        made = replace(made, model=GPTNeoXForCausalLM(config))
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    quick = {name: value for name, value in QUICK.items() if name not in Size.__dataclass_fields__}
    quick |= {"prompt_tokens": 200}  # this tokenizer has never seen the words of the prompt
    configs = generative.plan(parameters(models=["gpt4rec"], sources={"gpt4rec": str(folder)}, overrides=quick))
    (record,) = execute(generative, configs, store=store, progress=False, device="cpu")
    assert record is not None and record.error is None
    assert record.environment["language_model"]["kind"] == "folder"
    (own,) = floors.gather("generative", configs, [record], store)[0].to_dict("records")
    assert own["label"].startswith(f"GPT4Rec (tiny-{architecture}") and own["made"] == "pretrained"
    assert record.environment["language_model"]["architecture"] == architecture
    assert store.kept(record.run_id) is not None

from __future__ import annotations

import pytest

from seqrec_lib.data.registry import DATASETS, base_name, get
from seqrec_lib.language import ranker_recipes
from seqrec_lib.language import recipes as language
from seqrec_lib.models import MODELS, build
from seqrec_lib.train.recipes import DATASET_ARCHITECTURE, DATASET_TRAINING, OWN, PAIR_TRAINING, resolve

BASES = {base_name(name) for name in DATASETS}


def test_every_data_set_has_a_recipe_and_no_other_name() -> None:
    assert set(DATASET_TRAINING) == BASES | {OWN}
    assert set(DATASET_ARCHITECTURE) <= BASES | {OWN}
    assert {name for name, _ in PAIR_TRAINING} <= BASES


@pytest.mark.parametrize("name", sorted(set(DATASETS) - BASES))
def test_another_order_of_time_is_trained_by_the_recipes_of_its_base(name: str) -> None:
    base = get(name).base
    assert base is not None
    for model in ("sasrec", "mamba4rec", "2mamba4rec+repeats"):
        assert resolve(name, model, 1) == resolve(base, model, 1)
        assert resolve(name, model, 1) != resolve("unknown", model, 1)
    assert language.resolve(name, "mamrec", "scratch:mamba2") == language.resolve(base, "mamrec", "scratch:mamba2")
    assert ranker_recipes.resolve(name, "scratch:titles") == ranker_recipes.resolve(base, "scratch:titles")


def test_the_language_models_recipes_differ_between_bases() -> None:
    ours, unknown = (language.resolve(name, "mamrec", "scratch:mamba2") for name in ("ml-1m-recbole", "unknown"))
    assert ours != unknown
    assert ranker_recipes.resolve("ml-1m-recbole", "scratch:titles") != ranker_recipes.resolve(
        "unknown", "scratch:titles"
    )


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_built_from_its_recipe_and_knows_whether_it_is_causal(model: str) -> None:
    for overrides in ({}, {"n_layers": 2}):
        architecture, training = resolve("demo", model, 3, overrides)
        net = build(model, 20, training.max_length, architecture)
        assert (training.objective == "all-positions") == net.causal
        assert training.seed == 3


def test_overrides_win_over_the_data_sets_recipe_and_whole_numbers_pass_as_floats() -> None:
    architecture, training = resolve("amazon-2014-beauty", "sasrec", 0, {"dropout": 0, "max_length": 7})
    assert architecture["dropout"] == 0.0
    assert isinstance(architecture["dropout"], float)
    assert training.max_length == 7


@pytest.mark.parametrize("model", MODELS)
def test_the_public_codes_recipe_is_the_same_for_every_model(model: str) -> None:
    """Values of Mamba4Rec's config.yaml (commit 44a0c84) and RecBole's trainer, typed here once more."""
    architecture, training = resolve("ml-1m-recbole", model, 2, {}, "public")
    assert (training.samples_per_step, training.learning_rate, training.max_length) == (2048, 1e-3, 200)
    assert (training.clip, training.average, training.weight_decay, training.warmup_steps) == (0.0, 0.0, 0.0, 0)
    assert (training.objective, training.schedule, training.epochs, training.patience) == (
        "prefixes",
        "constant",
        300,
        10,
    )
    assert architecture["dropout"] == 0.2
    assert architecture.get("d_state", 32) == 32 and architecture.get("initialisation", "blanket") == "blanket"
    build(model, 20, training.max_length, architecture)


def test_the_public_codes_recipe_on_shop_data_and_with_a_readers_overrides() -> None:
    architecture, training = resolve("amazon-2014-beauty", "mamba4rec", 0, {"epochs": 5}, "public")
    assert (architecture["dropout"], training.max_length, training.epochs) == (0.4, 50, 5)
    assert resolve("ml-1m", "popularity", 0, {}, "public") == ({}, None)

from __future__ import annotations

import pytest

from seqrec_lib.data.registry import DATASETS
from seqrec_lib.models import MODELS, build
from seqrec_lib.recipes import DATASET_ARCHITECTURE, DATASET_TRAINING, resolve


def test_every_data_set_has_a_recipe_and_no_other_name() -> None:
    assert set(DATASET_TRAINING) == set(DATASETS)
    assert set(DATASET_ARCHITECTURE) <= set(DATASETS)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_built_from_its_recipe_and_knows_whether_it_is_causal(model: str) -> None:
    for overrides in ({}, {"n_layers": 2}):
        architecture, training = resolve("demo", model, 3, overrides)
        assert training is not None
        net = build(model, 20, training.max_length, architecture)
        assert (training.objective == "all-positions") == net.causal
        assert training.seed == 3


def test_overrides_win_over_the_data_sets_recipe_and_whole_numbers_pass_as_floats() -> None:
    architecture, training = resolve("amazon-2014-beauty", "sasrec", 0, {"dropout": 0, "max_length": 7})
    assert architecture["dropout"] == 0.0
    assert isinstance(architecture["dropout"], float)
    assert training is not None
    assert training.max_length == 7

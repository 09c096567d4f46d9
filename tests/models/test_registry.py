from __future__ import annotations

import pytest

from seqrec_lib.models import MODELS, VARIANTS, build
from seqrec_lib.models.state_space import StateSpaceRecommender
from seqrec_lib.train.recipes import resolve


def test_there_are_the_published_variants() -> None:
    spaces = ("mamba4rec", "2mamba4rec", "hydra4rec")
    repeats = {f"{model}+repeats" for model in ("sasrec", *spaces)}
    residual = {f"{model}+residual" for model in spaces}
    assert VARIANTS.keys() == repeats | residual | {f"{model}+repeats" for model in residual}


@pytest.mark.parametrize("name", MODELS)
def test_the_id_alone_says_a_models_flags(name: str) -> None:
    base, *flags = name.split("+")
    architecture, _ = resolve("demo", name, 0)
    assert architecture == resolve("demo", base, 0)[0]  # run ids are made from it
    model, plain = (build(one, 20, 10, architecture) for one in (name, base))
    assert (model.repeats is not None) == ("repeats" in flags)
    if isinstance(model, StateSpaceRecommender):
        assert [layer.residual for layer in model.stack] == ["residual" in flags]
    assert model.state_dict().keys() - plain.state_dict().keys() == {"repeats"} & set(flags)

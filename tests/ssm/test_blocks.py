"""Names, shapes, counts and initial values of the blocks' parameters, and transformers' blocks on the same weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from seqrec_lib.ssm import Hydra, Mamba, Mamba2
from tests.ssm.agreement import error

SHAPES = {
    "mamba": {
        "A_log": (128, 32),
        "D": (128,),
        "in_proj.weight": (256, 64),
        "conv1d.weight": (128, 1, 4),
        "conv1d.bias": (128,),
        "x_proj.weight": (68, 128),
        "dt_proj.weight": (128, 4),
        "dt_proj.bias": (128,),
        "out_proj.weight": (64, 128),
    },
    "mamba2": {
        "dt_bias": (2,),
        "A_log": (2,),
        "D": (2,),
        "in_proj.weight": (514, 64),
        "conv1d.weight": (384, 1, 4),
        "conv1d.bias": (384,),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    },
    "hydra": {
        "dt_bias": (2,),
        "A_log": (2,),
        "D": (2,),
        "in_proj.weight": (388, 64),
        "conv1d.weight": (256, 1, 7),
        "conv1d.bias": (256,),
        "fc_D.weight": (2, 128),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    },
}
BLOCKS = {"mamba": lambda: Mamba(64, 32), "mamba2": lambda: Mamba2(64, 128), "hydra": lambda: Hydra(64, 32)}


@pytest.mark.parametrize("name", BLOCKS)
def test_parameter_names_and_shapes_are_the_public_ones(name: str) -> None:
    assert {key: tuple(value.shape) for key, value in BLOCKS[name]().state_dict().items()} == SHAPES[name]


@pytest.mark.parametrize(
    ("name", "mixer", "body"), [("mamba", 38_784, 72_256), ("mamba2", 43_142, 76_614), ("hydra", 35_462, 68_934)]
)
def test_parameter_counts_are_the_published_models(name: str, mixer: int, body: int) -> None:
    """Around the mixer: a feed-forward network 64 -> 256 -> 64 with biases and three LayerNorms."""
    count = sum(p.numel() for p in BLOCKS[name]().parameters())
    assert count == mixer
    assert count + (2 * 64 * 256 + 256 + 64) + 3 * 128 == body


@pytest.mark.parametrize("name", BLOCKS)
def test_initial_values(name: str) -> None:
    torch.manual_seed(0)
    block: Any = {
        "mamba": lambda: Mamba(256),
        "mamba2": lambda: Mamba2(256, headdim=1),
        "hydra": lambda: Hydra(256, headdim=1),
    }[name]()
    dt = F.softplus(block.dt_proj.bias if name == "mamba" else block.dt_bias)
    assert dt.min() >= 1e-3 * 0.999
    assert dt.max() <= 0.1 * 1.001
    assert dt.log().mean().item() == pytest.approx(torch.tensor(1e-2).log().item(), abs=0.2)  # log-uniform
    assert (block.D == 1).all()
    if name == "mamba":
        assert torch.equal(block.A_log, torch.arange(1.0, 17).log().expand(512, 16))
        assert block.dt_proj.weight.abs().max() <= 16**-0.5
        assert block.dt_proj.bias._no_reinit
    elif name == "mamba2":
        assert block.A_log.exp().min() >= 1
        assert block.A_log.exp().max() <= 16
        assert block.A_log.exp().mean().item() == pytest.approx(8.5, abs=1)
    else:
        assert not block.A_log.any()
        assert block.norm.norm_before_gate
    assert block.A_log._no_weight_decay
    assert block.D._no_weight_decay


def test_a_headdim_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="headdim 48"):
        Mamba2(64, headdim=48)


@pytest.fixture
def _quiet() -> Iterator[None]:
    """transformers says once per missing kernel that it falls back."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def settled(block: torch.nn.Module) -> torch.nn.Module:
    """Every parameter away from its initial value."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return block


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("length", [1, 3, 40])
def test_transformers_mamba_gives_the_same(length: int) -> None:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = MambaConfig(hidden_size=32, state_size=8, conv_kernel=4, expand=2, num_hidden_layers=1, use_bias=False)
    theirs = MambaMixer(config, layer_idx=0).eval()
    ours = settled(Mamba(32, 8))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, length, 32)
    with torch.no_grad():
        assert error(ours(x), theirs(x)) < 1e-5


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("chunk_size", [8, 64, 256])
@pytest.mark.parametrize(("length", "groups"), [(1, 1), (40, 1), (70, 2)])
def test_transformers_mamba2_gives_the_same(chunk_size: int, length: int, groups: int) -> None:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=32, state_size=8, head_dim=16, num_heads=4, n_groups=groups, expand=2, conv_kernel=4,
        chunk_size=chunk_size, num_hidden_layers=1, use_bias=False,
    )  # fmt: skip
    theirs = Mamba2Mixer(config, layer_idx=0).eval()
    ours = settled(Mamba2(32, 8, headdim=16, ngroups=groups))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, length, 32)
    with torch.no_grad():
        assert error(ours(x), theirs(x)) < 1e-5

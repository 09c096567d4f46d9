"""What every model owes (no leak from padding; one pass trains as prefixes do), and the state-space models' own."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from seqrec_lib.errors import SeqRecError
from seqrec_lib.models.base import SequentialRecommender, last_position
from seqrec_lib.models.hydra4rec import Hydra4Rec
from seqrec_lib.models.mamba4rec import Mamba4Rec, TwoMamba4Rec
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.models.state_space import StateSpaceRecommender
from seqrec_lib.train.losses import catalogue_cross_entropy

SMALL: dict[type[SequentialRecommender], dict[str, Any]] = {
    Mamba4Rec: {"d_model": 16, "d_state": 4},
    TwoMamba4Rec: {"d_model": 16, "d_state": 8, "headdim": 8},
    Hydra4Rec: {"d_model": 16, "d_state": 8, "headdim": 8},
}
SASREC = {"d_model": 16, "n_heads": 2}
CASES = [(kind, layers) for kind in SMALL for layers in (1, 2)]
CAUSAL = [(kind, layers) for kind, layers in CASES if kind is not Hydra4Rec or layers == 1]


def model(kind: Any, layers: int, **changes: object) -> Any:
    torch.manual_seed(0)
    arguments = (SASREC if kind is SASRec else SMALL[kind]) | {"n_layers": layers, "dropout": 0.0} | changes
    return kind(30, 40, **arguments).eval()


def bidirectional(net: Any, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The output at the last item by its definition: each layer's mixer reads the whole history, Hydra both ways.
    SASRec's is its own, and `tests/models/test_sasrec.py` has its definition."""
    if isinstance(net, SASRec):
        return net.encode(items, lengths)
    x = net.embed(items)
    for layer in net.stack:
        x = layer.after_mixer(x, layer.mixer(x, lengths))
    return last_position(x, lengths)


def histories(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    items = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        items[row, :length] = torch.randint(1, 31, (length,))
    return items, torch.tensor(lengths)


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        (Mamba4Rec, {}, 72_256),
        (Mamba4Rec, {"d_state": 64}, 84_544),
        (TwoMamba4Rec, {}, 76_614),
        (Hydra4Rec, {}, 68_934),
    ],
)
def test_has_the_papers_size(kind: type[StateSpaceRecommender], changes: dict[str, int], expected: int) -> None:
    total, body = kind(3_416, 200, **changes).parameter_counts()  # type: ignore[arg-type]
    assert body == expected
    assert total == expected + 3_417 * 64


@pytest.mark.parametrize(("kind", "layers"), [*CASES, (SASRec, 2)])
def test_padding_does_not_leak(kind: type[SequentialRecommender], layers: int) -> None:
    net = model(kind, layers)
    lengths = [1, 17, 4, 40, 9]
    items, counts = histories(lengths)
    together = net.encode(items, counts)
    alone = [net.encode(items[r : r + 1, :n], torch.tensor([n])) for r, n in enumerate(lengths)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_hydra_encodes_as_its_bidirectional_definition(layers: int) -> None:
    net = model(Hydra4Rec, layers)
    items, lengths = histories([1, 3, 11, 26])
    torch.testing.assert_close(net.encode(items, lengths), bidirectional(net, items, lengths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "layers"), [*CAUSAL, (SASRec, 2)])
def test_all_positions_and_prefixes_give_the_same_gradient(kind: type[SequentialRecommender], layers: int) -> None:
    """The loss at every position of a history is the mean of its prefixes' losses, by the definition of each prefix."""
    net = model(kind, layers).double()
    assert net.causal
    history = torch.randint(1, 31, (14,), generator=torch.Generator().manual_seed(3))
    inputs, targets = history[:-1], history[1:]
    hidden = net.hidden(inputs.unsqueeze(0), torch.tensor([13]))[0]
    one_pass = catalogue_cross_entropy(hidden, net.item_embedding.weight, targets)

    ends = torch.cat([bidirectional(net, inputs[None, : n + 1], torch.tensor([n + 1])) for n in range(13)])
    by_prefix = F.cross_entropy(ends @ net.item_embedding.weight[1:].T, targets - 1)

    torch.testing.assert_close(one_pass, by_prefix)
    parameters = [p for name, p in net.named_parameters()]
    found = torch.autograd.grad(one_pass, parameters, retain_graph=True, allow_unused=True)
    expected = torch.autograd.grad(by_prefix, parameters, allow_unused=True)
    for (name, _), a, b in zip(net.named_parameters(), found, expected, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(a if a is not None else zero.expand_as(b), b if b is not None else zero.expand_as(a),
                                   msg=partial("{}: {}".format, name))  # fmt: skip


@pytest.mark.parametrize(("kind", "layers"), CAUSAL)
def test_steps_equal_encoding_the_whole_history(kind: type[StateSpaceRecommender], layers: int) -> None:
    net = model(kind, layers)
    items, _ = histories([37, 37, 37])
    state = net.init_state(3)
    for position in range(37):
        stepped, state = net.step(items[:, position], state)
        if position in (0, 1, 2, 3, 7, 36):
            whole = net.encode(items[:, : position + 1], torch.full((3,), position + 1))
            assert (stepped - whole).norm() <= 1e-5 * whole.norm()


@pytest.mark.parametrize(("kind", "layers"), CAUSAL)
def test_states_are_saved_and_regrouped(
    kind: type[StateSpaceRecommender], layers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    net = model(kind, layers)
    items, _ = histories([6, 6])
    state = net.init_state(2)
    for position in range(5):
        _, state = net.step(items[:, position], state)
    path = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(state, path)
    state = torch.load(path, weights_only=True)
    second = [{name: value[1:] for name, value in layer.items()} for layer in state]
    together, _ = net.step(items[:, 5], state)
    alone, _ = net.step(items[1:, 5], second)
    torch.testing.assert_close(together[1:], alone)


@pytest.mark.parametrize(("kind", "layers"), CAUSAL)
def test_a_stream_ends_where_the_window_is_full(kind: type[StateSpaceRecommender], layers: int) -> None:
    net = model(kind, layers)
    net.window = 5
    items, _ = histories([8, 8])
    state = net.init_state(2)
    for position in range(5):
        stepped, state = net.step(items[:, position], state)
        whole = net.encode(items[:, : position + 1], torch.full((2,), position + 1))
        torch.testing.assert_close(stepped, whole, rtol=1e-4, atol=1e-5)
    fresh = [
        {name: torch.cat([old[name][:1], new[name]]) for name in old}
        for old, new in zip(state, net.init_state(1), strict=True)
    ]
    for full in (state, fresh):  # one user's window is enough
        with pytest.raises(SeqRecError, match="a stream of 5 items has no room for one more, as the model reads 5"):
            net.step(items[:, 5], full)


def test_hydra_with_several_layers_refuses_to_step() -> None:
    net = model(Hydra4Rec, 2)
    assert not net.causal
    with pytest.raises(ValueError, match="2 layers has no step"):
        net.step(torch.tensor([1]), net.init_state(1))


def test_blanket_initialisation_erases_the_memory_of_mamba_and_spares_dt_on_request() -> None:
    def dt(how: str) -> torch.Tensor:
        net = model(Mamba4Rec, 1, initialisation=how)
        return F.softplus(net.layers[0].mixer.dt_proj.bias.detach())

    assert dt("own").min() >= 1e-4
    assert dt("own").max() <= 0.11
    assert torch.equal(dt("own"), dt("blanket-but-dt"))
    torch.testing.assert_close(dt("blanket"), torch.full((32,), 0.6931), rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="'public'; use own"):
        model(Mamba4Rec, 1, initialisation="public")


@pytest.mark.parametrize("kind", SMALL)
def test_the_residual_adds_the_mixers_input(kind: type[StateSpaceRecommender]) -> None:
    items, lengths = histories([4, 9])
    base, changed = model(kind, 1), model(kind, 1, residual=True)
    assert changed.causal == base.causal
    x = base.embed(items)
    (layer,) = base.stack
    h = layer.mixer_norm(base.mix(layer.mixer, x, lengths) + x)
    expected = layer.feed_forward_norm(layer.feed_forward(h) + h)
    real = torch.arange(items.shape[1]) < lengths.unsqueeze(1)
    torch.testing.assert_close(changed.hidden(items, lengths)[real], expected[real])
    assert not torch.allclose(base.hidden(items, lengths)[real], expected[real], atol=1e-2)


@pytest.mark.parametrize("kind", SMALL)
def test_dropout_comes_before_layer_norm(kind: type[StateSpaceRecommender]) -> None:
    """LN(dropout(embedding)) and LN(dropout(mixer(x))), as in the public code: dropping all leaves the norm's bias."""

    class All(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    own = model(kind, 1)
    with torch.no_grad():
        own.norm.bias.normal_()
    items = torch.arange(1, 5)
    assert not torch.allclose(own.embed(items), own.norm.bias.expand(4, -1))
    own.dropout = All()
    torch.testing.assert_close(own.embed(items), own.norm.bias.expand(4, -1))

"""Servers give what the model's own pass gives: encodings, the best items, and one more event after another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.data import load
from seqrec_lib.errors import SeqRecError
from seqrec_lib.models import MODELS, VARIANTS, build, load_class
from seqrec_lib.serving import SteppingServer, kernels, serve
from seqrec_lib.serving.base import select
from seqrec_lib.serving.modules import GraphServer, ModuleServer

ITEMS, LONGEST = 60, 40
SERVED = [name for name in MODELS if name not in VARIANTS]  # with a server of their own
TOLERANCE = 2e-5  # float32 sums in another order, values of order 1


def model_of(name: str, **changes: Any) -> Any:
    """A model whose every weight is random, biases and norms too, so that none can be forgotten."""
    torch.manual_seed(7)
    model = build(name, ITEMS, LONGEST, {**MODELS[name].architecture, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def expected(model: Any, history: np.ndarray) -> np.ndarray:
    """The model's own encoding in float64."""
    double = model.double()
    for layer in getattr(double, "layers", []):
        if hasattr(layer, "mixer"):
            layer.mixer.backend = "reference"
    with torch.no_grad():
        out: np.ndarray = double.encode(torch.from_numpy(history)[None], torch.tensor([len(history)]))[0].numpy()
    return out


@pytest.mark.parametrize("table_bytes", [0, 2**26])
@pytest.mark.parametrize("name", SERVED)
def test_an_encoding_is_the_models_own_at_every_length(name: str, table_bytes: int) -> None:
    model = model_of(name)
    server = serve(model, table_bytes=table_bytes)
    assert isinstance(server, SteppingServer)
    rng = np.random.default_rng(3)
    histories = [rng.integers(1, ITEMS + 1, length) for length in (1, 2, 3, 4, 5, 7, 8, 23, LONGEST)]
    found = [server.encode(history) for history in histories]
    for history, encoded in zip(histories, found, strict=True):
        np.testing.assert_allclose(encoded, expected(model, history), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("begin", [0, 1, 2, 3, 6, 20])
def test_steps_from_any_start_equal_reading_the_whole_history(name: str, begin: int) -> None:
    model = model_of(name)
    server = serve(model)
    assert isinstance(server, SteppingServer)
    history = np.random.default_rng(begin).integers(1, ITEMS + 1, begin + 9)
    state = server.start(history[:begin])
    stepped = [server.step(state, int(item)) for item in history[begin:]]
    for done, encoded in enumerate(stepped, begin + 1):
        np.testing.assert_allclose(encoded, expected(model, history[:done]), atol=TOLERANCE, rtol=TOLERANCE)


def test_states_of_other_sizes_are_served_too() -> None:
    for name, changes in (
        ("mamba4rec", {"d_model": 24, "d_state": 5, "d_conv": 3}),
        ("2mamba4rec", {"d_model": 32, "d_state": 6, "headdim": 16}),
        ("hydra4rec", {"d_model": 32, "d_state": 6, "headdim": 16, "d_conv": 3}),
        ("sasrec", {"d_model": 24, "n_layers": 3, "n_heads": 3}),
        ("sasrec", {"d_model": 24, "n_layers": 1, "n_heads": 1}),
    ):
        model = model_of(name, **changes)
        server = serve(model)
        assert isinstance(server, SteppingServer)
        history = np.random.default_rng(1).integers(1, ITEMS + 1, 11)
        encoded, state = server.encode(history), server.start(history[:-1])
        stepped = server.step(state, int(history[-1]))
        want = expected(model, history)
        np.testing.assert_allclose(encoded, want, atol=TOLERANCE, rtol=TOLERANCE)
        np.testing.assert_allclose(stepped, want, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_state_has_the_size_that_is_told_and_a_copy_is_independent() -> None:
    history = np.arange(1, 21)
    for name in SERVED:
        server = serve(model_of(name))
        assert isinstance(server, SteppingServer)
        state = server.start(history)
        assert state.nbytes == server.state_bytes(20)
        kept = state.copy()
        first = server.step(state, 5)
        np.testing.assert_array_equal(server.step(kept, 5), first)
    assert serve(model_of("sasrec")).state_bytes(20) == 2 * 2 * 20 * 64 * 4  # type: ignore[attr-defined]


def test_a_full_cache_says_what_to_do() -> None:
    server = serve(model_of("sasrec"))
    assert isinstance(server, SteppingServer)
    state = server.start(np.arange(1, LONGEST))
    server.step(state, 1)
    with pytest.raises(SeqRecError, match=r"full at max_length 40.*encode the window again"):
        server.step(state, 2)


@pytest.mark.parametrize("name", [*MODELS, "popularity", "markov"])
def test_recommendations_are_the_best_unseen_items(name: str) -> None:
    if name in MODELS:
        model, n_items = model_of(name), ITEMS
    else:
        demo = load("demo")
        model, n_items = load_class(name)(demo), demo.n_items
    server = serve(model, n_items)
    histories = [[3, 4, 5, 3], list(range(1, 30)), [9] * 100]
    ids, scores = server.recommend(histories, 5)
    seen_too, _ = server.recommend(histories, 5, exclude_seen=False)
    for row, history in enumerate(histories):
        read = torch.tensor([history[-(model.max_length or len(history)) :]])
        with torch.no_grad():
            own = model.score(read, torch.tensor([read.shape[1]]))[0].clone()
        np.testing.assert_allclose(own[torch.from_numpy(seen_too[row])], own.topk(5).values, atol=1e-4)
        own[history] = -torch.inf
        best = own.topk(5)
        np.testing.assert_allclose(scores[row], best.values, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(own[torch.from_numpy(ids[row])], best.values, atol=1e-4)
        assert not set(ids[row].tolist()) & set(history)


def test_a_model_with_several_layers_is_served_by_its_own_pass() -> None:
    model = model_of("mamba4rec", n_layers=2)
    server = serve(model)
    assert isinstance(server, ModuleServer)
    history = np.array([3, 1, 4])
    np.testing.assert_allclose(server.encode(history), expected(model, history), atol=TOLERANCE, rtol=TOLERANCE)


def test_a_server_is_a_copy_that_training_does_not_reach() -> None:
    several = model_of("mamba4rec", n_layers=2)  # served by its own pass
    for model in (*map(model_of, SERVED), several):
        model, history = model.train(), np.array([1, 2, 3])
        server = serve(model)
        assert model.training, "serving a model does not change it"
        before = server.encode(history)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        np.testing.assert_array_equal(server.encode(history), before)


def test_several_threads_answer_as_one_does() -> None:
    server = serve(model_of("2mamba4rec"))
    histories = [np.random.default_rng(i).integers(1, ITEMS + 1, 5 + i) for i in range(9)]
    alone = server.recommend(histories, 4)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared = server.recommend(histories, 4)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(shared[0], alone[0])


@pytest.mark.parametrize(
    ("histories", "k", "message"),
    [
        ([[]], 3, "empty history"),
        ([[1, 61]], 3, r"item id 61 .* 1 to 60"),
        ([[0]], 3, "item id 0"),
        ([[1]], 0, "k is 0"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(histories: list[list[int]], k: int, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        serve(model_of("sasrec")).recommend(histories, k)


@pytest.mark.parametrize("k", [1, 3, 10, 200])
def test_selection_is_a_stable_sort(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(20):
        scores = rng.integers(0, 9, 150).astype(np.float32)  # many ties
        scores[0] = -np.inf
        seen = rng.integers(1, 150, 12)
        wanted = scores.copy()
        wanted[seen] = -np.inf
        order = np.argsort(-wanted, kind="stable")[:k]
        order = order[np.isfinite(wanted[order])]
        ids, best = select(scores.copy(), k, seen)
        np.testing.assert_array_equal(ids[: len(order)], order)
        np.testing.assert_array_equal(best[: len(order)], wanted[order])
        assert not ids[len(order) :].any() and np.isneginf(best[len(order) :]).all()


@pytest.mark.parametrize("shape", [(1, 4, 3), (2, 7, 5), (5, 6, 16), (8, 9, 1)])
def test_products_of_rows_are_matrix_products(shape: tuple[int, int, int]) -> None:
    length, n, m = shape
    rng = np.random.default_rng(length)
    x, weight, bias = (rng.normal(size=size).astype(np.float32) for size in ((length, n), (n, m), (m,)))
    out = np.full((length, m), np.nan, np.float32)
    kernels.project_rows(x, weight, bias, out)
    np.testing.assert_allclose(out, x.astype(float) @ weight + bias, rtol=1e-5, atol=1e-5)


def test_elementary_functions_hold_their_accuracy() -> None:
    x = np.linspace(-124.0, 0.0, 20_001, dtype=np.float32)
    got = np.array([kernels.exp2_negative(v) for v in x], np.float64)
    np.testing.assert_allclose(got, 2.0 ** x.astype(np.float64), rtol=3e-7)
    x = np.linspace(-12.0, 12.0, 20_001, dtype=np.float32)
    got = np.array([kernels.gelu(v) for v in x], np.float64)
    want = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(np.float64)])
    np.testing.assert_allclose(got, want, atol=4e-7, rtol=2e-6)
    rng = np.random.default_rng(0)
    u, gain = rng.normal(size=10).astype(np.float32), rng.normal(size=10).astype(np.float32)
    want = u / math.sqrt(np.mean(u.astype(float) ** 2) + 1e-5) * gain
    kernels.rms_norm(u, gain, np.float32(1e-5))
    np.testing.assert_allclose(u, want, rtol=1e-5)


def test_a_graphs_own_tensors_are_written_to_before_it_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: a stand-in for the graph computes on the very tensors that a capture would have made."""
    model = model_of("sasrec")

    class Stub:
        def __init__(self, *tensors: torch.Tensor) -> None:
            self.items, self.lengths, self.blocked = tensors
            self.out = (torch.zeros(3), torch.zeros(3, dtype=torch.int64))

        def replay(self) -> None:
            with torch.inference_mode():
                values, ids = (model.score(self.items, self.lengths)[0] + self.blocked).topk(3)
                self.out[0].copy_(values)
                self.out[1].copy_(ids)

    @torch.inference_mode()
    def capture(room: int, k: int) -> Any:
        items, lengths = torch.ones(1, room, dtype=torch.int64), torch.full((1,), room)
        graph = Stub(items, lengths, torch.zeros(model.n_items + 1))
        return graph, graph.items, graph.lengths, graph.blocked, graph.out

    server = GraphServer(model)
    monkeypatch.setattr(server, "_capture", capture)
    history = np.array([3, 5, 3, 7, 2])
    ids, scores = server.recommend([history, history[:2]], 3)
    wanted = ModuleServer(model).recommend([history, history[:2]], 3)
    assert ids.tolist() == wanted[0].tolist()
    np.testing.assert_allclose(scores, wanted[1], rtol=1e-5)

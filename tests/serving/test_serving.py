"""Servers give what the model's own pass gives: encodings, the best items, and one more event after another."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.data import load
from seqrec_lib.errors import SeqRecError
from seqrec_lib.fast.serving import kernels, state_space
from seqrec_lib.fast.serving.graphs import GraphServer
from seqrec_lib.models import MODELS, VARIANTS, build, load_class
from seqrec_lib.models.mamba4rec import TwoMamba4Rec
from seqrec_lib.serving import SteppingServer, base, products, serve
from seqrec_lib.serving import batches as serving_batches
from seqrec_lib.serving.base import select
from seqrec_lib.serving.modules import ModuleServer

ITEMS, LONGEST = 60, 40
SERVED = list(MODELS)  # with one layer of a state-space model, each has a server of its own
PUBLISHED = [name for name in MODELS if name not in VARIANTS]
TOLERANCE = 2e-5  # float32 sums in another order, values of order 1


def model_of(name: str, longest: int = LONGEST, **changes: Any) -> Any:
    """A model whose every weight is random, biases and norms too, so that none can be forgotten."""
    torch.manual_seed(7)
    model = build(name, ITEMS, longest, {**MODELS[name].architecture, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def in_double(model: Any) -> Any:
    """The model in float64, by its mixers' recurrences."""
    for layer in getattr(model, "layers", []):
        if hasattr(layer, "mixer"):
            layer.mixer.backend = "reference"
    return model.double()


def expected(model: Any, history: np.ndarray) -> np.ndarray:
    """The model's own encoding in float64."""
    with torch.no_grad():
        out: np.ndarray = (
            in_double(model).encode(torch.from_numpy(history)[None], torch.tensor([len(history)]))[0].numpy()
        )
    return out


@pytest.mark.parametrize("table_bytes", [0, 2**26])
@pytest.mark.parametrize("name", SERVED)
def test_an_encoding_is_the_models_own_at_every_length(
    name: str, table_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_space, "TABLE_BYTES", table_bytes)
    model = model_of(name)
    server = serve(model)
    assert isinstance(server, SteppingServer)
    rng = np.random.default_rng(3)
    histories = [rng.integers(1, ITEMS + 1, length) for length in (1, 2, 3, 4, 5, 7, 8, 23, LONGEST)]
    found = [server.encode(history) for history in histories]
    for history, encoded in zip(histories, found, strict=True):
        np.testing.assert_allclose(encoded, expected(model, history), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", [*PUBLISHED, "2mamba4rec+residual"])
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


@pytest.mark.parametrize("changes", [{}, {"d_model": 24, "n_layers": 3, "n_heads": 3}, {"n_layers": 1}])
def test_a_long_history_is_read_by_products_and_a_short_one_by_loops(changes: dict[str, Any]) -> None:
    model = model_of("sasrec", 900, **changes)
    server = serve(model)
    assert isinstance(server, SteppingServer)
    d = model.d_model
    edge = next(length for length in range(900) if products.is_large(length, d))
    assert edge > 50
    history = np.random.default_rng(0).integers(1, ITEMS + 1, 900)
    found = {length: server.encode(history[:length]) for length in (edge - 1, edge, edge + 1, 899, 900)}
    state = server.start(history[:edge])
    found[edge + 2] = [server.step(state, int(item)) for item in history[edge : edge + 2]][-1]
    for length, encoded in found.items():
        want = expected(model, history[:length])
        np.testing.assert_allclose(encoded, want, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in SERVED),
        ("2mamba4rec", {"n_layers": 2}),
        ("mamba4rec+residual+repeats", {"n_layers": 2}),
        ("hydra4rec", {"n_layers": 2}),
        ("sasrec", {"n_layers": 3}),
    ],
)
def test_many_histories_are_served_as_each_is_alone(
    name: str, changes: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough of them for several batches and several blocks of scores; one is longer than the model's window."""
    monkeypatch.setattr(base, "MOST_SCORED", 64)
    monkeypatch.setattr(serving_batches, "POSITIONS", 500)
    model, rng = model_of(name, **changes), np.random.default_rng(5)
    histories = [rng.integers(1, ITEMS + 1, length) for length in [*rng.integers(1, LONGEST + 1, 150), 2 * LONGEST]]
    server, before = serve(model), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        encoded = server.encode_many([server.cut(history) for history in histories])
        together = server.recommend(histories, 7)
        seen_too = server.recommend(histories, 7, exclude_seen=False)
    finally:
        torch.set_num_threads(before)
    alone = [server.recommend([history], 7) for history in histories]
    np.testing.assert_allclose(together[1], np.concatenate([best for _, best in alone]), rtol=1e-4, atol=1e-4)
    double = in_double(model)
    for row in [*range(0, len(histories), 8), len(histories) - 1]:
        history = histories[row]
        read = torch.from_numpy(server.cut(history))[None]
        with torch.no_grad():
            want = double.encode(read, torch.tensor([read.shape[1]]))[0].numpy()
            whole = torch.from_numpy(history[-(model.max_length or len(history)) :])[None]
            scores = double.score(whole, torch.tensor([whole.shape[1]]))[0]
        np.testing.assert_allclose(encoded[row], want, atol=TOLERANCE, rtol=TOLERANCE)
        np.testing.assert_allclose(seen_too[1][row], scores.topk(7).values, atol=1e-4, rtol=1e-4)
        scores[history] = -torch.inf
        np.testing.assert_allclose(together[1][row], scores.topk(7).values, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(scores[torch.from_numpy(together[0][row])], together[1][row], atol=1e-4, rtol=1e-4)


def test_batches_hold_like_lengths_and_every_history_once() -> None:
    lengths = [*np.random.default_rng(0).integers(1, 300, 400).tolist(), 5000]
    found = list(serving_batches.batches(lengths, positions=2000))
    assert sorted(place for places in found for place in places) == list(range(401))
    sizes = [[lengths[place] for place in places] for places in found]
    assert all(max(part) * len(part) <= 2000 or len(part) == 1 for part in sizes)
    assert all(max(a) <= min(b) for a, b in pairwise(sizes))


def test_serving_is_imported_without_its_kernels() -> None:
    code = (
        "import sys, seqrec_lib.serving as s, seqrec_lib.serving.base, seqrec_lib.serving.modules, seqrec_lib.models\n"
        "from seqrec_lib.models import MODELS, build\n"
        "model = build('mamba4rec', 20, 10, MODELS['mamba4rec'].architecture)\n"
        "before = 'numba' in sys.modules\n"
        "s.serve(model)\n"
        "print(before, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("k", [5, 200])
def test_without_compiled_loops_the_same_items_are_best(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("2mamba4rec", n_layers=2)
    histories = [np.array([3, 5, 3]), np.arange(1, 30)]
    by_loops = serve(model).recommend(histories, k)
    monkeypatch.setattr(base, "_kernels", lambda: None)
    for wanted, found in zip(by_loops, ModuleServer(model).recommend(histories, k), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    alone = ModuleServer(model).recommend(histories[:1], k)
    np.testing.assert_array_equal(alone[0], by_loops[0][:1])


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
        if not name.startswith("sasrec"):  # whose array has room for the whole window
            assert sum(array.nbytes for array in state.arrays) == server.state_bytes(20)
        kept = copy.deepcopy(state)
        first = server.step(state, 5)
        np.testing.assert_array_equal(server.step(kept, 5), first)
    assert serve(model_of("sasrec")).state_bytes(20) == 2 * 2 * 20 * 64 * 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [1, 2, 5, 9])
@pytest.mark.parametrize("name", MODELS)
def test_a_stream_is_the_models_own_up_to_its_window_and_is_refused_there(name: str, window: int) -> None:
    """From every start, at every length around windows that are shorter and longer than the convolutions (4 and 7)."""
    model = model_of(name, window)
    server = serve(model)
    if not isinstance(server, SteppingServer):
        assert isinstance(server, ModuleServer), "read anew for each request: there is no stream"
        return
    history = np.random.default_rng(window).integers(1, ITEMS + 1, 2 * window + 3)
    found = {}
    for begin in range(len(history)):
        if begin >= window:
            with pytest.raises(SeqRecError, match=f"a stream of {begin} items has no room for one more"):
                server.start(history[:begin])
            continue
        state = server.start(history[:begin])
        for length in range(begin + 1, window + 1):
            found[begin, length] = server.step(state, int(history[length - 1]))
        kept = copy.deepcopy(state)
        for _ in range(2):
            with pytest.raises(SeqRecError, match=f"as the model reads {window}; start it anew"):
                server.step(state, int(history[window]))
        assert all(map(np.array_equal, state.arrays, kept.arrays)) and state.length == kept.length == window
    for end in range(window, len(history) + 1):  # started anew, as it says
        state = server.start(history[max(0, end - window) : end - 1])
        found[-1, end] = server.step(state, int(history[end - 1]))
    for (_, length), encoded in found.items():
        read = torch.from_numpy(history[max(0, length - window) : length])[None]
        with torch.no_grad():
            want = model.scores(model.encode(read, torch.tensor([read.shape[1]])))[0, 1:].numpy()
        np.testing.assert_allclose(server.score(encoded)[1:], want, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", SERVED)
def test_a_stream_refuses_what_is_no_item_and_goes_on(name: str) -> None:
    server = serve(model_of(name))
    assert isinstance(server, SteppingServer)
    for wrong in (0, -1, ITEMS + 1):
        state = server.start([3, 4])
        with pytest.raises(SeqRecError, match=f"item id {wrong} is not in the catalogue"):
            server.start([3, wrong])
        with pytest.raises(SeqRecError, match=f"item id {wrong} is not in the catalogue"):
            server.step(state, wrong)
        np.testing.assert_array_equal(server.step(state, 5), server.step(server.start([3, 4]), 5))


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


def test_a_class_that_changes_the_pass_is_served_by_its_own() -> None:
    class Doubled(TwoMamba4Rec):
        def hidden(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return 2 * super().hidden(items, lengths)

    class Halved(TwoMamba4Rec):
        def encode(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return super().encode(items, lengths) / 2

    for kind, factor in ((Doubled, 2.0), (Halved, 0.5)):
        for n_layers in (1, 2):
            model = model_of("2mamba4rec", n_layers=n_layers)
            own = kind(ITEMS, LONGEST, **{**MODELS["2mamba4rec"].architecture, "n_layers": n_layers}).eval()
            own.load_state_dict(model.state_dict())
            history = np.array([3, 1, 4])
            want = factor * serve(model).encode(history)
            np.testing.assert_allclose(serve(own).encode(history), want, atol=TOLERANCE, rtol=TOLERANCE)


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

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from seqrec_lib.models import MODELS, VARIANTS, build
from seqrec_lib.models.base import SequentialRecommender
from seqrec_lib.models.repeats import SCALE, earlier_items
from seqrec_lib.serving import serve
from seqrec_lib.train.step import Batch, TrainingStep

N_ITEMS, LENGTH = 30, 9
NAMES = [name for name in VARIANTS if name.endswith("+repeats")]


def made(name: str, bias: float = -0.2) -> SequentialRecommender:
    torch.manual_seed(3)
    model = build(name, N_ITEMS, LENGTH, _settings(name)).eval()
    with torch.no_grad():
        model.repeats.fill_(bias)
    return model


def padded(*histories: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor(h) for h in histories]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(h) for h in histories])


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_plain_models_plus_the_bias_at_each_item_of_the_history(name: str) -> None:
    model = made(name)
    plain = build(name.removesuffix("+repeats"), N_ITEMS, LENGTH, _settings(name)).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "repeats"})
    histories = [[5, 2, 5, 7], [1], [*range(1, 15), 2, 3]]  # a repeat, one item, longer than the window
    scores = model.score(*padded(*histories))
    for row, history in enumerate(histories):
        expected = plain.score(*padded(history[-LENGTH:]))[0]
        expected[sorted(set(history))] -= 0.2 * SCALE
        torch.testing.assert_close(scores[row], expected, rtol=1e-5, atol=1e-5)


def _settings(name: str) -> dict[str, object]:
    small = {"d_model": 16, "d_state": 16, "headdim": 16, "dropout": 0.0}
    return {k: small.get(k, v) for k, v in MODELS[name].architecture.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_training_loss_scores_each_prefix_as_score_does(name: str) -> None:
    model = made(name)
    items, lengths = padded([5, 2, 5, 7, 9, 2, 11, 3], [1, 4, 6])
    at = torch.tensor([0, 1, 2, 4, 7, 8, 10])  # positions of the flattened (2, 8)
    targets = torch.tensor([2, 5, 7, 2, 30, 4, 12])
    loss = TrainingStep(model, torch.float32)(Batch(items, lengths, at, targets, None, len(at)))
    prefixes = [items[i // 8, : i % 8 + 1].tolist() for i in at.tolist()]
    seen = torch.zeros(len(prefixes), N_ITEMS + 1)
    for row, prefix in enumerate(prefixes):
        seen[row, prefix] = SCALE
    assert model.repeats is not None
    scores = model.scores(model.encode(*padded(*prefixes))) + seen * model.repeats
    torch.testing.assert_close(scores, model.score(*padded(*prefixes)))
    expected = F.cross_entropy(scores, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter in (model.repeats, model.item_embedding.weight):
        (ours,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected, parameter, retain_graph=True)
        assert theirs.norm() > 0 and (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_plain_models_have_no_bias() -> None:
    model = build("sasrec", N_ITEMS, LENGTH, _settings("sasrec+repeats"))
    assert model.bias(*padded([1, 2])) is None


@pytest.mark.parametrize("name", NAMES)
def test_served_scores_have_the_bias_too(name: str) -> None:
    model = made(name, bias=0.3)
    server = serve(model)
    assert server.path == "compiled loops"
    for history in ([5, 2, 5, 7, *range(10, 20)], [3]):  # longer than the window, and one item
        for exclude_seen in (False, True):
            ids, scores = server.recommend([history], 8, exclude_seen=exclude_seen)
            with torch.no_grad():
                expected = model.score(*padded(history))[0]
                expected[[0, *(history if exclude_seen else [])]] = -torch.inf
            best = expected.topk(8)
            assert set(ids[0].tolist()) == set(best.indices.tolist())
            torch.testing.assert_close(torch.from_numpy(scores[0]), best.values, rtol=1e-4, atol=1e-4)
            assert exclude_seen or set(history) & set(ids[0].tolist())


def test_earlier_items_are_those_of_each_prefix_once() -> None:
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 9):
        items = torch.randint(1, 6, (4, length), generator=generator)
        at = torch.randperm(4 * length, generator=generator)[: 2 * length].sort().values
        found = earlier_items(items, at)
        assert found.shape == (len(at), length)
        for position, row in zip(at.tolist(), found.tolist(), strict=True):
            prefix = items[position // length, : position % length + 1].tolist()
            assert sorted(item for item in row if item) == sorted(set(prefix))

from __future__ import annotations

import math

import pytest
import torch

from seqrec_lib.models.sasrec import SASRec, SelfAttention


def model(dropout: float = 0.0) -> SASRec:
    torch.manual_seed(0)
    return SASRec(30, 12, d_model=16, n_layers=2, n_heads=2, dropout=dropout)


@pytest.mark.parametrize(("max_length", "expected"), [(50, 321_984), (200, 331_584)])
def test_has_recboles_size_on_ml_1m(max_length: int, expected: int) -> None:
    """3,417 x 64 item and max_length x 64 position embeddings, 2 layers of 49,984, one LayerNorm of 128."""
    total, body = SASRec(3_416, max_length).parameter_counts()
    assert total == expected and total - body == 3_417 * 64


def test_attention_equals_the_textbook_in_float64() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, 2).double()
    x = torch.randn(3, 7, 8, dtype=torch.float64, requires_grad=True)
    q, k, v = (part.view(3, 7, 2, 4).permute(0, 2, 1, 3) for part in attention.qkv(x).chunk(3, dim=-1))
    weights = q @ k.transpose(-1, -2) / math.sqrt(4)
    weights = weights.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf).softmax(-1)
    expected = attention.out((weights @ v).permute(0, 2, 1, 3).reshape(3, 7, 8))
    found = attention(x)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), (x, *attention.parameters()), retain_graph=True),
        torch.autograd.grad(expected.square().sum(), (x, *attention.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_output_at_a_position_ignores_what_comes_later() -> None:
    net = model().eval()
    items = torch.randint(1, 31, (4, 12))
    changed = items.clone()
    changed[:, 7:] = torch.randint(1, 31, (4, 5))
    lengths = torch.full((4,), 12)
    torch.testing.assert_close(net.hidden(items, lengths)[:, :7], net.hidden(changed, lengths)[:, :7])


def test_encoding_the_last_position_alone_equals_the_full_pass() -> None:
    net = model().double().eval()
    items, lengths = torch.randint(1, 31, (5, 12)), torch.tensor([12, 1, 4, 7, 12])
    full = net.hidden(items, lengths)[torch.arange(5), lengths - 1]
    torch.testing.assert_close(net.encode(items, lengths), full)


def test_scores_leave_padding_out() -> None:
    net = model().eval()
    scores = net.score(torch.tensor([[3, 4]]), torch.tensor([2]))
    assert scores.shape == (1, 31) and scores[0, 0] == -torch.inf and torch.isfinite(scores[0, 1:]).all()


def test_too_long_a_history_is_refused() -> None:
    with pytest.raises(ValueError, match="13 items exceeds max_length 12"):
        model().hidden(torch.ones(1, 13, dtype=torch.int64), torch.tensor([13]))


def test_dropout_comes_after_the_first_layer_norm() -> None:
    """Dropping all of an embedding leaves nothing of it, the norm's bias included."""
    own = model().train()
    with torch.no_grad():
        own.norm.bias.normal_()
    own.dropout = torch.nn.Threshold(float("inf"), 0.0)  # type: ignore[assignment]
    assert not own._embed(torch.arange(1, 5)[None]).any()

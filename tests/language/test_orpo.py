"""ORPO's loss against float64 and TRL's own functions, at extreme logits; equations (6) to (8) with their sign."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch.nn import functional as F

from seqrec_lib.language.objectives import answer_loss
from seqrec_lib.language.orpo import odds_ratio_loss, token_log_odds


def reference_log_odds(logits: torch.Tensor, token: int) -> torch.Tensor:
    """By the definition: the logsumexp over all the other tokens, one token at a time, in float64."""
    z = logits.double()
    keep = torch.arange(z.shape[-1]) != token
    return z[..., token] - z[..., keep].logsumexp(-1)


def test_log_odds_by_hand() -> None:
    logits = torch.tensor([[math.log(2.0), math.log(1.0), math.log(1.0)]])  # p = 1/2, 1/4, 1/4
    found = token_log_odds(logits, torch.tensor([[0, 1, 2]]))[0]
    assert found.tolist() == pytest.approx([0.0, -math.log(3), -math.log(3)], abs=1e-6)


@pytest.mark.parametrize("vocabulary", [2, 20, 32_000])
@pytest.mark.parametrize("scale", [1.0, 20.0, 200.0])
def test_log_odds_are_those_of_float64_at_every_scale(vocabulary: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = scale * torch.randn(4, vocabulary, generator=generator)
    tokens = torch.stack([row.topk(2).indices for row in logits])  # the hard ones: the surest and the next
    tokens = torch.cat([tokens, torch.randint(vocabulary, (4, 3), generator=generator)], dim=1)
    found = token_log_odds(logits, tokens)
    for row in range(4):
        for column in range(5):
            exact = reference_log_odds(logits[row], int(tokens[row, column]))
            close = 4 * torch.finfo(torch.float32).eps * float(logits[row].abs().max())  # of float32's last digits
            assert found[row, column].item() == pytest.approx(exact.item(), rel=2e-6, abs=max(close, 1e-5))


def test_log_odds_have_the_gradients_of_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (1.0, 30.0, 200.0):
        logits = (scale * torch.randn(6, 9, generator=generator)).requires_grad_()
        tokens = torch.randint(9, (6, 4), generator=generator)
        weight = torch.randn(6, 4, generator=generator)
        (token_log_odds(logits, tokens) * weight).sum().backward()
        wide = logits.detach().double().requires_grad_()
        parts = [reference_log_odds(wide[r], int(tokens[r, c])) * weight[r, c] for r in range(6) for c in range(4)]
        torch.stack(parts).sum().backward()
        assert logits.grad is not None and wide.grad is not None
        torch.testing.assert_close(logits.grad.double(), wide.grad, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def trl():
    """TRL's ORPO trainer class, used for its pure functions. TRL marks it as experimental: it may move."""
    return pytest.importorskip("trl.experimental.orpo.orpo_trainer").ORPOTrainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(5))
def test_on_ordinary_logits_the_loss_is_that_of_trl(trl, seed: int) -> None:
    """Of letters behind a prompt; as sequences, TRL reads position 1 for the token at position 2."""
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(4, 3, 11, generator=generator)).requires_grad_()
    letters, chosen, rejected = torch.tensor([3, 9, 4, 0]), torch.tensor([0, 1, 2, 3]), torch.tensor([2, 0, 3, 1])
    labels = torch.full((2, 4, 3), -100)
    labels[0, :, 2], labels[1, :, 2] = letters[chosen], letters[rejected]
    log_p = [trl.get_batch_logps(logits, own, average_log_prob=True) for own in labels]
    stub = types.SimpleNamespace(beta=0.05, accelerator=types.SimpleNamespace(device="cpu"))
    theirs = F.cross_entropy(logits[:, 1], letters[chosen]) - trl.odds_ratio_loss(stub, *log_p)[0].mean()
    ours = answer_loss("orpo", logits[:, 1], letters, chosen, rejected, lambda_=0.05).mean()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    odds = log_p[0] - torch.log1p(-log_p[0].exp())
    found = token_log_odds(logits[:, 1], letters[chosen][:, None])[:, 0]
    assert found.tolist() == pytest.approx(odds.tolist(), abs=1e-5)
    (their_gradient,) = torch.autograd.grad(theirs, logits, retain_graph=True)
    (our_gradient,) = torch.autograd.grad(ours, logits)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_where_trl_breaks_ours_stays_finite(trl) -> None:
    """A letter 200 above the rest, chosen or rejected: TRL's gradient is no number, ours is."""
    stub = types.SimpleNamespace(beta=1.0, accelerator=types.SimpleNamespace(device="cpu"))
    for chosen, rejected in ((0, 1), (1, 0)):
        logits = torch.tensor([[200.0, 0.0, 1.0, -3.0]], requires_grad=True)
        odds = token_log_odds(logits, torch.tensor([[chosen, rejected]]))[0]
        loss = -F.logsigmoid(odds[0]) + odds_ratio_loss(odds[0], odds[1])
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()
        assert gradient.abs().max() <= 4  # L_SFT and each log-odds have slopes of at most 1 and 2
        log_p = logits.log_softmax(-1)
        theirs = -trl.odds_ratio_loss(stub, log_p[:, chosen], log_p[:, rejected])[0].mean()
        assert not torch.isfinite(torch.autograd.grad(theirs, logits)[0]).all()  # or this test guards nothing


def test_the_gradient_is_minus_delta_times_h() -> None:
    """Equations (6) to (8), each factor from its own definition in float64, with the sign that the paper leaves out."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(7, generator=generator, dtype=torch.float64).requires_grad_()
    won, lost = 2, 5
    odds = token_log_odds(z, torch.tensor([won, lost]))
    (found,) = torch.autograd.grad(odds_ratio_loss(odds[0], odds[1]), z)
    log_p = z.log_softmax(-1)
    p = log_p.exp().detach()
    gradients = [torch.autograd.grad(log_p[i], z, retain_graph=True)[0] for i in (won, lost)]
    ratio = (p[won] / (1 - p[won])) / (p[lost] / (1 - p[lost]))
    delta = 1 / (1 + ratio)
    h = gradients[0] / (1 - p[won]) - gradients[1] / (1 - p[lost])
    torch.testing.assert_close(found, -delta * h)
    assert found[won] < 0 < found[lost]  # a step against the gradient raises the chosen answer


def test_several_rejected_answers_contain_the_single_one() -> None:
    chosen, rejected = torch.tensor([0.5, -1.0]), torch.tensor([[0.2], [3.0]])
    torch.testing.assert_close(odds_ratio_loss(chosen, rejected), odds_ratio_loss(chosen, rejected[:, 0]))
    two = torch.tensor([[0.2, -0.4], [3.0, -torch.inf]])
    by_hand = [math.log(1 + math.exp(0.2 - 0.5) + math.exp(-0.4 - 0.5)), math.log(1 + math.exp(3 + 1))]
    assert odds_ratio_loss(chosen, two).tolist() == pytest.approx(by_hand, rel=1e-6)

"""The ladder of objectives: by hand, against the definitions, and the identity between S-DPO and cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.objectives import OBJECTIVES, answer_loss
from seqrec_lib.language.orpo import token_log_odds

LETTERS = torch.tensor([3, 9, 4, 0])


def batch(seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(5, 12, generator=generator, dtype=torch.float64)
    reference = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    chosen = torch.tensor([0, 1, 2, 3, 0])
    return logits, chosen, (chosen + torch.tensor([1, 2, 3, 1, 2])) % 4, reference


def test_s_dpo_without_reference_over_all_others_is_cross_entropy_over_the_letters() -> None:
    logits, chosen, rejected, _ = batch()
    listwise = answer_loss("s-dpo", logits, LETTERS, chosen, rejected, torch.zeros(5, 4))
    letters = answer_loss("letters", logits, LETTERS, chosen, rejected)
    assert (listwise - letters).abs().max() < 1e-14


def test_each_objective_by_its_definition() -> None:
    logits, chosen, rejected, reference = batch(1)
    log_p = logits.log_softmax(-1)
    before = reference.log_softmax(-1)  # a reference's own normaliser must not matter
    for row in range(5):
        w, lost = int(chosen[row]), int(rejected[row])
        win, lose = log_p[row, LETTERS[w]], log_p[row, LETTERS[lost]]
        margin = [(log_p[row, LETTERS[j]] - before[row, j]) - (win - before[row, w]) for j in range(4) if j != w]
        odds = [log_p[row, i] - torch.log1p(-log_p[row, i].exp()) for i in LETTERS]
        others = torch.stack([odds[j] for j in range(4) if j != w]).exp().sum()
        expected = {
            "sft": -win,
            "letters": -logits[row, LETTERS].log_softmax(-1)[w],
            "dpo": -F.logsigmoid(0.7 * ((win - before[row, w]) - (lose - before[row, lost]))),
            "s-dpo": -F.logsigmoid(-torch.stack([0.7 * m for m in margin]).logsumexp(0)),
            "simpo": -F.logsigmoid(0.7 * (win - lose) - 0.3),
            "orpo": -win - 0.2 * F.logsigmoid(odds[w] - odds[lost]),
            "orpo-multi": -win + 0.2 * torch.log1p(others / odds[w].exp()),
        }
        assert set(expected) == set(OBJECTIVES)
        for name, value in expected.items():
            found = answer_loss(name, logits, LETTERS, chosen, rejected, reference, beta=0.7, gamma=0.3, lambda_=0.2)[
                row
            ]
            assert found.item() == pytest.approx(float(value), rel=1e-10), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_gradient_raises_the_chosen_letter_and_stays_finite_at_any_gap(objective: str) -> None:
    for scale in (1.0, 200.0):
        logits, chosen, rejected, reference = batch(2, scale)
        narrow = logits.float().requires_grad_()
        loss = answer_loss(objective, narrow, LETTERS, chosen, rejected, reference.float())
        (gradient,) = torch.autograd.grad(loss.sum(), narrow)
        assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()
        assert (gradient.gather(1, LETTERS[chosen][:, None]) <= 0).all()


def test_one_rejected_letter_of_two_makes_the_many_and_the_one_equal() -> None:
    logits, _, _, reference = batch(3)
    pair, chosen, rejected = LETTERS[:2], torch.tensor([0, 1, 1, 0, 1]), torch.tensor([1, 0, 0, 1, 0])
    for one, many in (("dpo", "s-dpo"), ("orpo", "orpo-multi")):
        losses = [answer_loss(n, logits, pair, chosen, rejected, reference[:, :2]) for n in (one, many)]
        torch.testing.assert_close(losses[0], losses[1])


def test_uniform_logits_by_hand_and_what_is_refused() -> None:
    logits, chosen, rejected = torch.zeros(1, 12), torch.tensor([0]), torch.tensor([1])
    orpo = answer_loss("orpo", logits, LETTERS, chosen, rejected, lambda_=0.05)
    assert orpo.item() == pytest.approx(math.log(12) + 0.05 * math.log(2), rel=1e-6)
    assert token_log_odds(logits, LETTERS[None])[0].tolist() == pytest.approx([-math.log(11)] * 4, rel=1e-6)
    with pytest.raises(SeqRecError, match="reference"):
        answer_loss("dpo", logits, LETTERS, chosen, rejected)
    with pytest.raises(SeqRecError, match="unknown objective 'ppo'"):
        answer_loss("ppo", logits, LETTERS, chosen, rejected)

"""What a ranker of letters can be tuned on, all from the same logits: the ladder of objectives.

The answer to a ranking prompt is one letter, so that a single forward pass gives the likelihood of the chosen and of
every rejected candidate. With z the logits at the prompt's last token, w the chosen letter, l the rejected ones, and
r the reference model's (the model before tuning):

    sft         -log softmax_V(z)_w                                over the whole vocabulary
    letters     -log softmax_K(z)_w                                over the letters
    dpo         -log sigmoid(b [(z_w - z_l) - (r_w - r_l)])        one l (Rafailov et al. 2023); the softmax cancels
    s-dpo       -log sigmoid(-log sum_l exp(b [(z_l - r_l) - (z_w - r_w)]))     many l (Chen et al. 2024)
    simpo       -log sigmoid(b (z_w - z_l) - g)                    no reference (Meng et al. 2024)
    orpo        sft + lambda L_OR                                  one l, :mod:`seqrec_lib.language.orpo`
    orpo-multi  the same with the rejected letters' odds summed

With b = 1, no reference and all other letters rejected, s-dpo *is* letters: log(1 + sum_l exp(z_l - z_w)) is the
cross-entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.orpo import odds_ratio_loss, token_log_odds

OBJECTIVES = ("sft", "letters", "dpo", "s-dpo", "simpo", "orpo", "orpo-multi")
NEEDS_REFERENCE = ("dpo", "s-dpo")
LETTERS_ALONE = ("letters", "dpo", "s-dpo", "simpo")  # the others take odds over the whole vocabulary


def answer_loss(
    objective: str,
    logits: Tensor,
    letters: Tensor,
    chosen: Tensor,
    rejected: Tensor,
    reference: Tensor | None = None,
    *,
    beta: float = 1.0,
    gamma: float = 0.5,
    lambda_: float = 0.05,
) -> Tensor:
    """The loss of each prompt, (B,).

    Args:
        logits: (B, V) at the prompt's last token. letters: (K,) their token ids.
        chosen, rejected: (B,) indices of letters. Objectives over many take all but the chosen as rejected.
        reference: (B, K) letter logits of the reference model; dpo and s-dpo need it.
        beta: of dpo, s-dpo and simpo. gamma: simpo's margin. lambda_: ORPO's weight (the paper's alpha).

    Raises:
        SeqRecError: an unknown objective, or no reference for one that needs it.
    """
    if objective not in OBJECTIVES:
        raise SeqRecError(f"unknown objective {objective!r}; there are {', '.join(OBJECTIVES)}")
    if objective in NEEDS_REFERENCE and reference is None:
        raise SeqRecError(f"{objective} compares with a reference model; give its letter logits")
    pool = logits[:, letters]
    if objective == "letters":
        return F.cross_entropy(pool, chosen, reduction="none")
    if objective in ("sft", "orpo", "orpo-multi"):
        nll = F.cross_entropy(logits, letters[chosen], reduction="none")
        if objective == "sft":
            return nll
        odds = token_log_odds(logits, letters.expand(len(logits), -1))
        lost = _at(odds, rejected) if objective == "orpo" else _others(odds, chosen)
        return nll + lambda_ * odds_ratio_loss(_at(odds, chosen), lost)
    if objective == "simpo":
        return F.softplus(gamma - beta * (_at(pool, chosen) - _at(pool, rejected)))
    change = beta * (pool - reference) if reference is not None else beta * pool
    if objective == "dpo":
        return F.softplus(_at(change, rejected) - _at(change, chosen))
    return F.softplus(_others(change, chosen).logsumexp(-1) - _at(change, chosen))


def _at(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index.unsqueeze(1)).squeeze(1)


def _others(values: Tensor, index: Tensor) -> Tensor:
    """The values with -inf at ``index``: it takes no part in a sum of exponentials."""
    return values.scatter(1, index.unsqueeze(1), -torch.inf)

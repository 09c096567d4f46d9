"""The ORPO loss (Hong et al. 2024; the paper's equations 1 to 8) from logits, finite whatever a model is sure of.

For an answer y to a prompt x, P(y|x) is the geometric mean of its tokens' probabilities (1). The answers of this study
are letters, one token each, and

    odds(y|x) = P / (1 - P)                                                    (2)
    L_OR      = -log sigmoid(log odds(y_w|x) - log odds(y_l|x))                (3, 5)
    L         = L_SFT + lambda L_OR                                            (4)

with the chosen answer y_w and the rejected one y_l. The gradient is

    grad L_OR = -delta h,   delta = 1 / (1 + odds(y_w|x) / odds(y_l|x))        (6, 7)
    h         = grad log P(y_w|x) / (1 - P(y_w|x)) - grad log P(y_l|x) / (1 - P(y_l|x))    (8)

(The paper prints (6) without its minus sign: L_OR falls along h.)

The usual way takes log P and then log(1 - exp(log P)). Once a model is sure, log P rounds to zero, and what follows is
infinite, its gradient not a number. Here, for a token i with logit z_i,

    log odds_i = z_i - log sum_{j != i} exp z_j,

exactly; `token_log_odds` takes that form for the likeliest token of a row and one that cannot cancel for the others.

Glossary: B prompts, V tokens of the vocabulary, K answers to one prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def token_log_odds(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-odds of tokens: z_i - logsumexp over j != i of z_j.

    At most one token of a row, its likeliest, has a probability above one half; for it the sum over the others is
    taken. For any other, log(1 - p) is accurate, and its slope p / (1 - p) is at most 1.

    Args:
        logits: (..., V), V at least 2. tokens: (..., K) int64.

    Returns:
        (..., K), in the dtype of ``logits``.

    >>> token_log_odds(torch.tensor([0.0, 200.0, 0.0]), torch.tensor([1, 2]))  # e^200 against 1 + 1
    tensor([ 199.3069, -200.0000])
    """
    top = logits.argmax(-1, keepdim=True)
    others = logits.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)
    own = logits.gather(-1, tokens)
    is_top = tokens == top
    # The unused branch gets a harmless value before the function, so that its gradient is no NaN.
    log_p = torch.where(is_top, torch.full_like(own, -1.0), own - logits.logsumexp(-1, keepdim=True))
    return torch.where(is_top, own - others, log_p - torch.log1p(-log_p.exp()))


def odds_ratio_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """L_OR of equation (5) for each pair, from log-odds (B,); with several rejected answers (B, K), all at once:

        log(1 + sum_l exp(log odds_l - log odds_w)),

    which is (5) for K = 1 and compares the chosen answer with the sum of the rejected ones' odds. A rejected answer of
    log-odds -inf takes no part.
    """
    if rejected.ndim > chosen.ndim:
        rejected = rejected.logsumexp(-1)
    return F.softplus(rejected - chosen)

"""How beta depends on the batch at one point of training, with nothing else changing.

At a point x, a step is taken along the gradient of m batches, the gradient of m others is taken at its end, and beta
and r are noted; then the parameters return to x. There are two kinds of step: "real", d = -g / H with one H for all m,
and "fixed", all of one length. The noise makes a real step longer, so that E beta contains the noise's variance, which
goes as 1 / m; with a fixed length it contains the noise's size, which goes as 1 / sqrt(m).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_lib.optim.flat import FlatGroup


def measure(
    model: nn.Module,
    backward: Callable[[int], int],
    n_batches: int,
    *,
    H: float,
    sizes: Sequence[int],
    draws: int,
    rng: np.random.Generator,
) -> list[dict[str, float | str]]:
    """Rows (step, m, draw, beta, r).

    Args:
        backward: adds the gradient of the *sum* of batch ``i``'s losses to ``.grad``; returns the number of targets.
        n_batches: batches there are; two disjoint sets of m must fit: larger sizes are left out.
        sizes: the m; draws: pairs of sets for each, and as many times 4 / m where m is smaller than 4 and the noise is
            larger; H: inverse step size of the real steps.
    """
    flat = FlatGroup(list(model.parameters()))
    flat.allocate("x", "g", "after", "d")
    flat.load_parameters("x")

    def gradient(name: str, batches: np.ndarray) -> Tensor:
        model.zero_grad()
        targets = sum(backward(int(i)) for i in batches)
        return flat.load_gradients(name).div_(targets)

    rows: list[dict[str, float | str]] = []
    length = None
    for m in sizes:
        if 2 * m > n_batches:
            continue
        for draw in range(draws * max(1, 4 // m)):
            chosen = rng.permutation(n_batches)[: 2 * m]
            g = gradient("g", chosen[:m])
            if length is None:  # of the first real step, the longest there is on average
                length = float(torch.linalg.vector_norm(g)) / H
            for step, scale in (("real", 1.0 / H), ("fixed", length / float(torch.linalg.vector_norm(g)))):
                d = torch.mul(g, -scale, out=flat["d"])
                with torch.no_grad():
                    torch._foreach_add_(flat.parameters, flat.buffers()["d"])
                change = gradient("after", chosen[m:]).sub_(g)
                beta, r = float(torch.dot(change, d)), float(torch.linalg.vector_norm(d))
                rows.append({"step": step, "m": m, "draw": draw, "beta": beta, "r": r})
                flat.store_parameters("x")
    model.zero_grad()
    return rows

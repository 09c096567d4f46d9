"""Cross-entropy over the whole catalogue without keeping the logits.

For P positions and V items the logits have P x V entries: 44 MB for 3,200 positions of ML-1M, 2.7 GB at the
211,452 items of the paper's largest catalogue. The loss below walks over the positions in chunks that stay in the
cache, in one buffer, and computes the gradients in the forward pass: nothing of that size is kept or computed twice.

Glossary: h (P, d) encoded positions, W (V, d) item embeddings (row 0 is padding), y (P,) targets, b a number that is
added to the logits of chosen items of each position (the repeat bias of :mod:`seqrec_lib.models.repeats`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_CHUNK_ELEMENTS = 2**19  # logits held at a time on a CPU: 2 MB, within the cache
_CHUNK_ELEMENTS_CUDA = 2**28  # on a GPU large products matter more than the cache
_ROWS = 64  # positions of a chunk are a multiple of this: W is read once for each chunk
_COLUMNS = 16  # logits of a position are a multiple of this: unaligned rows halve the rate of a CPU's products


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        counted: Tensor | None,
        bias: Tensor | None,
        biased: Tensor | None,
    ) -> Tensor:
        n, n_rows = len(h), len(weight)
        columns = -(-n_rows // _COLUMNS) * _COLUMNS
        limit = _CHUNK_ELEMENTS if h.device.type == "cpu" else _CHUNK_ELEMENTS_CUDA
        size = max(1, limit // columns // _ROWS) * _ROWS
        w = F.pad(weight.to(dtype), (0, 0, 0, columns - n_rows))
        logits = torch.empty((min(size, -(-n // _ROWS) * _ROWS), columns), device=h.device, dtype=dtype)
        grad_h = torch.empty_like(h)
        wide = torch.promote_types(h.dtype, torch.float32)
        grad_w = torch.zeros((columns, weight.shape[1]), device=weight.device, dtype=wide)
        total = torch.zeros((), device=h.device, dtype=torch.float64)
        grad_bias = torch.zeros((), device=h.device, dtype=torch.float64)
        for begin in range(0, n, size):
            y = targets[begin : begin + size].unsqueeze(1)
            rows = len(y)
            # A remainder is filled up with zero rows: matrix kernels are built and cached per shape, and a shape of
            # its own for each batch costs time and gigabytes. Zero rows add nothing to the products below.
            part = F.pad(h[begin : begin + size].to(dtype), (0, 0, 0, -rows % _ROWS))
            z = torch.mm(part, w.T, out=logits[: len(part)])
            if bias is not None and biased is not None:
                items = biased[begin : begin + size]
                z[:rows].scatter_add_(1, items, bias.to(dtype).expand(items.shape))
            z[:, 0] = -torch.inf  # padding is no item, and neither are the columns that fill up a row
            z[:, n_rows:] = -torch.inf
            top = z.amax(dim=1, keepdim=True)
            of_target = z[:rows].gather(1, y)
            z.sub_(top).exp_()
            norm = z.sum(dim=1, keepdim=True, dtype=wide)
            of_all = norm.double().log() + top.double()
            if counted is not None:  # what does not count gets no gradient either: its factors are zero
                counts = counted[begin : begin + size].unsqueeze(1)
                of_target, of_all = of_target * counts, of_all[:rows] * counts
                part = part * F.pad(counts.to(dtype), (0, 0, 0, -rows % _ROWS))
            total -= of_target.sum(dtype=torch.float64)
            total += of_all[:rows].sum()
            # d loss / d logits = z / norm - onehot(y); dividing the small factors of its products saves a pass over z
            z[:rows].scatter_add_(1, y, -norm[:rows].to(dtype))
            of_h = ((z @ w) / norm)[:rows]
            if biased is not None:
                of_bias = z[:rows].gather(1, items).to(wide) / norm[:rows]
                grad_bias += (of_bias if counted is None else of_bias * counts).sum(dtype=torch.float64)
            grad_h[begin : begin + size] = of_h if counted is None else of_h * counts
            grad_w += z.T @ (part / norm).to(dtype)
        number = n if counted is None else counted.sum()
        ctx.save_for_backward(
            grad_h.div_(number), grad_w[:n_rows].div_(number).to(weight.dtype), grad_bias.div_(number).to(h.dtype)
        )
        return (total / number).to(h.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_h, grad_w, grad_bias = ctx.saved_tensors
        of_bias = grad_bias * gradients[0] if ctx.needs_input_grad[5] else None
        return grad_h * gradients[0], grad_w * gradients[0], None, None, None, of_bias, None


def catalogue_cross_entropy(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype | None = None,
    counted: Tensor | None = None,
    bias: Tensor | None = None,
    biased: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of softmax(h W^T) over items 1..V-1 (paper, section 3, prediction layer).

    Equal to ``F.cross_entropy(h @ weight.T, targets)`` with the padding column removed; differentiable once.

    Args:
        h: (P, d) encoded positions; weight: (V, d) item embeddings; targets: (P,) int64 ids in 1..V-1.
        dtype: of the matrix products; ``torch.bfloat16`` is about twice as fast where the hardware has it (sums
            are still taken in float32). Default: that of ``h``.
        counted: (P,) bool: the mean is over these positions; default: over all.
        bias: a number, added at each position to the logits of the items ``biased``: (P, L) int64 ids, each once, and 0
            in places that hold none.

    Raises:
        ValueError: there is no position to take the loss at, or ``bias`` and ``biased`` are not given together.
    """
    _check(h, bias, biased)
    return _CatalogueCrossEntropy.apply(h, weight, targets, dtype or h.dtype, counted, bias, biased)


def sampled_cross_entropy(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: int,
    *,
    dtype: torch.dtype | None = None,
    bias: Tensor | None = None,
    biased: Tensor | None = None,
) -> Tensor:
    """`catalogue_cross_entropy` estimated from a part of the catalogue: for catalogues where the whole takes too long.

    The items are the targets of the batch, which count as they are, and ``negatives`` of the R others, drawn anew each
    time from torch's random numbers, without replacement. Each of these stands for R / negatives items, so that the sum
    of exponentials of each position is estimated without bias. With R or more negatives the loss is exact.
    """
    _check(h, bias, biased)
    n_rows, device = len(weight), h.device
    told = torch.zeros(n_rows, dtype=torch.bool, device=device)
    told[targets] = True
    others = (~told).nonzero()[1:, 0]  # but row 0, the padding
    drawn = others[torch.randperm(len(others), device=device)[:negatives]]
    columns = torch.cat([told.nonzero()[:, 0], drawn])
    stands_for = torch.ones(len(columns), device=device)
    stands_for[len(columns) - len(drawn) :] = len(others) / max(len(drawn), 1)
    z = (h.to(dtype) @ weight[columns].to(dtype).T).to(torch.promote_types(h.dtype, torch.float32))
    place = torch.full((n_rows,), -1, device=device)
    place[columns] = torch.arange(len(columns), device=device)
    if bias is not None and biased is not None:
        position, column = torch.arange(len(h), device=device).unsqueeze(1).expand_as(biased), place[biased]
        here = column >= 0
        z = z.index_put((position[here], column[here]), bias.to(z.dtype), accumulate=True)
    return F.cross_entropy(z + stands_for.log(), place[targets]).to(h.dtype)


def _check(h: Tensor, bias: Tensor | None, biased: Tensor | None) -> None:
    if len(h) == 0:
        raise ValueError("the loss needs at least one position, got 0")
    if (bias is None) != (biased is None):
        raise ValueError("bias and biased go together: a number, and the items whose logits it is added to")

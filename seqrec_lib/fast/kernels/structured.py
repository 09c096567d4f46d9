"""The autograd function over the kernels of `semiseparable`: SSD in one direction, Hydra in two.

A history of c chunks has c - 1 links, each from a chunk that gives a state to a chunk that takes it: link s goes from
chunk s to s + 1, reversed from s + 1 to s. What belongs to links is stored link by link, (links, batch, ...), so that
no product is spent on the state before the first or after the last chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqrec_lib.fast.kernels import semiseparable as kernels
from seqrec_lib.fast.kernels.threads import run

LONGEST_CHUNK = 72


def chunking(length: int, longest: int = LONGEST_CHUNK) -> tuple[int, int]:
    """(chunks, chunk length) for a history: the least padding, and among equals the longest chunk up to `longest`.

    Chunks shorter than half of `longest` are not considered: their matrix products are too small.

    >>> chunking(200), chunking(50), chunking(1000), chunking(97)
    ((4, 50), (1, 50), (20, 50), (2, 49))
    """
    if length <= longest:
        return 1, length
    candidates = range(longest, longest // 2, -1)
    best = min(candidates, key=lambda q: (-(-length // q) * q, -q))
    return -(-length // best), best


def half_wanted() -> bool:
    """Whether the caller runs under `torch.autocast("cpu", dtype=torch.bfloat16)`."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


@dataclass(frozen=True)
class _Direction:
    """What the backward pass needs of one direction (see the glossary of `semiseparable`)."""

    dt: Tensor  # (M, Q, H)
    B: Tensor  # (M, Q, N)
    C: Tensor  # (M, Q, N)
    G: Tensor  # (M, Q, Q)
    entry: Tensor  # (M, Q, H)
    exit: Tensor  # (M, Q, H)
    total: Tensor  # (M, H)
    weighted: Tensor | None  # (M, Q, H P), exit x
    state: Tensor | None  # (links, batch, N, H P)
    across: Tensor | None  # (links, batch, Q, H P), C . state of the taking chunk


class Semiseparable(torch.autograd.Function):
    """y = W x with W filled by one direction (lag 0, causal) or two (lag 1, the second reversed).

    Shapes: x (batch, length, heads, width); delta, dt (batch, length, heads); A (heads,); B, C (batch, length, N).
    length must be a multiple of the chunk length. With lag 1, C is shifted by the caller (row i holds C_(i-1), or
    C_(i+1) in the reversed direction). All float32; with `half` the matrix products round their factors and
    results to bfloat16, twice as fast on processors that multiply it (errors near 0.3 %).
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, chunk: int, lag: int, half: bool, x: Tensor, delta: Tensor, A: Tensor, *directions: Tensor
    ) -> Tensor:
        batch, length, heads, width = x.shape
        chunks, per_history = batch * length // chunk, length // chunk
        x = x.contiguous().view(chunks, chunk, heads * width)
        delta, A = delta.contiguous(), A.contiguous()
        W = x.new_empty(heads, chunks, chunk, chunk)
        parts = []
        for index in range(len(directions) // 3):
            dt, B, C = (part.contiguous().view(chunks, chunk, -1) for part in directions[3 * index : 3 * index + 3])
            reverse, N = index, B.shape[2]
            G = _product(C, B.mT, half)
            entry, leave, total = torch.empty_like(dt), torch.empty_like(dt), dt.new_empty(chunks, heads)
            shape = (chunks, chunk, heads, lag, reverse, int(index == 0))
            run(kernels.weights_forward, chunks, *shape, G, dt, A, delta, W, entry, leave, total)
            weighted = state = across = None
            if per_history > 1:
                weighted = _scaled(x, leave)
                give, take = _link_ends(index)
                state = _per_link(B.mT, weighted, batch, give, give, half)
                splits = _splits(batch, N)
                sizes = (per_history - 1, N, heads, width, reverse, splits, batch)
                run(kernels.states_forward, batch * splits, *sizes, state, total)
                across = _per_link(C, state, batch, take, None, half)
            parts.append(_Direction(dt, B, C, G, entry, leave, total, weighted, state, across))
        inside = _per_head(W, x, heads, half)
        taken = [(part.entry, part.across, _link_ends(i)[1]) for i, part in enumerate(parts)]
        y = _gather(inside, taken, batch)
        if any(ctx.needs_input_grad):
            ctx.x, ctx.A, ctx.W, ctx.parts = x, A, W, parts
            ctx.lag, ctx.half, ctx.shape = lag, half, (batch, length, heads, width)
        return y.view(batch, length, heads, width)

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, A, W, parts, half = ctx.x, ctx.A, ctx.W, ctx.parts, ctx.half
        batch, length, heads, width = ctx.shape
        chunks, chunk = x.shape[:2]
        per_history = chunks // batch
        dy = dy.contiguous().view(chunks, chunk, heads * width)
        dW = torch.empty_like(W)
        for h in range(heads):
            head = slice(h * width, (h + 1) * width)
            _product(dy[..., head], x[..., head].mT, half, out=dW[h])
        inside = _per_head(W.mT, dy, heads, half)
        dA, ddelta = torch.zeros_like(A), x.new_empty(chunks, chunk, heads)
        given, gradients = [], []
        for index, part in enumerate(parts):
            N = part.B.shape[2]
            dlog_entry, dexit = torch.zeros_like(part.dt), torch.zeros_like(part.dt)
            splits = _splits(batch, N)
            dlog_total = x.new_zeros(splits, chunks, heads)
            dB_link = dC_link = dweighted = None
            if per_history > 1:
                give, take = _link_ends(index)
                scaled = _scaled(dy, part.entry)
                _linked(dlog_entry, batch, take).copy_(_row_products(_linked(scaled, batch, take), part.across, heads))
                dC_link = _per_link(scaled, part.state.mT, batch, take, None, half)
                dstate = _per_link(part.C.mT, scaled, batch, take, take, half)
                run(
                    kernels.states_backward, batch * splits, per_history - 1, N, heads, width, index, splits, batch,
                    dstate, part.total, part.state, dlog_total,
                )  # fmt: skip
                dweighted = _per_link(part.B, dstate, batch, give, None, half)
                dB_link = _per_link(part.weighted, dstate.mT, batch, give, None, half)
                _linked(dexit, batch, give).copy_(_row_products(_linked(x, batch, give), dweighted, heads))
            dG, ddt, dA_part = torch.empty_like(part.G), torch.empty_like(part.dt), x.new_empty(chunks, heads)
            run(
                kernels.weights_backward, chunks, chunks, chunk, heads, ctx.lag, index, int(index == 0), part.G,
                part.dt, A, dW, dlog_entry, dexit, dlog_total, splits, dG, ddt, dA_part, ddelta,
            )  # fmt: skip
            dC, dB = _product(dG, part.B, half), _product(dG.mT, part.C, half)
            if dC_link is not None and dB_link is not None:
                give, take = _link_ends(index)
                _linked(dC, batch, take).add_(dC_link)
                _linked(dB, batch, give).add_(dB_link)
            dA += dA_part.sum(0)
            given.append((part.exit, dweighted, _link_ends(index)[0]))
            gradients += [ddt.view(batch, length, heads), dB.view(batch, length, N), dC.view(batch, length, N)]
        dx = _gather(inside, given, batch).view(batch, length, heads, width)
        return None, None, None, dx, ddelta.view(batch, length, heads), dA, *gradients


def _splits(batch: int, states: int) -> int:
    """Parts into which d_state is cut so that every thread has a task."""
    return min(states, max(1, -(-torch.get_num_threads() // batch)))


def _product(a: Tensor, b: Tensor, half: bool, out: Tensor | None = None) -> Tensor:
    """a b for batches of matrices, into `out` if given; by way of bfloat16 if `half`."""
    if half:
        product = torch.bmm(a.bfloat16(), b.bfloat16())
        return product.float() if out is None else out.copy_(product)
    return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)


def _link_ends(reverse: int) -> tuple[int, int]:
    """(give, take): chunk c gives to link c - give and takes from link c - take."""
    return (1, 0) if reverse else (0, 1)


def _per_link(a: Tensor, b: Tensor, batch: int, chunk_of_a: int, chunk_of_b: int | None, half: bool) -> Tensor:
    """a b for every link: (links, batch, rows, columns).

    a is (M, ., .), read at chunk s + chunk_of_a of link s; b likewise, or (links, batch, ., .) if chunk_of_b is None.
    """
    a = a.unflatten(0, (batch, -1))
    if chunk_of_b is not None:
        b = b.unflatten(0, (batch, -1))
    links = a.shape[1] - 1
    out = a.new_empty(links, batch, a.shape[2], b.shape[3])
    for s in range(links):
        factor = b[s] if chunk_of_b is None else b[:, s + chunk_of_b]
        _product(a[:, s + chunk_of_a], factor, half, out=out[s])
    return out


def _linked(x: Tensor, batch: int, offset: int) -> Tensor:
    """The chunks of x (M, Q, .) at one end of the links, as a view (links, batch, Q, .): chunk s + offset of link s."""
    x = x.unflatten(0, (batch, -1))
    return x[:, offset : offset + x.shape[1] - 1].transpose(0, 1)


def _scaled(x: Tensor, factor: Tensor) -> Tensor:
    """x (M, Q, H P) times a factor for each head, (M, Q, H)."""
    return (x.unflatten(2, (factor.shape[2], -1)) * factor[..., None]).flatten(2)


def _row_products(a: Tensor, b: Tensor, heads: int) -> Tensor:
    """a . b for each row of a head: (links, batch, Q, H P) both -> (links, batch, Q, H)."""
    return (a * b).unflatten(3, (heads, -1)).sum(-1)


def _per_head(W: Tensor, x: Tensor, heads: int, half: bool) -> Tensor:
    """W[h] x_h for every head: (H, M, Q, Q) and (M, Q, H P) -> (H, M, Q, P)."""
    width = x.shape[2] // heads
    out = x.new_empty(heads, *x.shape[:2], width)
    for h in range(heads):
        _product(W[h], x[..., h * width : (h + 1) * width], half, out=out[h])
    return out


def _gather(inside: Tensor, linked: list[tuple[Tensor, Tensor | None, int]], batch: int) -> Tensor:
    """(H, M, Q, P) -> (M, Q, H P), plus each direction's links, scaled: (factor, (links, batch, Q, H P), offset)."""
    out = inside.permute(1, 2, 0, 3).flatten(2)
    for factor, values, offset in linked:
        if values is not None:
            to, added = (v.unflatten(3, (len(inside), -1)) for v in (_linked(out, batch, offset), values))
            to.addcmul_(_linked(factor, batch, offset)[..., None], added)
    return out

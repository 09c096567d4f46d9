"""One token of Mamba-2's recurrence for many beams, each going on from another beam's state:

    h_i = decay_i h_parent(i) + x_i b_i^T,    y_i = h_i c_i

The states are by far the largest thing that a decoding step reads and writes, so on a CPU choosing the parents, the
update and the output are one pass over them (`seqrec_lib.fast.kernels.beams`); elsewhere, three.

Glossary: B users, m beams, M beams kept before (1 or m), H heads, P channels of a head, N numbers of state.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqrec_lib.ssm.backends import missing


def advance(
    state: Tensor, parents: Tensor, decay: Tensor, x: Tensor, b: Tensor, c: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The states after one more token, and the outputs without D x.

    Args:
        state: (B, M, H, P, N). parents: (B, m) int64, each beam's place among the M. decay: (B, m, H).
        x: (B, m, H, P), dt already in it. b, c: (B, m, N), shared by the heads.
        out: where to write the new states (not ``state`` itself); by default a new tensor.

    Returns:
        (B, m, H, P, N), (B, m, H, P).
    """
    if not state.is_cuda and state.dtype == torch.float32 and (compiled := _compiled()) is not None:
        return compiled(state, parents, decay, x, b, c, out)
    chosen = state.take_along_dim(parents[:, :, None, None, None], dim=1)
    new = decay[..., None, None] * chosen + x[..., None] * b[:, :, None, None]
    return new, (new * c[:, :, None, None]).sum(-1)


def _compiled() -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The kernel; None without numba or `seqrec_lib.fast`."""
    if missing("cpu"):
        return None
    from seqrec_lib.fast.kernels.beams import advance

    return advance

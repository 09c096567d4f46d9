"""The short depthwise convolution in front of every state-space mixer, followed by SiLU.

out_t = silu(bias + sum_k w_k v_(t + k - past)),    past = taps - 1: causal (Mamba); (taps - 1) / 2: centred (Hydra)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_lib.ssm.padding import Span


def taps_of(conv1d: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Weight (channels, taps) and bias (channels,) of a depthwise convolution; a missing bias is 0."""
    weight = conv1d.weight.squeeze(1)
    return weight, weight.new_zeros(weight.shape[0]) if conv1d.bias is None else conv1d.bias


def short_convolution(
    v: Tensor, weight: Tensor, bias: Tensor, past: int, widths: tuple[int, ...], span: Span, backend: str
) -> tuple[Tensor, ...]:
    """Convolves v (batch, length, channels) along its length and splits the channels into `widths`.

    Args:
        v: the input; padded positions are read as zeros.
        weight, bias: (channels, taps) and (channels,).
        past: how many taps look back; the rest but one look ahead.
        widths: channels of each output; their sum is `channels`.
        span: the real positions; outputs are 0 elsewhere.
        backend: as `backends.choose` says.

    Returns:
        One tensor (batch, length, width) per width.
    """
    taps = weight.shape[1]
    if backend == "cpu":
        from seqrec_lib.fast.kernels.convolution import ConvolutionSiLU

        parts: tuple[Tensor, ...] = ConvolutionSiLU.apply(v, weight, bias, span.lengths, past, 0, widths)
        return parts
    v = span.zero(v)
    if backend == "cuda" and past == taps - 1 and 2 <= taps <= 4:
        from causal_conv1d import causal_conv1d_fn

        # Channels last needs strides that are multiples of 8; otherwise the kernel's channels-first path.
        columns = v.transpose(1, 2) if v.shape[2] % 8 == 0 and v.is_contiguous() else v.transpose(1, 2).contiguous()
        out = causal_conv1d_fn(columns, weight.to(v.dtype), bias.to(v.dtype), activation="silu").transpose(1, 2)
    elif v.is_cuda:
        columns = F.pad(v.transpose(1, 2), (past, taps - 1 - past))
        weight, bias = weight.to(v.dtype), bias.to(v.dtype)
        out = F.silu(F.conv1d(columns, weight[:, None], bias, groups=v.shape[2])).transpose(1, 2)
    else:
        out = F.silu(sum(_shifted_products(v, weight, past), start=bias))
    return span.zero(out).split(list(widths), dim=-1)


def cut_convolutions(
    v: Tensor, weight: Tensor, bias: Tensor, past: int, widths: tuple[int, ...], span: Span, backend: str
) -> tuple[Tensor, ...]:
    """The convolution with its last m = 0, 1, ..., taps - 1 - past taps cut off: what prefixes that end soon see.

    Arguments as for `short_convolution`. Returns tensors (cuts + 1, batch, length, width), index m = taps cut.
    """
    cuts = weight.shape[1] - 1 - past
    if backend == "cpu" and cuts > 0:
        from seqrec_lib.fast.kernels.convolution import ConvolutionSiLU

        parts: tuple[Tensor, ...] = ConvolutionSiLU.apply(v, weight, bias, span.lengths, past, cuts, widths)
        return parts
    products = _shifted_products(span.zero(v), weight, past)
    sums = [sum(products[: past + 1], start=bias)]
    for product in products[past + 1 :]:
        sums.append(sums[-1] + product)
    out = torch.stack([span.zero(F.silu(total)) for total in reversed(sums)])
    return out.split(list(widths), dim=-1)


def convolution_step(window: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution at the newest tokens: window (batch, channels, taps), the newest last -> (batch, channels)."""
    taps = window.shape[2]
    return F.silu((window * weight[:, :taps]).sum(-1) + bias)


def _shifted_products(v: Tensor, weight: Tensor, past: int) -> list[Tensor]:
    """w_k v_(t + k - past) for every tap k, each (batch, length, channels)."""
    length, taps = v.shape[1], weight.shape[1]
    padded = F.pad(v, (0, 0, past, taps - 1 - past))
    return [weight[:, k] * padded[:, k : k + length] for k in range(taps)]

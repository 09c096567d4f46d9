"""Chooses what computes a state-space mixer.

reference   the recurrence as in the paper, one token after another; any device and dtype, slow
matrix      the chunked matrix form in plain PyTorch; any device and dtype (the selective scan has none: recurrence)
cpu         compiled float32 kernels with their own backward (numba, `seqrec_lib.fast.kernels`)
cuda        the kernels of mamba-ssm and causal-conv1d

`auto` takes cuda or cpu where it works and matrix elsewhere. All of them agree: `agreement` measures by how much.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError

BACKENDS = ("auto", "reference", "matrix", "cpu", "cuda")


def choose(requested: str, x: Tensor) -> str:
    """The backend for a tensor: `requested`, or the fastest that works when that is "auto".

    Raises:
        SeqRecError: an unknown backend, or one that does not work for this tensor.
    """
    if requested not in BACKENDS:
        raise SeqRecError(f"no backend {requested!r} for state-space mixers: choose one of {', '.join(BACKENDS)}")
    if requested in ("reference", "matrix"):
        return requested
    kernel = "cuda" if x.is_cuda else "cpu"
    if requested not in ("auto", kernel):
        raise SeqRecError(f"backend {requested!r} asked for a tensor on {x.device.type}: use 'auto'")
    dtypes = (torch.float32, torch.bfloat16) + ((torch.float16,) if x.is_cuda else ())
    if x.dtype not in dtypes or x.device.type not in ("cpu", "cuda"):
        reason: str | None = f"{x.dtype} on {x.device.type} has no kernels"
        expected = True
    else:
        reason, expected = missing(kernel), False
    if reason is None:
        return kernel
    if requested == kernel:
        raise SeqRecError(f"backend {requested!r} does not work here ({reason}): use 'auto'")
    if not expected:
        warnings.warn(f"slow state-space mixers: {reason}", RuntimeWarning, stacklevel=2)
    return "matrix"


@functools.cache
def missing(kernel: str) -> str | None:
    """Why the "cpu" or "cuda" kernels cannot be used, in one line with what to do; None where they can."""
    try:
        if kernel == "cpu":
            # the smallest of them: compiles and is cached
            importlib.import_module("seqrec_lib.fast.kernels.gated_norm")
            return None
        if not torch.cuda.is_available():
            return "no CUDA device is visible"
        importlib.import_module("selective_scan_cuda")  # mamba_ssm fails late and unclearly without it
        importlib.import_module("causal_conv1d")
        importlib.import_module("mamba_ssm.ops.selective_scan_interface")
        importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    except Exception as error:  # a broken extension raises ImportError, OSError, RuntimeError ...
        package = "numba" if kernel == "cpu" else "mamba-ssm and causal-conv1d built for this PyTorch"
        return (
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}; install {package}"
        )
    return None


def describe(device: torch.device | str) -> dict[str, str]:
    """Backend and package versions on a device, for a run's record."""
    device = torch.device(device)
    kernel = "cuda" if device.type == "cuda" else "cpu"
    reason = missing(kernel) if device.type in ("cpu", "cuda") else f"no kernels for {device.type}"
    found = {"backend": kernel if reason is None else "matrix"}
    if reason is not None:
        return found | {"message": reason}
    for name in ("numba",) if kernel == "cpu" else ("mamba_ssm", "causal_conv1d", "triton"):
        found[name] = str(getattr(importlib.import_module(name), "__version__", "unknown"))
    if kernel == "cuda":
        found["float32_dots"] = os.environ.get("TRITON_F32_DEFAULT", "tf32")
    return found

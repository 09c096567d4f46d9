"""Chooses what computes a state-space mixer, and checks it.

reference   the recurrence as in the paper, one token after another; any device and dtype, slow
matrix      the chunked matrix form in plain PyTorch; any device and dtype (the selective scan has none: recurrence)
cpu         compiled float32 kernels with their own backward (numba, `seqrec_lib.fast.kernels`)
cuda        the kernels of mamba-ssm and causal-conv1d

`auto` takes cuda or cpu where it works and matrix elsewhere. All of them agree: `preflight` measures by how much.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from typing import Any

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError

BACKENDS = ("auto", "reference", "matrix", "cpu", "cuda")
MODULES = ("mamba", "mamba2", "hydra")


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
            importlib.import_module(
                "seqrec_lib.fast.kernels.gated_norm"
            )  # the smallest of them: compiles and is cached
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


def preflight(device: torch.device | str, *, length: int = 200, batch: int = 2, seed: int = 0) -> dict[str, Any]:
    """Compares the kernels that a run on `device` will use with the float64 reference, module by module.

    Each of Mamba, Mamba2 and Hydra, at the study's sizes, runs forward and backward on right-padded histories: the
    kernel in float32 on the device, the recurrence in float64 on the CPU, with the same weights. On a GPU, Triton tunes
    its kernels first (a minute; seconds with MAMBA_DETERMINISTIC=1), and its float32 products are TF32 (errors near
    1e-3) unless TRITON_F32_DEFAULT=ieee.

    Returns:
        What `describe` says, plus for each module `{"output": e, "worst_gradient": e, "parameter": name}` with
        e = ||a - b|| / ||b||. Without kernels only the message that says so.
    """
    from seqrec_lib.ssm import Hydra, Mamba, Mamba2

    device = torch.device(device)
    found: dict[str, Any] = dict(describe(device))
    if found["backend"] == "matrix":
        return found
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(length // 2, length, batch).long()
    x = torch.randn(batch, length, 64, generator=generator)
    g = torch.randn(batch, length, 64, generator=generator)
    makers = dict(zip(MODULES, ((Mamba, 32), (Mamba2, 128), (Hydra, 32)), strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = {name: cls(64, d_state=d_state) for name, (cls, d_state) in makers.items()}
    for name, module in modules.items():
        module.backend = found["backend"]
        got = _forward_and_backward(module.to(device), x.to(device), lengths.to(device), g.to(device))
        module.backend = "reference"
        want = _forward_and_backward(module.to("cpu", torch.float64), x.double(), lengths, g.double())
        errors = {key: relative_error(got[key], want[key]) for key in want}
        output = errors.pop("output")
        worst = max(errors, key=lambda key: errors[key] if errors[key] == errors[key] else float("inf"))
        found[name] = {"output": output, "worst_gradient": errors[worst], "parameter": worst}
    return found


@functools.cache
def checked(device_type: str) -> dict[str, Any]:
    """What :func:`preflight` found on "cpu" or "cuda", measured once per process.

    Raises:
        SeqRecError: kernels and reference disagree: by more than 1e-4 on a CPU, 1e-3 on a GPU, 2e-2 there with TF32.
    """
    found = preflight(device_type)
    tolerance = {"cpu": 1e-4, "cuda": 1e-3 if found.get("float32_dots") == "ieee" else 2e-2, "matrix": 0.0}
    for name in MODULES if found["backend"] != "matrix" else ():
        limit = tolerance[found["backend"]]
        for error in (found[name]["output"], found[name]["worst_gradient"]):
            if not error <= limit:  # NaN is not
                raise SeqRecError(
                    f"the {found['backend']} kernels of {name} are off by {error:.1e} from the float64 reference "
                    f"(limit {limit:.0e}); reinstall numba, or mamba-ssm and causal-conv1d, for this machine"
                )
    return found


def relative_error(got: Tensor, want: Tensor) -> float:
    """||got - want|| / ||want||, in float64 on the CPU; NaN if either holds one."""
    a, b = got.detach().double().cpu(), want.detach().double().cpu()
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def _forward_and_backward(module: torch.nn.Module, x: Tensor, lengths: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Output and every gradient of a mixer, cloned."""
    module.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    y = module(x, lengths)
    y.backward(g)
    found = {"output": y.detach().clone()}
    found["input"] = x.grad.detach().clone() if x.grad is not None else torch.zeros_like(x)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad.detach().clone()
    module.zero_grad(set_to_none=True)
    return found

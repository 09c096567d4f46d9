"""Measures by how much the kernels that compute the mixers differ from their float64 references."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError
from seqrec_lib.ssm.backends import describe
from seqrec_lib.ssm.quasiseparable import Hydra
from seqrec_lib.ssm.selective_scan import Mamba
from seqrec_lib.ssm.ssd import Mamba2

MODULES = ("mamba", "mamba2", "hydra")


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

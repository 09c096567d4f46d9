"""The three mixers at small sizes, with weights away from their initial values."""

from __future__ import annotations

from typing import Any

import torch

from seqrec_lib.ssm import Hydra, Mamba, Mamba2

MIXERS = {
    "mamba": lambda: Mamba(12, 5),
    "mamba-short": lambda: Mamba(12, 5, d_conv=3),
    "mamba2": lambda: Mamba2(16, 6, headdim=8),
    "mamba2-biases": lambda: Mamba2(16, 6, headdim=8, bias=True, conv_bias=False),
    "mamba2-groups": lambda: Mamba2(16, 6, headdim=8, ngroups=2, bias=True, conv_bias=False),
    "hydra": lambda: Hydra(16, 6, headdim=8),
    "hydra-short": lambda: Hydra(16, 6, d_conv=3, headdim=16),
    "hydra-middle": lambda: Hydra(16, 6, d_conv=5, headdim=8),
}
STREAMING = [name for name in MIXERS if name != "mamba2-groups"]


def make(name: str, dtype: torch.dtype = torch.float64, backend: str = "auto", seed: int = 0) -> Any:
    """A mixer, in evaluation mode; every parameter perturbed, dt_bias and A_log so that memories differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mixer: Any = MIXERS[name]()
        with torch.no_grad():
            for parameter in mixer.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    mixer.backend = backend
    return mixer.to(dtype).eval()


def history(mixer: Any, batch: int, length: int, seed: int = 1) -> torch.Tensor:
    """(batch, length, d_model) standard normal inputs in the mixer's dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, mixer.d_model, generator=generator, dtype=torch.float64).to(mixer.A_log.dtype)

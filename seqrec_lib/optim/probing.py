"""USGM without a rate to tune: probe, rewind, run.

Algorithm 1 is robust on one side only. H never falls, so a first rate that is too large is mended and one that is too
small stays; and D, a distance that nobody knows, decides how fast H grows. Here both are measured.

Probe   From a tiny rate, H falls by a constant factor each step, as long as the slope along the last step survives it:
        the mean of <g_{k+1}, u_k> over the last few steps stays above half of the mean of its absolute value. (USGM
        itself lets H stand still while <g_{k+1}, u_k> is above half of <g_k, u_k>; but <g_k, u_k> contains the noise of
        g_k, and its mean does not tell a good rate from a bad one. g_{k+1} comes from another batch than u_k.)
Rewind  The probe ends a few steps after the rates have become too large. The parameters return to x_0, the moments to
        zero, and H becomes `BACK` times what it was: a safe distance below the edge.
Run     Algorithm 1 in Adam's norm, with D the largest distance from x_0 seen so far, the probe's included.

Why the rewind: the probe's path is a bad start. On this study's models small steps first move every embedding along the
items' popularity, and what follows stays on that plateau for epochs.

Glossary, beside usgm's: z = x_k - x_0; ||z||_B / sqrt(sum b), the root mean square move of a weight, is what D is
measured in, as B changes with the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from seqrec_lib.optim.flat import FlatGroup, check_number
from seqrec_lib.optim.usgm import UniversalSGM

LARGEST_START = 1e-4  # rate that the probe begins with at most: a large one of the reader's then does no harm
GROWTH = 1.2  # factor of the rate from one probing step to the next
MEMORY = 0.8  # of the probe's averages
BACK = 8.0  # how far below the rate at which the probe ended the run begins
LEAST_PROBES = 6  # averages over fewer steps mean nothing
MEASURE_EVERY = 10  # the distance grows slowly, and measuring it reads every weight


class ProbingUSGM(UniversalSGM):
    """Algorithm 1 in Adam's norm with measured H_0 and D.

    While it probes, each step reads one number from the device; after that none is read (see ``check_every``).

    Args:
        params: parameters, which probe together. (Several groups are not supported.)
        lr: the rate that the probe begins with, `LARGEST_START` at most. The result does not depend on it.
        adam: ``betas`` and ``eps`` of the norm, and ``check_every``.

    Raises:
        SeqRecError: a setting is out of range, or a gradient is not finite (see :class:`UniversalSGM`).
    """

    def __init__(self, params: Iterable[Any], lr: float = LARGEST_START, **adam: Any) -> None:
        check_number("lr", lr, "above 0", lambda x: 0 < x < math.inf)
        super().__init__(params, lr, D=1.0, norm="adam", **adam)  # D is measured

    @property
    def probing(self) -> bool:
        """Whether the first group is still looking for its rate."""
        return self._group(0).flags["probing"]

    def _group(self, index: int) -> FlatGroup:
        new = index >= len(self._flat)
        flat = super()._group(index)
        if new:
            flat.allocate("origin", "metric")
            flat.load_parameters("origin")
            flat.scalars |= {name: flat.scalar(0.0) for name in ("slope", "size", "weight", "D")}
            flat.scalars["H"] = flat.scalar(1.0 / min(self.param_groups[index]["lr"], LARGEST_START))
            flat.flags["probing"] = True
        return flat

    def _step_group(self, flat: FlatGroup, options: dict[str, Any]) -> None:
        s = flat.scalars
        g = flat.load_gradients("spare")
        usable = flat.finite(g)
        slope = torch.dot(g, flat["direction"])  # <g_{k+1}, u_k>
        s["beta"] = s["scale"] * slope - s["gradient_step"]
        if flat.steps and flat.flags["probing"]:
            if self._is_over(flat, slope):
                self._rewind(flat)
                return
            s["H"] = s["H"] / GROWTH
        elif flat.steps:
            excess = (s["beta"] - 0.5 * s["H"] * s["r2"]).clamp(min=0.0)
            s["H"] = s["H"] + usable.keep(excess / (s["D"] ** 2 * s["weight"] + 0.5 * s["r2"]))

        u, squared = self._adam_direction(flat, g, options, flat["metric"])
        s["weight"] = flat["metric"].sum()
        s["scale"] = usable.keep(-1.0 / s["H"])
        s["r2"] = s["scale"] ** 2 * squared
        s["gradient_step"] = s["scale"] * torch.dot(g, u)
        flat.move(u, s["scale"], "spare")
        flat.steps += 1
        if flat.steps % MEASURE_EVERY == 0:
            self._measure_distance(flat)

    def _is_over(self, flat: FlatGroup, slope: Tensor) -> bool:
        """Whether the slope along the last steps does not survive them any more."""
        s = flat.scalars
        s["slope"] = torch.lerp(s["slope"], slope, 1 - MEMORY)
        s["size"] = torch.lerp(s["size"], slope.abs(), 1 - MEMORY)
        return flat.steps >= LEAST_PROBES and bool(s["slope"] < 0.5 * s["size"])

    def _rewind(self, flat: FlatGroup) -> None:
        """Back to x_0, with H a safe factor above what the probe ended at; the gradient at hand is spent on it."""
        s = flat.scalars
        self._measure_distance(flat)
        flat.store_parameters("origin")
        for name in ("first", "second", "direction"):
            flat[name].zero_()
        s |= {name: torch.zeros_like(s["H"]) for name in ("scale", "gradient_step", "r2")}
        s["H"] = s["H"] * BACK
        flat.flags["probing"] = False
        flat.steps = 0

    @staticmethod
    def _measure_distance(flat: FlatGroup) -> None:
        """D = the largest root mean square move of a weight so far, weighted as B does."""
        z = flat.load_parameters("spare").sub_(flat["origin"])
        squared = torch.dot(z.square_(), flat["metric"]) / flat["metric"].sum()
        flat.scalars["D"] = torch.maximum(flat.scalars["D"], squared.sqrt())

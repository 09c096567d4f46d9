"""The experiments of the study, by name. A module is imported only when it is asked for."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, cast

from seqrec_lib.errors import SeqRecError

if TYPE_CHECKING:
    from seqrec_lib.experiments.base import Experiment

EXPERIMENTS: dict[str, str] = {
    "datasets": "seqrec_lib.experiments.datasets",
    "accuracy": "seqrec_lib.experiments.accuracy",
    "ablation": "seqrec_lib.experiments.ablation",
    "latency": "seqrec_lib.experiments.latency",
    "scaling": "seqrec_lib.experiments.scaling",
    "optimizers": "seqrec_lib.experiments.optimizers",
    "generative": "seqrec_lib.experiments.generative",
    "llamarec": "seqrec_lib.experiments.llamarec",
    "orpo": "seqrec_lib.experiments.orpo",
}


def get(name: str) -> Experiment:
    """The experiment ``name``: a module with NAME, GOLDEN, Config, plan, revision and run.

    Raises:
        SeqRecError: there is none of this name.
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(EXPERIMENTS)}"
        raise SeqRecError(f"unknown experiment {name!r}; {hint}")
    return cast("Experiment", importlib.import_module(EXPERIMENTS[name]))

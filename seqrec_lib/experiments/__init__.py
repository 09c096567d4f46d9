"""The experiments of the study, by name. A module is imported only when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from seqrec_lib.validation import refuse_unknown

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
    refuse_unknown([name], EXPERIMENTS, "experiment")
    return cast("Experiment", importlib.import_module(EXPERIMENTS[name]))

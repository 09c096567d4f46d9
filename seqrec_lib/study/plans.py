"""The pages of the study and the runs that they plan: the basis of `seqrec status`, without executing anything.

The experiment of a page is the one that has its notebook's name; a notebook without one plans no runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seqrec_lib import parameters
from seqrec_lib.experiments import EXPERIMENTS, get
from seqrec_lib.experiments.base import Experiment, Planned, describe, key, look_up
from seqrec_lib.places import project_root
from seqrec_lib.results import RunRecord, RunStore


@dataclass(frozen=True)
class Page:
    """One execution of a notebook: its name, the data set it is about (or None), all its parameters."""

    notebook: str
    dataset: str | None
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``<notebook>-<dataset>``, or the notebook's name where no data set is given."""
        return f"{self.notebook}-{self.dataset}" if self.dataset else self.notebook


@dataclass(frozen=True)
class Task:
    """A run to carry out."""

    experiment: Experiment
    config: Any
    run_id: str

    @property
    def name(self) -> str:
        """Such as "accuracy: ml-1m sasrec seed 0"."""
        return f"{self.experiment.NAME}: {describe(self.config)}"


def values_of(page: Page) -> dict[str, Any]:
    """All parameters of a page: its own, and the notebook's defaults."""
    schema = parameters.schema(project_root() / "notebooks" / f"{page.notebook}.ipynb")
    return {name: parameter.default for name, parameter in schema.items()} | dict(page.parameters)


def on_device(page: Page, device: str) -> Page:
    """The page with its runs on ``device`` (auto | cpu | cuda), where its notebook may choose."""
    if device == "auto" or "device" not in values_of(page):
        return page
    return replace(page, parameters={**page.parameters, "device": device})


def configs_of(page: Page) -> list[Any]:
    """The configurations that a page plans; [] where its notebook is no experiment's."""
    return get(page.notebook).plan(values_of(page)) if page.notebook in EXPERIMENTS else []


def page_runs(page: Page, store: RunStore) -> tuple[list[Any], list[RunRecord | None]]:
    """The configurations that a page plans and their records, whatever the code here is."""
    configs = configs_of(page)
    return configs, [store.find(key(get(page.notebook), config)) for config in configs]


def run_states(page: Page, store: RunStore) -> list[Planned]:
    """The state of every run that a page plans."""
    return [look_up(get(page.notebook), config, store) for config in configs_of(page)]

"""What a page plans and what of it has a record: the basis of `seqrec status`, without executing anything.

The experiment of a page is the one that has its notebook's name; a notebook without one plans no runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqrec_lib import parameters
from seqrec_lib.experiments import EXPERIMENTS, get
from seqrec_lib.experiments.base import Planned, key, look_up
from seqrec_lib.places import project_root
from seqrec_lib.results import RunRecord, RunStore

if TYPE_CHECKING:
    from seqrec_lib.study.runner import Page


def values_of(page: Page) -> dict[str, Any]:
    """All parameters of a page: its own, and the notebook's defaults."""
    schema = parameters.schema(project_root() / "notebooks" / f"{page.notebook}.ipynb")
    return {name: parameter.default for name, parameter in schema.items()} | dict(page.parameters)


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

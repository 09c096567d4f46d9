"""Runs as pages ask for them: tidy frames with one row for each run, and every user's metric behind a row.

A page asks by data set, model and seeds and means the run of today's recipe (`seqrec_lib.train.recipes`); variants that
an experimenter made stay rows of the frame and answer no such question. What has no complete run raises `NotRun`,
which the pages turn into "not run".

order: the rule by which interactions with (nearly) equal times are put in order; a part of a data set's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from seqrec_lib.data.registry import DATASETS, ORDER_TITLES
from seqrec_lib.errors import SeqRecError
from seqrec_lib.report.statistics import average_over_seeds, metric_values
from seqrec_lib.results import RunRecord, RunStore, plain
from seqrec_lib.train.recipes import resolve

if TYPE_CHECKING:
    import pandas as pd

TRUE_ORDER = "true order"
ORDERS = {f"-{order}": title for order, title in ORDER_TITLES.items()}
"""Suffix of a data set's id -> the order of time that its histories are in; without a suffix, the true order."""


class NotRun(Exception):
    """There is no complete run for what was asked; the text says which."""


@dataclass(frozen=True)
class Scope:
    """What a question is limited to: orders of time, one kind of device, seeds. None: any."""

    orders: tuple[str, ...] | None = None
    device: str | None = None
    seeds: tuple[int, ...] | None = None


def split_order(dataset: str) -> tuple[str, str]:
    """A data set's id -> the collection and the order of time.

    >>> split_order("ml-1m-recbole"), split_order("ml-1m")
    (('ml-1m', "RecBole's order"), ('ml-1m', 'true order'))
    """
    spec = DATASETS.get(dataset)
    return (dataset, TRUE_ORDER) if spec is None or spec.base is None else (spec.base, ORDER_TITLES[spec.order])


@dataclass(frozen=True)
class Runs:
    """The complete runs of a store, within a scope."""

    store: RunStore
    scope: Scope = Scope()

    @classmethod
    def published(cls) -> Runs:
        """Published runs alone, whatever this machine has run besides."""
        return cls(RunStore(new="results"))

    @cached_property
    def _all(self) -> dict[str, list[RunRecord]]:
        """Every experiment's complete records, read from the disk once."""
        found: dict[str, list[RunRecord]] = {}
        for record in self.store.records():
            if record.complete:
                found.setdefault(record.experiment, []).append(record)
        return found

    def within(self, scope: Scope) -> Runs:
        """The same runs, limited to ``scope``."""
        limited = replace(self, scope=scope)
        limited.__dict__["_all"] = self._all  # what was read is read once
        return limited

    def records(self, experiment: str) -> list[RunRecord]:
        """Complete records of an experiment within the scope; a counting model, which no seed changes, is of any."""
        scope = self.scope
        return [
            record
            for record in self._all.get(experiment, [])
            if (scope.orders is None or split_order(record.dataset["name"])[1] in scope.orders)
            and (scope.device is None or _device(record) == scope.device)
            and (scope.seeds is None or not _trained(record) or record.config.get("seed", 0) in scope.seeds)
        ]

    def frame(self, experiment: str = "accuracy") -> pd.DataFrame:
        """One row for each complete run: run_id, dataset, collection, order, model, seed, recipe, device, users, its
        cost and its metrics. ``recipe`` says whether it was made by today's recipe for its model and data."""
        import pandas as pd

        rows = []
        for record in self.records(experiment):
            collection, order = split_order(record.dataset["name"])
            facts = {
                "run_id": record.run_id,
                "dataset": record.dataset["name"],
                "collection": collection,
                "order": order,
                "model": record.config.get("model"),
                "seed": record.config.get("seed"),
                "recipe": _by_recipe(record),
                "device": _device(record),
                "users": record.dataset.get("n_users"),
                "finished": record.finished,
            }
            numbers = {k: v for k, v in (record.cost | record.metrics).items() if isinstance(v, int | float)}
            rows.append(facts | numbers)
        return pd.DataFrame(rows)

    def seeds(self, dataset: str, model: str) -> list[RunRecord]:
        """The runs of a model by today's recipe, one for each seed: the newest, where a reader has made one again.

        Raises:
            NotRun: there is none, or the scope names a seed that has none.
        """
        mine = [
            record
            for record in self.records("accuracy")
            if record.dataset["name"] == dataset and record.config.get("model") == model and _by_recipe(record)
        ]
        missing = set(self.scope.seeds or ()) - {record.config["seed"] for record in mine}
        if not mine or (missing and _trained(mine[0])):
            seeds = f", seed {', '.join(map(str, sorted(missing)))}" if missing else ""
            raise NotRun(f"{model} on {dataset}{seeds}")
        newest = {record.config["seed"]: record for record in sorted(mine, key=lambda record: record.finished)}
        return [newest[seed] for seed in sorted(newest)]

    def users(self, dataset: str, model: str, metric: str) -> np.ndarray:
        """Each user's metric, averaged over the model's seeds, shape (n_users,); "masked_ndcg@10" leaves seen items
        out.

        Raises:
            NotRun: as `seeds`.
        """
        masked = metric.startswith("masked_")
        column, name = "masked_rank" if masked else "rank", metric.removeprefix("masked_")
        tables = [self.store.table(record, "ranks") for record in self.seeds(dataset, model)]
        return average_over_seeds([metric_values(table[column].to_numpy(), name) for table in tables])

    def mean(self, dataset: str, model: str, metric: str) -> float:
        """Mean of a metric over the model's seeds.

        Raises:
            NotRun: as `seeds`.
        """
        return float(np.mean([record.metrics[metric] for record in self.seeds(dataset, model)]))

    def newest(self, experiment: str, dataset: str) -> RunRecord:
        """The newest complete run of an experiment on a data set (timings, say).

        Raises:
            NotRun: there is none.
        """
        mine = [record for record in self.records(experiment) if record.dataset["name"] == dataset]
        if not mine:
            raise NotRun(f"{experiment} on {dataset}")
        return max(mine, key=lambda record: record.finished)

    def ids(self, models: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        """Run ids behind some (data set, model)."""
        return tuple(record.run_id for dataset, model in models for record in self.seeds(dataset, model))


def _device(record: RunRecord) -> str:
    return str(record.environment.get("device_type", "cpu"))


def _trained(record: RunRecord) -> bool:
    return record.config.get("training") is not None


def _by_recipe(record: RunRecord) -> bool:
    """Whether today's recipe gives just this configuration. An order of time has the recipe of its collection."""
    config = record.config
    if record.experiment != "accuracy":
        return True
    try:
        collection = split_order(record.dataset["name"])[0]
        architecture, training = resolve(collection, config["model"], config["seed"])
    except SeqRecError:  # a model that is a reader's own, or no more
        return False
    return plain(architecture) == config.get("architecture") and plain(training) == config.get("training")

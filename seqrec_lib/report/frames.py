"""Runs as pages ask for them: tidy frames with one row for each run, and every user's metric behind a row.

A notebook has configurations and what became of them: `frame` makes them rows, `means` one row for each model and
metric, `users` each user's metric. A chapter asks the published runs by data set, model and seeds (`Runs`) and means
the run of today's recipe (`seqrec_lib.train.recipes`); variants that an experimenter made stay rows of the frame and
answer no such question. What has no complete run raises `NotRun`, which the pages turn into "not run".

order: the rule by which interactions with (nearly) equal times are put in order; a part of a data set's identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seqrec_lib.data.registry import DATASETS, ORDER_TITLES
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate import statistics
from seqrec_lib.evaluate.statistics import Interval, bootstrap_interval, metric_values
from seqrec_lib.report.labels import labels, origin_of, settings_of
from seqrec_lib.results import RunRecord, RunStore, plain, run_key
from seqrec_lib.train.recipes import resolve

if TYPE_CHECKING:
    from pyarrow import Table

TRUE_ORDER = "true order"
ORDERS = {f"-{order}": title for order, title in ORDER_TITLES.items()}
"""Suffix of a data set's id -> the order of time that its histories are in; without a suffix, the true order."""


class NotRun(Exception):
    """There is no complete run for what was asked; the text says which."""


# One row for each run

COMPLETE, FAILED, NO_RUN = "complete", "failed", "not run"
MEANS = ["dataset", "label", "model", "metric", "mean", "sd", "low", "high", "seeds", "planned", "failed"]


def frame(
    records: Sequence[RunRecord | None], configs: Sequence[Any] | None = None, store: RunStore | None = None
) -> pd.DataFrame:
    """One row for each run, in the order given: what it is, its settings, its cost and its metrics.

    Columns: run_id, experiment, dataset, collection, order, model, label, origin (of a language model), seed, status
    ("complete", "failed", "not run"), error, edited, recipe (whether today's recipe gives this configuration), device,
    users, finished; each other setting under its path in the record ("training.epochs"); then each number of the cost
    ("train_seconds") and of the metrics ("ndcg@10", "masked_ndcg@10"). ``label`` is the model's name with whatever
    tells apart models that were run with several settings.

    Args:
        records: as `execute` returns them, or from a store.
        configs: the configuration of each record; without them, None among the records has no row.
        store: with it, the published run stands before that of edited code, which is labelled "edited".
    """
    pairs = [(record.config, record) for record in records if record is not None]
    planned = pairs if configs is None else zip(map(plain, configs), records, strict=True)
    kept: dict[str, tuple[Mapping[str, Any], RunRecord | None]] = {}
    for values, record in planned:
        for one in _published_and_edited(record, store):
            kept[one.run_id if one else f"planned: {values}"] = (values, one)  # planned twice, it counts once
    rows = [_row(values, record) for values, record in kept.values()]
    for row, label in zip(rows, labels([values for values, _ in kept.values()], rows), strict=True):
        row["label"] = f"{label}, edited" if row["edited"] else label
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(_row({"dataset": ""}, None)))


def means(runs: pd.DataFrame, metrics: Sequence[str], store: RunStore | None = None) -> pd.DataFrame:
    """One row for each data set, model (``label``) and metric of a `frame`: mean, sd (over seeds, divisor n - 1), low
    and high (95 %, over users, each with the mean over seeds), seeds, planned, failed.

    What was not run has NaN. Without a store, or where a run has no ranks of its users, low and high are NaN.
    """
    rows = []
    for (dataset, label), mine in runs.groupby(["dataset", "label"], sort=False):
        about = {"dataset": dataset, "label": label, "model": mine["model"].iloc[0], "planned": len(mine)}
        about["failed"] = int((mine["status"] == FAILED).sum())
        for metric in metrics:
            numbers = mine[metric].dropna() if metric in mine else pd.Series(dtype=float)
            done = mine.loc[numbers.index]
            values = None if store is None or done.empty else users(done, metric, store)
            found = Interval(np.nan) if values is None or len(values) < 2 else bootstrap_interval(values)
            ends = {"mean": numbers.mean(), "sd": numbers.std(), "low": found.low, "high": found.high}
            rows.append(about | {"metric": metric, "seeds": len(done)} | ends)
    return pd.DataFrame(rows, columns=MEANS)


def over_seeds(runs: pd.DataFrame, columns: Sequence[str], by: str = "label") -> pd.DataFrame:
    """One row for each value of ``by``: each column's mean over seeds, the ends of its 95 % t interval ("<column> low",
    "<column> high"), and seeds, the number of complete runs. What was not run has NaN."""
    rows = []
    for name, mine in runs.groupby(by, sort=False) if len(runs) else ():
        row: dict[str, Any] = {by: name, "seeds": int((mine["status"] == COMPLETE).sum())}
        for column in columns:
            values = mine[column].dropna().to_numpy(dtype=float) if column in mine else np.array([])
            row |= interval_columns(column, Interval(*statistics.seed_interval(values)))
        rows.append(row)
    return pd.DataFrame(rows)


def over_range(rows: Iterable[Mapping[str, Any]], by: Sequence[str], value: str) -> pd.DataFrame:
    """The rows with equal ``by`` as one, in their order: mean, low and high (the range, over seeds) of ``value``."""
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    return table.groupby([*by], sort=False)[value].agg(mean="mean", low="min", high="max").reset_index()


def differences(pairs: Sequence[tuple[np.ndarray | None, np.ndarray | None]]) -> pd.DataFrame:
    """The first minus the second of each pair of `users`, paired by user: difference, low, high and p (Holm's
    correction over the pairs that ran); NaN where one side did not."""
    ran = {i: ("", a, "", b) for i, (a, b) in enumerate(pairs) if a is not None and b is not None}
    tests = [(test.difference, test.p_holm) for test in statistics.compare_pairs(list(ran.values()))]
    rows = [(gap.estimate, gap.low, gap.high, p) for gap, p in tests]
    table = pd.DataFrame(rows, index=list(ran), columns=["difference", "low", "high", "p"], dtype=float)
    return table.reindex(range(len(pairs)))


def complete(runs: pd.DataFrame, store: RunStore) -> list[tuple[dict[str, Any], RunRecord]]:
    """The complete runs of a `frame`, each with its record; raises SeqRecError as `records_of` does."""
    rows = runs[runs["status"] == COMPLETE].to_dict("records")
    return list(zip(rows, records_of(runs, store), strict=True))


def records_of(runs: pd.DataFrame, store: RunStore) -> list[RunRecord]:
    """The records of the complete runs of a `frame`.

    Raises:
        SeqRecError: the store lacks one of them: the frame was read from another store.
    """
    ids = runs.loc[runs["status"] == COMPLETE, "run_id"]
    found = [record for run_id in ids if (record := store.find(run_id)) is not None]
    if missing := sorted({*ids} - {record.run_id for record in found}):
        places = " nor ".join(dict.fromkeys(map(str, (store.new, store.published))))
        raise SeqRecError(
            f"run {missing[0]} of a frame is not in {places}; name the store that the frame was read from"
        )
    return found


def interval_columns(column: str, found: Interval | None, scale: float = 1.0) -> dict[str, float]:
    """An estimate and the ends of its interval, in units of ``scale``, as columns: column, "<column> low",
    "<column> high"; NaN where there is none."""
    ends = (np.nan,) * 3 if found is None else (found.estimate, found.low, found.high)
    return {f"{column}{side}": end / scale for side, end in zip(("", " low", " high"), ends, strict=True)}


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """`means` with one row for each model: for each metric its mean under its own name, and "ndcg@10 low", "ndcg@10
    high", "ndcg@10 sd"; seeds are those of the first metric."""
    key = ["dataset", "label"]
    about = table.drop_duplicates(key)[[*key, "model", "seeds", "planned", "failed"]]
    numbers = table.pivot(index=key, columns="metric", values=["mean", "low", "high", "sd"])
    numbers.columns = [metric if part == "mean" else f"{metric} {part}" for part, metric in numbers.columns]
    return about.join(numbers, on=key).reset_index(drop=True)


def users(runs: pd.DataFrame, metric: str, store: RunStore) -> np.ndarray | None:
    """Each user's metric, averaged over the complete runs of a `frame`, shape (n_users,); None where one has no ranks.

    A metric of another list of a run ("masked_ndcg@10", "trie_masked_ht@10") is taken from the ranks of that list.
    Raises SeqRecError as `records_of` does.
    """
    records, column = records_of(runs, store), _rank_column(metric)
    ranked = [column in record.tables.get("ranks", {}).get("columns", {}) for record in records]
    return users_of(records, metric, store) if records and all(ranked) else None


def users_of(records: Sequence[RunRecord], metric: str, store: RunStore) -> np.ndarray:
    """`users` of some records, all of which have the ranks."""
    column, name = _rank_column(metric), metric.rpartition("_")[2]
    tables = [_ranks(store, record.run_id, record.tables["ranks"]["sha256"]) for record in records]
    return statistics.average_over_seeds([metric_values(table[column].to_numpy(), name) for table in tables])


@lru_cache(maxsize=64)  # a page asks for the same runs again for each metric
def _ranks(store: RunStore, run_id: str, sha256: str) -> Table:
    """The table of ranks of the run whose record has this hash for it."""
    record = store.find(run_id)
    if record is None or record.tables["ranks"]["sha256"] != sha256:
        raise SeqRecError(f"run {run_id} was made again since it was read; read it again")
    return store.table(record, "ranks")


def _rank_column(metric: str) -> str:
    """The column of ranks behind a metric: "masked_ndcg@10" -> "masked_rank"."""
    return "".join(metric.rpartition("_")[:2]) + "rank"


def _row(values: Mapping[str, Any], record: RunRecord | None) -> dict[str, Any]:
    dataset = record.dataset["name"] if record else values["dataset"]
    collection, order = split_order(dataset)
    complete = record is not None and record.complete
    facts = {
        "run_id": record.run_id if record else None,
        "experiment": record.experiment if record else None,
        "dataset": dataset,
        "collection": collection,
        "order": order,
        "model": values.get("model"),
        "label": None,
        "origin": origin_of(values, record),
        "seed": values.get("seed"),
        "status": COMPLETE if complete else FAILED if record else NO_RUN,
        "error": record.error if record else None,
        "edited": record is not None and record.edited is not None,
        "recipe": complete and record is not None and _by_recipe(record),
        "device": _device(record) if record else None,
        "users": record.dataset.get("n_users") if record else None,
        "finished": record.finished if record else None,
    }
    settings = {path: value for path, value in settings_of(values).items() if path not in facts}
    numbers = record.cost | record.metrics if record else {}
    return facts | settings | {name: number for name, number in numbers.items() if isinstance(number, int | float)}


def _published_and_edited(record: RunRecord | None, store: RunStore | None) -> Iterator[RunRecord | None]:
    """The record; before a record of edited code the published one of the same configuration, where there is one."""
    if record is not None and record.edited is not None and store is not None:
        published = store.find_published(
            run_key(record.experiment, record.config, record.revision, record.parents, record.hardware)
        )
        if published is not None:
            yield published
    yield record


# Published runs, by data set, model and seeds


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

    @cached_property
    def given(self) -> set[str]:
        """Ids of the runs that a page rests on: what `seeds` and `newest` have returned or a judge has chosen, within
        narrower scopes too."""
        return set()

    def within(self, scope: Scope) -> Runs:
        """The same runs, limited to ``scope``."""
        limited = replace(self, scope=scope)
        limited.__dict__.update(_all=self._all, given=self.given)  # what was read is read once
        return limited

    def records(self, experiment: str, dataset: str | None = None, **config: Any) -> list[RunRecord]:
        """Complete records of an experiment within the scope, of a data set and with these settings, if given; a
        counting model, which no seed changes, is of any."""
        scope = self.scope
        return [
            record
            for record in self._all.get(experiment, [])
            if dataset in {None, record.dataset["name"]}
            and all(record.config.get(name) == value for name, value in config.items())
            and (scope.orders is None or split_order(record.dataset["name"])[1] in scope.orders)
            and (scope.device is None or _device(record) == scope.device)
            and (scope.seeds is None or not _trained(record) or record.config.get("seed", 0) in scope.seeds)
        ]

    def frame(self, experiment: str = "accuracy") -> pd.DataFrame:
        """One row for each complete run within the scope: see `frame`."""
        return frame(self.records(experiment))

    def seeds(self, dataset: str, model: str) -> list[RunRecord]:
        """The runs of a model by today's recipe, one for each seed: the newest, where a reader has made one again.

        "mamba4rec:blanket" is Mamba4Rec by the same recipe but for its initialisation.

        Raises:
            NotRun: there is none, or the scope names a seed that has none.
        """
        base, _, initialisation = model.partition(":")
        changes = {"initialisation": initialisation} if initialisation else {}
        mine = [record for record in self.records("accuracy", dataset, model=base) if _by_recipe(record, changes)]
        missing = set(self.scope.seeds or ()) - {record.config["seed"] for record in mine}
        if not mine or (missing and _trained(mine[0])):
            seeds = f", seed {', '.join(map(str, sorted(missing)))}" if missing else ""
            raise NotRun(f"{model} on {dataset}{seeds}")
        newest = {record.config["seed"]: record for record in sorted(mine, key=lambda record: record.finished)}
        self.given.update(record.run_id for record in newest.values())
        return [newest[seed] for seed in sorted(newest)]

    def users(self, dataset: str, model: str, metric: str) -> np.ndarray:
        """Each user's metric, averaged over the model's `seeds`, shape (n_users,); "masked_ndcg@10" leaves seen items
        out."""
        return users_of(self.seeds(dataset, model), metric, self.store)

    def interval(self, dataset: str, model: str, metric: str) -> Interval:
        """Mean of a metric over users, with its 95 % interval; NaN where it was not run."""
        try:
            return bootstrap_interval(self.users(dataset, model, metric))
        except NotRun:
            return Interval(np.nan)

    def mean(self, dataset: str, model: str, metric: str) -> float:
        """Mean of a metric over the model's `seeds`."""
        return float(np.mean([record.metrics[metric] for record in self.seeds(dataset, model)]))

    def newest(self, experiment: str, dataset: str) -> RunRecord:
        """The newest complete run of an experiment on a data set; raises `NotRun` where there is none."""
        mine = self.records(experiment, dataset)
        if not mine:
            raise NotRun(f"{experiment} on {dataset}")
        newest = max(mine, key=lambda record: record.finished)
        self.given.add(newest.run_id)
        return newest

    def ids(self, models: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        """Run ids behind some (data set, model)."""
        return tuple(record.run_id for dataset, model in models for record in self.seeds(dataset, model))


def _device(record: RunRecord) -> str:
    return str(record.environment.get("device_type", "cpu"))


def _trained(record: RunRecord) -> bool:
    return record.config.get("training") is not None


def _by_recipe(record: RunRecord, changes: Mapping[str, Any] | None = None) -> bool:
    """Whether today's recipe, with some settings changed, gives just this configuration. An order of time has the
    recipe of its collection."""
    config = record.config
    if record.experiment != "accuracy":
        return True
    try:
        collection = split_order(record.dataset["name"])[0]
        architecture, training = resolve(collection, config["model"], config["seed"], changes)
    except SeqRecError:  # a model that is a reader's own, or no more
        return False
    return plain(architecture) == config.get("architecture") and plain(training) == config.get("training")

"""From single runs to models: the runs of one configuration with different seeds, together.

A page plans configurations and gets one record (or None, "not run") for each. Here those that differ in the
seed only become one `ModelRuns`, which knows its mean, its spread over seeds and each user's mean. Where one
model was run with several settings, the labels name what differs, so that an experimenter's variant is a row
of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import average_over_seeds, metric_values
from seqrec_lib.report.paper import model_name
from seqrec_lib.results import RunRecord, RunStore, canonical_json, plain, run_key, without_seed

_IDENTITY = ("dataset", "model")


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one model with one setting on one data set: one entry per seed in each tuple.

    ``records`` has None where a run is missing; ``ranks`` and ``masked_ranks`` hold int arrays (n_users,), or
    None where there is no complete run or its table of ranks is not at hand.
    """

    dataset: str
    model: str
    label: str
    seeds: tuple[int, ...]
    records: tuple[RunRecord | None, ...]
    ranks: tuple[np.ndarray | None, ...]
    masked_ranks: tuple[np.ndarray | None, ...]
    other_model: bool = False
    """Whether this is another model than the paper's of that name (one from scratch): no verdict on its number then."""

    @property
    def complete(self) -> list[RunRecord]:
        """The records of complete runs."""
        return [record for record in self.records if record is not None and record.complete]

    @property
    def failed(self) -> list[RunRecord]:
        """The records of failed runs."""
        return [record for record in self.records if record is not None and not record.complete]

    def metric(self, name: str) -> list[float]:
        """The metric of each complete run that has it, in seed order; names as in the records
        ("masked_ht@10")."""
        return [float(record.metrics[name]) for record in self.complete if name in record.metrics]

    def mean(self, name: str) -> float | None:
        """Mean of a metric over complete runs, None without one."""
        values = self.metric(name)
        return float(np.mean(values)) if values else None

    def spread(self, name: str) -> float | None:
        """Standard deviation of a metric over seeds (divisor n - 1), None with fewer than 2 runs."""
        values = self.metric(name)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def user_means(self, name: str) -> np.ndarray | None:
        """Each user's metric, averaged over complete runs, shape (n_users,); None where a run lacks ranks."""
        masked = name.startswith("masked_")
        ranks = [array for array in (self.masked_ranks if masked else self.ranks) if array is not None]
        if not ranks or len(ranks) < len(self.complete):
            return None
        return average_over_seeds([metric_values(array, name.removeprefix("masked_")) for array in ranks])


def gather(configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore) -> list[ModelRuns]:
    """Group planned configurations and what became of them, in the order of first appearance.

    ``configs`` are the experiment's frozen dataclasses (with dataset, model and seed), ``records`` as
    `execute` returns them, one for each.

    A run of edited code is a row of its own ("SASRec, edited"), after the published one.

    Raises:
        SeqRecError: different numbers of configurations and records, or a damaged table of ranks.
    """
    if len(configs) != len(records):
        raise SeqRecError(f"{len(configs)} configurations but {len(records)} records; pass what execute returned")
    groups: dict[tuple[bool, str], dict[str, tuple[dict[str, Any], RunRecord | None]]] = {}
    for config, record in zip(configs, records, strict=True):
        values = plain(config)
        for edited, one in _with_published(record, store):
            # Keyed by the whole configuration within its group: one that was planned twice counts once.
            group = groups.setdefault((edited, canonical_json(without_seed(values))), {})
            group[canonical_json(values)] = (values, one)
    runs = [list(group.values()) for group in groups.values()]
    names = _labels([_settings(group[0][0]) for group in runs])
    labels = [f"{name}, edited" if edited else name for name, (edited, _) in zip(names, groups, strict=True)]
    return [_model_runs(label, group, store) for label, group in zip(labels, runs, strict=True)]


def _with_published(record: RunRecord | None, store: RunStore) -> list[tuple[bool, RunRecord | None]]:
    """(whether edited code made it, record): a run of edited code comes after the published run of the goldens'."""
    if record is None or record.edited is None:
        return [(False, record)]
    goldens = run_key(record.experiment, record.config, record.revision, record.parents, record.hardware)
    return [(False, store.find_published(goldens)), (True, record)]


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as one flat mapping: {"training": {"epochs": 3}} -> {"epochs": 3}; seeds left out."""
    flat: dict[str, Any] = {}
    for name, value in without_seed(values).items():
        flat |= _settings(value) if isinstance(value, Mapping) else {name: value}
    return flat


def _model_runs(label: str, runs: list[tuple[dict[str, Any], RunRecord | None]], store: RunStore) -> ModelRuns:
    first = runs[0][0]
    tables = [
        store.table(record, "ranks") if record is not None and record.complete and "ranks" in record.tables else None
        for _, record in runs
    ]
    columns = [
        None if table is None else {name: table[name].to_numpy() for name in table.column_names} for table in tables
    ]
    return ModelRuns(
        dataset=first["dataset"],
        model=first["model"],
        label=label,
        seeds=tuple(values.get("seed", 0) for values, _ in runs),
        records=tuple(record for _, record in runs),
        ranks=tuple(None if column is None else column["rank"] for column in columns),
        masked_ranks=tuple(None if column is None else column.get("masked_rank") for column in columns),
    )


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Model names, with the settings that tell apart those that occur twice: "SASRec (dropout 0.1)"."""
    labels = []
    for own in settings:
        twins = [other for other in settings if (other["model"], other["dataset"]) == (own["model"], own["dataset"])]
        differing = [
            name for name in own if name not in _IDENTITY and any(other.get(name) != own[name] for other in twins)
        ]
        details = ", ".join(f"{name} {own[name]}" for name in differing)
        labels.append(model_name(own["model"]) + (f" ({details})" if details else ""))
    return labels

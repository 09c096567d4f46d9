"""Timing runs as a page reads them: found by configuration on whatever machine made them, units formed, ratios paired.

A timing's key holds the hardware, so that a machine never passes off another's times as its own. A page that only reads
may still show them: `found` falls back on the newest complete run of the same configuration from elsewhere, and the
footer names the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import Interval, interval, ratio
from seqrec_lib.latency.statistics import unit_name, units
from seqrec_lib.report.frames import Runs
from seqrec_lib.results import RunRecord, RunStore, canonical_json, plain

PROGRAMS = {
    "served": "compiled for serving",
    "module": "PyTorch module",
    "step": "one more event",
    "again": "compiled for serving, again",
    "eager": "GPU, eager",
    "compiled": "GPU, compiled",
    "graph": "GPU, CUDA graph",
}
"""The path of a contestant -> the program that a reader knows it by."""
BAND = 0.2  # how far a history's length may be from a window, as a part of it
STAGES = ("encode", "score", "top_k")


def found(
    configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore, experiment: str
) -> list[RunRecord | None]:
    """``records``, with what is missing taken from runs of the same configuration on other hardware."""
    result = list(records)
    for i, (config, record) in enumerate(zip(configs, records, strict=True)):
        if record is None or not record.complete:
            wanted = canonical_json(plain(config))
            others = [r for r in store.records(experiment) if r.complete and canonical_json(r.config) == wanted]
            result[i] = max(others, key=lambda r: r.finished, default=record)
    return result


def newest_on(device: str, store: RunStore, experiment: str, dataset: str) -> RunRecord | None:
    """The newest complete timing run of a data set on a device ("cpu", "cuda"), whatever its sizes: a GPU is at hand
    for minutes, and what fits into them is not what a CPU is given hours for."""
    runs = [r for r in store.records(experiment, dataset) if r.complete and r.config.get("device", "cpu") == device]
    return max(runs, key=lambda r: r.finished, default=None)


@dataclass(frozen=True)
class Tables:
    """A run with its tables: those whose names the further fields of a subclass have."""

    experiment: ClassVar[str]
    record: RunRecord

    @classmethod
    def read(cls, record: RunRecord | None, store: RunStore) -> Self | None:
        """The tables of a complete record; None where there is none."""
        if record is None or not record.complete:
            return None
        return cls(record, *(store.table(record, field.name).to_pandas() for field in fields(cls)[1:]))

    @classmethod
    def newest(cls, runs: Runs, dataset: str) -> Self:
        """The newest run on a data set; raises `NotRun` where there is none."""
        read = cls.read(runs.newest(cls.experiment, dataset), runs.store)
        assert read is not None
        return read


@dataclass(frozen=True)
class Timings(Tables):
    """One latency run, microseconds throughout."""

    experiment = "latency"
    calls: pd.DataFrame
    paper: pd.DataFrame
    batches: pd.DataFrame

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """(model, path) of every contestant, in the order in which they were entered."""
        return [tuple(row) for row in self.calls[["model", "path"]].drop_duplicates().sort_index().to_numpy().tolist()]

    def ordered(self, *paths: str) -> list[tuple[str, str]]:
        """The rows of these paths, path by path, models in the configuration's order."""
        models = list(self.record.config["models"])
        chosen = [row for row in self.rows if row[1] in paths]
        return sorted(chosen, key=lambda row: (paths.index(row[1]), models.index(row[0])))

    def of(self, model: str, path: str) -> pd.DataFrame:
        """The calls of one contestant, with the ``total`` of their stages."""
        mine = self.calls[(self.calls["model"] == model) & (self.calls["path"] == path)]
        return mine.assign(total=mine[[*STAGES]].astype(float).sum(axis=1))

    def units(self, model: str, path: str, column: str = "total") -> np.ndarray:
        """Median by block, averaged by process where there are enough: what is resampled, in a common order."""
        return _units(self.of(model, path), column)

    def at_length(self, model: str, path: str, window: int) -> np.ndarray:
        """`units` of the median request of a model that reads ``window`` items: of all calls where the median history
        fits into the window, else of those whose history is about as long as it (within `BAND`)."""
        mine = self.of(model, path)
        if mine["length"].median() > window:
            near = mine["length"].between((1 - BAND) * window, (1 + BAND) * window)
            counts = mine[near].groupby("process").size()
            if len(counts) == mine["process"].nunique():
                mine = mine[near].assign(block=0)  # a median for each process: a block has few such histories
        return _units(mine, "total")

    @property
    def unit(self) -> str:
        """ "process" or "block"."""
        return unit_name(self.calls["process"].to_numpy())

    def median(self, model: str, path: str, column: str = "total") -> Interval:
        """Mean over units of the blocks' medians, with its interval, in microseconds."""
        return interval(self.units(model, path, column))

    def ratio(self, slow: tuple[str, str], fast: tuple[str, str]) -> Interval | None:
        """How many times as long ``slow`` (model, path) takes as ``fast``, paired; None where one is missing."""
        if slow not in self.rows or fast not in self.rows:
            return None
        return ratio(self.units(*slow), self.units(*fast))

    def paper_estimate(self, model: str, path: str) -> tuple[Interval, Interval, float] | None:
        """The paper's estimand: mean over samples without outliers, with them, and the share removed."""
        mine = self.paper[(self.paper["model"] == model) & (self.paper["path"] == path)]
        if mine.empty:
            return None
        trimmed, mean = (interval(mine[name].to_numpy(np.float64)) for name in ("trimmed_mean", "mean"))
        return trimmed, mean, float(mine["removed"].mean())


def _units(calls: pd.DataFrame, column: str) -> np.ndarray:
    return units(calls[column].to_numpy(np.float64), calls["process"].to_numpy(), calls["block"].to_numpy())

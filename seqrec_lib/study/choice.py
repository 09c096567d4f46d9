"""Which model to use for one data set: what the page *Which model should I use?* compares, and the run that its rule
marks. The page and `seqrec recommend` both ask here, so that a reader is answered by the model that the page names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from seqrec_lib.experiments import accuracy, latency
from seqrec_lib.experiments.base import execute
from seqrec_lib.places import project_root
from seqrec_lib.report import candidates
from seqrec_lib.report.frames import frame
from seqrec_lib.report.scaling import Scaling
from seqrec_lib.report.timings import Timings, found, newest_on
from seqrec_lib.results import RunRecord, RunStore
from seqrec_lib.study import own
from seqrec_lib.study.plans import values_of


@dataclass(frozen=True)
class Choice:
    """What a recommendation rests on.

    Attributes:
        records: the candidates' accuracy runs, None for one that was not run; times: the run that timed them.
        scaling: the run that measured their state, where there is one.
        compared: the candidates by the rule, see `candidates.compare`.
    """

    records: list[RunRecord | None]
    times: list[RunRecord | None]
    scaling: Scaling | None
    compared: pd.DataFrame

    @property
    def marked(self) -> RunRecord | None:
        """The run that the rule marks; None where none is, as when no times were measured."""
        rows = self.compared
        names = rows.loc[rows["mark"] == candidates.MARK, "run_ids"].tolist() if len(rows) else []
        known = {record.run_id: record for record in self.records if record is not None}
        return known.get(names[0].partition(", ")[0]) if names else None


def choose(parameters: Mapping[str, Any], store: RunStore | None = None, progress: bool = True) -> Choice:
    """Compare the candidates of one data set, and carry out before what is missing where ``missing`` is "run".

    Args:
        parameters: all those of the notebook `which_model`.
    """
    store = store or RunStore()
    dataset, missing, rerun = (parameters[name] for name in ("dataset", "missing", "rerun"))
    how: dict[str, Any] = {"store": store, "missing": missing, "rerun": rerun, "progress": progress}
    configs = accuracy.plan(parameters)
    records = execute(accuracy, configs, device=parameters["device"], **how)
    timed = latency.plan(own.timing_parameters(dataset, list(parameters["models"])))
    times = found(timed, execute(latency, timed, **how), store, "latency")
    sizes = Scaling.read(newest_on("cpu", store, "scaling", dataset), store)
    metric = parameters["metric"] if parameters["seen"] == "rank" else f"masked_{parameters['metric']}"
    runs = frame(records, configs, store)  # one row for each run
    compared = candidates.compare(runs, store, Timings.read(times[0], store), sizes, metric, parameters["margin"])
    return Choice(records, times, sizes, compared)


def recommended(dataset: str, store: RunStore | None = None) -> RunRecord | None:
    """The run that the page of a reader's own data marks, for the newest length of training of which all candidates
    have a complete run; None where there is no such page yet. Reads records, and carries out nothing."""
    store = store or RunStore()
    runs = [run for run in store.records("accuracy", dataset) if run.complete and run.config["training"]]
    newest = sorted(runs, key=lambda run: run.finished, reverse=True)
    for epochs in dict.fromkeys(int(run.config["training"]["epochs"]) for run in newest):
        page = own.pages(dataset, project_root(), epochs)[-1]
        choice = choose({**values_of(page), "missing": "skip"}, store, progress=False)
        if all(record is not None and record.complete for record in choice.records) and choice.marked is not None:
            return choice.marked
    return None

"""The runs of a profile as jobs of a workflow manager (`workflow/Snakefile`): which there are, and one of them done.

    python -m workflow.grid --profile demo             one line of JSON for each planned run
    python -m workflow.grid --profile demo --run ID    carries one out, or reads it where its record is there

A job's id is that of its run where the run has the same id on every machine. The key of a timing holds the hardware,
and the machine that lists the jobs need not be the one that measures: a timing's job is named by all but that.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import execute, look_up, parents_of
from seqrec_lib.results import RunRecord, RunStore, plain, run_key
from seqrec_lib.study.plans import Task, configs_of
from seqrec_lib.study.runner import load_study
from seqrec_lib.terminal import one_line


@dataclass(frozen=True)
class GridJob:
    """One planned run.

    id: 16 letters; name: such as "accuracy: ml-1m sasrec seed 0"; done: whether there is nothing to do here, by the
    records; timed: whether it measures time, and needs a machine to itself; after: ids of the jobs that it builds on.
    """

    id: str
    name: str
    done: bool
    timed: bool
    after: tuple[str, ...]


def planned(profile: str) -> dict[str, Task]:
    """Every run that a profile plans, by the job's id, in the order of study.yml."""
    tasks: dict[str, Task] = {}
    for page in load_study().select(profile):
        for config in configs_of(page):
            own = get(page.notebook)
            job = run_key(own.NAME, plain(config), own.revision(config), parents_of(own, config))
            tasks[job] = Task(own, config, job)
    return tasks


def list_jobs(profile: str, store: RunStore) -> list[GridJob]:
    """The jobs of a profile, each once."""
    tasks = planned(profile)
    jobs = []
    for name, task in tasks.items():
        record = look_up(task.experiment, task.config, store).record
        done, timed = record is not None and store.settled(record), getattr(task.experiment, "TIMED", False)
        after = tuple(parent for parent in parents_of(task.experiment, task.config) if parent in tasks)
        jobs.append(GridJob(name, task.name, done, timed, after))
    return jobs


def carry_out(profile: str, job: str, store: RunStore, device: Literal["auto", "cpu", "cuda"] = "auto") -> RunRecord:
    """The record of one job's run, which is carried out where there is none.

    Raises:
        SeqRecError: the profile plans no such run.
    """
    task = planned(profile).get(job)
    if task is None:
        raise SeqRecError(f"profile {profile!r} plans no run {job!r}; list them anew, as plan or revision have changed")
    (record,) = execute(task.experiment, [task.config], store=store, device=device)
    return cast("RunRecord", record)  # None only where a run is left to others, which nobody asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 where the run failed, 2 with one line where there is no such profile or run."""
    parser = argparse.ArgumentParser(prog="python -m workflow.grid", description="Runs of a profile as jobs.")
    parser.add_argument("--profile", required=True, help="profile of study.yml")
    parser.add_argument("--run", help="id of the job to carry out; without it, the jobs are listed")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    options = parser.parse_args(arguments)
    store = RunStore()
    try:
        if options.run is None:
            for job in list_jobs(options.profile, store):
                print(json.dumps(asdict(job)))
            return 0
        record = carry_out(options.profile, options.run, store, options.device)
    except SeqRecError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0 if store.settled(record) else 1


if __name__ == "__main__":
    sys.exit(main())

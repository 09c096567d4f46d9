"""Carrying out published runs again: one of each kind, old numbers beside new ones (`seqrec_lib.results.rechecks`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import get
from seqrec_lib.experiments.base import Context, config_of, describe, look_up
from seqrec_lib.results import RunRecord, RunStore, environment, now, plain, run_key, without_seed
from seqrec_lib.results.provenance import git_state
from seqrec_lib.results.rechecks import Recheck, add_recheck

SHOWN = ("ht@10", "ndcg@10", "masked_ndcg@10", "test_loss")  # of a record's metrics, those that it has


def kinds(
    store: RunStore, experiment: str | None = None, dataset: str | None = None, runs: Sequence[str] = ()
) -> list[RunRecord]:
    """The published run of the least seed, and the cheapest of these, of each kind (experiment, model, optimizer, rule,
    arm), or the ``runs`` named.

    Of one seed, because runs that build on others then share them. Runs that measure time are left out, as their
    numbers never repeat.

    Raises:
        SeqRecError: one of ``runs`` is not published, or measures time.
    """
    published = [record for record in _published(store, experiment, dataset) if record.hardware is None]
    unknown = next((run for run in runs if run not in {record.run_id for record in published}), None)
    if unknown is not None:
        raise SeqRecError(f"run {unknown!r} is no published run that can be repeated; see `seqrec results list`")
    chosen: dict[tuple[str, ...], RunRecord] = {}
    for record in sorted(published, key=_seed_and_cost):
        kind = (record.run_id,) if runs else _kind(record)
        if not runs or record.run_id in runs:
            chosen.setdefault(kind, record)
    return list(chosen.values())


def carry_out(record: RunRecord, store: RunStore, report: Callable[[str], None] = lambda line: None) -> Recheck:
    """Carry out a published run again, going on where an earlier call was broken off, and add the outcome to the file.

    Raises:
        SeqRecError: the run ran on a GPU and there is none here, or its data are not here, or others of that name are.
    """
    experiment, config = get(record.experiment), config_of(record)
    code = look_up(experiment, config, store, compare_data=True).code
    commit, dirty = git_state()
    own = run_key("recheck", {"run": record.run_id}, 1)
    device = record.environment.get("device_type", "cpu")
    with store.lock(own):
        store.goes_on(own, code)
        outcome = experiment.run(config, Context(store.workdir(own), report=report, device=device))
        shutil.rmtree(store.workdir(own), ignore_errors=True)
    new = plain(outcome.metrics)
    names = [name for name in SHOWN if name in record.metrics] or sorted(record.metrics)[:2]
    recheck = Recheck(
        run_id=record.run_id,
        finished=now(),
        git_commit=commit if commit and not dirty else "",
        device=environment()["cpu" if device == "cpu" else "device"],
        metrics={name: (float(record.metrics[name]), float(new[name])) for name in names},
        seeds=_spread(record, store, names),
    )
    add_recheck(recheck)
    return recheck


def show(record: RunRecord) -> str:
    """A run in a few words."""
    return f"{record.experiment}: {describe(record.config)} ({record.run_id})"


def _published(store: RunStore, experiment: str | None, dataset: str | None) -> list[RunRecord]:
    records = RunStore(store.published, store.published).records(experiment, dataset)
    return [record for record in records if record.complete]


def _seed_and_cost(record: RunRecord) -> tuple[int, float]:
    return record.config.get("seed", 0), float(record.cost.get("wall_seconds", "inf"))


def _kind(record: RunRecord) -> tuple[str, ...]:
    config = record.config
    optimizer, batching = config.get("optimizer", {}), config.get("batching", {})
    parts = (config.get("model"), optimizer.get("name"), optimizer.get("norm"), batching.get("rule"), config.get("arm"))
    retriever = config.get("retriever", {}).get("model")
    return (record.experiment, *(str(part) for part in (*parts, retriever, config.get("kind"))))


def _spread(record: RunRecord, store: RunStore, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Least and largest value over the published seeds of the same configuration, where there are several."""
    own = without_seed(record.config)
    kin = [r for r in _published(store, record.experiment, record.dataset["name"]) if without_seed(r.config) == own]
    values = {name: [float(other.metrics[name]) for other in kin if name in other.metrics] for name in names}
    return {name: (min(found), max(found)) for name, found in values.items() if len(found) > 1}

"""Plan, run, read: what an experiment is, and the one function that executes its runs.

An experiment is a module (or any object) with a name, a frozen ``Config``, a cheap ``plan``, a ``revision`` and
a ``run``. `execute` reads the runs that have a record and carries out the others one by one, so the same
call does the work on one machine and only reads it on another.

A published run stands for the code of the goldens. Where the code here is another (`seqrec_lib.results.code`), its own
run is made beside the published one; and a run that is not published is made again when its code or its data change.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import dependencies
from seqrec_lib.progress import Reporter, duration
from seqrec_lib.results import RunRecord, RunStore, environment, hardware, now, plain, run_key
from seqrec_lib.results.code import code_of, edited
from seqrec_lib.results.limits import timing_device
from seqrec_lib.results.provenance import git_state
from seqrec_lib.results.record import SLUG
from seqrec_lib.terminal import one_line
from seqrec_lib.validation import rebuilt

if TYPE_CHECKING:
    import pyarrow as pa


Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Context:
    """What ``run`` may use.

    Attributes:
        workdir: folder of this run for checkpoints. It outlives a kill, is removed once the run is saved
            complete, and only its subfolder ``keep`` stays (weights that `RunStore.kept` finds again; never
            exported).
        progress: whether to show progress.
        report: takes one short line on how far the run is ("epoch 3/100, loss 7.1"), once an epoch or so.
        report_share: takes the share done (0 to 1) and such a line; may be called at every step, and shows
            only where a line can be rewritten in place.
        device: auto | cpu | cuda; auto is the GPU where there is one.
    """

    workdir: Path
    progress: bool = True
    report: Callable[[str], None] = lambda line: None
    report_share: Callable[[float, str], None] = lambda share, line: None
    device: Device = "auto"


@dataclass
class Outcome:
    """What ``run`` returns; NumPy scalars are fine, NaN and infinity are not.

    Attributes:
        dataset: name, counts and ``split_sha256`` of what was used.
        metrics, history, cost: as a record has them; ``cost["wall_seconds"]`` is filled in where it is
            missing.
        tables: one value per user or per repetition, as Parquet beside the record.
        environment: corrects or adds to the description of the machine (kernel backend, precision, device
            used).
    """

    dataset: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pa.Table] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


class Experiment(Protocol):
    """An experiment, usually a module. Optional: ``TIMED = True`` puts the hardware into the run's key;
    ``parents(config) -> sequence of run ids`` names the runs that it builds on; ``GOLDEN`` (name -> parameters of
    ``plan``) are tiny runs whose numbers the tests hold."""

    @property
    def NAME(self) -> str:
        """Name of the experiment, as records and notebooks have it."""

    @property
    def Config(self) -> type:
        """Frozen dataclass: everything that defines a run."""

    def plan(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Configurations for a notebook's parameters; cheap: no torch, no data."""

    def revision(self, config: Any) -> int:
        """A part of the key of the run; raised for the configurations whose results a change alters."""

    def run(self, config: Any, context: Context) -> Outcome:
        """Carry out one configuration, going on from what lies in ``context.workdir``."""


@dataclass(frozen=True)
class Planned:
    """One configuration and where its run is to be found.

    Attributes:
        run_id: of the run that today's code stands for.
        hardware: of a timing, with the limits that it is under where they are others; else None.
        code: hash of the code here.
        edited: modules whose code is not the goldens', where a published run stands for the goldens'; else ().
        record: the run's record, or None: there is none, or it is of other code or other data and not published.
    """

    config: Any
    run_id: str
    hardware: str | None
    code: str
    edited: tuple[str, ...]
    record: RunRecord | None


def key(experiment: Experiment, config: Any) -> str:
    """Run id of ``config`` under the experiment's present revision, by the code of the goldens and, for a timing, under
    the limits that were the rule when its key was first made (`seqrec_lib.results.limits`)."""
    return _key(experiment, config, _device(experiment))


def _key(experiment: Experiment, config: Any, device: str | None, edited: str | None = None) -> str:
    values, revision = plain(config), experiment.revision(config)
    return run_key(experiment.NAME, values, revision, parents_of(experiment, config), device, edited)


def code_here(record: RunRecord) -> str:
    """Hash of the code that would carry out the run of ``record`` here.

    Raises:
        SeqRecError: its configuration is none of its experiment.
    """
    # Imported here: experiments import this module.
    from seqrec_lib.experiments import get

    return code_of(dependencies.modules_of(get(record.experiment), config_of(record)))


def look_up(experiment: Experiment, config: Any, store: RunStore, *, compare_data: bool = False) -> Planned:
    """Where the run of ``config`` by today's code is, and its record if there is one.

    Args:
        compare_data: whether to hold the record's data against the data set that is installed here.

    Raises:
        SeqRecError: the data set here is not the one that a published run was made from.
    """
    modules, device = dependencies.modules_of(experiment, config), _device(experiment)
    if device is not None:
        known = store.find(_key(experiment, config, device))
        device = timing_device(device, known.environment if known else None)
    run_id = _key(experiment, config, device)
    code, record = code_of(modules), store.find_published(run_id)
    changed = edited(modules) if record is not None else ()
    if changed:
        run_id = _key(experiment, config, device, code)
    if changed or record is None:
        record = store.find(run_id)
        record = record if record is not None and record.code == code else None
    if record is not None and compare_data and dependencies.is_of_other_data(record):
        if store.is_published(record):
            name, split = record.dataset["name"], record.dataset["split_sha256"]
            raise SeqRecError(
                f"data set {name!r} here has the split hash {dependencies.installed_split(name)}, published runs were "
                f"made from {split}; get the published files (`seqrec data fetch {name}`), or give your data a name of "
                "their own"
            )
        record = None
    return Planned(config, run_id, device, code, changed, record)


def config_of(record: RunRecord) -> Any:
    """The configuration of a record, as the frozen dataclass of its experiment.

    Raises:
        SeqRecError: it is none: a field is missing or unknown, or has a value that it may not have.
    """
    # Imported here: experiments import this module.
    from seqrec_lib.experiments import get

    try:
        return rebuilt(get(record.experiment).Config, record.config)
    except SeqRecError as error:
        commit = record.environment.get("git_commit") or "not on record"
        raise SeqRecError(
            f"the configuration of run {record.run_id} is none of this version's: {error}; use the version that made "
            f"the run (commit: {commit}), or delete the run"
        ) from None


def execute(
    experiment: Experiment,
    configs: Sequence[Any],
    *,
    store: RunStore | None = None,
    missing: str = "run",
    progress: bool = True,
    device: Device = "auto",
    wait: bool = True,
    rerun: bool = False,
) -> list[RunRecord | None]:
    """Read the runs that have a record and, with ``missing="run"``, carry out the others one by one.

    Each run is saved as it ends. One that fails is saved with its error, the next one goes on, and a later
    call tries it again (unless the failure is published, as a result). An interruption leaves finished runs in the
    store and the present one's checkpoints in its working folder. Where the code here is not that of a published run,
    its own run is made and returned; with ``missing="skip"`` the published one is, until there is such a run.

    Args:
        experiment: what to execute.
        configs: its configurations, from ``plan``.
        store: where runs are kept; by default .runs and results in the project's folder.
        missing: run | skip.
        progress: whether to show progress.
        device: auto | cpu | cuda; not part of a run's key.
        wait: for a run that another process is at, which is then read; False leaves it to that process.
        rerun: with ``missing="run"``, also carries out again what has a record in .runs and replaces it once the new
            run is complete. A published run is not made again under its id: that is what `seqrec results recheck` does.

    Returns:
        One entry per configuration: its record (complete or failed), or None: not run.

    Raises:
        SeqRecError: ``missing`` is neither run nor skip, the data set here is not the one of a published run, ``rerun``
            meets a published run, or the store cannot be read or written.
    """
    if missing not in {"run", "skip"}:
        raise SeqRecError(f"missing is {missing!r}; use run (carry out missing runs) or skip (show them as not run)")
    store, rerun = store or RunStore(), rerun and missing == "run"
    if rerun:
        _refuse_published(experiment, configs, store)
    results: list[RunRecord | None] = []
    with Reporter(progress) as reporter:
        for number, config in enumerate(configs, 1):
            planned = look_up(experiment, config, store, compare_data=missing == "run")
            record = planned.record
            changed = ", ".join(name.removeprefix("seqrec_lib.") for name in planned.edited)
            label = f"[{number}/{len(configs)}] {experiment.NAME}: {describe(config)}"
            label += f" (edited: {changed})" if changed else ""
            if record is not None and store.settled(record) and not rerun:
                store.tidy(record.run_id)
                reporter.count("read")
            elif missing == "skip":
                record = record or (store.find(key(experiment, config)) if planned.edited else None)
                reporter.count("not run" if record is None else "read" if store.settled(record) else "failed")
            else:
                record = _run_locked(experiment, planned, label, store, reporter, device, wait, rerun)
            results.append(record)
    return results


def _refuse_published(experiment: Experiment, configs: Sequence[Any], store: RunStore) -> None:
    for config in configs:
        record = look_up(experiment, config, store).record
        if record is not None and store.is_published(record):
            raise SeqRecError(
                f"{describe(config)} is a published run, which rerun leaves alone; carry it out again by `seqrec "
                f"results recheck --run {record.run_id}`, or leave rerun off"
            )


def raise_for_failures(records: Sequence[RunRecord | None], store: RunStore, *, keep_going: bool = False) -> None:
    """What the last cell of a notebook calls: papermill's exit status then tells that runs failed.

    A failure that was published is a result and is none here; with ``keep_going`` nothing is raised.

    Raises:
        SeqRecError: a run failed; the line has its error.
    """
    failed = [record for record in records if record is not None and not store.settled(record)]
    if failed and not keep_going:
        raise SeqRecError(
            f"{len(failed)} of {len(records)} runs failed; {describe(failed[0].config)}: {failed[0].error}; mend the "
            "cause and execute the notebook again, or set keep_going"
        )


def describe(config: Any) -> str:
    """A configuration in a few words: data set, model and seed where it has them."""
    values = plain(config)
    named = [str(values[name]) for name in ("dataset", "model") if name in values]
    return " ".join(named + ([f"seed {values['seed']}"] if "seed" in values else [])) or str(values)


def _run_locked(
    experiment: Experiment,
    planned: Planned,
    label: str,
    store: RunStore,
    reporter: Reporter,
    device: Device,
    wait: bool,
    rerun: bool,
) -> RunRecord | None:
    run_id = planned.run_id
    if wait and store.is_locked(run_id):
        reporter.line(f"{label}: another process is at it; waiting")
    with store.lock(run_id, wait=wait) as held:
        if not held:
            return None
        record = look_up(experiment, planned.config, store, compare_data=True).record
        known = rerun and record == planned.record
        if record is not None and store.settled(record) and not known:  # the other process finished it meanwhile
            reporter.count("read")
            return record
        split = dependencies.installed_split(str(plain(planned.config).get("dataset")))
        if not store.goes_on(run_id, f"{planned.code} {split}"):
            reporter.line(f"{label}: the code or the data have changed since this run began; it begins again")
        reporter.start(label)
        context = Context(store.workdir(run_id), reporter.enabled, reporter.report, reporter.report_share, device)
        start = time.perf_counter()
        record = store.save(*_run(experiment, planned, context), again=rerun)
        took = duration(time.perf_counter() - start)
        reporter.count("run" if record.complete else "failed")
        reporter.line(
            f"{label}: done in {took}" if record.complete else f"{label}: FAILED after {took}: {record.error}"
        )
    return record


def _run(experiment: Experiment, planned: Planned, context: Context) -> tuple[RunRecord, dict[str, pa.Table]]:
    """Carry out one run, whatever becomes of it: its record, with an error where it failed, and its tables."""
    config, values = planned.config, plain(planned.config)
    begin, started, (commit, dirty) = time.perf_counter(), now(), git_state()  # as it is now: it may change meanwhile

    def record(outcome: Outcome, error: str | None) -> RunRecord:
        machine = _machine(context.device) | {"git_commit": commit, "git_dirty": dirty} | plain(outcome.environment)
        return RunRecord(
            run_id=planned.run_id,
            experiment=experiment.NAME,
            config=values,
            revision=experiment.revision(config),
            parents=parents_of(experiment, config),
            hardware=planned.hardware,
            code=planned.code,
            edited=planned.code if planned.edited else None,
            dataset=plain(outcome.dataset),
            metrics=plain(outcome.metrics),
            history=plain(outcome.history),
            cost=plain(outcome.cost),
            environment=machine,
            status="complete" if error is None else "failed",
            error=error,
            started=started,
            finished=now(),
        )

    try:
        outcome = experiment.run(config, context)
        outcome.cost = {"wall_seconds": round(time.perf_counter() - begin, 3)} | outcome.cost
        complete = record(outcome, None)
        complete.to_json(f"run {planned.run_id}")  # an outcome that is no record (NaN, say) makes a failed run
        return complete, outcome.tables
    except Exception as error:  # whatever went wrong in one run, the others go on
        with suppress(OSError):  # a help for who looks; what counts is the record
            text = traceback.format_exc()
            (context.workdir / "traceback.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        name = str(values.get("dataset", "none"))
        return record(Outcome({"name": name if SLUG.fullmatch(name) else "none"}), _one_line(error)), {}


def _machine(device: str) -> dict[str, Any]:
    """`environment`, with the CPU as the device of a run that was kept off the GPU."""
    found = environment()
    return found | {"device": found["cpu"], "device_type": "cpu"} if device == "cpu" else found


def _one_line(error: Exception) -> str:
    text = one_line(str(error))
    return text if isinstance(error, SeqRecError) and text else f"{type(error).__name__}: {text}"


def parents_of(experiment: Experiment, config: Any) -> tuple[str, ...]:
    """Ids of the runs that the run of ``config`` builds on."""
    parents = getattr(experiment, "parents", None)
    return tuple(parents(config)) if parents is not None else ()


def _device(experiment: Experiment) -> str | None:
    return hardware() if getattr(experiment, "TIMED", False) else None

"""Plan, run, read: what an experiment is, and the one function that executes its runs.

An experiment is a module (or any object) with a name, a revision, a frozen ``Config``, a cheap ``plan`` and
a ``run``. `execute` reads the runs that have a record and carries out the others one by one, so the same
call does the work on one machine and only reads it on another.
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
from seqrec_lib.experiments.sound import check_config
from seqrec_lib.progress import Reporter, duration
from seqrec_lib.results import RunRecord, RunStore, environment, fingerprint, hardware, now, plain, run_key
from seqrec_lib.results.provenance import git_state
from seqrec_lib.results.record import SLUG
from seqrec_lib.results.replays import proof
from seqrec_lib.terminal import one_line

if TYPE_CHECKING:
    import pyarrow as pa

# Where there is a GPU, these do a part of a module's work: they decide runs there, and none on a CPU.
_ON_A_GPU = {"seqrec_lib.training": ("seqrec_lib.captured", "seqrec_lib.resident")}


def _say_nothing(*_: object) -> None:
    pass


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
    report: Callable[[str], None] = _say_nothing
    report_share: Callable[[float, str], None] = _say_nothing
    device: Literal["auto", "cpu", "cuda"] = "auto"


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
    """An experiment, usually a module. Optional: ``TIMED = True`` puts the hardware into the run's key, and
    ``parents(config) -> sequence of run ids`` names the runs that it builds on, and ``sources(plain config) ->
    modules`` narrows ``SOURCES`` down to those that decide this run."""

    @property
    def NAME(self) -> str:
        """Name of the experiment, as records and notebooks have it."""

    @property
    def REVISION(self) -> int:
        """Raised when a change alters results; a part of the key of every run."""

    @property
    def SOURCES(self) -> tuple[str, ...]:
        """Modules whose code the fingerprint covers."""

    @property
    def Config(self) -> type:
        """Frozen dataclass: everything that defines a run."""

    def plan(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Configurations for a notebook's parameters; cheap: no torch, no data."""

    def run(self, config: Any, context: Context) -> Outcome:
        """Carry out one configuration, going on from what lies in ``context.workdir``."""


def key(experiment: Experiment, config: Any) -> str:
    """Run id of ``config`` under the experiment's present revision."""
    return run_key(
        experiment.NAME, plain(config), experiment.REVISION, _parents(experiment, config), _device(experiment)
    )


def fingerprint_of(experiment: Experiment, config: Mapping[str, Any], device_type: str = "cpu") -> str:
    """Fingerprint of today's code for the run of ``config``, given as a record has it, on a cpu or with cuda."""
    sources = _sources(experiment, config)
    if device_type == "cuda":
        sources += tuple(more for source in sources for more in _ON_A_GPU.get(source, ()))
    return fingerprint(sources)


def fingerprint_today(record: RunRecord, experiment: Experiment) -> str:
    """Fingerprint that the record's run would have now, on the kind of device that it ran on."""
    return fingerprint_of(experiment, record.config, record.environment.get("device_type", "cpu"))


def is_older(record: RunRecord, experiment: Experiment) -> bool:
    """Whether code made the record that differs from today's and was not shown to give the same numbers.

    Page and `status` say "older code". `seqrec_lib.results.replays` says how it is shown.
    """
    today = fingerprint_today(record, experiment)
    return record.fingerprint != today and not proof(record, today)


def execute(
    experiment: Experiment,
    configs: Sequence[Any],
    *,
    store: RunStore | None = None,
    missing: str = "run",
    progress: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    wait: bool = True,
) -> list[RunRecord | None]:
    """Read the runs that have a record and, with ``missing="run"``, carry out the others one by one.

    Each run is saved as it ends. One that fails is saved with its error, the next one goes on, and a later
    call tries it again (unless the failure is published, as a result). A run that another process is at is waited for,
    then read. An interruption leaves finished runs in the store and the present one's checkpoints in its working
    folder.

    Args:
        experiment: what to execute.
        configs: its configurations, from ``plan``.
        store: where runs are kept; by default .runs and results in the project's folder.
        missing: run | skip.
        progress: whether to show progress.
        device: auto | cpu | cuda; not part of a run's key.
        wait: False leaves a run that another process is at to that process.

    Returns:
        One entry per configuration: its record (complete or failed), or None: not run.

    Raises:
        SeqRecError: ``missing`` is neither run nor skip, a configuration cannot be meant (`sound`), or the store cannot
            be read or written.
    """
    if missing not in {"run", "skip"}:
        raise SeqRecError(f"missing is {missing!r}; use run (carry out missing runs) or skip (show them as not run)")
    for config in configs:
        check_config(config)
    store = store or RunStore()
    results: list[RunRecord | None] = []
    with Reporter(progress) as reporter:
        for number, config in enumerate(configs, 1):
            run_id = key(experiment, config)
            record = store.find(run_id)
            label = f"[{number}/{len(configs)}] {experiment.NAME}: {describe(config)}"
            if record is not None and store.settled(record):
                reporter.count("read")
            elif missing == "skip":
                reporter.count("failed" if record else "not run")
            else:
                record = _run_locked(experiment, config, run_id, label, store, reporter, device, wait)
            results.append(record)
    return results


def describe(config: Any) -> str:
    """A configuration in a few words: data set, model and seed where it has them."""
    values = plain(config)
    named = [str(values[name]) for name in ("dataset", "model") if name in values]
    return " ".join(named + ([f"seed {values['seed']}"] if "seed" in values else [])) or str(values)


def _run_locked(
    experiment: Experiment,
    config: Any,
    run_id: str,
    label: str,
    store: RunStore,
    reporter: Reporter,
    device: Literal["auto", "cpu", "cuda"],
    wait: bool,
) -> RunRecord | None:
    if wait and store.is_locked(run_id):
        reporter.line(f"{label}: another process is at it; waiting")
    with store.lock(run_id, wait=wait) as held:
        if not held:
            return None
        record = store.find(run_id)
        if record is not None and store.settled(record):  # the other process finished it meanwhile
            reporter.count("read")
            return record
        reporter.start(label)
        context = Context(store.workdir(run_id), reporter.enabled, reporter.report, reporter.report_share, device)
        start, started = time.perf_counter(), now()
        record = _run(experiment, config, run_id, context, store, started)
        seconds = time.perf_counter() - start
        if record.complete:
            reporter.count("run")
            reporter.line(f"{label}: done in {duration(seconds)}")
        else:
            reporter.count("failed")
            reporter.line(f"{label}: FAILED after {duration(seconds)}: {record.error}")
    return record


def _run(
    experiment: Experiment, config: Any, run_id: str, context: Context, store: RunStore, started: str
) -> RunRecord:
    values = plain(config)
    begin = time.perf_counter()
    # Code and commit are those at the start: both may change on disk while the run lasts.
    commit, dirty = git_state()
    code = {"git_commit": commit, "git_dirty": dirty}
    fingerprints = {device: fingerprint_of(experiment, values, device) for device in ("cpu", "cuda")}
    fixed: dict[str, Any] = {
        "run_id": run_id,
        "experiment": experiment.NAME,
        "config": values,
        "revision": experiment.REVISION,
        "parents": _parents(experiment, config),
        "hardware": _device(experiment),
        "started": started,
    }
    try:
        outcome = experiment.run(config, context)
        cost = {"wall_seconds": round(time.perf_counter() - begin, 3)} | plain(outcome.cost)
        machine = _machine(context.device) | code | plain(outcome.environment)
        record = RunRecord(
            **fixed,
            dataset=plain(outcome.dataset),
            metrics=plain(outcome.metrics),
            history=plain(outcome.history),
            cost=cost,
            environment=machine,
            fingerprint=fingerprints[machine["device_type"]],
            status="complete",
            finished=now(),
            tables=tuple(sorted(outcome.tables)),
        )
        record.to_json(f"run {run_id}")  # an outcome that is no record (NaN, say) makes a failed run
        tables = outcome.tables
    except Exception as error:  # whatever went wrong in one run, the others go on
        name = str(values.get("dataset", "none"))
        machine = _machine(context.device) | code
        record = RunRecord(
            **fixed,
            dataset={"name": name if SLUG.fullmatch(name) else "none"},
            environment=machine,
            fingerprint=fingerprints[machine["device_type"]],
            status="failed",
            error=_one_line(error),
            finished=now(),
        )
        tables = {}
        with suppress(OSError):  # a help for who looks; what counts is the record
            text = traceback.format_exc()
            (context.workdir / "traceback.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    store.save(record, tables)
    return record


def _machine(device: str) -> dict[str, Any]:
    """`environment`, with the CPU as the device of a run that was kept off the GPU."""
    found = environment()
    return found | {"device": found["cpu"], "device_type": "cpu"} if device == "cpu" else found


def _one_line(error: Exception) -> str:
    text = one_line(str(error))
    return text if isinstance(error, SeqRecError) and text else f"{type(error).__name__}: {text}"


def _sources(experiment: Experiment, config: Mapping[str, Any]) -> tuple[str, ...]:
    sources = getattr(experiment, "sources", None)
    return tuple(sources(config)) if sources is not None else experiment.SOURCES


def _parents(experiment: Experiment, config: Any) -> tuple[str, ...]:
    parents = getattr(experiment, "parents", None)
    return tuple(parents(config)) if parents is not None else ()


def _device(experiment: Experiment) -> str | None:
    return hardware() if getattr(experiment, "TIMED", False) else None

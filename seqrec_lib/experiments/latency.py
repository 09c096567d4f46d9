"""How long a model takes for one user's ten best items, all models in one run, so that their ratios are paired.

One run is one (data set, device, threads) with all models and paths (`seqrec_lib.latency.contestants`). It starts
``processes`` processes one after another; each times every contestant on the same users in interleaved random blocks,
does its share of the paper's samples, and times batches. Weights are random: what a multiplication costs does not
depend on the numbers.

Tables:
    calls: one row per timed call: ``model``, ``path``, ``process``, ``block``, ``length`` (items read), ``encode``,
        ``score``, ``top_k`` (microseconds), and on a GPU ``device`` (microseconds by CUDA events)
    paper: one row per sample of the paper's protocol: ``model``, ``path``, ``mean``, ``trimmed_mean`` (microseconds per
        user, with and without outliers), ``removed`` (share of calls)
    batches: ``model``, ``size``, ``process``, ``user`` (microseconds per user of the model's own pass)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from seqrec_lib.data import registry
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.latency import PATHS
from seqrec_lib.models import COUNTED
from seqrec_lib.places import project_root
from seqrec_lib.results import ADDED_LATER
from seqrec_lib.results.limits import check_threads, timing_limits
from seqrec_lib.train.recipes import resolve
from seqrec_lib.validation import AnyNames, Checked, Count, Length, Seed, Several, plans, refuse_unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from seqrec_lib.latency.worker import Job

NAME = "latency"
TIMED = True
STAGES = ("encode", "score", "top_k")
TABLES = {  # columns and their types
    "calls": {"model": "string", "path": "string", "process": "int8", "block": "int16", "length": "int16"}
    | dict.fromkeys((*STAGES, "device"), "float32"),
    "paper": {"model": "string", "path": "string", "mean": "float32", "trimmed_mean": "float32", "removed": "float32"},
    "batches": {"model": "string", "size": "int32", "process": "int8", "user": "float32"},
}
TWIN = "2mamba4rec"  # timed twice, as the A/A control


@dataclass(frozen=True)
class Config(Checked):
    """One run.

    Attributes:
        dataset: whose users and histories. models: ids; architectures: settings of each trained one.
        max_length: items of a history that every model reads, the same for all.
        device: cpu | cuda; threads: of the CPU.
        processes, blocks, block_users: interleaved timing: blocks in each process, users in each block.
        samples, sample_users: the paper's protocol. batches, batch_rounds: sizes and repeats, in each process.
        k: items asked for. seed: of users and orders.
        paths: of `seqrec_lib.latency.contestants`; (): all of the device.
    """

    dataset: str
    models: Annotated[tuple[str, ...], *Several]
    architectures: dict[str, dict[str, Any]]
    max_length: Length
    device: Literal["cpu", "cuda"]
    threads: Count
    processes: Count
    blocks: Count
    block_users: Count
    samples: Count
    sample_users: Count
    batches: Annotated[tuple[Count, ...], *Several]
    batch_rounds: Count
    k: Count = 10
    seed: Seed = 0
    paths: tuple[str, ...] = field(default=(), metadata=ADDED_LATER)


def revision(config: Config) -> int:
    """Raised when what is timed changes. 3: the kernels' products are PyTorch's, and windows are given by lengths."""
    return 3


@plans(Config, paths=AnyNames)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """One run for ``dataset`` on ``device`` with all ``models``.

    Raises:
        SeqRecError: an unknown data set or model, a path that the device does not have, a value that is not allowed, or
            more threads than cores that this process can use.
    """
    dataset = parameters["dataset"]
    registry.get(dataset)
    check_threads(parameters["threads"])
    device, paths = parameters["device"], tuple(parameters.get("paths", ()))
    refuse_unknown(paths, PATHS[device], f"path on {device}")
    _, training = resolve(dataset, "mamba4rec", 0)
    assert training is not None
    recipes = {model: resolve(dataset, model, 0) for model in parameters["models"]}
    architectures = {model: architecture for model, (architecture, trained) in recipes.items() if trained is not None}
    settings = {"architectures": architectures, "max_length": training.max_length, "paths": paths}
    given = {field.name: parameters[field.name] for field in fields(Config) if field.name in parameters}
    return [Config(**given | settings)]


def run(config: Config, context: Context) -> Outcome:
    """Start the processes one after another and gather what they timed."""
    from seqrec_lib.data import load

    if config.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise SeqRecError("device is cuda but no GPU is visible here; use device cpu")
    sequences = load(config.dataset, progress=context.progress)
    parts = []
    for number in range(config.processes):
        context.report(f"process {number + 1}/{config.processes}")
        parts.append(run_process(_job(config, number), context.workdir / f"process-{number}"))
    return Outcome(
        dataset=sequences.description(),
        metrics=_facts(parts),
        tables={name: _table(name, parts) for name in TABLES},
        environment={"threads": config.threads, "device_type": config.device} | timing_limits(),
    )


def _job(config: Config, number: int) -> Job:
    """What process ``number`` does."""
    from seqrec_lib.latency import worker  # what is planned loads no torch

    cuda = config.device == "cuda"
    own = {
        "models": tuple(m for m in config.models if not (cuda and m in COUNTED)),
        "paths": config.paths or PATHS[config.device],
        "twin": TWIN if TWIN in config.models and not cuda else None,
        "seed": 1000 * config.seed + number,
        "samples": config.samples // config.processes + (number < config.samples % config.processes),
        "sample_paths": ("eager", "graph") if cuda else ("module", "served"),
        "memory": number == 0,
    }
    values = asdict(config) | own
    return worker.Job(**{field.name: values[field.name] for field in fields(worker.Job)})


def run_process(job: Job, stem: Path) -> dict[str, Any]:
    """Do a job in a process of its own; what `Timed` has.

    Raises:
        SeqRecError: the process failed; the message ends with its last line.
    """
    from seqrec_lib.latency import worker  # as above

    stem.parent.mkdir(parents=True, exist_ok=True)
    settings, result = stem.with_suffix(".json"), stem.with_suffix(".result.json")
    settings.write_text(json.dumps(asdict(job)), encoding="utf-8")
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", worker.__name__, str(settings), str(result)],
        capture_output=True, text=True, check=False, cwd=project_root(),
        env={**os.environ, **threads, "PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SeqRecError(f"a timing process ended with {done.returncode}: {last}; run the page again")
    return dict(json.loads(result.read_text(encoding="utf-8")))


def _table(name: str, parts: list[dict[str, Any]]) -> pa.Table:
    """The rows of all processes. Seconds become microseconds with five bits of the fraction: the clock's resolution."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.concat([pd.DataFrame(part[name]).assign(process=number) for number, part in enumerate(parts)])
    columns = {}
    for column, kind in TABLES[name].items():
        values = frame[column].to_numpy() if column in frame else np.empty(0, object)
        if kind == "float32" and column != "removed":
            values = np.round(values.astype(np.float64) * 1e6 * 32) / 32
        if column != "device" or np.isfinite(values).any():
            columns[column] = pa.array(values, pa.type_for_alias(kind), safe=False)
    return pa.table(columns)


def _facts(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """By "path/model": median microseconds, first call, calls of warm-up, peak memory: small numbers for people."""
    facts: dict[str, Any] = {}
    for mine in zip(*(part["facts"] for part in parts), strict=True):
        model, path = where = mine[0]["model"], mine[0]["path"]
        calls = [call for part in parts for call in part["calls"] if (call["model"], call["path"]) == where]
        seconds = np.median([sum(call[stage] for stage in STAGES) for call in calls])
        facts[f"{path}/{model}/median_us"] = round(float(seconds) * 1e6, 2)
        facts[f"{path}/{model}/first_call_ms"] = round(max(f["first_call_seconds"] for f in mine) * 1e3, 2)
        facts[f"{path}/{model}/warm_up_calls"] = max(f["warm_up_calls"] for f in mine)
        for name in ("held_bytes", "peak_memory_bytes"):
            if mine[0].get(name) is not None:
                facts[f"{path}/{model}/{name}"] = mine[0][name]
    return facts

"""Goldens: tiny runs of every experiment whose numbers are kept, so that code can change while results stay.

A case is a configuration from an experiment's ``GOLDEN``, planned on the made-up files in ``raw``. What it gave is kept
in ``<experiment>.json`` under its name and revision, and never overwritten: where a change is meant to alter results,
the experiment's revision of just those configurations is raised, and `write` adds what they give now.

What counts exactly: data, counts, and everything of runs without training. A trained run is compared within bands.
Its first epoch's loss must agree to 1e-4, as other instruction sets sum in another order (AVX-512 and AVX2 differ by
6e-6 here). Later steps build on the rounding of earlier ones, and ranks of near-equal scores may swap: one rank that
swaps moves a mean over 72 users by up to 0.009. So later losses get the band `LATER`, metrics the band `METRICS`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqrec_lib.experiments import EXPERIMENTS, get
from seqrec_lib.experiments.base import Context, Experiment, Outcome
from seqrec_lib.models import COUNTED, MODELS, module_of
from seqrec_lib.results import plain

HERE = Path(__file__).parent
FIRST, LATER = 1e-4, 3e-3  # relative, of losses and other numbers of a history
METRICS = 0.02  # absolute, of shares and means; relative, of larger numbers
CLOCK = ("seconds", "samples_per_second", "matmul_fraction", "tokens_per_second")  # no two runs agree on them


@dataclass(frozen=True)
class Case:
    """One tiny run. ``exact``: nothing is trained. root: the folder in ``raw`` that holds its data."""

    name: str
    experiment: Experiment
    config: Any
    revision: int
    root: str

    @property
    def exact(self) -> bool:
        """Whether the run only counts."""
        names = ("training", "tuning", "teaching", "preference")
        return all(getattr(self.config, name, None) is None for name in names)


def cases(experiment: str | None = None) -> Iterator[Case]:
    """All cases, or those of one experiment. Experiments that measure time, and those that share runs, have none."""
    for name in EXPERIMENTS if experiment is None else [experiment]:
        module = get(name)
        for title, parameters in getattr(module, "GOLDEN", {}).items():
            root = "second" if title == "other-formats" else "first"
            for config in module.plan(parameters):
                yield Case(f"{title}: {_label(config)}", module, config, module.revision(config), root)


def deciding_modules() -> list[str]:
    """The modules that the study's runs begin with: those of the experiments and of the models."""
    return sorted({*EXPERIMENTS.values()} | {module_of(name) for name in (*COUNTED, *MODELS)})


def _label(config: Any) -> str:
    """What tells the configurations of one title apart; a test says that it does."""
    values = plain(config)
    words = [values.get("dataset"), values.get("model"), values.get("retriever", {}).get("model")]
    words += [values.get("setting", {}).get("negatives"), values.get("kind"), values.get("optimizer", {}).get("name")]
    words += [values.get("batching", {}).get("rule"), values.get("optimizer", {}).get("norm")]
    words += ["cosine"] if values.get("optimizer") and values["training"].get("schedule") == "cosine" else []
    return " ".join(str(word) for word in words if word)


@contextmanager
def made_up_data(root: str, folder: Path) -> Iterator[None]:
    """The data sets' names mean the files in ``raw/<root>``; what is run stays in ``folder``, with one thread."""
    import torch

    names = {"SEQREC_DATA": str(HERE / "raw" / root), "SEQREC_CACHE": str(folder / "cache")}
    before = {name: os.environ.get(name) for name in names}
    threads = torch.get_num_threads()
    os.environ.update(names)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def run(case: Case, folder: Path, report: Any = lambda line: None) -> Outcome:
    """Carry out a case; runs that it builds on are shared by the cases of one ``folder``."""
    workdir = folder / ".work" / hashlib.sha256(f"{case.experiment.NAME} {case.name}".encode()).hexdigest()[:16]
    workdir.mkdir(parents=True, exist_ok=True)
    with made_up_data(case.root, folder):
        return case.experiment.run(case.config, Context(workdir, progress=False, report=report, device="cpu"))


def summary(case: Case, outcome: Outcome) -> dict[str, Any]:
    """What is kept of an outcome: its configuration, data, numbers, and each table's columns and their means."""
    dataset = {key: value for key, value in plain(outcome.dataset).items() if key != "verified"}
    return {
        "config": plain(case.config),
        "dataset": dataset,
        "metrics": _rounded(plain(outcome.metrics)),
        "history": [_rounded({k: v for k, v in row.items() if k not in CLOCK}) for row in plain(outcome.history)],
        "tables": {name: _table(table) for name, table in sorted(outcome.tables.items())},
    }


def _table(table: Any) -> dict[str, Any]:
    columns = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        entry: dict[str, Any] = {"missing": sum(value is None for value in values)}
        if numbers:
            entry["mean"] = float(f"{sum(numbers) / len(numbers):.8g}")
        if not any(isinstance(value, float) for value in values):
            entry["digest"] = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
        columns[name] = entry
    return {"rows": table.num_rows, "columns": columns}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{v:.8g}") if isinstance(v, float) else v for key, v in values.items()}


def path_of(experiment: Experiment) -> Path:
    """The file with an experiment's goldens."""
    return HERE / f"{experiment.NAME}.json"


def read(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Name -> revision (as text) -> summary; empty where there is no file yet."""
    path = path_of(experiment)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def add(case: Case, entry: Mapping[str, Any]) -> None:
    """Keep a new case's summary. One that is there is never overwritten.

    Raises:
        ValueError: it is there.
    """
    known = read(case.experiment)
    revisions = known.setdefault(case.name, {})
    if str(case.revision) in revisions:
        raise ValueError(f"{case.name}, revision {case.revision}, is kept already; raise the revision instead")
    revisions[str(case.revision)] = dict(entry)
    text = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path_of(case.experiment).write_text(text, encoding="utf-8")


def differences(case: Case, kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what ``now`` leaves the bands around ``kept``, one line each. Numbers that are new are no difference."""
    found = _unequal("configuration", kept["config"], now["config"])
    found += _unequal("data", kept["dataset"], {name: now["dataset"].get(name) for name in kept["dataset"]})
    found += _numbers("", kept["metrics"], now["metrics"], 1e-9 if case.exact else METRICS)
    if len(kept["history"]) != len(now["history"]):
        found.append(f"{len(kept['history'])} epochs became {len(now['history'])}")
    for number, (old, new) in enumerate(zip(kept["history"], now["history"], strict=False), 1):
        first = number == 1
        quality = {key for key in old if "@" in key}  # a rank that swaps moves a metric at once
        before, after = ({k: v for k, v in row.items() if k not in quality} for row in (old, new))
        found += _numbers(f"epoch {number}: ", before, after, FIRST if first else LATER)
        before, after = ({k: row.get(k) for k in quality} for row in (old, new))
        found += _numbers(f"epoch {number}: ", before, after, METRICS)
    if kept["tables"].keys() - now["tables"].keys():
        found.append(f"tables {sorted(kept['tables'])} became {sorted(now['tables'])}")
    for name in kept["tables"].keys() & now["tables"].keys():
        found += _compare_tables(f"table {name}: ", kept["tables"][name], now["tables"][name], case.exact)
    return found


def _compare_tables(where: str, old: Mapping[str, Any], new: Mapping[str, Any], exact: bool) -> list[str]:
    if old["rows"] != new["rows"] or old["columns"].keys() - new["columns"].keys():
        return [
            f"{where}{old['rows']} rows of {sorted(old['columns'])} became {new['rows']} of {sorted(new['columns'])}"
        ]
    if exact:
        return _unequal(where, old["columns"], {name: new["columns"][name] for name in old["columns"]})
    before, after = ({name: column.get("mean") for name, column in t["columns"].items()} for t in (old, new))
    return _numbers(f"{where}mean ", before, after, METRICS)


def _unequal(where: str, old: Any, new: Any) -> list[str]:
    return [] if old == new else [f"{where} {old!r} became {new!r}"]


def _numbers(where: str, old: Mapping[str, Any], new: Mapping[str, Any], band: float) -> list[str]:
    found = []
    for name in sorted(old):
        a, b = old.get(name), new.get(name)
        both = isinstance(a, (int, float)) and isinstance(b, (int, float))
        if not (math.isclose(a, b, rel_tol=band, abs_tol=band if band == METRICS else 1e-12) if both else a == b):
            found.append(f"{where}{name} {a} became {b}")
    return found

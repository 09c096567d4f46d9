"""Frames of the speed page, from the records that benchmarks/ writes (benchmarks/results/<name>.json).

`rows` are a record's own rows, under its own keys; the other functions add what is computed from them. A record that is
not there gives an empty frame. `conditions` has the machine that each was measured on, with the versions, the day and
the clock: a speed without them means nothing. A column ``goal`` is what the study aimed at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from statistics import median
from typing import Any

import pandas as pd

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.report.frames import NotRun
from seqrec_lib.report.kit import Rows, rows_of
from seqrec_lib.report.paper import dataset_name, model_name
from seqrec_lib.validation import read_json

Record = Mapping[str, Any]
FOLDER = "benchmarks/results"  # counted from the project
SSM_GOALS = {  # by length, the longest time in units of SASRec's
    200: {"mamba4rec": 1.5, "2mamba4rec": 0.9, "hydra4rec": 1.2},
    1000: {"mamba4rec": 0.7, "2mamba4rec": 0.7, "hydra4rec": 0.7},
}
ARCHITECTURES = {"gpt2": "GPT-2", "mamba2": "Mamba-2"}
OPTIMIZERS = {
    "fused": "Adam, fused",
    "foreach": "Adam, foreach",
    "sgd": "SGD, foreach",
    "usgm": "USGM",
    "usgm, ball": "USGM, projected on a ball",
    "usgm, adam's norm": "USGM, Adam's norm",
    "probing": "Probing USGM",
    "usgm, adaptive batching": "USGM with adaptive batching",
}


def read(folder: str, name: str) -> Record | None:
    """The record of the benchmark ``name``, or None where it was not run; ``folder`` counts from the project.

    Raises:
        SeqRecError: the file is no JSON object.
    """
    path, again = project_root() / folder / f"{name}.json", f"run python -m benchmarks.{name} --save again"
    if not path.is_file():
        return None
    record = read_json(path, again)
    if not isinstance(record, dict):
        raise SeqRecError(f"{path} holds no JSON object; {again}")
    return record


def measured(name: str, *path: str) -> Any:
    """What the study's own record of the benchmark ``name`` has under these keys; raises `NotRun` where that is
    nothing."""
    found: Any = read(FOLDER, name)
    for key in path:
        found = (found or {}).get(key)
    if not found:
        raise NotRun(f"{name}: {' '.join(path)}")
    return found


@rows_of
def conditions(records: Mapping[str, Record | None]) -> Rows:
    """Where and when benchmarks were measured: name, machine, cores, threads, load, clock, date, versions."""
    for name, record in records.items():
        if record is None:
            continue
        where = record.get("environment") or record.get("machine") or {}
        if isinstance(where, str):  # data_load's: the architecture alone
            where = {"cpu": where, "cores": record.get("cores")}
        gpu = [str(where["device"])] if where.get("device_type") == "cuda" else []
        load = sorted(set(where.get("load_average") or []))
        sides = record.get("rows")
        used = [row.get("versions", {}) for row in sides] if isinstance(sides, list) else []
        yield {
            "benchmark": name,
            "machine": ", ".join([*gpu, str(where.get("cpu") or where.get("processor") or "unknown CPU")]),
            "cores": where.get("cores"),
            "threads": where.get("threads"),
            "load": " to ".join(f"{one:g}" for one in load) or None,
            "clock": record.get("setting", {}).get("clock"),
            "date": record.get("date"),
            "versions": versions([record.get("versions", {}), *used]),
        }


def versions(found: Iterable[Mapping[str, str]]) -> str:
    """All versions that were used, each once.

    >>> versions([{"torch": "2.13.0"}, {"torch": "2.13.0", "RecBole": "1.2.1"}])
    'RecBole 1.2.1, torch 2.13.0'
    """
    return ", ".join(sorted({f"{name} {value}" for each in found for name, value in each.items()}, key=str.lower))


def rows(record: Record | None, *levels: str) -> pd.DataFrame:
    """The rows of a record that lie under ``levels``, one key within the other, a row each with what the levels above
    say of it; what failed is left out.

    A level whose rows have names is written with the column that takes them: "models:model"; ":whose" is a level
    without a key of its own. A value within a row has its path as its key: "cpu.ndcg@10". Columns ``model`` and
    ``dataset`` are written as a reader knows them.
    """
    table = pd.json_normalize([] if record is None else [row for row in _under(record, levels) if "failed" not in row])
    for key, name_of in (("model", _contestant), ("dataset", dataset_name)):
        if key in table:
            table[key] = table[key].map(name_of)
    return table


def _under(part: Record, levels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if not levels:
        yield dict(part)
        return
    key, _, column = levels[0].partition(":")
    inner, above = (part[key], {name: value for name, value in part.items() if name != key}) if key else (part, {})
    for name, one in inner.items() if column else enumerate(inner):
        for row in _under(one, levels[1:]):
            yield above | ({column: name} if column else {}) | row


def _contestant(name: str) -> str:
    """A contestant as a reader writes it.

    >>> _contestant("2mamba4rec, bf16"), _contestant("hydra4rec-all-positions")
    ('2Mamba4Rec, bf16', 'Hydra4Rec, every position')
    """
    model, comma, precision = name.partition(",")
    stem, every, _ = model.partition("-all-positions")
    return model_name(stem) + (", every position" if every else "") + comma + precision


def _of_rows(*levels: str) -> Callable[[Callable[[pd.DataFrame], pd.DataFrame]], Callable[..., pd.DataFrame]]:
    """A function that adds columns to the `rows` under ``levels`` becomes one of a record."""

    def decorate(add: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[..., pd.DataFrame]:
        @wraps(add)
        def read(record: Record | None) -> pd.DataFrame:
            table = rows(record, *levels)
            return table if table.empty else add(table)

        return read

    return decorate


@_of_rows("rows")
def training(table: pd.DataFrame) -> pd.DataFrame:
    """An epoch of SASRec here, in RecTools and in RecBole: factor and factor_fp32, by which ours trains a target
    faster, and run, the share of the epoch that was run (at most 1: what is left is extrapolated); windows: how long
    they are, in words."""
    ours = table["name"].str.startswith("ours")
    factors = {"factor": "ours_times_as_fast", "factor_fp32": "ours_fp32_times_as_fast"}
    windows = table["length"].map("Windows of {} items".format)
    table = table.assign(run=table["share_of_epoch"].clip(upper=1.0), windows=windows)
    return table.assign(**{name: table[key].mask(ours) for name, key in factors.items()})


@_of_rows("sets", "rows")
def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Ranking all users after encoding: data, ms per user, all (seconds for all users, extrapolated where fewer were
    ranked), goal, and the factor by which ours is faster."""
    each, ours = table["seconds"] / table["users"], table["name"] == "counting"
    return table.assign(
        data=table["dataset"] + table["items"].map(", {:,} items".format),
        ms=1e3 * each,
        all=each * table["all_users"],
        factor=table["ours_times_as_fast"].mask(ours),
        goal=table["goal_seconds"].where(ours),
    )


@_of_rows("shapes", "models:id")
def models(table: pd.DataFrame) -> pd.DataFrame:
    """A forward and backward pass of each model, without the item softmax: shape, model, and the goal."""
    goals = [SSM_GOALS.get(length, {}).get(name) for length, name in zip(table["length"], table["id"], strict=True)]
    return _with_shape(table).assign(model=table["id"].map(_contestant), goal=pd.Series(goals, dtype=float))


@_of_rows("shapes", "mixers:mixer", ":whose")
def mixers(table: pd.DataFrame) -> pd.DataFrame:
    """The mixers alone, forward and backward, beside transformers': shape, rounds, and the factor by which ours is
    faster; floor_milliseconds: of the matrix products alone, at the rate of a large one."""
    rounds = [int(row[f"rounds.{row['mixer']}"]) for row in table.to_dict("records")]
    factor = table["ours_times_as_fast"].mask(table["whose"].str.startswith("ours"))
    return _with_shape(table).assign(rounds=rounds, factor=factor)


def _with_shape(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(shape=table["batch"].map(str) + " x " + table["length"].map("{} items".format))


@_of_rows("rows:name")
def optimizers(table: pd.DataFrame) -> pd.DataFrame:
    """One step of each optimizer: optimizer, bytes moved per weight, and times fused and foreach Adam's."""
    peers = {peer: table[f"to_{peer}"].mask(table["name"] == peer) for peer in ("fused", "foreach")}
    return table.assign(
        optimizer=table["name"].map(lambda name: OPTIMIZERS.get(name, name)),
        bytes=[row.get(f"bytes_per_weight.{row['name']}") for row in table.to_dict("records")],
        goal=table["goals.fused"].where(table["name"] == "usgm"),
        **peers,
    )


@rows_of
def recommending(record: Record) -> Rows:
    """Every way to ask for ten items, the longest histories first; batch and users_per_second: of the batch that suits
    a way best."""
    for row in sorted(record["rows"], key=lambda row: -row["length"]):
        rates = row["users_per_second"]
        best = max(rates, key=rates.__getitem__)
        yield {**row, "batch": int(best), "users_per_second": rates[best]}


@rows_of
def recommending_factors(record: Record) -> Rows:
    """By which factor each of our models answers faster than each package at the same length: package, ours, length,
    and for one user and for batches (each side's best) the factors."""
    rows = {row["name"]: row for row in record["rows"]}
    pairs = sorted(record["pairs"], key=lambda pair: (rows[pair["theirs"]]["label"], -rows[pair["ours"]]["length"]))
    for pair in pairs:
        ours, theirs = rows[pair["ours"]], rows[pair["theirs"]]
        yield {**pair, "package": theirs["label"], "ours": ours["label"], "length": ours["length"]}


@rows_of
def kernels(record: Record) -> Rows:
    """How far the CUDA kernels are from the float64 recurrence: layer, output, worst gradient, type of products."""
    found = next((row["kernels"] for row in record["rows"] if row["kernels"]), None) or {}
    for name, layer in (("mamba", "Mamba"), ("mamba2", "Mamba-2"), ("hydra", "Hydra")):
        if name in found:
            yield {"layer": layer, "products": str(found.get("float32_dots")).upper(), **found[name]}


@_of_rows("mixers")
def gpu_mixers(table: pd.DataFrame) -> pd.DataFrame:
    """This study's Mamba-2 layer beside mamba-ssm's own module: shape, precision, ms of both, kernel by kernel and as a
    CUDA graph, and the factor by which our graph is faster than each of theirs."""
    shown = {
        "shape": table["histories"].map(str) + table["length"].map(" x {}".format),
        "precision": table["precision"],
    }
    for ours, theirs in (("", ""), (" graph", ", graph")):
        keys = {"ours": f"milliseconds.ours{theirs}", "theirs": f"milliseconds.theirs, fused{theirs}"}
        keys["factor"] = f"ours_times_as_fast.theirs, fused{theirs}"
        shown |= {name + ours: table.get(key) for name, key in keys.items()}
    return pd.DataFrame(shown)


@rows_of
def failures(record: Record) -> Rows:
    """Parts of the GPU benchmark that failed: failed (the part), error."""
    return (row for part in ("loops", "goals", "mixers") for row in record[part] if "failed" in row)


@_of_rows("contexts")
def contexts(table: pd.DataFrame) -> pd.DataFrame:
    """Reading and writing by the length of the prompt: model, prompt (tokens), read and written (tokens a second, those
    of all beams), seconds of one user, MiB kept between two tokens."""
    read, step, seconds = (table[f"{part}_seconds"].map(median) for part in ("read", "step", "total"))
    speeds = {"read": table["context"] / read, "written": table["setting.beams"] / step, "seconds": seconds}
    model = table["architecture"].map(ARCHITECTURES)
    return pd.DataFrame({"model": model, "prompt": table["context"]} | speeds | {"kept": table["kept_bytes"] / 2**20})


@_of_rows("peers:name")
def peers(table: pd.DataFrame) -> pd.DataFrame:
    """Ours beside transformers' own models and `generate`: model, prompt, and for reading and the search the seconds
    of both and the factor by which ours is faster."""
    seconds = {key: table[key].map(median) for key in table if key.endswith("_seconds")}
    return table.assign(model=table["name"].map(ARCHITECTURES), **seconds)

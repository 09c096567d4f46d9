"""Frames of the speed page, from the records that benchmarks/ writes (benchmarks/results/<name>.json).

A record that is not there gives an empty frame. `conditions` has the machine that each was measured on, with the
versions, the day and the clock: a speed without them means nothing. A column ``goal`` is what the study aimed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

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
PEER_GOAL = 5.0  # the least factor over transformers
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


def _cells(row: Record, *same: str, **renamed: str) -> dict[str, Any]:
    """Some values of a row of a record, under their own keys and under others."""
    return {key: row[key] for key in same} | {name: row[key] for name, key in renamed.items()}


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
        rows = record.get("rows")
        rows = [row.get("versions", {}) for row in rows] if isinstance(rows, list) else []
        yield {
            "benchmark": name,
            "machine": ", ".join([*gpu, str(where.get("cpu") or where.get("processor") or "unknown CPU")]),
            "cores": where.get("cores"),
            "threads": where.get("threads"),
            "load": " to ".join(f"{one:g}" for one in load) or None,
            "clock": record.get("setting", {}).get("clock"),
            "date": record.get("date"),
            "versions": versions([record.get("versions", {}), *rows]),
        }


def versions(found: Iterable[Mapping[str, str]]) -> str:
    """All versions that were used, each once.

    >>> versions([{"torch": "2.13.0"}, {"torch": "2.13.0", "RecBole": "1.2.1"}])
    'RecBole 1.2.1, torch 2.13.0'
    """
    return ", ".join(sorted({f"{name} {value}" for each in found for name, value in each.items()}, key=str.lower))


@rows_of
def training(record: Record) -> Rows:
    """An epoch of SASRec here, in RecTools and in RecBole, and by which factor ours trains a target faster; the share
    of the epoch that was run (at most 1: what is left is extrapolated)."""
    for row in record["rows"]:
        cells = _cells(row, "label", "batch", "padding", "positions_per_target", "targets_per_second", "goal")
        cells |= {"factor": None, "factor_fp32": None}
        if not str(row["name"]).startswith("ours"):
            cells |= _cells(row, factor="ours_times_as_fast", factor_fp32="ours_fp32_times_as_fast")
        yield cells | {"epoch": row["epoch_seconds"], "run": min(1.0, row["share_of_epoch"])}


@rows_of
def ranking(record: Record) -> Rows:
    """Ranking all users after encoding: data, method, ms per user, seconds for all users (extrapolated where fewer were
    ranked), the factor by which ours is faster, and the share of users that get the same rank."""
    for part in record["sets"]:
        for row in part["rows"]:
            each, ours = row["seconds"] / row["users"], row["name"] == "counting"
            yield _cells(row, "users", method="label", same="agreement") | {
                "data": f"{dataset_name(part['dataset'])}, {part['items']:,} items",
                "ms": 1e3 * each,
                "all": each * part["all_users"],
                "factor": None if ours else row["ours_times_as_fast"],
                "goal": part["goal_seconds"] if ours else None,
            }


@rows_of
def models(record: Record) -> Rows:
    """A forward and backward pass of each model, without the item softmax: shape, model, ms, times (SASRec's), goal,
    GFLOP in matrix products, and the share of a large product's rate that was attained."""
    for shape in record["shapes"]:
        for name, row in shape["models"].items():
            goal = SSM_GOALS.get(shape["length"], {}).get(name)
            yield {"shape": _size(shape), "model": _contestant(name), "goal": goal} | _cells(
                row, "attained", ms="milliseconds", times="ratio", gflop="product_gflop"
            )


@rows_of
def mixers(record: Record) -> Rows:
    """The mixers alone, forward and backward, beside transformers': shape, mixer, whose, ms, products (ms of the matrix
    products alone, at the rate of a large one), and the factor by which ours is faster."""
    for shape in record["shapes"]:
        for mixer, contestants in shape["mixers"].items():
            for name, row in contestants.items():
                cells = {"shape": _size(shape), "mixer": mixer, "whose": name, "ms": row["milliseconds"]}
                factor = None if name.startswith("ours") else row["ours_times_as_fast"]
                products, rounds = row.get("floor_milliseconds"), shape["rounds"].get(mixer)
                yield cells | {"products": products, "factor": factor, "rounds": rounds}


def _size(shape: Record) -> str:
    return f"{shape['batch']} x {shape['length']} items"


def _contestant(name: str) -> str:
    """A contestant as a reader writes it.

    >>> _contestant("2mamba4rec, bf16"), _contestant("hydra4rec-all-positions")
    ('2Mamba4Rec, bf16', 'Hydra4Rec, every position')
    """
    model, comma, precision = name.partition(",")
    stem, every, _ = model.partition("-all-positions")
    return model_name(stem) + (", every position" if every else "") + comma + precision


@rows_of
def optimizers(record: Record) -> Rows:
    """One step of each optimizer: optimizer, bytes moved per weight, ms, and times fused and foreach Adam's."""
    for name, row in record["rows"].items():
        yield {
            "optimizer": OPTIMIZERS.get(name, name),
            "bytes": record["bytes_per_weight"].get(name),
            "ms": row["milliseconds"],
            **{peer: None if name == peer else row[f"to_{peer}"] for peer in ("fused", "foreach")},
            "goal": record["goals"].get("fused") if name == "usgm" else None,
        }


@rows_of
def loading(record: Record) -> Rows:
    """Seconds from raw files to sequences: data, read, filter, order, total, cached."""
    for name, seconds in record["results"].items():
        yield {"data": dataset_name(name)} | _cells(seconds, "read", "filter", "order", "total", "cached")


@rows_of
def recommending(record: Record) -> Rows:
    """Every way to ask for ten items: way, length, parameters, ms and p95 for one user, users per second one by one and
    in the batch that suits it best."""
    for row in sorted(record["rows"], key=lambda row: -row["length"]):
        rates = row["users_per_second"]
        best = max(rates, key=rates.__getitem__)
        cells = _cells(row, "length", "parameters", way="label", ms="milliseconds", p95="p95_milliseconds")
        yield cells | {"batch": int(best), "users_per_second": rates[best]}


@rows_of
def recommending_factors(record: Record) -> Rows:
    """By which factor each of our models answers faster than each package at the same length: package, ours, length,
    one (user), batches (each side's best), goal."""
    rows = {row["name"]: row for row in record["rows"]}
    pairs = sorted(record["pairs"], key=lambda pair: (rows[pair["theirs"]]["label"], -rows[pair["ours"]]["length"]))
    for pair in pairs:
        ours, theirs = rows[pair["ours"]], rows[pair["theirs"]]
        cells = _cells(pair, "goal", one="times_as_fast", batches="times_as_fast_in_batches")
        yield cells | {"package": theirs["label"], "ours": ours["label"], "length": ours["length"]}


@rows_of
def agreement(record: Record) -> Rows:
    """The same recipes on a CPU and on a GPU: model, NDCG@10 of both, their difference over the same users with its
    interval, and the same with seen items left out."""
    for row in record["rows"]:
        cells: dict[str, Any] = {"model": model_name(row["model"]), "seed": row["seed"]}
        for metric in ("ndcg@10", "masked_ndcg@10"):
            found = row["difference"][metric]
            cells |= {f"{metric} {side}": row[side][metric] for side in ("cpu", "gpu")}
            cells |= _cells(found, **{metric: "value", f"{metric} low": "low", f"{metric} high": "high"})
        yield cells


@rows_of
def kernels(record: Record) -> Rows:
    """How far the CUDA kernels are from the float64 recurrence: layer, output, worst gradient, type of products."""
    found = next((row["kernels"] for row in record["rows"] if row["kernels"]), None) or {}
    for name, layer in (("mamba", "Mamba"), ("mamba2", "Mamba-2"), ("hydra", "Hydra")):
        if name in found:
            cells = _cells(found[name], "output", gradient="worst_gradient")
            yield {"layer": layer, "products": str(found.get("float32_dots")).upper()} | cells


@rows_of
def gpu_loops(record: Record) -> Rows:
    """Seconds of an epoch on a GPU by loop (ordinary, resident, graphs), beside the least that the card needs."""
    for row in (row for row in record["loops"] if "failed" not in row):
        loops = {loop: row.get(f"{loop}_epoch_seconds") for loop in ("ordinary", "resident", "graphs")}
        least = {name: f"{name}_floor_seconds" for name in ("bytes", "operations")}
        yield {"model": model_name(row["model"])} | loops | _cells(row, "steps", floors="times_the_floor", **least)


@rows_of
def gpu_goals(record: Record) -> Rows:
    """How long training takes until a model ranks well: model, goal (validation NDCG@10), best, epochs, seconds."""
    for row in (row for row in record["goals"] if "failed" not in row):
        cells = {"model": model_name(row["model"]), "reached": "yes" if row["reached"] else "no"}
        yield cells | _cells(row, "goal", "best", "epochs", "seconds")


@rows_of
def gpu_mixers(record: Record) -> Rows:
    """This study's Mamba-2 layer beside mamba-ssm's own module: shape, precision, ms of both, kernel by kernel and as a
    CUDA graph, and the factor by which our graph is faster than each of theirs."""
    for row in (row for row in record["mixers"] if "failed" not in row):
        cells = {"shape": f"{row['histories']} x {row['length']}", "precision": row["precision"]}
        for ours, theirs in (("", ""), (" graph", ", graph")):
            cells |= {f"ours{ours}": row["milliseconds"].get(f"ours{theirs}")}
            cells |= {f"theirs{ours}": row["milliseconds"].get(f"theirs, fused{theirs}")}
            cells |= {f"factor{ours}": row["ours_times_as_fast"].get(f"theirs, fused{theirs}")}
        yield cells


@rows_of
def failures(record: Record) -> Rows:
    """Parts of the GPU benchmark that failed: part, error."""
    for part in ("loops", "goals", "mixers"):
        for row in record[part]:
            if "failed" in row:
                yield {"part": row["failed"], "error": row["error"]}


@rows_of
def contexts(record: Record) -> Rows:
    """Reading and writing by the length of the prompt: model, prompt (tokens), read and written (tokens a second, those
    of all beams), seconds of one user, MiB kept between two tokens."""
    for row in record["contexts"]:
        yield {
            "model": ARCHITECTURES[row["architecture"]],
            "prompt": row["context"],
            "read": row["context"] / median(row["read_seconds"]),
            "written": record["setting"]["beams"] / median(row["step_seconds"]),
            "seconds": median(row["total_seconds"]),
            "kept": row["kept_bytes"] / 2**20,
        }


@rows_of
def peers(record: Record) -> Rows:
    """Ours beside transformers' own models and `generate`: model, prompt, and for reading and the search the seconds
    of both and the factor by which ours is faster."""
    for name, own in record["peers"].items():
        cells: dict[str, Any] = {"model": ARCHITECTURES[name], "prompt": own["prompt"]}
        for part in ("read", "search"):
            cells |= {part: median(own[f"{part}_seconds"]), f"{part} theirs": median(own[f"their_{part}_seconds"])}
            cells |= {f"{part} factor": own[f"{part}_times_as_fast"]}
        yield cells

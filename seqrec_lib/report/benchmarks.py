"""Tables of the speed page, from the records that benchmarks/ writes (benchmarks/results/<name>.json).

A record that is not there shows as "not measured". Below each table stands the machine that it was measured on, with
the versions, the day and the clock: a speed without them means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.report.html import NONE, Html, bullets, paragraph, stack, table
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.validation import read_json

Record = Mapping[str, Any]
FOLDER = "benchmarks/results"  # counted from the project
SSM_GOALS = {  # by length, the longest time in units of SASRec's
    200: {"mamba4rec": 1.5, "2mamba4rec": 0.9, "hydra4rec": 1.2},
    1000: {"mamba4rec": 0.7, "2mamba4rec": 0.7, "hydra4rec": 0.7},
}
PEER_GOAL = 5.0  # the least factor over transformers
MODEL_NAMES = {
    "sasrec": "SASRec",
    "mamba4rec": "Mamba4Rec",
    "2mamba4rec": "2Mamba4Rec",
    "hydra4rec": "Hydra4Rec",
    "hydra4rec-all-positions": "Hydra4Rec, every position",
}


def read(folder: str, name: str) -> Record | None:
    """The record of the benchmark ``name``, or None where it was not run; ``folder`` counts from the project.

    Raises:
        SeqRecError: the file is no JSON object.
    """
    path = project_root() / folder / f"{name}.json"
    if not path.is_file():
        return None
    record = read_json(path, f"run python -m benchmarks.{name} --save again")
    if not isinstance(record, dict):
        raise SeqRecError(f"{path} holds no JSON object; run python -m benchmarks.{name} --save again")
    return record


def missing(name: str, arguments: str = " --save") -> Html:
    """What stands in the place of a table whose record is not there; ``arguments`` make the benchmark write it."""
    return paragraph(f"Not measured: there is no {name}.json. python -m benchmarks.{name}{arguments} makes it.")


def training_table(record: Record | None) -> Html:
    """An epoch of SASRec here, in RecTools and in RecBole, and by which factor ours trains a target faster."""
    if record is None:
        return missing("train_speed")
    setting, rows = record["setting"], record["rows"]
    body = [
        [
            row["label"],
            row["batch"],
            f"{row['padding']:.1%}",
            f"{row['positions_per_target']:.1f}",
            f"{row['targets_per_second']:,.0f}",
            _epoch(row),
            _share(row["share_of_epoch"]),
            f"{row['peak_memory_bytes'] / 2**30:.1f}",
            *(
                NONE if _is_ours(row) else f"{row[key]:.1f}"
                for key in ("ours_times_as_fast", "ours_fp32_times_as_fast")
            ),
        ]
        for row in rows
    ]
    headers = ["Side", "Batch", "Padding", "Positions per target", "Targets/s", "Epoch, s", "Of it run", "Memory, GiB"]
    headers += ["Ours is faster by", "Ours in fp32 by"]
    size = (
        f"d = {setting['d_model']}, {setting['n_layers']} layers, {setting['n_heads']} heads, feed-forward "
        f"{setting['d_inner']}, length {setting['length']}"
    )
    return table(
        headers,
        body,
        caption=f"Training SASRec on {dataset_name(setting['dataset'])}: {size}",
        notes=[
            f"Turns of {setting['turn_seconds']:g} s, {setting['rounds']} of each side, in rotation; factors are "
            "medians over rounds, per trained target. An epoch marked ≈ is extrapolated from the share that was run.",
            conditions(record),
            f"Versions: {versions(row['versions'] for row in rows)}.",
        ],
        left=(0, 1),
    )


def _is_ours(row: Record) -> bool:
    return str(row["name"]).startswith("ours")


def _epoch(row: Record) -> str:
    return f"{'' if row['share_of_epoch'] >= 1 else '≈ '}{row['epoch_seconds']:,.0f}"


def _share(value: float) -> str:
    return "all" if value >= 1 else f"{value:.0%}" if value >= 0.1 else f"{value:.2%}"


def training_goals(record: Record | None) -> Html:
    """What the study aims at, and whether it got there."""
    if record is None:
        return missing("train_speed")
    lines = []
    for row in record["rows"]:
        if row["goal"] is None:
            continue
        got = row["ours_times_as_fast"]
        word = "reached" if got >= row["goal"] else "missed"
        lines.append(f"{row['label']}: at least {row['goal']:g} times as fast is the goal; it is {got:.1f}: {word}.")
    return bullets(lines)


def ranking_table(record: Record | None) -> Html:
    """Ranking all users after encoding: counting, top-k and sorting; a table for each size."""
    if record is None:
        return missing("ranking_speed")
    return stack([_ranking_set(part) for part in record["sets"]] + [paragraph(conditions(record))])


def _ranking_set(part: Record) -> Html:
    users, name = part["all_users"], dataset_name(part["dataset"])
    body = []
    for row in part["rows"]:
        each = row["seconds"] / row["users"]
        body.append(
            [
                row["label"],
                f"{1e3 * each:,.3f}",
                f"{row['users']:,}",
                f"{'' if row['users'] == users else '≈ '}{each * users:,.1f}",
                NONE if row["name"] == "counting" else f"{row['ours_times_as_fast']:.1f}",
                f"{row['agreement']:.2%}",
            ]
        )
    ours = part["rows"][0]
    notes = [f"Encoding the {ours['users']:,} histories before took {part['encode_seconds']:,.1f} s."]
    if part["goal_seconds"] is not None:
        word = "reached" if ours["seconds"] < part["goal_seconds"] else "missed"
        notes.append(f"The goal for counting is under {part['goal_seconds']:g} s on two cores: {word}.")
    if part["peak_memory_bytes"] is not None:
        peak = f"{part['peak_memory_bytes'] / 2**20:,.0f} MiB"
        notes.append(f"Encoding and counting took {peak} beyond data and model at their peak.")
    if ours["users"] != users:
        notes.append("Simulated histories and random weights at that set's size; times for all users are extrapolated.")
    return table(
        ["Method", "ms per user", "Users ranked", "All users, s", "Ours is faster by", "Same ranks"],
        body,
        caption=f"Ranking {users:,} users among {part['items']:,} items ({name}), unmasked and masked",
        notes=notes,
    )


def models_tables(record: Record | None) -> Html:
    """The state space models beside SASRec, a table per shape, and which goals are reached."""
    if record is None:
        return missing("ssm_speed")
    parts = []
    for shape in record["shapes"]:
        body = [
            [
                _model(name),
                f"{row['milliseconds']:.1f}",
                f"{row['ratio']:.2f}",
                f"{row['product_gflop']:.2f}",
                f"{row['attained']:.0%}",
            ]
            for name, row in shape["models"].items()
        ]
        headers = ["Model", "ms", "In units of SASRec", "GFLOP in products", "Of a large product's rate"]
        size = _size(shape)
        parts.append(table(headers, body, caption=f"Forward and backward pass of {size}, without the item softmax"))
        goals = []
        for name, goal in SSM_GOALS.get(shape["length"], {}).items():
            got = shape["models"][name]["ratio"]
            word = "reached" if got <= goal else "missed"
            goals.append(f"{_model(name)}: at most {goal:g} times SASRec's time is the goal; it is {got:.2f}: {word}.")
        parts += [bullets(goals)] if goals else []
    return stack([*parts, _provenance(record)])


def mixer_tables(record: Record | None) -> Html:
    """The mixers alone beside transformers', a table per shape, and which goals are reached."""
    if record is None:
        return missing("mixer_speed", " --environments DIR --save")
    headers = ["Mixer", "Whose", "ms", "GFLOP in products", "These alone, ms", "Ours is faster by"]
    parts = []
    for shape in record["shapes"]:
        body, goals = [], []
        for mixer, rows in shape["mixers"].items():
            for name, row in rows.items():
                products = (
                    [f"{row['product_gflop']:.2f}", f"{row['floor_milliseconds']:.1f}"]
                    if "product_gflop" in row
                    else [NONE, NONE]
                )
                ours = name.startswith("ours")
                factor = row["ours_times_as_fast"]
                body.append([mixer, name, f"{row['milliseconds']:,.1f}", *products, NONE if ours else f"{factor:.1f}"])
                if not ours:
                    word = "reached" if factor >= PEER_GOAL else "missed"
                    goals.append(
                        f"{mixer}: at least {PEER_GOAL:g} times as fast as transformers' is the goal; "
                        f"beside {name} it is {factor:.1f}: {word}."
                    )
        rounds = ", ".join(f"{name} {count}" for name, count in shape["rounds"].items())
        caption = f"The mixers alone, forward and backward pass of {_size(shape)}"
        parts.append(table(headers, body, caption=caption, notes=[f"Medians over rounds: {rounds}."], left=(0, 1)))
        parts.append(bullets(goals))
    rate = f"Products alone: at {record['product_gflops']:.0f} GFLOP/s, the rate of a large one."
    return stack([*parts, paragraph(rate), _provenance(record)])


def _size(shape: Record) -> str:
    return f"{shape['batch']} histories of {shape['length']}"


def _provenance(record: Record) -> Html:
    return stack([paragraph(conditions(record)), paragraph(f"Versions: {versions([record['versions']])}.")])


def _model(name: str) -> str:
    """A contestant as a reader writes it.

    >>> _model("2mamba4rec, bf16")
    '2Mamba4Rec, bf16'
    """
    model, comma, precision = name.partition(",")
    return MODEL_NAMES.get(model, model) + comma + precision


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


def optimizer_table(record: Record | None) -> Html:
    """What a step costs beside PyTorch's two implementations of Adam, and whether the goals are reached."""
    if record is None:
        return missing("optimizer_speed")
    moved = record["bytes_per_weight"]
    body = [
        [
            OPTIMIZERS.get(name, name),
            str(moved.get(name, NONE)),
            f"{row['milliseconds']:.2f}",
            *(NONE if name == peer else f"{row[f'to_{peer}']:.2f}" for peer in ("fused", "foreach")),
        ]
        for name, row in record["rows"].items()
    ]
    goals = [
        f"USGM: at most {goal:g} times {peer} Adam is the goal; it is {record['rows']['usgm'][f'to_{peer}']:.2f}: "
        f"{'reached' if record['rows']['usgm'][f'to_{peer}'] <= goal else 'missed'}."
        for peer, goal in record["goals"].items()
    ]
    setting = record["setting"]
    costs = table(
        ["Optimizer", "Bytes per weight", "ms per step", "In units of fused Adam", "In units of foreach Adam"],
        body,
        caption=f"One optimizer step of {setting['weights']:,} weights, as a recommender has them",
        notes=[
            f"The optimizers take turns, {setting['rounds']} each; ratios are medians over rounds. Bytes: read and "
            "written per weight, counted from the algorithm where a step is a few passes.",
            conditions(record),
            f"Versions: {versions([record['versions']])}.",
        ],
    )
    return stack([costs, bullets(goals)])


def loading_table(record: Record | None) -> Html:
    """From raw files to sequences, stage by stage."""
    if record is None:
        return missing("data_load")
    stages = {"read": "Read", "filter": "Filter", "order": "Order", "total": "Together", "cached": "From the cache"}
    body = [
        [dataset_name(name), *(f"{seconds[stage]:.2f}" for stage in stages)]
        for name, seconds in record["results"].items()
    ]
    return table(
        ["Data set", *stages.values()],
        body,
        caption="Seconds from raw files to sequences (median)",
        notes=[conditions(record)],
    )


def conditions(record: Record) -> str:
    """Machine, threads, clock, load and day of a record, as far as it has them."""
    where = record.get("environment") or record.get("machine") or {}
    if isinstance(where, str):  # data_load's: the architecture alone
        where = {"cpu": where, "cores": record.get("cores")}
    parts = [str(where.get("cpu") or where.get("processor") or "unknown CPU")]
    if where.get("device_type") == "cuda":
        parts.insert(0, str(where["device"]))
    threads, cores = where.get("threads"), where.get("cores")
    if cores is not None:
        parts.append(_plural(cores, "core"))
    if threads is not None:
        parts.append(f"{_plural(threads, 'thread')} used")
    if record.get("date"):
        parts.append(str(record["date"]))
    text = f"Measured on {', '.join(parts)}."
    load = where.get("load_average")
    if load and threads is not None and max(load) > threads + 0.5:
        text += f" Other jobs ran too (load {' to '.join(f'{x:g}' for x in sorted(set(load)))})."
    if record.get("setting", {}).get("clock") == "cpu":
        text += " Seconds are CPU seconds of the process, which other jobs do not count into."
    return text


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def versions(found: Iterable[Mapping[str, str]]) -> str:
    """All versions that were used, each once.

    >>> versions([{"torch": "2.13.0"}, {"torch": "2.13.0", "RecBole": "1.2.1"}])
    'RecBole 1.2.1, torch 2.13.0'
    """
    return ", ".join(sorted({f"{name} {value}" for each in found for name, value in each.items()}, key=str.lower))

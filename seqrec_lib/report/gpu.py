"""Tables of training on a GPU, from the records that benchmarks/gpu_training.py and gpu_agreement.py write.

A part of the former that failed has an entry that says so; it shows as a note. What was left out when the time was up
has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqrec_lib.report.benchmarks import Record, conditions, missing, versions
from seqrec_lib.report.html import NONE, Html, bullets, stack, stacked, table
from seqrec_lib.report.paper import dataset_name, model_name

NAME, AGREEMENT = "gpu_training", "gpu_agreement"
LAYERS = {"mamba": "Mamba", "mamba2": "Mamba-2", "hydra": "Hydra"}
LOOPS = {"ordinary": "Ordinary loop, s", "resident": "Resident data, s", "graphs": "CUDA graphs, s"}
KERNELS = {"ours": "Ours", "theirs, fused": "mamba-ssm's"}
WAYS = ("", ", graph")  # kernel by kernel, and as a CUDA graph


def loops_table(record: Record | None) -> Html:
    """Seconds of an epoch by loop, beside the two floors."""
    if record is None:
        return missing(NAME, " on a GPU")
    body = [
        [
            model_name(row["model"]),
            f"{row['steps']:,}",
            *(_seconds(row.get(f"{loop}_epoch_seconds")) for loop in LOOPS),
            f"{row['ordinary_epoch_seconds'] / row['graphs_epoch_seconds']:.1f}"
            if "graphs_epoch_seconds" in row
            else NONE,
            _seconds(row["bytes_floor_seconds"]),
            _seconds(row["operations_floor_seconds"]),
            _seconds(row["loss_bytes_seconds"]),
            f"{row['times_the_floor']:.0f}",
        ]
        for row in _measured(record["loops"])
    ]
    headers = ["Model", "Steps", *LOOPS.values(), "Graphs are faster by", "Floor of bytes, s", "Floor of operations, s"]
    headers += ["Logits' bytes, s", "In units of the larger floor"]
    rates = record["ceilings"]
    return table(
        headers,
        body,
        caption=f"An epoch of training on a GPU, {dataset_name(record['dataset'])}, by the recipe",
        notes=[
            "The floors are what no program can go below on this card: bytes that must move at the rate of a copy "
            f"({rates['bytes'] / 1e12:.2f} TB/s read and written here), operations of the matrix products at the rate "
            f"of a large product ({rates['bf16_flops'] / 1e12:.0f} TFLOP/s in bfloat16, "
            f"{rates['fp32_flops'] / 1e12:.0f} in float32). The logits' bytes could be spared by a kernel that keeps "
            "them on the chip, and are in no floor.",
            conditions(record),
            f"Versions: {versions([record['versions']])}.",
            *_failures(record["loops"]),
        ],
    )


def mixers_table(record: Record | None) -> Html:
    """This study's Mamba-2 layer beside mamba-ssm's own module: the same weights, inputs and shapes."""
    if record is None:
        return missing(NAME, " on a GPU")
    body = []
    for row in _measured(record["mixers"]):
        taken, factors = row["milliseconds"], row["ours_times_as_fast"]
        cells = [f"{row['histories']} x {row['length']}", row["precision"]]
        cells += [_number(taken.get(f"{side}{way}")) for side in KERNELS for way in WAYS]
        cells += [_number(factors.get(f"theirs, fused{way}"), 1) for way in WAYS]
        body.append(cells)
    headers = ["Histories x items", "Precision", *(f"{name}{way}, ms" for name in KERNELS.values() for way in WAYS)]
    headers += [f"Our graph is faster than {KERNELS['theirs, fused']}{way} by" for way in WAYS]
    errors = sorted({f"{name}: {why}" for row in _measured(record["mixers"]) for name, why in row["errors"].items()})
    return table(
        headers,
        body,
        caption="Mamba-2 (d 64, state 128) on a GPU: forward and backward pass",
        notes=[
            "The contestants take turns; factors are medians over turns. A graph launches all kernels at once. "
            + ("" if record["kernels_tuned"] else "Both use mamba-ssm's Triton kernels in one setting, untuned."),
            conditions(record),
            *(f"Not timed: {error}." for error in errors),
            *_failures(record["mixers"]),
        ],
        left=(0, 1),
    )


def goals_list(record: Record | None) -> Html:
    """Seconds to the goal of each model, and what became of those that did not get there."""
    if record is None:
        return missing(NAME, " on a GPU")
    lines = []
    for row in _measured(record["goals"]):
        where = f"{model_name(row['model'])}: NDCG@10 of {row['goal']:g} on the validation split"
        training = f"{row.get('training_seconds', 0.0):.1f} s of them training, the rest start and validation"
        lines.append(
            f"{where} reached after {row['seconds']:.1f} s and {row['epochs']} epochs, {training}."
            if row["reached"]
            else f"{where} not reached: {row['best']:.3f} is its best, in {row['epochs']} epochs and "
            f"{row['seconds']:.1f} s ({training})."
        )
    return bullets([*lines, *_failures(record["goals"])])


def agreement_table(record: Record | None) -> Html:
    """Runs on a GPU beside the same ones on a CPU, and how far the kernels are from the float64 reference."""
    if record is None:
        return missing(AGREEMENT, " RESULTS.tar --save")
    body: list[list[str | Html]] = []
    for row in record["rows"]:
        cells: list[str | Html] = [model_name(row["model"])]
        for metric in ("ndcg@10", "masked_ndcg@10"):
            found = row["difference"][metric]
            cells += [f"{row[side][metric]:.4f}" for side in ("cpu", "gpu")]
            cells.append(stacked(f"{found['value']:+.4f}", f"{found['low']:+.4f} to {found['high']:+.4f}"))
        cells += [f"{row[side]['train_seconds']:,.0f}" for side in ("cpu", "gpu")]
        body.append(cells)
    headers = ["Model", "CPU", "GPU", "Difference", "Masked: CPU", "Masked: GPU", "Masked: difference"]
    headers += ["Training, CPU, s", "GPU, s"]
    precisions = {side: sorted({str(row[side]["precision"]) for row in record["rows"]}) for side in ("cpu", "gpu")}
    loops = sorted({str(row["gpu"]["loop"]) for row in record["rows"]})
    seeds = ", ".join(map(str, sorted({row["seed"] for row in record["rows"]})))
    notes = [
        f"NDCG@10 on the test split, seed {seeds}; differences over the same users, 95 %. Kernels, precision (CPU: "
        f"{', '.join(precisions['cpu'])}; GPU: {', '.join(precisions['gpu'])}), order of sums and random draws differ: "
        f"two trainings of one recipe. Loop on the GPU: {', '.join(loops)}."
    ]
    if record["other_processes"]:
        notes.append(
            f"Seconds are by the clock and no measure of speed: up to {record['other_processes']} other processes "
            "shared the card, and what else the CPU had to do is not on record."
        )
    notes += [*_kernel_errors(record), conditions(record), f"Versions: {versions([record['versions']])}."]
    caption = f"The same recipes on a CPU and on a GPU, {dataset_name(record['dataset'])}"
    return table(headers, body, caption=caption, notes=notes)


def _kernel_errors(record: Record) -> list[str]:
    found = next((row["kernels"] for row in record["rows"] if row["kernels"]), None)
    if found is None:
        return []
    parts = [
        f"{LAYERS[name]} {found[name]['output']:.1e} and {found[name]['worst_gradient']:.1e}"
        for name in LAYERS
        if name in found
    ]
    products = "TF32" if found.get("float32_dots") == "tf32" else str(found.get("float32_dots"))
    return [
        f"The CUDA kernels against the float64 recurrence, output and worst gradient (products in {products}): "
        f"{'; '.join(parts)}."
    ]


def training_tables(record: Record | None) -> Html:
    """All of what gpu_training measured."""
    if record is None:
        return missing(NAME, " on a GPU")
    return stack([loops_table(record), goals_list(record), mixers_table(record)])


def _measured(rows: Sequence[Any]) -> list[Any]:
    return [row for row in rows if "failed" not in row]


def _failures(rows: Sequence[Any]) -> list[str]:
    return [f"Failed: {row['failed']} ({row['error']})." for row in rows if "failed" in row]


def _seconds(value: float | None) -> str:
    return "not run" if value is None else f"{value:.3g}"


def _number(value: float | None, places: int = 2) -> str:
    return NONE if value is None else f"{value:.{places}f}"

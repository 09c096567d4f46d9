"""Where the numbers of a results page come from: runs, commit, dates, hardware, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from seqrec_lib.report.html import NONE, Html, bullets, details, paragraph, stack, table
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.results import RunRecord
from seqrec_lib.results.rechecks import Recheck, rechecks_of


def hardware_name(record: RunRecord) -> str:
    """The device that a run used, with the number of threads on a CPU and, of a timing, the limits that it ran
    under."""
    machine = record.environment
    device, threads = str(machine.get("device", "unknown device")), machine.get("threads")
    if machine.get("device_type") == "cuda" or not threads:
        return device
    name = f"{device}, {threads} thread{'' if threads == 1 else 's'}"
    if record.hardware is not None and "cores" in machine:
        name += f" of {machine['cores']} usable core{'' if machine['cores'] == 1 else 's'}"
        if machine.get("core_quota") is not None:
            name += f" (quota {machine['core_quota']:g})"
    return name


def failures(runs: Sequence[ModelRuns], what: str = "run") -> Html:
    """The errors of failed runs, or a sentence that there are none; ``what`` they are runs of, in words."""
    lines = [
        f"{own.label}, seed {record.config.get('seed', NONE)} ({record.run_id}): {record.error}"
        for own in runs
        for record in own.failed
    ]
    return paragraph("Failed runs:") + bullets(lines) if lines else paragraph(f"No {what} failed.")


def provenance(records: Sequence[RunRecord | None]) -> Html:
    """The footer of a results page: how many runs, made by which code, when, on what; every run id unfolds."""
    present = [record for record in records if record is not None]
    if not present:
        planned = f"{len(records)} run{'' if len(records) == 1 else 's'}"
        return paragraph(f"Planned: {planned}; none has a record yet: not run.")
    commits = sorted({_commit(record) for record in present})
    devices = sorted({hardware_name(record) for record in present})
    days = sorted({record.finished[:10] for record in present})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    sentence = (
        f"Runs with a record: {len(present)} of {len(records)}, made {span} at commit {', '.join(commits)} "
        f"on {'; '.join(devices)}."
    )
    sentence += _precisions(present)
    body = [
        [
            record.run_id,
            what(record),
            str(record.config.get("seed", NONE)),
            record.status,
            record.finished[:16].replace("T", " "),
            _commit(record),
            hardware_name(record),
        ]
        for record in present
    ]
    headers = ["Run", "What", "Seed", "Status", "Finished (UTC)", "Commit", "Hardware"]
    runs = table(headers, body, caption="Runs behind this page", left=tuple(range(7)))
    again = bullets([_run_again(one) for one in rechecks_of(record.run_id for record in present)])
    parts = [paragraph("Run again with later code:"), again] if rechecks_of(r.run_id for r in present) else []
    return stack([paragraph(sentence), *parts, details("The runs behind this page, one by one", runs)])


def _run_again(recheck: Recheck) -> str:
    numbers = ", ".join(f"{name} {old:.4f} before, {new:.4f} then" for name, (old, new) in recheck.metrics.items())
    return f"{recheck.run_id} on {recheck.finished[:10]} at commit {recheck.git_commit[:9]}: {numbers}."


_PRECISIONS = {
    "fp32": "float32",
    "softmax-bf16": "bfloat16 in the item softmax",
    "bf16": "bfloat16 in matrix products",
}


def precision_of(record: RunRecord) -> str | None:
    """What a trained model's products were computed in, in words; None where that is not on record.

    Code that did not write it down multiplied as its configuration says, whatever the processor had instructions for.
    """
    given = record.environment.get("precision") or (record.config.get("training") or {}).get("precision")
    return None if given is None else _PRECISIONS.get(str(given), str(given))


def _precisions(records: Sequence[RunRecord]) -> str:
    """That the runs of a page were not all trained in one precision, where they were not."""
    trained = [record for record in records if record.complete and "train_seconds" in record.cost]
    counts = Counter(precision_of(record) or "a precision that is not on record" for record in trained)
    if len(counts) < 2:
        return ""
    parts = ", ".join(f"{count} in {name}" for name, count in counts.most_common())
    return f" They were not all trained in one precision, as not every processor has bfloat16: {parts}."


def what(record: RunRecord) -> str:
    """Data set, model, and what else tells runs of one model apart: the optimizer and its rule for the batch."""
    parts = [str(record.config[name]) for name in ("dataset", "model") if name in record.config]
    optimizer, batching = (record.config.get(name) for name in ("optimizer", "batching"))
    if isinstance(optimizer, Mapping) and "name" in optimizer:
        settings = [f"{name} {value}" for name, value in optimizer.items() if name != "name"]
        parts.append(", ".join([str(optimizer["name"]), *settings]))
    if isinstance(batching, Mapping) and batching:
        parts.append(", ".join(f"{name} {value}" for name, value in batching.items()))
    return "; ".join([" ".join(parts[:2]), *parts[2:]])


def _commit(record: RunRecord) -> str:
    commit = record.environment.get("git_commit")
    if not commit:
        return "unknown"
    return str(commit)[:9] + (" + changes" if record.environment.get("git_dirty") else "")

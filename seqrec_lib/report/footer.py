"""Where the numbers of a results page come from: runs, commit, dates, hardware, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from seqrec_lib.report.html import Html, details, entries, not_run
from seqrec_lib.results import RunRecord, RunStore
from seqrec_lib.results.rechecks import Recheck, rechecks_of


def hardware_name(record: RunRecord) -> str:
    """The device that a run used, with the number of threads on a CPU and, of a timing, the limits that it ran
    under."""
    machine = record.environment
    name, threads = str(machine.get("device", "unknown device")), machine.get("threads")
    if machine.get("device_type") == "cuda" or not threads:
        return name
    name += f", {threads} thread{'' if threads == 1 else 's'}"
    if record.hardware is None or "cores" not in machine:
        return name
    name += f" of {machine['cores']} usable core{'' if machine['cores'] == 1 else 's'}"
    quota = machine.get("core_quota")
    return name if quota is None else f"{name} (quota {quota:g})"


RECORDS = "_static/records"
"""Where the records behind the pages lie in the built book."""

AGAIN = "<code>seqrec results recheck --run {}</code>"
"""The command that carries a published run out again."""


def provenance(records: Sequence[RunRecord | None]) -> Html:
    """The footer of a results page: how many runs, made by which code, when, on what; and each run with a link to its
    record and the command that makes it again."""
    present = [record for record in records if record is not None]
    if not present:
        return not_run("The runs of this page")
    failed = [record for record in present if not record.complete]
    trained = [record for record in present if record.complete and "train_seconds" in record.cost]
    precisions = Counter(precision_of(record) or "not on record" for record in trained)
    facts: dict[str, Sequence[str | Html]] = {
        "Runs with a record": [f"{len(present)} of {len(records)}"],
        "Failed": [f"{record.run_id}: {record.error}" for record in failed],
        "Made on": [" to ".join(sorted({min(days), max(days)})) for days in [[r.finished[:10] for r in present]]],
        "At commit": [", ".join(sorted({_commit(record) for record in present}))],
        "On": sorted({hardware_name(record) for record in present}),
        "Precision of training": [f"{name}: {count} runs" for name, count in precisions.most_common()],
        "Made again by later code": [_run_again(one) for one in rechecks_of(record.run_id for record in present)],
    }
    store = RunStore()
    rerun = "<code>rerun: True</code> among the parameters"
    commands = [AGAIN.format(record.run_id) if store.is_published(record) else rerun for record in present]
    lines = (run_line(record, again, "../") for record, again in zip(present, commands, strict=True))
    runs = "".join(f"<li>{line}</li>" for line in lines)
    text = "\n".join(f"{record.run_id} {what(record)}" for record in present)
    shown = entries([(name, parts) for name, parts in facts.items() if parts])
    return shown + details("Every run: its record, and how it is made again", Html(f"<ul>{runs}</ul>", text))


def run_line(record: RunRecord, again: str, root: str = "") -> str:
    """A run in HTML: a link to its record, what it is, when and at which commit it was made, and how it is made again.

    Args:
        again: HTML.
        root: the way from the page to the book's folder.
    """
    link = f'<a class="record" href="{root}{RECORDS}/{record.run_id}.json"><code>{record.run_id}</code></a>'
    seed = record.config.get("seed")
    seeded = "" if seed is None else f", seed {seed}"
    return f"{link} {escape(what(record) + seeded)}; {record.finished[:10]}, {_commit(record)}; again: {again}"


def _run_again(recheck: Recheck) -> str:
    numbers = ", ".join(f"{name} {old:.4f} before, {new:.4f} then" for name, (old, new) in recheck.metrics.items())
    return f"{recheck.run_id} on {recheck.finished[:10]} at commit {recheck.git_commit[:9]}: {numbers}"


_PRECISIONS = {"fp32": "float32", "softmax-bf16": "bfloat16 in the item softmax", "bf16": "bfloat16 in matrix products"}


def precision_of(record: RunRecord) -> str | None:
    """What a trained model's products were computed in, in words; None where that is not on record.

    Code that did not write it down multiplied as its configuration says, whatever the processor had instructions for.
    """
    given = record.environment.get("precision") or (record.config.get("training") or {}).get("precision")
    return None if given is None else _PRECISIONS.get(str(given), str(given))


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

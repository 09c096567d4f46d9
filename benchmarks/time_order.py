"""Whose order of time is whose? Asks RecBole itself, and rebuilds the file that SASRec's authors published.

    python -m benchmarks.time_order --environments DIR [ml-1m ml-100k] [--save]

RecBole reads a data set's raw rows as they come, in an environment of its own, and filters, sorts and splits them: its
histories are compared with each order of time of the study, item by item. It has settings of its own for a data set
named ml-100k, which scale timestamps to 0..1 before they become float32: that one is asked for by its defaults and by
these settings. The study's orders are compared with the true one in the same way. SASRec's file of MovieLens 1M is
rebuilt from the true order and known by its git blob (sasrec_file.py). Nothing is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from benchmarks.sasrec_file import PUBLISHED, git_blob, sasrec_file
from benchmarks.train_speed import HERE, prepare_environment
from seqrec_lib.data import Interactions, Sequences, clean, get, read
from seqrec_lib.data.interactions import to_sequences
from seqrec_lib.data.orders import compare, difference, in_every_order
from seqrec_lib.errors import SeqRecError

OWN_SETTINGS = ("ml-100k",)  # names for which RecBole brings settings that change the order (normalize_all)


def export(rows: Interactions, folder: Path, name: str = "ratings") -> Path:
    """All raw rows in file order, as RecBole reads them (tab separated, typed header), as a data set of this name."""
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True)
    header = "user_id:token\titem_id:token\ttimestamp:float"
    table = np.stack([np.asarray(column, dtype=object) for column in (rows.users, rows.items, rows.timestamps)], 1)
    np.savetxt(path, table, "%s", "\t", header=header, comments="", encoding="utf-8")
    return path


def recbole_histories(python: Path, interactions: Path, folder: Path) -> dict[str, Any]:
    """Have RecBole make its histories: its versions, and the columns users and items, a user's in order.

    Raises:
        SystemExit: RecBole's process failed; with the end of what it said.
    """
    out = folder / "histories.json"
    given = json.dumps({"interactions": str(interactions), "out": str(out)})
    done = subprocess.run(
        [str(python), str(HERE / "peers/recbole_histories.py"), given],
        cwd=folder,  # RecBole leaves logs where it runs
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: RecBole's process ended with {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(out.read_text(encoding="utf-8"))


def as_sequences(users: list[str], items: list[str], rows: Interactions) -> Sequences:
    """Histories by the study's own ids; ``rows`` say of what type the source's users and items are."""
    labels = [np.array(names, dtype=object) for names in (users, items)]
    kinds = (np.asarray(like).dtype for like in (rows.users, rows.items))
    users_, items_ = (names.astype(kind) for names, kind in zip(labels, kinds, strict=True))
    return to_sequences("RecBole's histories", Interactions(users_, items_, np.arange(len(users)), None, {}))


def compare_with_recbole(name: str, python: Path, own_settings: bool = False) -> dict[str, Any]:
    """RecBole's histories beside every order of the data set: users with other items, by order, and the split's hash.

    own_settings: by RecBole's settings for a data set of this name, not by its defaults
    """
    rows = read(name)
    with tempfile.TemporaryDirectory() as folder:
        interactions = export(rows, Path(folder), *([name] if own_settings else []))
        found = recbole_histories(python, interactions, Path(folder))
    theirs = as_sequences(found["users"], found["items"], rows)
    apart = {
        order: asdict(difference(theirs, ours)) for order, ours in in_every_order(name, clean(get(name), rows)).items()
    }
    known = get(name).orders.get("recbole")
    return {
        "dataset": name,
        "settings": f"RecBole's for {name}" if own_settings else "RecBole's defaults",
        "versions": found["versions"],
        "split_sha256": theirs.split_hash,
        "as_registered": theirs.split_hash == known,
        "differences": apart,
    }


def apart_from_true(name: str) -> dict[str, dict[str, int]]:
    """Each further order of a data set beside the true one: users with other items, and positions."""
    found = compare(name).differences
    return {order: asdict(apart) for (true, order), apart in found.items() if true == "true"}


def rebuilt_file() -> str:
    """The git blob of SASRec's file as rebuilt from MovieLens 1M in the true order."""
    rows = clean(get("ml-1m"), read("ml-1m"))
    true = to_sequences("ml-1m", rows)
    users = np.unique(rows.users).tolist()
    ends = zip(users, true.offsets[:-1].tolist(), true.offsets[1:].tolist(), strict=True)
    histories = {str(user): [true.item_labels[item] for item in true.items[a:b]] for user, a, b in ends}
    in_file = [str(user) for user in dict.fromkeys(rows.users.tolist())]
    return git_blob(sasrec_file({user: histories[user] for user in in_file}))


def show(record: dict[str, Any]) -> None:
    """The record as a table in the terminal."""
    console = Console()
    for row in record["recbole"]:
        title = f"Users of {row['dataset']} with other items by {row['settings']}"
        table = Table("order", "test", "validation", "history", "of users", title=title)
        for order, apart in row["differences"].items():
            table.add_row(order, *(f"{apart[key]:,}" for key in ("test", "valid", "histories", "users")))
        console.print(table)
        same = "the" if row["as_registered"] else "not the"
        console.print(f"RecBole's split hash is {same} registered one of {row['dataset']}-recbole.")
    blob = record["sasrec_file"]
    if blob is not None:
        console.print(f"SASRec's file, rebuilt: blob {blob['blob']}, published {blob['published']}")


def main(
    environments: Annotated[Path, typer.Option(help="folder for RecBole's virtual environment")],
    datasets: Annotated[list[str] | None, typer.Argument(help="data sets (default: ml-1m ml-100k)")] = None,
    save: Annotated[bool, typer.Option("--save", help="write the record")] = False,
) -> None:
    """Compare RecBole's histories, and SASRec's published file, with the study's orders of time."""
    import torch

    conditions = Conditions()
    names = datasets or ["ml-1m", "ml-100k"]
    python = prepare_environment(environments, "recbole", torch.__version__.partition("+")[0])
    try:
        asked = [(name, own) for name in names for own in ((False, True) if name in OWN_SETTINGS else (False,))]
        rows = [compare_with_recbole(name, python, own) for name, own in asked]
        orders = {name: apart_from_true(name) for name in names}
        blob = {"blob": rebuilt_file(), "published": PUBLISHED} if "ml-1m" in names else None
    except SeqRecError as error:
        raise SystemExit(f"error: {error}") from None
    record = conditions.record("time_order", ("numpy",), recbole=rows, orders=orders, sasrec_file=blob)
    show(record)
    if save:
        keep(record)


if __name__ == "__main__":
    typer.run(main)

"""How much the order of time decides: for each order of a collection, the users whose test item is another one.

    python -m benchmarks.time_orders ml-1m ml-100k --save

The orders are the data sets that the registry derives from a collection (``ml-1m-recbole``, say); each is compared with
the true order, user by user. Needs the data on disk (SEQREC_DATA).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from seqrec_lib.data import load
from seqrec_lib.data.registry import DATASETS
from seqrec_lib.errors import SeqRecError


def compare(collection: str) -> dict[str, dict[str, float | str]]:
    """Order (a data set's id) -> its split hash and the shares of users whose test and validation items differ from
    the true order's."""
    true = load(collection)
    found: dict[str, dict[str, float | str]] = {}
    for name in DATASETS:
        if name.startswith(f"{collection}-") and DATASETS[name].counts == DATASETS[collection].counts:
            other = load(name)
            shares = {
                f"{split}_differs": round(float(np.mean(other.split(split).targets != true.split(split).targets)), 6)
                for split in ("test", "valid")
            }
            found[name] = {"split_sha256": other.split_hash, **shares}
    return found


def main(
    collections: Annotated[list[str] | None, typer.Argument(help="collections (default: ml-1m)")] = None,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Compare every registered order of a collection with the true one."""
    table = Table("data set", "test item differs", "validation item differs", title="shares of users")
    conditions, results = Conditions(), {}
    for collection in collections or ["ml-1m"]:
        try:
            results[collection] = compare(collection)
        except SeqRecError as error:
            raise SystemExit(f"error: {error}") from None
        for name, own in results[collection].items():
            table.add_row(name, *(f"{own[f'{split}_differs']:.4f}" for split in ("test", "valid")))
    Console().print(table)
    if save:
        keep(conditions.record("time_orders", ("numpy",), setting={"against": "true order"}, results=results))


if __name__ == "__main__":
    typer.run(main)

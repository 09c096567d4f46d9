"""`seqrec data`: what data sets there are, fetch one, describe one, and orders of time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqrec_lib.cli.output import print_table, say

app = typer.Typer(no_args_is_help=True, help="Data sets: what there is, fetch one, describe one.")


@app.command("list")
def list_command() -> None:
    """All data sets, whether they are here, and their licences."""
    from seqrec_lib.data import DATASETS, available

    rows = []
    for name, spec in DATASETS.items():
        here, where = available(name)
        licence = spec.licence if spec.base is None else f"as {spec.base}"
        rows.append((name, spec.title, "yes" if here else "no", where if here else "-", licence))
    print_table(("name", "title", "here", "where", "licence"), rows)


@app.command("fetch")
def fetch_command(name: Annotated[str, typer.Argument(help="Data set.")]) -> None:
    """Find a data set's files or download and verify them."""
    from seqrec_lib.data import available, load

    load(name, progress=True)
    say(f"{name}: {available(name)[1]}")


@app.command("stats")
def stats_command(name: Annotated[str, typer.Argument(help="Data set.")]) -> None:
    """Counts after the 5-core, lengths, popularity, ties, and the hash of the split."""
    from seqrec_lib.data import load, statistics, verification

    sequences = load(name, progress=True)
    rows = []
    for key, value in statistics(sequences).items():
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            form = {int: ",", float: ".4g"}.get(type(number), "")
            rows.append((f"{key} {part}".strip(), f"{number:{form}}"))
    rows.append(("split hash", f"{sequences.split_hash} ({verification(sequences)})"))
    print_table((name, ""), rows)


@app.command("orders")
def orders_command(name: Annotated[str, typer.Argument(help="Data set.")]) -> None:
    """One file in several orders of time: which test items, validation items and positions differ."""
    from seqrec_lib.data.orders import compare

    found = compare(name)
    rows = []
    for (a, b), apart in found.differences.items():
        counts = [f"{n:,} ({n / apart.users:.1%})" for n in (apart.test, apart.valid, apart.histories)]
        rows.append((a, b, *counts, f"{apart.positions / apart.interactions:.1%}"))
    say(f"{found.dataset}: differences between orders of time (test, validation items and histories: of users)")
    print_table(("order", "and", "test items", "validation items", "histories", "positions"), rows)
    for what, (pairs, last) in (("equal times", found.ties), ("times equal in float32", found.ties_float32)):
        say(f"{what}: {pairs:.1%} of a user's consecutive interactions, the last two of {last:.1%} of users")


@app.command("whose-order")
def whose_order_command(
    file: Annotated[Path, typer.Argument(help="A csv file of users and their test items, in the source's ids.")],
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Of this one; else found by the ids.")] = None,
) -> None:
    """Which known order of time a split has, or how far it is from each."""
    from seqrec_lib.data.orders import whose_order

    found = whose_order(file, dataset)
    say(f"{found.dataset}, {found.users:,} users. {found.verdict}")
    nearest = sorted(found.differing.items(), key=lambda pair: pair[1])
    rows = [(order, f"{count:,}", f"{count / found.users:.1%}") for order, count in nearest]
    print_table(("order", "users with another test item", ""), rows)

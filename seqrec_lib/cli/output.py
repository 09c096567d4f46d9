"""What the commands share: what they print goes through `terminal`, as records and titles may come from anyone."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from seqrec_lib.errors import SeqRecError
from seqrec_lib.terminal import escape, one_line

INTERRUPTED = "interrupted: finished runs are kept; the same command goes on from here"

Data = Annotated[Path | None, typer.Option("--data", help="Your own interactions: a csv or Parquet file.")]
Titles = Annotated[Path | None, typer.Option("--titles", help="With --data: a csv file of items and their titles.")]
Columns = Annotated[
    str | None,
    typer.Option("--columns", help="With --data: user=NAME,item=NAME,timestamp=NAME,unit=ms, what is unclear."),
]
Lenient = Annotated[bool, typer.Option("--lenient", help="With --data: skip bad lines, count and show them.")]
Dataset = Annotated[str | None, typer.Option("--dataset", "-d", help="Only this data set.")]
Experiment = Annotated[str | None, typer.Option("--experiment", "-e", help="Only this experiment.")]


class Group(TyperGroup):
    """A group of commands that turns what is expected to go wrong into one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; SeqRecError and a full disk end with 2, an interruption with 130."""
        try:
            return super().invoke(ctx)
        except SeqRecError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print(f"\n{INTERRUPTED}", file=sys.stderr)
            raise typer.Exit(130) from None
        except OSError as error:
            # a copy of many files tells of its errors as text
            if error.errno in {errno.ENOSPC, errno.EDQUOT} or "No space left on device" in str(error):
                fail(f"the disk is full ({error.filename or 'no file named'}); free space, then repeat the command")
            if error.filename is None:  # a defect, or a closed pipe, which typer ends quietly
                raise
            fail(f"{error.filename}: {error.strerror}; permit it or name another place, then repeat the command")


def fail(message: str) -> None:
    complain(f"error: {one_line(message)}")
    raise typer.Exit(2)


def say(line: str) -> None:
    """Print a line, escaped."""
    print(escape(line), flush=True)


def complain(line: str) -> None:
    """Print a line to the standard error, escaped."""
    print(escape(line), file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, escaped, as wide as the terminal, or unfolded where there is none."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    width = None if Console().is_terminal else 200  # a pipe or a log has no width; nothing is folded there
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def check_filters(experiment: str | None, dataset: str | None) -> None:
    """Refuse names of which there are neither plans nor records: an empty answer would look like none of them."""
    from seqrec_lib.data import DATASETS
    from seqrec_lib.experiments import EXPERIMENTS, get
    from seqrec_lib.results import RunStore
    from seqrec_lib.validation import refuse_unknown

    store = RunStore()
    folders = [path for root in (store.new, store.published) for path in root.glob("[!.]*/*") if path.is_dir()]
    experiments = {get(name).NAME for name in EXPERIMENTS} | {path.parent.name for path in folders}
    datasets = {*DATASETS} | {path.name for path in folders}
    for what, given, known in (("experiment", experiment, experiments), ("data set", dataset, datasets)):
        refuse_unknown([] if given is None else [given], sorted(known), what)


def name_bad(bad: list[str]) -> None:
    """Name files that are no records, and end with 1."""
    for line in bad:
        complain(f"no record: {line}")
    if bad:
        raise typer.Exit(1)

"""The command `seqrec`: what a user does with the study, from a terminal.

Expected errors are one line and exit status 2, a study in which something failed ends with 1, Ctrl-C with 130 and a
store that the next call goes on from. Each command imports what it needs, so that `seqrec --help` answers at once.
"""

from __future__ import annotations

import io
import signal
import sys
import warnings

import typer

from seqrec_lib.cli import data, llm, results, study
from seqrec_lib.cli.output import Group, complain
from seqrec_lib.terminal import one_line

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="State space models in sequential recommendation: run the study, read its book, try its models.",
)
for command in (study.study, study.book, study.status, study.doctor, study.recommend):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(results.app, name="results")
app.add_typer(llm.app, name="llm")


def main() -> None:
    """Entry point of the console script. A polite request to end is an interruption like Ctrl-C."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a title's letters that the terminal's encoding lacks are spelled out
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_, **__: complain(f"warning: {one_line(str(message))}")
    app()

"""The command `seqrec`: what a user does with the study, from a terminal.

Expected errors are one line and exit status 2, a study in which something failed ends with 1, Ctrl-C with 130
and a store that the next call goes on from. What is printed goes through `terminal`, as records and titles may come
from anyone. Each command imports what it needs, so that `seqrec --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from typer.core import TyperGroup

from seqrec_lib.errors import SeqRecError
from seqrec_lib.terminal import escape, one_line

DEVICES = ("auto", "cpu", "cuda")
INTERRUPTED = "interrupted: finished runs are kept; the same command goes on from here"


class Group(TyperGroup):
    """A group of commands that turns what is expected to go wrong into one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; SeqRecError and a full disk end with 2, an interruption with 130."""
        try:
            return super().invoke(ctx)
        except SeqRecError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            print(f"\n{INTERRUPTED}", file=sys.stderr)
            raise typer.Exit(130) from None
        except OSError as error:
            # a copy of many files tells of its errors as text
            if error.errno in {errno.ENOSPC, errno.EDQUOT} or "No space left on device" in str(error):
                _fail(f"the disk is full ({error.filename or 'no file named'}); free space, then repeat the command")
            if error.filename is None:  # a defect, or a closed pipe, which typer ends quietly
                raise
            _fail(f"{error.filename}: {error.strerror}; permit it or name another place, then repeat the command")


def _fail(message: str) -> None:
    _complain(f"error: {one_line(message)}")
    raise typer.Exit(2)


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="State space models in sequential recommendation: run the study, read its book, try its models.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what there is, fetch one, describe one.")
results_app = typer.Typer(no_args_is_help=True, help="Run records: list, export, import, publish, recheck.")
app.add_typer(data_app, name="data")
app.add_typer(results_app, name="results")

Data = Annotated[Path | None, typer.Option("--data", help="Your own interactions: a csv or Parquet file.")]
Titles = Annotated[Path | None, typer.Option("--titles", help="With --data: a csv file of items and their titles.")]
Columns = Annotated[
    str | None,
    typer.Option("--columns", help="With --data: user=NAME,item=NAME,timestamp=NAME,unit=ms, what is unclear."),
]
Lenient = Annotated[bool, typer.Option("--lenient", help="With --data: skip bad lines, count and show them.")]
Dataset = Annotated[str | None, typer.Option("--dataset", "-d", help="Only this data set.")]
Experiment = Annotated[str | None, typer.Option("--experiment", "-e", help="Only this experiment.")]


def main() -> None:
    """Entry point of the console script. A polite request to end is an interruption like Ctrl-C."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a title's letters that the terminal's encoding lacks are spelled out
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_, **__: _complain(f"warning: {one_line(str(message))}")
    app()


def _say(line: str) -> None:
    print(escape(line), flush=True)


def _complain(line: str) -> None:
    print(escape(line), file=sys.stderr, flush=True)


def _check_filters(experiment: str | None, dataset: str | None) -> None:
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


def _table(*columns: str) -> Any:
    """A table whose cells are escaped as they are added."""
    from rich import box
    from rich.table import Table

    class Escaped(Table):
        def add_row(self, *cells: Any, **how: Any) -> None:
            super().add_row(*(escape(str(cell)) for cell in cells), **how)

    table = Escaped(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    return table


def _print(table: Any) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    # a pipe or a log has no width; nothing is folded there
    console = console if console.is_terminal else Console(width=200, markup=False, highlight=False, emoji=False)
    console.print(table)


@app.command()
def study(
    profile: Annotated[str, typer.Option("--profile", "-p", help="Profile of study.yml: demo or paper.")] = "demo",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", "-d", help="Only this one; may repeat.")] = None,
    notebook: Annotated[list[str] | None, typer.Option("--notebook", "-n", help="Only this one; may repeat.")] = None,
    missing: Annotated[str, typer.Option(help="run: carry out missing runs; skip: show them as not run.")] = "run",
    book: Annotated[bool, typer.Option("--book/--no-book", help="Build the book afterwards.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda: where to train.")] = "auto",
    time_budget: Annotated[
        str | None, typer.Option(help="Such as 9m: only missing runs that fit, no notebooks, no book.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --time-budget: the tar that takes the new runs.")] = None,
    data: Data = None,
    titles: Titles = None,
    columns: Columns = None,
    lenient: Lenient = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --data: train for at most so many epochs.")] = None,
) -> None:
    """Execute the notebooks of a profile, or of your own data (--data), by papermill, then build the book."""
    from seqrec_lib.study import run_missing, run_study

    mine = _own(data, titles, columns, lenient)
    for option, value, allowed in (("--missing", missing, ("run", "skip")), ("--device", device, DEVICES)):
        if value not in allowed:
            raise SeqRecError(f"{option} is {value!r}; use {' or '.join(allowed)}")
    if mine is not None:
        from seqrec_lib.study.own import run_own

        if dataset or notebook or time_budget or out or profile != "demo":
            raise SeqRecError(
                "--data has pages of its own; leave out --profile, --dataset, --notebook and --time-budget"
            )
        _finish(run_own(mine, missing, epochs=epochs, build=book, device=device, say=_say))
        return
    if epochs is not None:
        raise SeqRecError("--epochs goes with --data; study.yml has the other data sets' settings")
    if time_budget is None:
        if out is not None:
            raise SeqRecError("--out goes with --time-budget; `seqrec results export` packs runs at any time")
        chosen = notebook or ()
        _finish(run_study(profile, dataset or (), missing, notebooks=chosen, build=book, device=device, say=_say))
        return
    if missing != "run":
        raise SeqRecError(f"--missing {missing} carries out nothing, --time-budget carries out runs; leave one out")
    from seqrec_lib.study.budget import parse_duration

    seconds = parse_duration(time_budget)
    report = run_missing(
        profile,
        dataset or (),
        seconds=seconds,
        notebooks=notebook or (),
        out=out,
        device=cast("Any", device),
        say=_say,
    )
    _say(str(report))
    for line in report.failed:
        _complain(f"failed: {line}")
    if report.failed:
        raise typer.Exit(1)


def _own(data: Path | None, titles: Path | None, columns: str | None, lenient: bool) -> str | None:
    """The id of the reader's own data; None where no file is named."""
    if data is None:
        if titles or columns or lenient:
            raise SeqRecError("--titles, --columns and --lenient go with --data; name your file by --data")
        return None
    from seqrec_lib.data.own import last_named, options_of, register

    given = {"titles": str(titles)} if titles else {}
    given |= ({"lenient": "1"} if lenient else {}) | options_of(columns or "", ",", "--columns")
    return register(data, given) if given else last_named(data)


@app.command()
def book() -> None:
    """Build the book from published records: no data, no weights, no training."""
    from seqrec_lib.study import build_book

    _finish(build_book(say=_say))


def _finish(result: Any) -> None:
    if result.index is not None:
        _say("")
        _say(f"The book: {result.index.as_uri()}")
    if result.ok:
        return
    _complain("")
    _complain("Failed:")
    for failure in result.failures:
        _complain(f"  {failure.page.name}: {failure.reason}")
        _complain(f"    executed copy: {failure.copy}")
    for line in result.failed_runs:
        _complain(f"  run {line}")
    raise typer.Exit(1)


@app.command()
def status(dataset: Dataset = None) -> None:
    """Runs planned by study.yml: done, missing, failed, of edited code, and on which hardware."""
    from seqrec_lib.experiments.base import describe
    from seqrec_lib.results import RunStore
    from seqrec_lib.study import load_study
    from seqrec_lib.study.plans import run_states

    _check_filters(None, dataset)
    store, planned, failed = RunStore(), set(), []
    table = _table("profile", "page", "planned", "done", "missing", "failed", "edited code", "hardware")
    for profile, pages in load_study().profiles.items():
        for page in pages:
            states = run_states(page, store) if dataset in {None, page.dataset} else []
            if not states:
                continue
            words = [state.word for state in states]
            devices = {s.record.environment.get("device", "?") for s in states if s.record is not None}
            counts = [
                len(states),
                *map(words.count, ("done", "missing", "failed")),
                sum(s.edited for s in states),
            ]
            table.add_row(profile, page.name, *map(str, counts), ", ".join(sorted(devices)) or "-")
            planned |= {state.run_id for state in states}
            failed += [
                f"{page.name}: {describe(s.config)}: {s.record.error}"
                for s in states
                if s.record is not None and not s.record.complete
            ]
    _print(table)
    bad: list[str] = []
    others = [r for r in store.records(dataset=dataset, bad=bad) if r.run_id not in planned]
    if others:
        _say(f"{len(others)} further runs are in no profile (`seqrec results list`).")
    for line in failed:
        _say(f"failed: {line}")
    _name_bad(bad)


def _name_bad(bad: list[str]) -> None:
    """Name files that are no records, and end with 1."""
    for line in bad:
        _complain(f"no record: {line}")
    if bad:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Versions, device, kernels, data found and where, free disk."""
    from seqrec_lib.study.diagnosis import diagnose

    for title, rows in diagnose().items():
        table = _table(title, "", "")
        for row in rows:
            table.add_row(*row)
        _print(table)


@app.command()
def recommend(
    titles: Annotated[
        list[str] | None, typer.Argument(help="Titles of the history, oldest first, each in quotes.")
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Data set that the titles are from.")] = "demo",
    model: Annotated[str, typer.Option("--model", "-m", help="Model id.")] = "sasrec",
    k: Annotated[int, typer.Option("-k", min=1, help="How many to recommend.")] = 10,
    train: Annotated[bool, typer.Option("--train", help="Train the model where no weights are kept here.")] = False,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="Begin with the history of this user, by id.")
    ] = None,
    data: Data = None,
    columns: Columns = None,
    lenient: Lenient = False,
) -> None:
    """Type a few titles, get the next ten."""
    from seqrec_lib.progress import Reporter
    from seqrec_lib.recommend import recommend as next_items

    source = _own(data, None, columns, lenient) or dataset
    with Reporter() as reporter:
        found = next_items(titles or (), source, model, k, user=user, train=train, report=reporter.line)
    table = _table("", "title", "score")
    for place, (title, score) in enumerate(found, 1):
        table.add_row(str(place), title, f"{score:.3f}")
    _print(table)


@data_app.command("list")
def data_list() -> None:
    """All data sets, whether they are here, and their licences."""
    from seqrec_lib.data import DATASETS, available

    table = _table("name", "title", "here", "where", "licence")
    for name, spec in DATASETS.items():
        here, where = available(name)
        licence = spec.licence if spec.base is None else f"as {spec.base}"
        table.add_row(name, spec.title, "yes" if here else "no", where if here else "-", licence)
    _print(table)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="Data set.")]) -> None:
    """Find a data set's files or download and verify them."""
    from seqrec_lib.data import available, load

    load(name, progress=True)
    _say(f"{name}: {available(name)[1]}")


@data_app.command("stats")
def data_stats(name: Annotated[str, typer.Argument(help="Data set.")]) -> None:
    """Counts after the 5-core, lengths, popularity, ties, and the hash of the split."""
    from seqrec_lib.data import load, statistics, verification

    sequences = load(name, progress=True)
    table = _table(name, "")
    for key, value in statistics(sequences).items():
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            text = (
                f"{number:,}"
                if isinstance(number, int)
                else f"{number:.4g}"
                if isinstance(number, float)
                else str(number)
            )
            table.add_row(f"{key} {part}".strip(), text)
    table.add_row("split hash", f"{sequences.split_hash} ({verification(sequences)})")
    _print(table)


@data_app.command("orders")
def data_orders(name: Annotated[str, typer.Argument(help="Data set.")]) -> None:
    """One file in several orders of time: which test items, validation items and positions differ."""
    from seqrec_lib.data.orders import compare

    found = compare(name)
    table = _table("order", "and", "test items", "validation items", "histories", "positions")
    for (a, b), apart in found.differences.items():
        counts = [f"{n:,} ({n / apart.users:.1%})" for n in (apart.test, apart.valid, apart.histories)]
        table.add_row(a, b, *counts, f"{apart.positions / apart.interactions:.1%}")
    _say(f"{found.dataset}: differences between orders of time (test, validation items and histories: of users)")
    _print(table)
    for what, (pairs, last) in (("equal times", found.ties), ("times equal in float32", found.ties_float32)):
        _say(f"{what}: {pairs:.1%} of a user's consecutive interactions, the last two of {last:.1%} of users")


@data_app.command("whose-order")
def data_whose_order(
    file: Annotated[Path, typer.Argument(help="A csv file of users and their test items, in the source's ids.")],
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Of this one; else found by the ids.")] = None,
) -> None:
    """Which known order of time a split has, or how far it is from each."""
    from seqrec_lib.data.orders import whose_order

    found = whose_order(file, dataset)
    table = _table("order", "users with another test item", "")
    for order, count in sorted(found.differing.items(), key=lambda pair: pair[1]):
        table.add_row(order, f"{count:,}", f"{count / found.users:.1%}")
    _say(f"{found.dataset}, {found.users:,} users: {found.verdict}")
    _print(table)


@results_app.command("list")
def results_list(experiment: Experiment = None, dataset: Dataset = None) -> None:
    """All records, new and published."""
    from seqrec_lib.experiments.base import describe
    from seqrec_lib.results import RunStore

    _check_filters(experiment, dataset)
    store = RunStore()
    table = _table("run", "experiment", "configuration", "status", "finished", "device", "published")
    bad: list[str] = []
    for record in store.records(experiment, dataset, bad):
        published = store.path(record).is_relative_to(store.published)
        table.add_row(
            record.run_id,
            record.experiment,
            describe(record.config),
            record.status if record.complete else f"failed: {record.error}",
            record.finished[:16].replace("T", " "),
            str(record.environment.get("device", "?")),
            "yes" if published else "no",
        )
    _print(table)
    _name_bad(bad)


@results_app.command("export")
def results_export(
    path: Annotated[str, typer.Argument(help="The tar to write.")],
    experiment: Experiment = None,
    dataset: Dataset = None,
    published: Annotated[bool, typer.Option(help="Published runs as well as new ones.")] = False,
) -> None:
    """Write runs to a tar, to take them to another machine."""
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.transfer import export_runs

    _check_filters(experiment, dataset)
    report = export_runs(RunStore(), path, experiment=experiment, dataset=dataset, published=published)
    _say(f"{path}: {len(report.added)} runs")


@results_app.command("import")
def results_import(path: Annotated[str, typer.Argument(help="A tar that `export` wrote.")]) -> None:
    """Read runs from a tar; each is checked first."""
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.transfer import import_runs

    _report(import_runs(RunStore(), path))


@results_app.command("publish")
def results_publish(
    experiment: Experiment = None,
    dataset: Dataset = None,
    failed: Annotated[bool, typer.Option(help="Runs that failed as well, where that is the result.")] = False,
) -> None:
    """Copy complete runs of committed code on real data to results/, to be committed."""
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.transfer import publish_runs

    _check_filters(experiment, dataset)
    _report(publish_runs(RunStore(), experiment=experiment, dataset=dataset, failed=failed))


@results_app.command("recheck")
def results_recheck(
    experiment: Experiment = None,
    dataset: Dataset = None,
    run: Annotated[list[str] | None, typer.Option(help="Only this run; may repeat.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be carried out again.")] = False,
) -> None:
    """Carry out one published run of each kind again and show old and new numbers side by side."""
    from seqrec_lib.progress import Reporter, duration
    from seqrec_lib.results import RunStore
    from seqrec_lib.study.recheck import carry_out, kinds, show

    _check_filters(experiment, dataset)
    store = RunStore()
    chosen = kinds(store, experiment, dataset, run or ())
    with Reporter(not dry_run) as reporter:
        for number, record in enumerate(chosen, 1):
            label = f"[{number}/{len(chosen)}] {show(record)}"
            if dry_run:
                _say(f"{label}, took {duration(float(record.cost.get('wall_seconds', 0)))}")
                continue
            reporter.start(label)
            verdict = carry_out(record, store, reporter.report)
            for line in verdict.lines():
                reporter.line(f"{label}: {line}")


def _report(report: Any) -> None:
    for name, reason in report.refused:
        _complain(f"refused: {name}: {reason}")
    _say(str(report))
    if report.refused and not report.added and not report.known:
        raise typer.Exit(2)

"""`seqrec study`, `book`, `status`, `doctor` and `recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from seqrec_lib.cli import output
from seqrec_lib.cli.output import Columns, Data, Dataset, Lenient, Titles, complain, say
from seqrec_lib.errors import SeqRecError

DEVICES = ("auto", "cpu", "cuda")
DEFAULT_MODEL = "sasrec"  # of `recommend`, where no page recommends one


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
    own_id = _register(data, titles, columns, lenient)
    for option, value, allowed in (("--missing", missing, ("run", "skip")), ("--device", device, DEVICES)):
        if value not in allowed:
            raise SeqRecError(f"{option} is {value!r}; use {' or '.join(allowed)}")
    if own_id is not None and (dataset or notebook or time_budget or out or profile != "demo"):
        raise SeqRecError("--data has pages of its own; leave out --profile, --dataset, --notebook and --time-budget")
    if own_id is None and epochs is not None:
        raise SeqRecError("--epochs goes with --data; study.yml has the other data sets' settings")
    if time_budget is None and out is not None:
        raise SeqRecError("--out goes with --time-budget; `seqrec results export` packs runs at any time")
    if time_budget is not None and missing != "run":
        raise SeqRecError(f"--missing {missing} carries out nothing, --time-budget carries out runs; leave one out")
    from seqrec_lib.study import load_study, own, run_pages
    from seqrec_lib.study.budget import parse_duration, run_missing

    whole = load_study()
    if own_id is None:
        pages = whole.select(profile, dataset or (), notebook or ())
    else:
        for line in own.lines_of(own_id):
            say(line)
        pages = own.pages(own_id, whole.root, epochs)
    if time_budget is None:
        _finish(run_pages(whole, pages, missing, build=book, device=device, say=say))
        return
    report = run_missing(pages, parse_duration(time_budget), out=out, device=cast("Any", device), say=say)
    say(str(report))
    for line in report.failed:
        complain(f"failed: {line}")
    if report.failed:
        raise typer.Exit(1)


def _register(data: Path | None, titles: Path | None, columns: str | None, lenient: bool) -> str | None:
    """The id of the reader's own data; None where no file is named."""
    if data is None:
        if titles or columns or lenient:
            raise SeqRecError("--titles, --columns and --lenient go with --data; name your file by --data")
        return None
    from seqrec_lib.data.own import last_named, options_of, register

    given = {"titles": str(titles)} if titles else {}
    given |= ({"lenient": "1"} if lenient else {}) | options_of(columns or "", ",", "--columns")
    return register(data, given) if given else last_named(data)


def book() -> None:
    """Build the book from published records: no data, no weights, no training."""
    from seqrec_lib.study import build_book

    _finish(build_book(say=say))


def _finish(result: Any) -> None:
    if result.index is not None:
        say("")
        say(f"The book: {result.index.as_uri()}")
    if result.ok:
        return
    complain("")
    complain("Failed:")
    for failure in result.failures:
        complain(f"  {failure.page.name}: {failure.reason}")
        complain(f"    executed copy: {failure.copy}")
    for line in result.failed_runs:
        complain(f"  run {line}")
    raise typer.Exit(1)


def status(dataset: Dataset = None) -> None:
    """Runs planned by study.yml: done, missing, failed, of edited code, and on which hardware."""
    from seqrec_lib.experiments.base import describe
    from seqrec_lib.results import RunStore
    from seqrec_lib.study import load_study
    from seqrec_lib.study.plans import run_states

    output.check_filters(None, dataset)
    store, planned, failed, rows = RunStore(), set(), [], []
    for profile, pages in load_study().profiles.items():
        for page in pages:
            states = run_states(page, store) if dataset in {None, page.dataset} else []
            if not states:
                continue
            words = ["missing" if s.record is None else "done" if s.record.complete else "failed" for s in states]
            counts = [
                len(states),
                *map(words.count, ("done", "missing", "failed")),
                sum(bool(s.edited) for s in states),
            ]
            devices = {s.record.environment.get("device", "?") for s in states if s.record is not None}
            rows.append((profile, page.name, *counts, ", ".join(sorted(devices)) or "-"))
            planned |= {state.run_id for state in states}
            failed += [
                f"{page.name}: {describe(s.config)}: {s.record.error}"
                for s in states
                if s.record is not None and not s.record.complete
            ]
    columns = ("profile", "page", "planned", "done", "missing", "failed", "edited code", "hardware")
    output.print_table(columns, rows)
    bad: list[str] = []
    others = [r for r in store.records(dataset=dataset, bad=bad) if r.run_id not in planned]
    if others:
        say(f"{len(others)} further runs are in no profile (`seqrec results list`).")
    for line in failed:
        say(f"failed: {line}")
    output.name_bad(bad)


def doctor() -> None:
    """Versions, device, kernels, data found and where, free disk."""
    from seqrec_lib.study.diagnosis import diagnose

    for title, rows in diagnose().items():
        output.print_table((title, "", ""), rows)


def recommend(
    titles: Annotated[
        list[str] | None, typer.Argument(help="Titles of the history, oldest first, each in quotes.")
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Data set that the titles are from.")] = "demo",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Model id; by default the one recommended for your data, else sasrec."),
    ] = None,
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
    from seqrec_lib.data.own import is_own
    from seqrec_lib.progress import Reporter
    from seqrec_lib.recommend import recommend as next_items

    source = _register(data, None, columns, lenient) or dataset
    run, why = None, ""
    if model is None and is_own(source):
        from seqrec_lib.study.choice import recommended

        run = recommended(source)
        why = ", recommended for these data by the page *Which model?*"
        if run is None:
            why = "; no model is recommended for these data yet: `seqrec study --data` compares some"
    model = str(run.config["model"]) if run else model or DEFAULT_MODEL
    with Reporter() as reporter:
        found = next_items(titles or (), source, model, k, user=user, train=train, run=run, report=reporter.line)
    say(f"model: {model}{why}")
    rows = [(place, title, f"{score:.3f}") for place, (title, score) in enumerate(found, 1)]
    output.print_table(("", "title", "score"), rows)

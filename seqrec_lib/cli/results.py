"""`seqrec results`: list, export, import, publish, recheck."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seqrec_lib.cli.output import Dataset, Experiment, check_filters, complain, name_bad, print_table, say

app = typer.Typer(no_args_is_help=True, help="Run records: list, export, import, publish, recheck.")


@app.command("list")
def list_command(experiment: Experiment = None, dataset: Dataset = None) -> None:
    """All records, new and published."""
    from seqrec_lib.experiments.base import describe
    from seqrec_lib.results import RunStore

    check_filters(experiment, dataset)
    store = RunStore()
    bad: list[str] = []
    rows = [
        (
            record.run_id,
            record.experiment,
            describe(record.config),
            record.status if record.complete else f"failed: {record.error}",
            record.finished[:16].replace("T", " "),
            record.environment.get("device", "?"),
            "yes" if store.path(record).is_relative_to(store.published) else "no",
        )
        for record in store.records(experiment, dataset, bad)
    ]
    print_table(("run", "experiment", "configuration", "status", "finished", "device", "published"), rows)
    name_bad(bad)


@app.command("export")
def export_command(
    path: Annotated[str, typer.Argument(help="The tar to write.")],
    experiment: Experiment = None,
    dataset: Dataset = None,
    published: Annotated[bool, typer.Option(help="Published runs as well as new ones.")] = False,
) -> None:
    """Write runs to a tar, to take them to another machine."""
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.transfer import export_runs

    check_filters(experiment, dataset)
    report = export_runs(RunStore(), path, experiment=experiment, dataset=dataset, published=published)
    say(f"{path}: {len(report.added)} runs")


@app.command("import")
def import_command(path: Annotated[str, typer.Argument(help="A tar that `export` wrote.")]) -> None:
    """Read runs from a tar; each is checked first."""
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.transfer import import_runs

    _report(import_runs(RunStore(), path))


@app.command("publish")
def publish_command(
    experiment: Experiment = None,
    dataset: Dataset = None,
    failed: Annotated[bool, typer.Option(help="Runs that failed as well, where that is the result.")] = False,
) -> None:
    """Copy complete runs of committed code on real data to results/, to be committed."""
    from seqrec_lib.experiments.base import code_here
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.transfer import publish_runs

    check_filters(experiment, dataset)
    _report(publish_runs(RunStore(), experiment=experiment, dataset=dataset, failed=failed, code_here=code_here))


@app.command("recheck")
def recheck_command(
    experiment: Experiment = None,
    dataset: Dataset = None,
    run: Annotated[list[str] | None, typer.Option(help="Only this run; may repeat.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be carried out again.")] = False,
) -> None:
    """Carry out one published run of each kind again and show old and new numbers side by side."""
    from seqrec_lib.progress import Reporter, duration
    from seqrec_lib.results import RunStore
    from seqrec_lib.study.recheck import carry_out, kinds, show

    check_filters(experiment, dataset)
    store = RunStore()
    chosen = kinds(store, experiment, dataset, run or ())
    with Reporter(not dry_run) as reporter:
        for number, record in enumerate(chosen, 1):
            label = f"[{number}/{len(chosen)}] {show(record)}"
            if dry_run:
                say(f"{label}, took {duration(float(record.cost.get('wall_seconds', 0)))}")
                continue
            reporter.start(label)
            verdict = carry_out(record, store, reporter.report)
            for line in verdict.lines():
                reporter.line(f"{label}: {line}")


def _report(report: Any) -> None:
    for name, reason in report.refused:
        complain(f"refused: {name}: {reason}")
    say(str(report))
    if report.refused and not report.added and not report.known:
        raise typer.Exit(2)

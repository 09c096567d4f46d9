"""`seqrec llm`: small pretrained language models that can be fetched by name, and fetch one."""

from __future__ import annotations

from typing import Annotated

import typer

from seqrec_lib.cli.output import print_table, say

app = typer.Typer(no_args_is_help=True, help="Pretrained language models: which can be fetched, fetch one.")


@app.command("list")
def list_command() -> None:
    """Models that can be fetched: size, licence, where they come from, whether they are here."""
    from seqrec_lib.language.catalogue import CATALOGUE, place_of

    rows = []
    for name, model in CATALOGUE.items():
        sizes = [f"{model.weights / 1e6:.0f} M", f"{model.download / 1e6:.0f} MB", f"{model.disk / 1e9:.2f} GB"]
        here = "yes" if place_of(name).is_dir() else "no"
        rows.append((name, model.title, *sizes, f"{model.licence} ({model.terms_url})", model.homepage, here))
    print_table(("name", "model", "weights", "download", "on disk", "licence", "from", "here"), rows)


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A name of `seqrec llm list`.")],
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="The model's terms are accepted.")] = False,
) -> None:
    """Fetch a model's packages, show its terms and ask, verify the weights, convert them."""
    from seqrec_lib.language import catalogue

    def accept(terms: str) -> bool:
        for line in terms.splitlines():
            say(line)
        return accept_terms or typer.confirm("Do you accept these terms?", default=False)

    say(f"{name}: {catalogue.fetch(name, accept, say)}; in a notebook: source: {name}")

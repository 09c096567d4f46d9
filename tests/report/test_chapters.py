"""Chapters: names become values, conclusions rest on statements, and each gate is shown to fail."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.places import project_root
from seqrec_lib.report import kit, statements
from seqrec_lib.report.chapters import Book, render_folder
from seqrec_lib.report.evidence import copy_records
from seqrec_lib.report.footer import RECORDS
from seqrec_lib.report.frames import NotRun, Runs, Scope, split_order
from seqrec_lib.report.judges import difference, none_told_apart
from seqrec_lib.report.statements import Evidence, Statement, statement
from seqrec_lib.report.values import EXHIBITS, Names
from seqrec_lib.results import RunRecord, RunStore, plain, run_key
from seqrec_lib.train.recipes import resolve
from tests.fakes import make_record

USERS = 300
SEEDS = (0, 1)


def put(
    folder: Path, model: str, seed: int, ranks: np.ndarray, dataset: str = "ml-1m", **overrides: object
) -> RunRecord:
    """A complete run by today's recipe (or a variant of it), with its ranks, in the store's new folder ``folder``."""
    architecture, training = resolve(split_order(dataset)[0], model, seed, overrides)
    config = {
        "dataset": dataset,
        "model": model,
        "seed": seed,
        "architecture": plain(architecture),
        "training": plain(training),
    }
    metrics = rank_metrics(ranks) | {f"masked_{name}": value for name, value in rank_metrics(ranks).items()}
    record = make_record(
        run_id=run_key("accuracy", config, 1), config=config, metrics=metrics,
        dataset={"name": dataset, "n_users": USERS}, environment={"device": "a CPU", "device_type": "cpu"},
    )  # fmt: skip
    table = pa.table({"rank": pa.array(ranks, pa.int32()), "masked_rank": pa.array(ranks, pa.int32())})
    return RunStore(new=folder, published=folder / "none").save(record, {"ranks": table})


def ranks(hits: float, seed: int = 0) -> np.ndarray:
    """Ranks of `USERS` users of whom a share ``hits`` has rank 1 and the others rank 50."""
    return np.where(np.random.default_rng(seed).permutation(USERS) < hits * USERS, 1, 50)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder of published runs: SASRec hits 30 %, Mamba4Rec 60 %, two seeds each."""
    folder = tmp_path / "published"
    for seed in (0, 1):
        put(folder, "sasrec", seed, ranks(0.3, seed))
        put(folder, "mamba4rec", seed, ranks(0.6, seed))
    return folder


def runs_of(folder: Path) -> Runs:
    return Runs(RunStore(new=folder, published=folder))


def make_statements() -> dict[str, Statement]:
    into: dict[str, Statement] = {}

    @statement("mamba-ahead", seeds=SEEDS, into=into)
    def _(runs: Runs) -> Evidence:
        """HT@10.

        The interval lies above 0."""
        return difference(runs, ["ml-1m/mamba4rec minus ml-1m/sasrec"], "ht@10", "low > 0")

    @statement("sasrec-ahead", seeds=SEEDS, into=into)
    def _(runs: Runs) -> Evidence:
        """HT@10.

        The interval lies above 0."""
        return difference(runs, ["ml-1m/sasrec minus ml-1m/mamba4rec"], "ht@10", "low > 0")

    @statement("hydra-ahead", seeds=SEEDS, into=into)
    def _(runs: Runs) -> Evidence:
        """HT@10.

        The interval lies above 0."""
        return difference(runs, ["ml-1m/hydra4rec minus ml-1m/sasrec"], "ht@10", "low > 0")

    return into


def book_of(folder: Path, own: Path | None = None, accepted: dict[str, dict[str, float]] | None = None) -> Book:
    known = make_statements()
    mine = Names(Runs(RunStore(new=own, published=folder)), statements=known) if own else None
    return Book(Names(runs_of(folder), {"release": "v1"}, known), mine, accepted or {})


def test_names_become_values_in_the_format_asked_for(published: Path) -> None:
    text = "# T\n\n{{ ml-1m/sasrec/ht@10:.1%}} {{ ml-1m/sasrec/ht@10/seeds }} {{ paper/ml-1m/sasrec/ht@10 }} "
    text += "{{ site/release }}"
    chapter = book_of(published).render(text, "book/x.md")
    assert chapter.problems == []
    assert chapter.text.partition("\n\n## Evidence")[0].endswith("30.0\N{NO-BREAK SPACE}% 2 0.224 v1")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{{ ml-1m/hydra4rec/ht@10 }}", "not run"),
        ("{{ ml-1m/sasrek/ht@10 }}", "not run"),
        ("{{ nobody-knows-this }}", "no value"),
        ("{{ paper/ml-1m/markov/ht@10 }}", "the paper prints no"),
        ("{{ ml-1m/sasrec/ht@10:.3z }}", "format"),
        ("S. {{ holds: nobody-knows-this }}", "no statement"),
        ("S. {{ holds: hydra-ahead }}", "not run"),
        ("::::{when} mamba-ahead", "no end"),
        (":::{exhibit} nobody-knows-this\nCaption.\n:::", "no function"),
        (":::{exhibit} test-figure\nCaption.\n:::", "alt text"),
        (":::{exhibit} test-figure\n:alt: A.\n:::", "no caption"),
        (":::{exhibit} test-figure", "no end"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    published: Path, monkeypatch: pytest.MonkeyPatch, line: str, problem: str
) -> None:
    frame = pd.DataFrame({"g": ["a"], "l": ["b"], "v": [1.0], "low": [0.5], "high": [1.5]})
    draw = partial(kit.figure, frame, "dots", group="g", label="l", value="v", axis="V")
    monkeypatch.setitem(EXHIBITS, "test-figure", lambda runs: draw)
    chapter = book_of(published).render(f"# T\n\n{line}\n", "book/x.md")
    assert len(chapter.problems) == 1
    assert chapter.problems[0].startswith("book/x.md, line 3: ")
    assert problem in chapter.problems[0].lower()


def test_a_conclusion_links_to_its_evidence_and_that_to_the_records(published: Path, tmp_path: Path) -> None:
    book = book_of(published)
    chapter = book.render("# T\n\nIt is ahead. {{ holds: mamba-ahead }}", "book/x.md")
    assert chapter.problems == []
    assert 'href="#evidence-mamba-ahead"' in chapter.text
    assert 'id="evidence-mamba-ahead"' in chapter.text
    evidence = chapter.cited["mamba-ahead"]
    assert evidence.estimate == pytest.approx(0.3)
    assert (evidence.n, len(evidence.run_ids)) == (USERS, 4)
    assert "<dt>Seeds</dt><dd>" in chapter.text and "Other runs" not in chapter.text
    copy_records(evidence.run_ids, book.published.runs.store, tmp_path)
    for run_id in evidence.run_ids:
        assert f'href="{RECORDS}/{run_id}.json"' in chapter.text and f"recheck --run {run_id}" in chapter.text
        assert json.loads((tmp_path / RECORDS / f"{run_id}.json").read_text())["run_id"] == run_id


def test_the_runs_behind_a_number_stand_at_the_end_of_its_page_alone(published: Path) -> None:
    book = book_of(published)
    (run,) = [one for one in book.published.runs.seeds("ml-1m", "sasrec") if one.config["seed"] == 0]
    text = book.render("# T\n\n{{ ml-1m/sasrec/ht@10 }}", "book/x.md").text
    assert "Other runs behind this page" in text and f'href="{RECORDS}/{run.run_id}.json"' in text
    assert "Evidence" not in book.render("# T\n\nNothing.", "book/y.md").text


def test_published_runs_that_do_not_bear_a_sentence_out_break_the_build(published: Path, tmp_path: Path) -> None:
    accepted = {"sasrec-ahead": {"estimate": 0.125, "low": 0.1, "high": 0.15, "n": 300}}
    folder = tmp_path / "chapters"
    folder.mkdir()
    (folder / "x.md").write_text(
        "# T\n\nThe first. SASRec is\nahead here. {{ holds: sasrec-ahead }}\n", encoding="utf-8"
    )
    with pytest.raises(SeqRecError) as error:
        render_folder(book_of(published, accepted=accepted), folder)
    message = str(error.value)
    assert message.startswith("book/x.md, line 4: “SASRec is ahead here.”")
    assert "0.125 (0.1 to 0.15)" in message  # what it was
    assert "-0.3 (" in message  # what it is
    assert "holds" in (folder / "x.md").read_text(encoding="utf-8")  # nothing was written


def test_a_readers_own_runs_break_nothing_and_are_noted(published: Path, tmp_path: Path) -> None:
    text = "# T\n\nIt is ahead. {{ holds: mamba-ahead }}"
    own = tmp_path / "own"
    assert "own-runs" not in book_of(published, own).render(text, "book/x.md").text
    for seed in (0, 1):
        record = put(own, "mamba4rec", seed, ranks(0.1, seed))
        path = next(own.glob(f"*/*/{record.run_id}.json"))  # the same run, carried out later, with another result
        path.write_text(path.read_text().replace("2026-01-01T01:00:00", "2027-01-01T01:00:00"))
    chapter = book_of(published, own).render(text, "book/x.md")
    assert chapter.problems == []
    assert chapter.text.count("own-runs") == 1


def test_a_block_shows_its_branch(published: Path) -> None:
    text = "::::{when} {NAME}\nA {{ hydra-ahead.estimate }}\n::::{otherwise}\nB\n::::\nC"
    chapter = book_of(published).render(text.replace("{NAME}", "hydra-ahead"), "book/x.md")
    assert chapter.problems == []
    assert chapter.text == "B\nC"
    put(published, "hydra4rec", 0, ranks(0.9, 0))
    put(published, "hydra4rec", 1, ranks(0.9, 1))
    shown = book_of(published).render(text.replace("{NAME}", "hydra-ahead"), "book/x.md").text
    assert shown.partition("\n\n## Evidence")[0] == "A 0.600\nC"
    nested = book_of(published).render("::::{when} mamba-ahead\n::::{when} mamba-ahead\n::::", "book/x.md")
    assert len(nested.problems) == 1


def test_a_scope_limits_what_is_read(published: Path) -> None:
    runs = runs_of(published)
    assert len(runs.within(Scope(seeds=(1,))).seeds("ml-1m", "sasrec")) == 1
    for scope in (Scope(seeds=(0, 1, 2)), Scope(device="cuda"), Scope(orders=("RecBole's order",))):
        with pytest.raises(NotRun):
            runs.within(scope).seeds("ml-1m", "sasrec")


def test_a_variant_is_a_row_and_no_answer(published: Path) -> None:
    put(published, "sasrec", 2, ranks(0.9), dropout=0.7)
    put(published, "sasrec", 0, ranks(0.9), dataset="ml-1m-recbole")
    frame = runs_of(published).frame()
    assert len(frame) == 6
    assert frame["recipe"].tolist().count(False) == 1
    assert set(frame["order"]) == {"true order", "RecBole's order"}
    assert runs_of(published).mean("ml-1m", "sasrec", "ht@10") == pytest.approx(0.3)
    assert runs_of(published).mean("ml-1m-recbole", "sasrec", "ht@10") == pytest.approx(0.9)


def test_models_that_differ_are_told_apart(published: Path) -> None:
    pair = ["ml-1m/sasrec", "ml-1m/mamba4rec"]
    assert not none_told_apart(runs_of(published), pair, "ht@10").held
    assert none_told_apart(runs_of(published), [pair[0], pair[0]], "ht@10").held


def test_a_statement_has_a_name_of_its_own_and_a_rule() -> None:
    into = make_statements()
    with pytest.raises(SeqRecError, match="twice"):
        statement("mamba-ahead", seeds=SEEDS, into=into)(lambda runs: None)
    with pytest.raises(SeqRecError, match="no rule"):
        statement("x", seeds=SEEDS, into=into)(lambda runs: None)


def test_no_statement_is_unused() -> None:
    """That those of the book hold is seen where its prose is built."""
    whole = "\n".join(path.read_text(encoding="utf-8") for path in (project_root() / "book").glob("*.md"))
    cited = {name for names in re.findall(r"holds:([^{}]+)", whole) for name in re.split(r"[,\s]+", names) if name}
    assert cited == set(statements.STATEMENTS)

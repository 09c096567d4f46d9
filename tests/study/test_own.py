"""The study of a reader's own file: its pages, its book, what is said of the file, and the recommendations after it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqrec_lib import cli
from seqrec_lib.data import load, own
from seqrec_lib.experiments import accuracy, latency
from seqrec_lib.experiments.base import execute, look_up
from seqrec_lib.experiments.dependencies import installed_split
from seqrec_lib.recommend import history_of, recommend
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import Page, Result, load_study, read_yaml
from seqrec_lib.study import own as own_study
from seqrec_lib.study.book import expand_toc, fill
from seqrec_lib.study.plans import values_of
from seqrec_lib.study.sections import text_of
from seqrec_lib.train.recipes import OWN, resolve
from tests.data.own_files import START, rows


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 30 users and 24 items, and one user with two rows only, whom the 5-core drops."""
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEQREC_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "mine.csv"
    entries = [*rows(), ("rare", "i3", START + 9), ("rare", "i1", START + 5), ("rare", "gone", START)]
    path.write_text("\n".join(["user,item,timestamp", *(f"{u},{i},{t}" for u, i, t in entries)]) + "\n")
    return path


def seqrec(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments))


def test_the_pages_are_those_of_the_study_and_share_their_runs(mine: Path) -> None:
    name = own.register(mine, {})
    pages = own_study.pages(name, ROOT, epochs=2)
    assert [page.notebook for page in pages] == ["datasets", "accuracy", "latency", "scaling", "which_model"]
    assert {page.dataset for page in pages} == {name} and all(name in page.name for page in pages)
    _, quality, timed, _, which = pages
    parameters = values_of(which)
    assert accuracy.plan(parameters) == accuracy.plan(values_of(quality))
    assert latency.plan(own_study.timing_parameters(name, parameters["models"])) == latency.plan(values_of(timed))
    training = accuracy.plan(parameters)[2].training
    assert training is not None and training.epochs == 2


def test_no_page_speaks_of_the_paper_or_of_other_data(mine: Path) -> None:
    others = ("the paper", "Table 4", "Amazon", "MovieLens", "LlamaRec", "the demo")
    for page in own_study.pages(own.register(mine, {}), ROOT):
        raw = json.loads((ROOT / "notebooks" / f"{page.notebook}.ipynb").read_text(encoding="utf-8"))
        cells = [(cell["cell_type"], text_of(cell["source"])) for cell in fill(raw, page.dataset)["cells"]]
        # the section on a GPU leaves the page, as nothing is run for it
        prose = [text for kind, text in cells if kind == "markdown" and not text.startswith("## On a GPU")]
        assert prose and not [(word, text) for word in others for text in prose if word in text]
        captions = [line for _, text in cells for line in text.splitlines() if line.lstrip().startswith("caption=")]
        assert captions or page.notebook == "which_model"
        assert not [line for line in captions if "paper" in line]


def test_every_page_has_its_place_in_the_book(mine: Path) -> None:
    study = load_study(ROOT)
    pages = own_study.pages(own.register(mine, {}), ROOT)
    toc = str(expand_toc(read_yaml(ROOT / "book" / "_toc.yml"), [*pages, *study.pages()]))
    assert all(f"notebooks/{page.name}'" in toc for page in pages) and "mine.csv" in toc


def test_every_reader_file_has_one_recipe(mine: Path) -> None:
    architecture, training = resolve(own.register(mine, {}), "sasrec", 0)
    assert (architecture, training) == resolve(OWN, "sasrec", 0)
    assert training is not None and training.epochs < 100


def test_the_command_says_what_it_found_and_executes_the_pages(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Page] = []

    def run_pages(study: object, pages: list[Page], missing: str, **how: object) -> Result:
        seen.extend(pages)
        return Result()

    monkeypatch.setattr("seqrec_lib.study.run_pages", run_pages)
    done = seqrec("study", "--data", str(mine), "--columns", "user=user,item=item", "--epochs", "3", "--no-book")
    assert done.exit_code == 0, done.output
    assert "columns: user=user, item=item, timestamp=timestamp" in done.output
    assert "unit s, 2020-09-13" in done.output and "5-core, round 1: 240 interactions" in done.output
    assert [page.parameters.get("overrides") for page in seen][1] == {"epochs": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "--titles", "t.csv"], "--titles, --columns and --lenient go with --data"),
        (["recommend", "a", "--lenient"], "go with --data"),
        (["study", "--epochs", "3"], "--epochs goes with --data"),
        (["study", "--data", "none.csv"], "file 'none.csv' is not in"),
        (["study", "--data", "MINE", "--dataset", "ml-1m"], "--data has pages of its own"),
        (["study", "--data", "MINE", "--columns", "user=who"], "unknown column of the user 'who'"),
        (["study", "--data", "MINE", "--columns", "user"], "--columns: 'user' has no value"),
        (["recommend", "--data", "MINE"], "an empty history"),
        (
            ["recommend", "--data", "MINE", "i1"],
            "are kept here; compare models by `seqrec study --data`, or add --train",
        ),
        (["recommend", "--data", "MINE", "--user", "u99", "-m", "markov"], "no user 'u99' in mine.csv"),
    ],
)
def test_what_cannot_be_meant_is_one_line(mine: Path, arguments: list[str], message: str) -> None:
    done = seqrec(*(str(mine) if one == "MINE" else one for one in arguments))
    assert done.exit_code == 2 and message in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_recommends_for_a_known_user_by_the_kept_weights(mine: Path) -> None:
    name, store = own.register(mine, {}), RunStore()
    configs = accuracy.plan(
        {"dataset": name, "models": ["sasrec"], "seeds": [0], "overrides": {"epochs": 1, "d_model": 8}}
    )
    (record,) = execute(accuracy, configs, store=store, progress=False)
    assert record is not None and record.complete and record.dataset["name"] == name
    sequences = load(name)
    labels = sequences.item_labels
    assert [labels[item] for item in history_of("u0", sequences)] == [f"i{3 * n % 24}" for n in range(8)]
    assert [labels[item] for item in history_of("rare", sequences)] == ["i1", "i3"]  # in the order of time
    found = recommend([], name, "sasrec", 3, user="u0")
    assert len(found) == 3 and not {title for title, _ in found} & {f"item i{3 * n % 24}" for n in range(8)}
    assert recommend(["i5"], name, "sasrec", 3, user="rare") == recommend(["i1", "i3", "i5"], name, "sasrec", 3)
    done = seqrec("recommend", "--data", str(mine), "i5", "-k", "2")
    assert done.exit_code == 0 and done.output.count("item i") == 2
    assert done.output.startswith("model: sasrec; no model is recommended for these data yet")


def test_a_record_of_another_reading_of_the_file_is_not_taken(mine: Path) -> None:
    name, store = own.register(mine, {}), RunStore()
    configs = accuracy.plan({"dataset": name, "models": ["popularity"], "seeds": [0]})
    (record,) = execute(accuracy, configs, store=store, progress=False)
    assert record is not None and look_up(accuracy, configs[0], store, compare_data=True).record == record
    other = replace(record, dataset=record.dataset | {"split_sha256": "0" * 64})
    store.path(record).write_text(other.to_json())
    assert look_up(accuracy, configs[0], store, compare_data=True).record is None
    assert installed_split(name) == load(name).split_hash
    mine.unlink()
    assert installed_split(name) is None  # and its records are shown as they are
    assert look_up(accuracy, configs[0], store, compare_data=True).record == other

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seqrec_lib.data import load
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute, key
from seqrec_lib.recommend import _recommender, find_item, recommend
from seqrec_lib.results import RunStore
from seqrec_lib.train.recipes import DATASET_TRAINING

TITLES = ("", "Alpha (1999)", "Beta", "Beta II", "Gamma")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained here is trained for one epoch: these tests are about whose weights answer."""
    monkeypatch.setitem(DATASET_TRAINING["demo"], "epochs", 1)


def test_titles_are_found_by_case_or_part() -> None:
    assert [find_item(t, TITLES) for t in ("beta", "ALPHA", "gam")] == [2, 1, 4]


@pytest.mark.parametrize(
    ("title", "typed"),
    [
        ("Am\u00e9lie (2001)", "ame\u0301lie (2001)"),  # one letter, or a letter and its accent
        ("Ame\u0301lie (2001)", "AM\u00c9LIE (2001)"),
        ("\uff21\uff4b\uff49\uff52\uff41 \uff11", "akira 1"),  # of full width
        ("\ufb01ve o'clock", "FIVE o'clock"),  # a ligature
        ("Gro\u00dfe Stra\u00dfe", "GROSSE STRASSE"),
        ("\u1e9e", "ss"),
        ("100 \u3392", "100 mhz"),  # one sign that stands for three letters, two of them capital
        ("\u0399\u0308\u0301", "\u0390"),  # decomposed once more by folding
        ("Two\nlines, \u00a0one\u3000title ", "two lines, one title"),
        ("\u0130stanbul", "i\u0307stanbul"),
    ],
)
def test_titles_are_compared_as_normalised_text(title: str, typed: str) -> None:
    titles = ("", "Another", title, f"{title} II")
    assert find_item(typed, titles) == 2
    assert find_item(f"{typed} ii", titles) == 3


@pytest.mark.parametrize(
    ("title", "message"),
    [
        ("  ", "title '  ' is empty"),
        ("bet", "2 titles contain 'bet'"),
        ("Gamna", "closest are Gamma"),
        ("zzz", "no title contains 'zzz'"),
    ],
)
def test_unclear_titles_are_one_clear_line(title: str, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        find_item(title, TITLES)


def test_recommends_unseen_titles_from_kept_weights(store: RunStore) -> None:
    plan = accuracy.plan({"dataset": "demo", "models": ["sasrec"], "seeds": [0], "overrides": {"d_model": 16}})
    execute(accuracy, plan, store=store, progress=False)
    history = list(load("demo").titles[3:6])
    for model in ("markov", "sasrec"):
        found = recommend(history, "demo", model, 5, store=store)
        assert len(found) == 5 and not {title for title, _ in found} & set(history)
        assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)


def test_says_when_nothing_is_trained(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = load("demo")
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: demo)
    with pytest.raises(SeqRecError, match=r"no weights of sasrec on ml-1m are kept here; add --train to train it$"):
        recommend([demo.titles[1]], "ml-1m", "sasrec", store=store)


def test_a_record_without_weights_says_how_long_it_took_and_is_trained_again(store: RunStore) -> None:
    (planned,) = accuracy.plan({"dataset": "demo", "models": ["sasrec"], "seeds": [0]})
    execute(accuracy, [planned], store=store, progress=False)
    history = [load("demo").titles[1]]
    before = recommend(history, "demo", "sasrec", 3, store=store)
    folder = store.kept(store.records()[0].run_id)
    weights = folder / accuracy.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])  # a kill while they were written
    assert store.kept(store.records()[0].run_id) is None
    with pytest.raises(SeqRecError, match=r"add --train to train it, which took .* by its record"):
        _recommender("demo", "sasrec", load("demo"), store, False, print)
    lines: list[str] = []
    assert recommend(history, "demo", "sasrec", 3, store=store, train=True, report=lines.append) == before
    assert lines and len(store.records()) == 1


@pytest.mark.parametrize("place", ["new", "published"])
def test_weights_from_other_data_are_not_used_and_such_data_get_their_own(
    tmp_path: Path, store: RunStore, place: str
) -> None:
    store = RunStore(new=tmp_path / place, published=tmp_path / "published")
    (planned,) = accuracy.plan({"dataset": "demo", "models": ["sasrec"], "seeds": [0], "overrides": {}})
    execute(accuracy, [planned], store=store, progress=False)
    demo = load("demo")
    first = store.find(key(accuracy, planned))
    other = replace(first, dataset=first.dataset | {"split_sha256": "0" * 64})
    store.path(first).write_text(other.to_json())
    with pytest.raises(SeqRecError, match="no weights of sasrec on demo are kept here"):
        _recommender("demo", "sasrec", demo, store, False, print)
    trained = _recommender("demo", "sasrec", demo, store, True, print)
    again = _recommender("demo", "sasrec", demo, store, False, print)  # kept in a place of their own
    assert isinstance(trained, torch.nn.Module) and isinstance(again, torch.nn.Module)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))
    assert store.find(key(accuracy, planned)) == other and len(store.records()) == 1


@pytest.mark.parametrize(("titles", "k", "message"), [([], 3, "empty history"), (["a"], 0, "k is 0")])
def test_needs_a_history_and_a_count(titles: list[str], k: int, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        recommend(titles, "demo", "markov", k)

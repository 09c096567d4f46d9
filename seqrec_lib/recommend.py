"""Type a few titles, get the next ten: the study's models as a person would use them.

Uses the kept weights of the newest complete accuracy run. Where there are none, it trains on the demo data, which
takes seconds; on real data, where training may take an hour, it does so when asked.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.models import COUNTED, check, load_class
from seqrec_lib.progress import duration
from seqrec_lib.results import RunStore
from seqrec_lib.results.record import RunRecord, plain

if TYPE_CHECKING:
    from pathlib import Path

    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.evaluate.ranking import Recommender


def find_item(title: str, titles: Sequence[str]) -> int:
    """The item id of ``title``: the same text in any case, else the only title that contains it.

    Texts are compared in Unicode's form NFKC: an accent may be a letter's part or a sign of its own, a letter or digit
    of full width, and any white space counts as one blank.

    Raises:
        SeqRecError: no title or several fit; the message names the closest.

    >>> find_item("the silent comet", ("", "The Silent Comet", "The Silent Comet II"))
    1
    """
    wanted = _comparable(title)
    if not wanted:
        raise SeqRecError(f"title {title!r} is empty; type some of the title")
    folded = [_comparable(text) for text in titles]
    exact = [i for i, text in enumerate(folded) if i and text == wanted]
    if exact:
        return exact[0]
    containing = [i for i, text in enumerate(folded) if i and wanted in text]
    if len(containing) == 1:
        return containing[0]
    if containing:
        some = "; ".join(titles[i] for i in containing[:5])
        raise SeqRecError(f"{len(containing)} titles contain {title!r} ({some}); type more of the title")
    close = difflib.get_close_matches(wanted, folded[1:], n=3, cutoff=0.4)
    some = "; ".join(titles[folded.index(text)] for text in close)
    raise SeqRecError(f"no title contains {title!r}" + (f"; the closest are {some}" if some else ""))


def _comparable(text: str) -> str:
    # One sign may stand for capital letters, and folding the case can take a text out of NFKC: so before and after.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def recommend(
    titles: Sequence[str],
    dataset: str,
    model: str,
    k: int = 10,
    *,
    user: str | None = None,
    train: bool = False,
    run: RunRecord | None = None,
    store: RunStore | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[tuple[str, float]]:
    """The ``k`` best next items for a history of ``titles`` (oldest first), with scores; the history is left out.

    ``user``: an id of the source; the history begins with all that this user had. Items without a title go by their id.
    ``train``: train the model where no weights are kept, as published records come without; what there is to ``report``
    meanwhile comes line by line. ``run``: the accuracy run of ``model`` whose weights answer; None: the newest.

    Raises:
        SeqRecError: an unknown title, user, model or data set, an empty history, k < 1, or no trained weights.
    """
    from seqrec_lib.data import load
    from seqrec_lib.serving import serve

    check(model)
    if not titles and user is None:
        raise SeqRecError("an empty history; type at least one title, or name a user by --user")
    if k < 1:
        raise SeqRecError(f"k is {k}; ask for at least one recommendation")
    sequences = load(dataset)
    names = [title or label for title, label in zip(sequences.titles, sequences.item_labels, strict=True)]
    history = [] if user is None else history_of(user, sequences)
    history += [find_item(title, names) for title in titles]
    recommender = _recommender(dataset, model, sequences, store, train or dataset == "demo", report, run)
    found = min(k, sequences.n_items - len(set(history)))
    if not found:
        return []
    ids, scores = serve(recommender, sequences.n_items).recommend([history], found)
    return [
        (sequences.titles[item] or f"item {names[item]}", score)
        for item, score in zip(map(int, ids[0]), map(float, scores[0]), strict=True)
    ]


def history_of(user: str, sequences: Sequences) -> list[int]:
    """The items of the catalogue that a user had, in the data set's order; the user may be one that the k-core drops.

    Args:
        user: an id of the source, as text.

    Raises:
        SeqRecError: there is no such user, or none of their items is in the catalogue.
    """
    import numpy as np

    from seqrec_lib.data import get, read
    from seqrec_lib.data.interactions import encode, time_order

    rows = read(sequences.name)
    codes, names = encode(rows.users)
    mine = rows.select(np.array([str(name) == user for name in names], bool)[codes])
    if not len(mine):
        raise SeqRecError(f"no user {user!r} in {get(sequences.name).title}; use an id of the source")
    _, ranks = np.unique(mine.items.tolist(), return_inverse=True)
    order = time_order(np.zeros(len(mine), np.int64), ranks, mine.timestamps, get(sequences.name).order)
    ids = {label: item for item, label in enumerate(sequences.item_labels) if item}
    found = [ids[str(label)] for label in mine.items[order].tolist() if str(label) in ids]
    if not found:
        raise SeqRecError(f"user {user!r} has no item that is left after the 5-core; type titles")
    return found


def _recommender(
    dataset: str,
    model: str,
    sequences: Sequences,
    store: RunStore | None,
    train: bool,
    report: Callable[[str], None],
    run: RunRecord | None = None,
) -> Recommender:
    if model in COUNTED:
        return load_class(model)(sequences)
    from seqrec_lib.data.own import is_own
    from seqrec_lib.experiments import accuracy
    from seqrec_lib.experiments.base import config_of
    from seqrec_lib.experiments.weights import ensure_weights, load_recommender

    store = store or RunStore()
    damaged: list[str] = []
    run_id = None if run is None else run.run_id
    newest = newest_weights(dataset, model, sequences.split_hash, store, damaged.append, run_id)
    if newest is not None:
        for line in damaged:
            report(line)
        config, folder = newest
    elif train:
        parameters = {"dataset": dataset, "models": [model], "seeds": [0]}
        planned = accuracy.plan(parameters)[0] if run is None else config_of(run)
        folder = ensure_weights(accuracy, planned, sequences.split_hash, store, progress=True, report=report)
        config = plain(planned)
    else:
        runs = _complete_runs(dataset, model, sequences.split_hash, store)
        took = max((float(r.cost["wall_seconds"]) for r, _ in runs), default=None)
        record = "" if took is None else f", which took {duration(took)} by its record"
        why = f" ({damaged[0]})" if damaged else ""
        study = "compare models by `seqrec study --data`, or " if is_own(dataset) and run is None else ""
        raise SeqRecError(
            f"no weights of {model} on {dataset} are kept here{why}; {study}add --train to train it{record}"
        )
    return load_recommender(folder, config, sequences.n_items)


def newest_weights(
    dataset: str,
    model: str,
    split_hash: str,
    store: RunStore,
    damaged: Callable[[str], None],
    run_id: str | None = None,
) -> tuple[Mapping[str, Any], Path] | None:
    """Configuration and folder of the newest complete accuracy run on the data of ``split_hash`` that kept its weights;
    ``damaged`` is told of weights that are not whole. ``run_id``: of this run alone."""
    here = [
        (record.finished, record.config, folder)
        for record, own in _complete_runs(dataset, model, split_hash, store)
        if record.dataset.get("split_sha256") == split_hash
        and run_id in {None, record.run_id}
        and (folder := own.kept(record.run_id, damaged))
    ]
    return max(here, key=lambda run: run[0])[1:] if here else None


def _complete_runs(dataset: str, model: str, split_hash: str, store: RunStore) -> list[tuple[RunRecord, RunStore]]:
    """Accuracy runs of a data set of this name, each with its store: the same data set from another source may number
    its items otherwise, and its weights have a place of their own."""
    from seqrec_lib.experiments.weights import other_data_store

    return [
        (record, own)
        for own in (store, other_data_store(store, split_hash))
        for record in own.records("accuracy", dataset)
        if record.complete and record.config.get("model") == model
    ]

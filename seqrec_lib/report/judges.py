"""The questions that most statements ask, each of other runs: a statement in ``pages/statements.yml`` names one of
these judges and what it is asked with. What one statement alone asks is a function in `pages`.

A judge holds a statement where the numbers that it finds satisfy ``held``, such as "low > 0".
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seqrec_lib.evaluate.statistics import (
    Interval,
    average_difference,
    bootstrap_interval,
    holm,
    metric_values,
    paired_difference,
)
from seqrec_lib.report.frames import NotRun, Runs, users_of
from seqrec_lib.report.paper import METRICS, SSM, Printed, paper_number, verdict
from seqrec_lib.report.statements import Evidence, add, of_several, over_runs, over_seeds, over_users
from seqrec_lib.report.timings import Timings
from seqrec_lib.results import RunRecord

ALPHA = 0.05  # of tests, after Holm's correction
SEEDS = (0, 1, 2, 3, 4)
TERM = re.compile(r"(estimate|low|high|least|greatest) (<|<=|>|>=) (-?[\d.]+)")
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
CHANCE = "random_subset_ndcg@10"  # of a ranker's record: what a random order of its candidates gives
JUDGES: dict[str, Callable[..., Evidence]] = {}


def judge(function: Callable[..., Evidence]) -> Callable[..., Evidence]:
    """Registers a judge under the function's name."""
    JUDGES[function.__name__] = function
    return function


def read_statements(path: Path) -> None:
    """Register the statements of a file."""
    for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        about = {key: entry.pop(key) for key in ("measures", "rule", "orders", "device", "seeds") if key in entry}
        about |= {key: tuple(about[key]) for key in ("orders", "seeds") if about.get(key)}
        ((kind, asked),) = entry.items()
        add(name, partial(JUDGES[kind], **asked), **about)


def is_held(rule: str, numbers: Mapping[str, float]) -> bool:
    """Whether numbers satisfy a rule.

    >>> is_held("low <= 0 and high >= 0", {"estimate": 0.2, "low": -0.1, "high": 0.5})
    True
    """
    terms = [TERM.fullmatch(part) for part in rule.split(" and ")]
    if None in terms:
        raise ValueError(f"{rule!r} is no rule")
    return all(COMPARE[term[2]](numbers[term[1]], float(term[3])) for term in terms if term)


def by(rule: str) -> Callable[[Interval], bool]:
    """`is_held` of an estimate and its interval."""
    return lambda found: is_held(rule, vars(found))


# Quality


def _sides(pair: str) -> list[tuple[str, str]]:
    """Data set and model of both sides of "ml-1m/mamba4rec minus ml-1m/sasrec"."""
    return [_model(side) for side in pair.split(" minus ")]


def _model(name: str) -> tuple[str, str]:
    dataset, _, model = name.partition("/")
    return dataset, model


def gap(runs: Runs, pair: str, metric: str) -> np.ndarray:
    """By how much the first model of a pair is ahead, by user, shape (n_users,)."""
    return average_difference(*(runs.users(*side, metric) for side in _sides(pair)))


@judge
def difference(runs: Runs, pairs: Sequence[str], metric: str, held: str, show: str = "least") -> Evidence:
    """The first model of each pair minus the second, paired by user."""
    return of_several([over_users(gap(runs, own, metric), runs.ids(_sides(own)), by(held)) for own in pairs], show)


@judge
def change_of_lead(runs: Runs, first: str, then: str, metric: str, held: str) -> Evidence:
    """The difference of the first pair minus that of the other, paired by user."""
    leads = [gap(runs, pair, metric) for pair in (first, then)]
    return over_users(average_difference(*leads), runs.ids([*_sides(first), *_sides(then)]), by(held))


@judge
def none_told_apart(runs: Runs, models: Sequence[str], metric: str) -> Evidence:
    """Held where no two models differ after Holm's correction; the estimate is the largest difference of a pair."""
    named = list(map(_model, models))
    users = [runs.users(*model, metric) for model in named]
    tests = [paired_difference(a, b) for a, b in itertools.combinations(users, 2)]
    largest, _ = max(tests, key=lambda test: abs(test[0].estimate))
    apart = min(holm([p for _, p in tests])) < ALPHA
    return Evidence.of(not apart, largest, len(users[0]), runs.ids(list(dict.fromkeys(named))))


def printed_number(model: str, metric: str) -> Printed:
    """What the paper prints for MovieLens 1M."""
    printed = paper_number("ml-1m", model, metric)
    assert printed is not None, (model, metric)
    return printed


@judge
def printed(runs: Runs, dataset: str, model: str, verdicts: Sequence[str]) -> Evidence:
    """Held where `paper.verdict` says these words of HT@10, NDCG@10 and MRR@10; the estimate is that of HT@10."""
    users = [runs.users(dataset, model, metric) for metric in METRICS]
    found = [bootstrap_interval(values) for values in users]
    numbers = [printed_number(model.partition(":")[0], metric) for metric in METRICS]
    said = [verdict(number, own.estimate, own) for number, own in zip(numbers, found, strict=True)]
    return Evidence.of(said == [*verdicts], found[0], len(users[0]), runs.ids([(dataset, model)]))


# Speed


def time_ratio(timings: Timings, slow: str, fast: str, path: str) -> Interval:
    """The time of one model in units of another's, by the same program; raises `NotRun`."""
    found = timings.ratio((slow, path), (fast, path))
    if found is None:
        raise NotRun(f"latency of {slow} and {fast}, {path}")
    return found


@judge
def times(
    runs: Runs,
    datasets: Sequence[str],
    programs: Sequence[str],
    held: str,
    show: str,
    pairs: Sequence[str] = tuple(f"sasrec over {model}" for model in SSM),
) -> Evidence:
    """The time of the first model of each pair in units of the second's, on each data set and by each program."""
    parts = []
    for timings in (Timings.newest(runs, dataset) for dataset in datasets):
        for pair, path in itertools.product(pairs, programs):
            slow, fast = pair.split(" over ")
            own, units = time_ratio(timings, slow, fast, path), len(timings.units(slow, path))
            parts.append(Evidence.of(by(held)(own), own, units, (timings.record.run_id,), "processes"))
    return of_several(parts, show)


# Language models


def writer(runs: Runs, model: str, dropout: float) -> list[RunRecord]:
    """The runs on MovieLens 100K of a model from scratch that writes queries, with this dropout, by seed."""
    records = {
        int(record.config["seed"]): record
        for record in runs.records("generative", "ml-100k", model=model)
        if (size := record.config["size"]) is not None
        and (size["dropout"] if model == "gpt4rec" or size.get("same_dropout") else 0) == dropout
    }
    if len(records) < 3:
        raise NotRun(f"{model} on ml-100k with a dropout of {dropout:g}, three seeds")
    return [records[seed] for seed in sorted(records)]


@judge
def writers(runs: Runs, dropout: float, held: str) -> Evidence:
    """NDCG@10 of MamRec minus GPT4Rec, both with this dropout, paired by user."""
    records = [writer(runs, model, dropout) for model in ("mamrec", "gpt4rec")]
    found, _ = paired_difference(*(users_of(own, "ndcg@10", runs.store) for own in records))
    ids = tuple(record.run_id for own in records for record in own)
    return Evidence.of(by(held)(found), found, int(records[0][0].dataset["n_users"]), ids)


def ranker(runs: Runs, prompt: str, tuned: bool = False, titles: str = "own") -> RunRecord:
    """The run of Gemma 3 270M on MovieLens 100K with a prompt, as it is or tuned, with the films' own titles or
    shuffled ones."""
    for record in runs.records("llamarec", "ml-100k", source="gemma-3-270m"):
        setting = record.config["setting"]
        asked = setting["prompt"] == prompt and setting.get("titles", "own") == titles
        if asked and (record.config["teaching"].get("prompts") != 0) == tuned:
            return record
    raise NotRun(f"llamarec on ml-100k, gemma-3-270m, prompt {prompt}{'' if tuned else ', not tuned'}")


@judge
def rankers(runs: Runs, of: Mapping[str, Any], minus: Mapping[str, Any] | str, held: str) -> Evidence:
    """NDCG@10 of a `ranker` among its candidates minus that of another one, of another order of the candidates (a
    column of the ranks), or of chance; of the users whose item is a candidate, paired."""
    first = ranker(runs, **of)
    second = first if isinstance(minus, str) else ranker(runs, **minus)
    tables = [runs.store.table(record, "ranks").to_pandas() for record in (first, second)]
    both = (tables[0]["place"] >= 0) & (tables[1]["place"] >= 0)
    values = metric_values(tables[0].loc[both, "rank"].to_numpy(), "ndcg@10")
    if minus == "chance":
        found = bootstrap_interval(values - first.metrics[CHANCE])
    else:
        column = minus if isinstance(minus, str) else "rank"
        found, _ = paired_difference(values, metric_values(tables[1].loc[both, column].to_numpy(), "ndcg@10"))
    ids = tuple(dict.fromkeys(record.run_id for record in (first, second)))
    return Evidence.of(by(held)(found), found, len(values), ids)


@judge
def tuning(runs: Runs, of: str, minus: str, held: str, show: str, among: Mapping[str, str] | None = None) -> Evidence:
    """One metric of each run of ORPO's experiment minus another metric of it: the "greatest" or "largest" difference,
    or their "mean" over three seeds or more."""
    records = runs.records("orpo", **(among or {}))
    if len(records) < (3 if show == "mean" else 1):
        raise NotRun("orpo, three seeds" if show == "mean" else "orpo")
    gaps = [record.metrics[of] - record.metrics[minus] for record in records]
    fits = is_held(held, {"least": min(gaps), "greatest": max(gaps)})
    if show == "mean":
        return over_seeds(fits, gaps, records)
    return over_runs(fits, max(gaps, key=abs if show == "largest" else None), records)


# The optimizer

ADAM = {"name": "adamw"}
RULE = {"rule": "paper", "lambda_": 2.0}
FROM_ZERO = {"name": "usgm", "lr": "inf"}  # Algorithm 1 as it is written, on a ball
CONTESTANTS: dict[str, tuple[Mapping[str, Any], float, Mapping[str, Any]]] = {
    "Adam, tuned": (ADAM, 3e-3, {}),
    "Adam, default": (ADAM, 1e-3, {}),
    "SGD, tuned": ({"name": "sgd", "lr": 1.0}, 1e-3, {}),
    "USGM, tuned": ({"name": "usgm", "D": 100.0, "lr": 1.0}, 1e-3, {}),
    "USGM from H = 0": (FROM_ZERO | {"D": 30.0, "radius": 15.0}, 1e-3, {}),
    "USGM with the paper's rule for the batch": ({"name": "usgm", "D": 100.0, "lr": 3.0}, 1e-3, RULE),
}
"""Optimizer, constant rate of the recipe, and rule for the batch."""


def contestant(runs: Runs, name: str) -> list[RunRecord]:
    """The runs of one of `CONTESTANTS`."""
    return trained(runs, *CONTESTANTS[name])


def trained(
    runs: Runs,
    optimizer: Mapping[str, Any],
    rate: float,
    batching: Mapping[str, Any],
    *,
    epochs: int = 10,
    seeds: Sequence[int] = SEEDS,
) -> list[RunRecord]:
    """The runs of 2Mamba4Rec on MovieLens 100K with an optimizer at a constant rate, one for each of ``seeds``; raises
    `NotRun` where a seed has none."""
    found = {
        record.config["seed"]: record
        for record in runs.records("optimizers", "ml-100k", kind="train", model="2mamba4rec", optimizer=optimizer)
        if record.config["batching"] == batching
        and record.config["training"]["epochs"] == epochs
        and record.config["training"]["tokens_per_batch"] == 1600
        and record.config["training"]["learning_rate"] == rate
        and record.config["training"].get("schedule", "constant") == "constant"
    }
    if set(seeds) - set(found):
        raise NotRun(f"{optimizer['name']} on ml-100k")
    runs.given.update(found[seed].run_id for seed in seeds)
    return [found[seed] for seed in seeds]


def by_seed(a: Sequence[RunRecord], b: Sequence[RunRecord], held: str, metric: str = "best_valid_loss") -> Evidence:
    """A metric of the runs ``a`` minus that of the runs ``b``, seed by seed."""
    gaps = [x.metrics[metric] - y.metrics[metric] for x, y in zip(a, b, strict=True)]
    return over_seeds(is_held(held, {"least": min(gaps), "greatest": max(gaps)}), gaps, [*a, *b])


@judge
def losses(runs: Runs, of: str, minus: str, held: str) -> Evidence:
    """The best validation loss of one of `CONTESTANTS` minus that of another, seed by seed."""
    return by_seed(contestant(runs, of), contestant(runs, minus), held)

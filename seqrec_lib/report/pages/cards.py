"""Model cards and the compute budget (book/model_cards.md): on what each model of the study was trained, by which
recipe, how well it ranks and what that took; and the hours behind all published runs, failed ones included."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache, partial
from typing import Any

import pandas as pd

from seqrec_lib.report import frames
from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.html import NONE
from seqrec_lib.report.kit import Column
from seqrec_lib.report.labels import BY_TITLES
from seqrec_lib.report.paper import dataset_name, model_name
from seqrec_lib.report.preferences import LABELS
from seqrec_lib.report.values import table, value
from seqrec_lib.results import RunRecord

CARDS = dict.fromkeys(("popularity", "markov", "sasrec", "mamba4rec", "2mamba4rec", "hydra4rec"), "accuracy")
CARDS |= {"gpt4rec": "generative", "mamrec": "generative", "llamarec": "llamarec", "orpo": "orpo"}
"""A card's name, which is a model's id but for the ranker after ORPO -> the experiment that its runs are of."""
TUNED = ("llamarec+orpo-paper", "llamarec+orpo")  # the models on that ranker's card
KINDS = {"masked": "masked_ndcg@10", "ndcg": "ndcg@10"}
PARTS = ("training", "architecture", "tuning", "teaching", "setting", "preference")
SETTINGS = {  # of these parts of a configuration; "" where the value says what it is
    "max_length": "window",
    "epochs": "epochs",
    "learning_rate": "rate",
    "schedule": "",
    "dropout": "dropout",
    "candidates": "candidates",
    "lambda_": "weight",
}


def card(runs: Runs, name: str) -> pd.DataFrame:
    """One row for each data set, order of time and variant that a model was trained on by the study's recipe: data,
    recipe, masked and ndcg (NDCG@10, mean over seeds) with their intervals over users, weights, seeds, minutes (of a
    run, mean over seeds), ids. Raises `NotRun` where there is no run of it."""
    every = runs.frame(CARDS[name])
    mine = every["model"].isin(TUNED) if name == "orpo" else every["model"].str.split("+").str[0] == name
    rows: list[dict[str, Any]] = []
    for (dataset, _), own in every[mine & every["recipe"]].groupby(["dataset", "label"], sort=False):
        first = own.iloc[0]
        over = first.get("retriever.model") or first.get("base.retriever.model")
        parts = [LABELS[first["arm"]]] if name == "orpo" else str(first["model"]).split("+")[1:]
        parts += [f"on {model_name(over)}"] if isinstance(over, str) else []
        parts += [first["origin"]] if isinstance(first["origin"], str) else []
        titles = BY_TITLES.get(first.get("setting.prompt"))
        parts += [titles.lower()] if titles else []
        facts = {
            "data": "; ".join([dataset_name(str(dataset)), *parts]).replace("repeats", "repeat bias"),
            "recipe": _recipe(first),
            "weights": first.get("parameters"),
            "seeds": own["seed"].nunique(),
            "minutes": own.filter(["wall_seconds", "train_seconds"]).max(axis=1).mean() / 60,
            "ids": " ".join(own["run_id"]),
        }
        ranker = CARDS[name] in {"llamarec", "orpo"}  # whose candidates are never items that were seen
        for key, metric in {"masked": "ndcg@10"}.items() if ranker else KINDS.items():
            found = frames.means(own, [metric], runs.store).iloc[0]
            facts |= {key: found["mean"], f"{key} low": found["low"], f"{key} high": found["high"]}
        rows.append(facts)
    if not rows:
        raise NotRun(name)
    columns = ["data", "recipe", *(f"{k}{end}" for k in KINDS for end in ("", " low", " high"))]
    return pd.DataFrame(rows, columns=[*columns, "weights", "seeds", "minutes", "ids"])


def _recipe(run: pd.Series) -> str:
    """The settings of a run that its card shows; a model that was not tuned has none of how it would be."""
    tuned = [part for part in PARTS if part != "teaching" or run.get("teaching.prompts") != 0]
    values = [(title, run.get(f"{part}.{name}")) for part in tuned for name, title in SETTINGS.items()]
    shown = [v if isinstance(v, str) else f"{title} {v:g}" for title, v in values if v is not None and v == v]
    return ", ".join(shown) or NONE


for _name in CARDS:
    table(
        f"card/{_name}",
        Column("data", "Data"),
        Column("masked", "NDCG@10, seen left out", interval=("masked low", "masked high"), missing=NONE),
        Column("ndcg", "NDCG@10, all ranked", interval=("ndcg low", "ndcg high"), missing=NONE),
        Column("weights", "Weights", ",.0f"),
        Column("seeds", "Seeds", ".0f"),
        Column("minutes", "Minutes a run", ".2f"),
        Column("recipe", "Recipe"),
        csv=("ids",),
    )(partial(card, name=_name))


@lru_cache(maxsize=2)  # a page asks for it once for each of its numbers
def budget(runs: Runs) -> pd.DataFrame:
    """One row for each experiment, data set and device of the store's runs: runs, failed, hours (of a core, or of a
    GPU), memory (GiB, the largest; NaN where none is on record)."""
    rows = [
        {
            "experiment": record.experiment,
            "data": dataset_name(record.dataset["name"]),
            "device": str(record.environment.get("device", "not recorded")),
            "failed": not record.complete,
            "hours": _hours(record),
            "memory": record.cost.get("peak_memory_bytes", float("nan")) / 2**30,
        }
        for record in runs.store.records()
    ]
    if not rows:
        raise NotRun("any run")
    grouped = pd.DataFrame(rows).groupby(["experiment", "data", "device"], as_index=False)
    return grouped.agg(
        runs=("hours", "size"), failed=("failed", "sum"), hours=("hours", "sum"), memory=("memory", "max")
    )


def _hours(record: RunRecord) -> float:
    """Of a core, or of a GPU. A run that went on from a checkpoint has its earlier training in train_seconds alone; a
    failed one has no cost, but its two ends."""
    ends = [datetime.fromisoformat(text) for text in (record.started, record.finished)]
    seconds = record.cost.get("wall_seconds", (ends[1] - ends[0]).total_seconds())
    machine = record.environment
    cores = 1 if machine.get("device_type") == "cuda" else machine.get("threads") or 1
    return float(cores * max(seconds, record.cost.get("train_seconds", 0.0)) / 3600)


table(
    "budget",
    *(Column(key, key.capitalize(), ",.0f") for key in ("experiment", "data", "runs", "failed")),
    Column("hours", "Hours", ",.3f"),
    Column("memory", "Memory, GiB", ".2f", missing="not recorded"),
    Column("device", "Device"),
)(budget)


def _total(key: str, runs: Runs) -> float:
    return budget(runs)[key].sum().item()


for _key in ("runs", "failed", "hours"):
    value(f"budget/{_key}")(partial(_total, _key))


@value("budget/gpu-minutes")
def _gpu(runs: Runs) -> float:
    """Of the trainings on a GPU that were compared with those on a CPU; they are no published runs."""
    return sum(float(row["gpu"]["wall_seconds"]) for row in measured("gpu_agreement", "rows")) / 60

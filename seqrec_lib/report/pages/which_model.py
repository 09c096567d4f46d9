"""The chapter for practitioners (book/which_model.md): what each of its recommendations rests on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.evaluate.statistics import Interval, bootstrap_interval, ratio
from seqrec_lib.report import benchmarks, kit
from seqrec_lib.report.claims import SSM
from seqrec_lib.report.frames import TRUE_ORDER, NotRun, Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import model_name
from seqrec_lib.report.scaling import BEST, Scaling
from seqrec_lib.report.statements import Evidence, ahead, difference, statement
from seqrec_lib.report.timings import Timings
from seqrec_lib.report.values import exhibit, value

if TYPE_CHECKING:
    import pandas as pd

BEAUTY, FILMS = "amazon-2014-beauty", "ml-1m"
PLAIN = ("sasrec", *SSM)
SCOPE: dict[str, Any] = {"orders": [TRUE_ORDER], "device": "cpu"}


# Quality


@statement(
    "films-models-within-a-hundredth",
    measures="NDCG@10 on MovieLens 1M with seen items left out, the largest difference of two of the four models",
    seeds=(0, 1, 2),
    **SCOPE,
)
def _films(runs: Runs) -> Evidence:
    """SASRec, Mamba4Rec, 2Mamba4Rec and Hydra4Rec, paired by user, each user's mean over the seeds: each of the six
    95 % intervals lies within 0.01 of zero."""
    pairs = [(a, b) for i, a in enumerate(PLAIN) for b in PLAIN[i + 1 :]]
    gaps = [
        difference(runs, (FILMS, a), (FILMS, b), "masked_ndcg@10", lambda _, low, high: max(abs(low), abs(high)) < 0.01)
        for a, b in pairs
    ]
    widest = max(gaps, key=lambda gap: abs(gap.estimate))
    ids = runs.ids([(FILMS, model) for model in PLAIN])
    return Evidence(all(gap.held for gap in gaps), widest.estimate, widest.low, widest.high, widest.n, ids)


@statement(
    "shop-sasrec-ahead-of-each-state-space-model",
    measures="NDCG@10 on Beauty 2014 with seen items left out, SASRec minus the best state space model",
    seeds=(0, 1, 2, 3, 4),
    **SCOPE,
)
def _shop(runs: Runs) -> Evidence:
    """Paired by user, each user's mean over the seeds; held where the 95 % interval of SASRec minus each of Mamba4Rec,
    2Mamba4Rec and Hydra4Rec (without a residual path) lies above 0. The estimate is the least of the three."""
    leads = [ahead(runs, (BEAUTY, "sasrec"), (BEAUTY, model), "masked_ndcg@10") for model in SSM]
    least = min(leads, key=lambda lead: lead.estimate)
    ids = runs.ids([(BEAUTY, model) for model in PLAIN])
    return Evidence(all(lead.held for lead in leads), least.estimate, least.low, least.high, least.n, ids)


@statement(
    "shop-residual-closes-the-gap",
    measures="NDCG@10 on Beauty 2014, 2Mamba4Rec with residual and repeat bias minus SASRec with repeat bias",
    seeds=(0, 1, 2),
    **SCOPE,
)
def _residual(runs: Runs) -> Evidence:
    """Paired by user, each user's mean over the seeds; held where SASRec is not ahead: the interval's upper end lies
    above 0."""
    pair = ((BEAUTY, "2mamba4rec+residual+repeats"), (BEAUTY, "sasrec+repeats"))
    return difference(runs, *pair, "ndcg@10", lambda _, __, high: high > 0)


@statement(
    "shop-counting-is-not-behind-with-seen-items-ranked",
    measures="NDCG@10 on Beauty 2014 with seen items ranked, Markov count minus SASRec",
    seeds=(0, 1, 2, 3, 4),
    **SCOPE,
)
def _count(runs: Runs) -> Evidence:
    """Paired by user; held where the 95 % interval does not lie below 0."""
    return difference(runs, (BEAUTY, "markov"), (BEAUTY, "sasrec"), "ndcg@10", lambda _, __, high: high > 0)


@statement(
    "films-leaving-out-seen-items-gains-a-third",
    measures="NDCG@10 of SASRec on MovieLens 1M, seen items left out minus ranked",
    seeds=(0, 1, 2),
    **SCOPE,
)
def _seen(runs: Runs) -> Evidence:
    """Held where the gain is between a quarter and two fifths of the value with seen items ranked."""
    plain, masked = (runs.users(FILMS, "sasrec", metric) for metric in ("ndcg@10", "masked_ndcg@10"))
    gain = bootstrap_interval(masked - plain)
    share = gain.estimate / float(plain.mean())
    ids = runs.ids([(FILMS, "sasrec")])
    return Evidence(0.25 <= share <= 0.4, gain.estimate, gain.low, gain.high, len(plain), ids)


@statement(
    "small-llamarec-loses-to-its-retriever",
    measures="NDCG@10 on MovieLens 1M, LlamaRec from scratch minus its candidates ordered by popularity",
    seeds=(0, 1, 2),
    **SCOPE,
)
def _llamarec(runs: Runs) -> Evidence:
    """Seen items left out. In each run the ranker's NDCG@10 is below that of its candidates in popularity's order,
    and that below the retriever's own. The estimate is the mean over the runs."""
    records = [record for record in runs.records("llamarec") if record.dataset["name"] == FILMS]
    if len(records) < 3:
        raise NotRun("llamarec on ml-1m, three seeds")
    gaps = [record.metrics["ndcg@10"] - record.metrics["popularity_ndcg@10"] for record in records]
    below = all(record.metrics["popularity_ndcg@10"] < record.metrics["retriever_ndcg@10"] for record in records)
    ids = tuple(record.run_id for record in records)
    return Evidence(max(gaps) < 0 and below, float(np.mean(gaps)), min(gaps), max(gaps), len(gaps), ids, "seeds")


@exhibit("which-model-quality")
def _quality(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    models = ("markov", *PLAIN, "sasrec+repeats", "2mamba4rec+repeats", "2mamba4rec+residual+repeats")
    rows: list[dict[str, Any]] = []
    for dataset, title in ((FILMS, "MovieLens 1M (films)"), (BEAUTY, "Amazon 2014 Beauty (shop)")):
        for model in models:
            if (dataset, model) == (FILMS, "2mamba4rec+residual+repeats"):
                continue  # no run is planned
            facts: dict[str, Any] = {"data": title, "model": _variant(model)}
            try:
                found = bootstrap_interval(runs.users(dataset, model, "masked_ndcg@10"))
                facts |= {"ndcg": found.estimate, "low": found.low, "high": found.high}
            except NotRun:
                facts["ndcg"] = None
            rows.append(facts)
    frame = pd.DataFrame(rows, columns=["data", "model", "ndcg", "low", "high"])
    axis = "NDCG@10, seen items left out, 95 % interval over users"
    return partial(kit.figure, frame, "dots", group="data", label="model", value="ndcg", axis=axis)


def _variant(model: str) -> str:
    name, *variants = model.split("+")
    return " + ".join([model_name(name), *variants]).replace("repeats", "bias")


# Time


def _scaling(runs: Runs) -> Scaling:
    record = runs.newest("scaling", FILMS)
    read = Scaling.read(record, runs.store)
    assert read is not None
    return read


def length_ratio(runs: Runs, model: str, length: int) -> tuple[Interval, int, str]:
    """How many times as long SASRec reads a history of ``length`` items as ``model``, each by its faster program: the
    ratio with its interval over rounds, the number of rounds, the run's id.

    Raises:
        NotRun: no timing.
    """
    scaling = _scaling(runs)
    slow, fast = (scaling.curve("length", name, BEST).loc[length].to_numpy() for name in ("sasrec", model))
    return ratio(slow, fast), len(slow), scaling.record.run_id


@statement(
    "one-event-costs-the-same-at-any-length",
    measures="time for one more event, 8,000 items in units of 50, the slowest of the state space models",
    seeds=None,
    **SCOPE,
)
def _event(runs: Runs) -> Evidence:
    """One core. For Mamba4Rec, 2Mamba4Rec and Hydra4Rec the median time to take in one more event and keep the state
    is at 8,000 items at most 1.25 times that at 50. SASRec, which keeps a cache, takes over five times as long."""
    scaling = _scaling(runs)
    growth = {}
    for model in PLAIN:
        medians = scaling.curve("event", model, "step").median(axis=1)
        growth[model] = float(medians.loc[8_000] / medians.loc[50])
    worst = max(growth[model] for model in SSM)
    rounds = scaling.curve("event", "sasrec", "step").shape[1]
    held = worst <= 1.25 and growth["sasrec"] > 5
    return Evidence(held, worst, None, None, rounds, (scaling.record.run_id,), "rounds")


@statement(
    "films-all-answer-within-a-millisecond",
    measures="milliseconds of one request on MovieLens 1M, the slowest of the four models",
    seeds=None,
    **SCOPE,
)
def _request(runs: Runs) -> Evidence:
    """One core, batch 1, random weights, histories of at most 200 items, programs compiled for serving: the upper end
    of each model's 95 % interval lies below 1 ms."""
    timings = Timings.read(runs.newest("latency", FILMS), runs.store)
    assert timings is not None
    medians = [timings.median(model, "served") for model in PLAIN]
    worst = max(medians, key=lambda own: own.estimate)
    ends = [own.high / 1e3 for own in medians]
    low = worst.low / 1e3
    units = len(timings.units("sasrec", "served"))
    return Evidence(max(ends) < 1, worst.estimate / 1e3, low, max(ends), units, (timings.record.run_id,), "processes")


@statement(
    "films-latencies-within-ten-times",
    measures="time of one request on MovieLens 1M, SASRec in units of the fastest state space model",
    seeds=None,
    **SCOPE,
)
def _within_ten(runs: Runs) -> Evidence:
    """One core, batch 1, random weights, every model reads at most 200 items, programs compiled for serving.
    Geometric mean of paired ratios; the upper end of the 95 % interval lies below 10 for each state space model."""
    timings = Timings.read(runs.newest("latency", FILMS), runs.store)
    assert timings is not None
    ratios = [timings.ratio(("sasrec", "served"), (model, "served")) for model in SSM]
    largest = max((ratio for ratio in ratios if ratio is not None), key=lambda ratio: ratio.estimate)
    units = len(timings.units("sasrec", "served"))
    held = all(ratio is not None and ratio.high < 10 for ratio in ratios)
    return Evidence(held, largest.estimate, largest.low, largest.high, units, (timings.record.run_id,), "processes")


def _curves(runs: Runs, kind: str) -> pd.DataFrame:
    """Milliseconds by length, median and its spread over rounds: kind "length" (a whole history) or "event" (one
    more)."""
    import pandas as pd

    scaling, rows = _scaling(runs), []
    for model in PLAIN:
        curve = scaling.curve("length", model, BEST) if kind == "length" else scaling.curve("event", model, "step")
        for length, times in curve.iterrows():
            low, middle, high = np.quantile(times.to_numpy() / 1e3, (0.25, 0.5, 0.75))
            rows.append({"model": model_name(model), "items": length, "ms": middle, "low": low, "high": high})
    return pd.DataFrame(rows)


def _lines(kind: str) -> Callable[[Runs], Callable[..., Html]]:
    axes = {"x_axis": "Items in the history", "y_axis": "Milliseconds on one core; band: half of the rounds"}
    return lambda runs: partial(kit.figure, _curves(runs, kind), "lines", series="model", x="items", y="ms", **axes)


exhibit("which-model-length")(_lines("length"))
exhibit("which-model-event")(_lines("event"))


def _crossing(model: str) -> Callable[[Runs], float]:
    def crossing(runs: Runs) -> float:
        """The shortest measured length from which on the model reads a history in less time than SASRec."""
        scaling = _scaling(runs)
        attention, other = (scaling.curve("length", name, BEST).median(axis=1) for name in ("sasrec", model))
        lengths = [int(length) for length in attention.index if (other < attention).loc[length:].all()]
        return lengths[0]

    return crossing


for _model in SSM:
    value(f"reads-faster-from/{_model}")(_crossing(_model))


@value("request/sasrec")
def _sasrec_request(runs: Runs) -> float:
    timings = Timings.read(runs.newest("latency", FILMS), runs.store)
    assert timings is not None
    return timings.median("sasrec", "served").estimate / 1e3


def _writes(model: str) -> Callable[[Runs], float]:
    def seconds(runs: Runs) -> float:
        """Seconds of one request at the paper's size, the median over blocks."""
        record = benchmarks.read(benchmarks.FOLDER, "query_latency")
        contestants = ((record or {}).get("datasets", {}).get("ml-100k") or {}).get("contestants", [])
        own = [c for c in contestants if c["model"] == model and c["path"] == "paper"]
        if not own:
            raise NotRun(f"query_latency of {model}")
        return float(np.median(own[0]["block_milliseconds"])) / 1e3

    return seconds


for _model in ("gpt4rec", "mamrec"):
    value(f"query-seconds/{_model}")(_writes(_model))

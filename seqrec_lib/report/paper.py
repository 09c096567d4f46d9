"""The paper's tables (``paper.csv``) as typed data, each number as it is printed.

Baderko, Kulibaba, Obozov, Kutuzov and Gasnikov, "Exploring Applications of State Space Models and Advanced
Training Techniques in Sequential Recommendations" (2024), Tables 1 to 4. A number keeps its printed text,
since "0.040" and "0.04" promise different precision: a comparison with ours must allow for what rounding can
hide. Data sets and models have this study's ids.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqrec_lib.data.registry import base_name, find
from seqrec_lib.evaluate.statistics import Interval

_MULTIPLIERS = {"k": 1_000, "M": 1_000_000, "B": 1_000_000_000}

METRICS = ("ht@10", "ndcg@10", "mrr@10")
"""The metrics that the paper's Tables 1 to 3 print, in their order."""


Verdict = Literal["matches", "ours higher", "ours lower", "not run", "other data", "other order", "not in the paper"]


@dataclass(frozen=True)
class Printed:
    """A number as the paper prints it: "0.040", "14M", "2.51".

    >>> number = Printed("0.040")
    >>> number.value, number.unit
    (0.04, 0.001)
    >>> Printed("1.8M").value, Printed("1.8M").unit
    (1800000.0, 100000.0)
    >>> Printed("840k").unit        # taken as rounded to tens of thousands
    10000.0
    """

    text: str

    @property
    def _parts(self) -> tuple[str, int]:
        if self.text[-1] in _MULTIPLIERS:
            return self.text[:-1], _MULTIPLIERS[self.text[-1]]
        return self.text, 1

    @property
    def value(self) -> float:
        """The number itself; a suffix k, M or B is multiplied out."""
        number, multiplier = self._parts
        return float(number) * multiplier

    @property
    def unit(self) -> float:
        """What one step in the last significant place is worth.

        Trailing zeros after the point are significant. The last zero of a whole number of thousands is taken
        as rounding: the paper's counts there (80k, 290k, 300k, 750k, 840k ...) all look rounded to tens of
        thousands.
        """
        number, multiplier = self._parts
        tens = self.text.endswith("0k") and "." not in number
        return multiplier * (10.0 if tens else 1.0) / 10 ** len(number.partition(".")[2])

    def range(self, units: float = 0.5) -> tuple[float, float]:
        """The values (low, high) that rounding by ``units`` of the last place turns into this number."""
        return self.value - units * self.unit, self.value + units * self.unit

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class PaperRow:
    """One row of Tables 1 to 3; where the paper prints "-" or nothing, a metric is left out and another number None.

    ``latency`` has no unit in the paper (presumably seconds for one user; tokens per second for language models
    according to the text). ``body`` is the count that the paper gives in parentheses: without embedding layers.
    """

    table: int
    dataset: str
    model: str
    metrics: Mapping[str, Printed]
    latency: Printed | None
    parameters: Printed
    body: Printed | None


@dataclass(frozen=True)
class DatasetRow:
    """One row of Table 4 (Appendix A): counts of users, items and reviews."""

    dataset: str
    name: str
    users: int
    items: int
    reviews: int


BEAUTY = "amazon-2023-beauty-and-personal-care"
VIDEO_GAMES = "amazon-2023-video-games"
MOVIELENS = "ml-1m"


def _row(cells: Mapping[str, str]) -> PaperRow:
    numbers = {name: Printed(cell) for name, cell in cells.items() if cell != "-"}
    metrics = {name: numbers[name] for name in METRICS if name in numbers}
    sizes = numbers["parameters"], numbers.get("body")
    return PaperRow(int(cells["table"]), cells["dataset"], cells["model"], metrics, numbers.get("latency"), *sizes)


with Path(__file__).with_name("paper.csv").open(encoding="utf-8") as _stream:
    PAPER: tuple[PaperRow, ...] = tuple(map(_row, csv.DictReader(_stream)))
"""Tables 1 to 3: 21 rows, in the paper's order, "-" where it prints that."""

TABLE_4: tuple[DatasetRow, ...] = (
    DatasetRow(BEAUTY, "Beauty and P.C.", 750_835, 211_452, 6_860_059),
    DatasetRow(MOVIELENS, "MovieLens-1M", 6_041, 3_417, 999_611),
    DatasetRow(VIDEO_GAMES, "Video Games", 98_907, 26_355, 857_505),
)

STAND_INS = {"amazon-2014-beauty": BEAUTY, "amazon-2018-video-games": VIDEO_GAMES}
"""Our data sets that take the place of one of the paper's: same shop and category, another collection."""

MODEL_NAMES = {
    "popularity": "Popularity",
    "markov": "Markov",
    "bm25-last": "BM25, last title",
    "title-markov": "Markov, as queries",
    "sasrec": "SASRec",
    "mamba4rec": "Mamba4Rec",
    "2mamba4rec": "2Mamba4Rec",
    "hydra4rec": "Hydra4Rec",
    "gpt4rec": "GPT4Rec",
    "mamrec": "MamRec",
    "llamarec": "LlamaRec",
}
"""Model ids as a reader writes them; the first four are floors that the paper does not have."""

SSM = ("mamba4rec", "2mamba4rec", "hydra4rec")
LANGUAGE = ("gpt4rec", "mamrec", "llamarec")


def model_name(model: str) -> str:
    """A model's name for readers; a variant's suffix stays, unless it is the model whose candidates are ranked.

    >>> model_name("llamarec+orpo"), model_name("llamarec+2mamba4rec")
    ('LlamaRec+orpo', 'LlamaRec on 2Mamba4Rec')
    """
    stem, plus, suffix = model.partition("+")
    name = MODEL_NAMES.get(stem, stem)
    return f"{name} on {MODEL_NAMES[suffix]}" if suffix in MODEL_NAMES else name + plus + suffix


def dataset_name(dataset: str) -> str:
    """A data set's title in the registry; an id without one is returned as it is."""
    spec = find(dataset)
    return dataset if spec is None else spec.title


def paper_name(dataset: str) -> str:
    """One of the paper's data sets by its name in Table 4."""
    return next(row.name for row in TABLE_4 if row.dataset == dataset)


def paper_dataset(dataset: str) -> str | None:
    """The paper's data set to show beside ours: itself, also in RecBole's order of time, on which the paper's code is
    built; the one it stands in for; or None (demo, ml-100k, other orders)."""
    original = base_name(dataset)
    if any(row.dataset == original for row in PAPER):
        return original if dataset in {original, f"{original}-recbole"} else None
    return STAND_INS.get(dataset)


def comparable(dataset: str) -> bool:
    """Whether the paper's numbers for this data set are about the same data as ours."""
    return paper_dataset(dataset) == base_name(dataset)


def in_its_order(dataset: str) -> bool:
    """Whether the histories are in the order of time that the paper's code base gives: RecBole's, which is another than
    the true order where the registry has it as a data set of its own."""
    spec = find(base_name(dataset))
    return spec is None or "recbole" not in spec.orders or dataset == f"{base_name(dataset)}-recbole"


def paper_row(dataset: str, model: str) -> PaperRow | None:
    """The paper's row to show beside ``model`` on ``dataset`` (a stand-in gets its original's), or None."""
    wanted = paper_dataset(dataset)
    return next((row for row in PAPER if row.dataset == wanted and row.model == model), None)


def paper_number(dataset: str, model: str, name: str) -> Printed | None:
    """A metric ("ndcg@10") or the "latency" of a `paper_row`; None where the paper prints none."""
    row = paper_row(dataset, model)
    if row is None:
        return None
    return row.latency if name == "latency" else row.metrics.get(name)


def verdict(
    paper: Printed | None,
    ours: float | None,
    interval: Interval | None = None,
    *,
    comparable: bool = True,
    same_order: bool = True,
) -> Verdict:
    """One word on our number beside the paper's, by these rules, the first that holds:

    1. "not run": there is no number of ours;
    2. "not in the paper": the paper prints no number for this model and metric;
    3. "other data": the paper's number is about another collection (``comparable`` is False);
    4. "other order": ours has another test set, from the same data in another order of time (``same_order`` is False);
    5. "matches": our interval and the numbers that round to the paper's (half a unit of its last place each way)
       have a point in common; without an interval (None or degenerate), our number itself stands for it;
    6. "ours higher" or "ours lower": our whole interval lies above or below them.

    "matches" means: not told apart, which a wide interval makes easy. The paper gives no seeds and no
    interval of its own, so that its side of the uncertainty is missing from the rule.

    >>> verdict(Printed("0.224"), 0.230, Interval(0.230, 0.2244, 0.236))
    'matches'
    >>> verdict(Printed("0.224"), 0.230, Interval(0.230, 0.2246, 0.236))
    'ours higher'
    """
    if ours is None:
        return "not run"
    if paper is None:
        return "not in the paper"
    if not comparable:
        return "other data"
    if not same_order:
        return "other order"
    low, high = (ours, ours) if interval is None or interval.low != interval.low else (interval.low, interval.high)
    paper_low, paper_high = paper.range()
    if low > paper_high + 1e-12:
        return "ours higher"
    if high < paper_low - 1e-12:
        return "ours lower"
    return "matches"

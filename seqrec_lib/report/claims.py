"""What the paper claims, and what its own tables say to each claim, computed from `paper.PAPER`: some claims do not
hold in the very numbers that they are drawn from. What our runs say stands in the chapter of verdicts (`pages`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqrec_lib.errors import SeqRecError
from seqrec_lib.report.feasibility import audit
from seqrec_lib.report.html import Html, stacked, table
from seqrec_lib.report.paper import METRICS, PAPER, PaperRow, paper_name

SSM = ("mamba4rec", "2mamba4rec", "hydra4rec")
LANGUAGE = ("gpt4rec", "mamrec", "llamarec")


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: ``statement`` in our words, ``where`` the paper has it."""

    id: str
    statement: str
    where: str


CLAIMS: tuple[Claim, ...] = (
    Claim("speed-ssm", "State space models recommend faster than SASRec.", "section 3.4.2"),
    Claim("speed-hydra", "Hydra4Rec's latency is four to five times lower than Mamba4Rec's.", "section 3.4.2"),
    Claim(
        "speed-sasrec",
        "SASRec takes more than ten times as long as Mamba4Rec, and as long on one data set as on another.",
        "Tables 1 to 3",
    ),
    Claim("quality-hydra", "Hydra4Rec's metrics are similar to Mamba4Rec's.", "section 3.4.2"),
    Claim("quality-ssm", "On average, state space models rank better than SASRec.", "section 3.4.2"),
    Claim("quality-llamarec", "LlamaRec ranks best, at the price of its size.", "section 3.4.2"),
    Claim("quality-mamrec", "Mamba-2 in GPT-2's place makes GPT4Rec perform better.", "section 3.2"),
    Claim(
        "ssm-against-llm",
        "State space models can rank better than language models and are still faster.",
        "section 3.4.2",
    ),
    Claim("orpo", "ORPO changes LlamaRec's quality slightly and leaves its latency as it is.", "section 3.5.4"),
    Claim("usgm", "USGM with adaptive batching compares well with Adam on MovieLens 100K.", "section 3.6"),
    Claim(
        "batching-fit",
        "The expected beta of a step falls with the batch as a constant plus a multiple of 1 / sqrt(B).",
        "section 3.6, eq. 2.2",
    ),
    Claim(
        "batching-plateau",
        "The batch grows until both terms are equal and then stays to the end of the epoch.",
        "section 3.6",
    ),
    Claim("usgm-robustness", "USGM is sensitive to its hyperparameters.", "section 4"),
    Claim("cpu", "State space models are slow on a CPU.", "section 4"),
)


def claim(claim_id: str) -> Claim:
    """The claim with this id.

    Raises:
        SeqRecError: there is none.
    """
    for candidate in CLAIMS:
        if candidate.id == claim_id:
            return candidate
    raise SeqRecError(f"unknown claim {claim_id!r}; claims are {', '.join(c.id for c in CLAIMS)}")


def _rows() -> dict[str, dict[str, PaperRow]]:
    tables: dict[str, dict[str, PaperRow]] = {}
    for row in PAPER:
        tables.setdefault(row.dataset, {})[row.model] = row
    return tables


def _value(row: PaperRow, metric: str) -> float:
    number = row.latency if metric == "latency" else row.metric(metric)
    assert number is not None, (row, metric)
    return number.value


def latency_ratios(slow: str, fast: str) -> dict[str, float]:
    """The printed latency of ``slow`` over that of ``fast``, by data set."""
    return {name: _value(rows[slow], "latency") / _value(rows[fast], "latency") for name, rows in _rows().items()}


def places(model: str, metric: str = "ht@10") -> dict[str, tuple[int, int]]:
    """The place of a model by a printed metric, and out of how many, by data set; 1 is best."""
    found = {}
    for name, rows in _rows().items():
        values = [_value(row, metric) for row in rows.values() if row.metric(metric) is not None]
        found[name] = (1 + sum(value > _value(rows[model], metric) for value in values), len(values))
    return found


def _by_dataset(values: Mapping[str, str]) -> str:
    return "; ".join(f"{paper_name(name)} {text}" for name, text in values.items())


def _speed_ssm() -> str:
    ratios = [ratio for model in SSM for ratio in latency_ratios("sasrec", model).values()]
    return f"SASRec's printed latency is {min(ratios):.0f} to {max(ratios):.0f} times theirs"


def _speed_hydra() -> str:
    ratios = latency_ratios("mamba4rec", "hydra4rec")
    return "Mamba4Rec over Hydra4Rec: " + _by_dataset({name: f"{ratio:.1f}" for name, ratio in ratios.items()})


def _speed_sasrec() -> str:
    printed = {name: f"{_value(rows['sasrec'], 'latency'):g} s" for name, rows in _rows().items()}
    ratios = latency_ratios("sasrec", "mamba4rec").values()
    return f"SASRec: {_by_dataset(printed)}; {min(ratios):.0f} to {max(ratios):.0f} times Mamba4Rec's"


def _quality_hydra() -> str:
    differences = {
        name: f"{_value(rows['hydra4rec'], 'ht@10') / _value(rows['mamba4rec'], 'ht@10') - 1:+.0%}"
        for name, rows in _rows().items()
    }
    return "HT@10 of Hydra4Rec against Mamba4Rec: " + _by_dataset(differences)


def _quality_ssm() -> str:
    parts = []
    for metric in METRICS:
        gains = [
            _value(rows[model], metric) - _value(rows["sasrec"], metric) for rows in _rows().values() for model in SSM
        ]
        mean = sum(gains) / len(gains)
        parts.append(
            f"{metric.upper()} {mean:+.3f} on average, lower in {sum(gain < 0 for gain in gains)} of {len(gains)} rows"
        )
    return "; ".join(parts)


def _quality_llamarec() -> str:
    return "LlamaRec's place by HT@10: " + _by_dataset(
        {name: f"{place} of {total}" for name, (place, total) in places("llamarec").items()}
    )


def _quality_mamrec() -> str:
    parts = {}
    for name, rows in _rows().items():
        gains = [_value(rows["mamrec"], metric) - _value(rows["gpt4rec"], metric) for metric in METRICS]
        parts[name] = ", ".join(f"{metric.upper()} {gain:+.3f}" for metric, gain in zip(METRICS, gains, strict=True))
    found = audit([row for row in PAPER if row.model in ("gpt4rec", "mamrec")])
    impossible = sum(not item.feasible() for item in found)
    return (
        f"MamRec minus GPT4Rec: {_by_dataset(parts)}. In {impossible} of these {len(found)} rows the three metrics "
        "cannot come from one ranked list"
    )


def _ssm_against_llm() -> str:
    best = {}
    for name, rows in _rows().items():
        spaces, languages = (max(_value(rows[model], "ht@10") for model in kind) for kind in (SSM, LANGUAGE))
        best[name] = f"{spaces:.3f} against {languages:.3f}"
    return "Best HT@10 of each kind: " + _by_dataset(best)


_OWN_TABLES: dict[str, Callable[[], str]] = {
    "speed-ssm": _speed_ssm,
    "speed-hydra": _speed_hydra,
    "speed-sasrec": _speed_sasrec,
    "quality-hydra": _quality_hydra,
    "quality-ssm": _quality_ssm,
    "quality-llamarec": _quality_llamarec,
    "quality-mamrec": _quality_mamrec,
    "ssm-against-llm": _ssm_against_llm,
}


def own_tables(claim_id: str) -> str | None:
    """What the paper's own tables say to a claim, computed; None where they hold nothing on it."""
    check = _OWN_TABLES.get(claim(claim_id).id)
    return None if check is None else check()


def own_tables_table() -> Html:
    """The claims that the paper's own tables say something to, and what."""
    rows: list[list[str | Html]]
    rows = [[stacked(c.statement, c.where), said] for c in CLAIMS if (said := own_tables(c.id)) is not None]
    headers = ["What is claimed", "The paper's own tables"]
    return table(headers, rows, caption="The paper's claims beside its own tables", left=(0, 1), wrap=(0, 1))

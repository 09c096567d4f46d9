"""What the paper claims, what its own tables say to each claim, and the verdict of this study.

A claim's verdict comes from experiments; until one has run, it is "not tested yet". Every claim has a rule that says,
before anything is run, what it takes to be upheld. What the paper's own tables say is computed here from
`paper.PAPER`: some claims do not hold in the very numbers that they are drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seqrec_lib.errors import SeqRecError
from seqrec_lib.report.feasibility import audit
from seqrec_lib.report.html import Html, bullets, details, entries, link, not_run, stack, stacked, table
from seqrec_lib.report.paper import METRICS, PAPER, PaperRow, paper_name

SSM = ("mamba4rec", "2mamba4rec", "hydra4rec")
LANGUAGE = ("gpt4rec", "mamrec", "llamarec")

Word = Literal["upheld", "partly", "not upheld", "not tested yet"]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    ``statement`` is in our words, ``where`` names the paper's section, ``tested_by`` the experiments of this
    study that bear on it; ``rule`` says what it takes to be upheld.
    """

    id: str
    statement: str
    where: str
    tested_by: tuple[str, ...]
    rule: str


@dataclass(frozen=True)
class ClaimVerdict:
    """This study's word on a claim, why, the runs that it rests on, and the pages that show them.

    ``evidence`` holds (page of the book, what its link says). ``under`` is a condition of the runs that the paper's did
    not share ("on a CPU"): it stands behind the word.
    """

    claim: Claim
    word: Word = "not tested yet"
    reason: str = ""
    run_ids: tuple[str, ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    under: str = ""

    @property
    def said(self) -> str:
        """The word with its condition: "not upheld, on a CPU"."""
        return f"{self.word}, {self.under}" if self.under and self.word != "not tested yet" else self.word


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "speed-ssm",
        "State space models recommend faster than SASRec.",
        "section 3.4.2",
        ("latency",),
        "SASRec takes longer than each of the three, each by its faster program: each ratio's interval lies above 1.",
    ),
    Claim(
        "speed-hydra",
        "Hydra4Rec's latency is four to five times lower than Mamba4Rec's.",
        "section 3.4.2",
        ("latency",),
        "The interval of Mamba4Rec's time over Hydra4Rec's reaches 4, each by its faster program.",
    ),
    Claim(
        "speed-sasrec",
        "SASRec takes more than ten times as long as Mamba4Rec, and as long on one data set as on another.",
        "Tables 1 to 3",
        ("scaling",),
        "The ratio reaches the least that the paper prints at a history of up to 200 items, each model by its faster "
        "program; partly: at a longer history.",
    ),
    Claim(
        "quality-hydra",
        "Hydra4Rec's metrics are similar to Mamba4Rec's.",
        "section 3.4.2",
        ("accuracy",),
        "The interval of the difference in NDCG@10 stays within a tenth of Mamba4Rec's, either way, with seen items "
        "among the candidates and without; one that reaches across a tenth leaves it open and does not count.",
    ),
    Claim(
        "quality-ssm",
        "On average, state space models rank better than SASRec.",
        "section 3.4.2",
        ("accuracy",),
        "The mean of those that ran has the higher NDCG@10, user by user, with p at most 0.05, with seen items among "
        "the candidates and without: the paper does not say which.",
    ),
    Claim(
        "quality-llamarec",
        "LlamaRec ranks best, at the price of its size.",
        "section 3.4.2",
        ("accuracy", "llamarec"),
        "Each ranker has a higher NDCG@10 than its retriever's own order, over all users, with p at most 0.05.",
    ),
    Claim(
        "quality-mamrec",
        "Mamba-2 in GPT-2's place makes GPT4Rec perform better.",
        "section 3.2",
        ("generative",),
        "MamRec has the higher NDCG@10, user by user with p at most 0.05, and with each of several seeds.",
    ),
    Claim(
        "ssm-against-llm",
        "State space models can rank better than language models and are still faster.",
        "section 3.4.2",
        ("accuracy", "generative", "llamarec", "latency"),
        "Latency alone is asked here, which is half of the claim: partly, at best, where each language model takes "
        "longer than each state space model as served.",
    ),
    Claim(
        "orpo",
        "ORPO changes LlamaRec's quality slightly and leaves its latency as it is.",
        "section 3.5.4",
        ("orpo",),
        "The interval of the change in NDCG@10, in the paper's setting, stays within a tenth of what it was before; "
        "one that reaches across a tenth leaves it open.",
    ),
    Claim(
        "usgm",
        "USGM with adaptive batching compares well with Adam on MovieLens 100K.",
        "section 3.6",
        ("optimizers",),
        "Its training and validation loss are at most 0.05 nats above default and tuned Adam's, by the whole interval "
        "over seeds; partly: one is above, and not all are.",
    ),
    Claim(
        "batching-fit",
        "The expected beta of a step falls with the batch as a constant plus a multiple of 1 / sqrt(B).",
        "section 3.6, eq. 2.2",
        ("optimizers",),
        "At one point of training, a line in 1 / sqrt(B) fits no worse than one in 1 / B; partly: only where all steps "
        "have one length.",
    ),
    Claim(
        "batching-plateau",
        "The batch grows until both terms are equal and then stays to the end of the epoch.",
        "section 3.6",
        ("optimizers",),
        "Both terms have met by the end of every epoch; partly: of some.",
    ),
    Claim(
        "usgm-robustness",
        "USGM is sensitive to its hyperparameters.",
        "section 4",
        ("optimizers",),
        "Within a factor of ten of the best lr0, and of the best D, its validation loss ranges wider than Adam's does "
        "around its best rate; partly: around one of the two.",
    ),
    Claim(
        "cpu",
        "State space models are slow on a CPU.",
        "section 4",
        ("latency",),
        "Each of the three takes longer than SASRec at the same length, each by its faster program: each ratio's "
        "interval lies above 1.",
    ),
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


def verdicts(found: Sequence[ClaimVerdict] = ()) -> list[ClaimVerdict]:
    """A verdict for every claim, in the order of `CLAIMS`: from ``found``, else "not tested yet"."""
    by_id = {verdict.claim.id: verdict for verdict in found}
    return [by_id.get(candidate.id, ClaimVerdict(candidate)) for candidate in CLAIMS]


def together(by_page: Mapping[str, ClaimVerdict]) -> ClaimVerdict | None:
    """One verdict of several pages, each named (a data set) and about the same claim; None without pages.

    The pages' word where they agree, else "partly". What all of them say is said once, at the end.

    >>> one = ClaimVerdict(CLAIMS[0], "upheld", "3 times; random weights", ("a run",))
    >>> two = ClaimVerdict(CLAIMS[0], "partly", "2 times; random weights", ("another",))
    >>> both = together({"MovieLens": one, "Beauty": two})
    >>> both.word, both.reason
    ('partly', 'MovieLens: 3 times; Beauty: 2 times; random weights')
    """
    asked = {name: verdict for name, verdict in by_page.items() if verdict.run_ids}
    if len(asked) < 2:
        return next(iter(asked.values()), next(iter(by_page.values()), None))
    words = {verdict.word for verdict in asked.values()}
    parts = {name: verdict.reason.split("; ") for name, verdict in asked.items()}
    first = next(iter(parts.values()))
    common = [part for part in first if all(part in own for own in parts.values())]
    own_parts = {name: "; ".join(part for part in own if part not in common) for name, own in parts.items()}
    reason = "; ".join([*(f"{name}: {text}" for name, text in own_parts.items()), *common])
    ids = tuple(run_id for verdict in asked.values() for run_id in verdict.run_ids)
    one = next(iter(asked.values()))
    return ClaimVerdict(one.claim, words.pop() if len(words) == 1 else "partly", reason, ids, under=one.under)


def by_a_stand_in(word: Word) -> Word:
    """What a word is worth where a small model from scratch stood in for the paper's pretrained one.

    What such a model shows is a part of the claim; where it shows nothing, a large one still may.

    >>> by_a_stand_in("upheld"), by_a_stand_in("not upheld")
    ('partly', 'not tested yet')
    """
    worth: dict[Word, Word] = {"upheld": "partly", "not upheld": "not tested yet"}
    return worth.get(word, word)


def own_tables_table() -> Html:
    """The claims that the paper's own tables say something to, and what."""
    rows: list[list[str | Html]]
    rows = [[stacked(c.statement, c.where), said] for c in CLAIMS if (said := own_tables(c.id)) is not None]
    headers = ["What is claimed", "The paper's own tables"]
    return table(headers, rows, caption="The paper's claims beside its own tables", left=(0, 1), wrap=(0, 1))


def claims_table(found: Sequence[ClaimVerdict] = (), caption: str = "The paper's claims and our runs") -> Html:
    """Every claim of `CLAIMS` with its verdict; see `verdicts_table`."""
    return verdicts_table(verdicts(found), caption)


def here_table(found: Sequence[ClaimVerdict], about: str) -> Html:
    """What the runs of one page say to the claims ``about`` a thing; one line where there are no runs."""
    if all(verdict.word == "not tested yet" and not verdict.run_ids for verdict in found):
        return not_run(f"The paper's claims about {about}, on the data of this page")
    return verdicts_table(found, f"The paper's claims about {about}, on the data of this page")


def verdicts_table(found: Sequence[ClaimVerdict], caption: str) -> Html:
    """Claims with their verdicts at a glance; then why, and on which pages that is shown; then by which rules.

    Reasons are sentences with numbers: in a column of the table they would push the verdict off a phone.
    """
    glance = table(
        ["What is claimed", "Our verdict", "In the paper"],
        [[verdict.claim.statement, verdict.said, verdict.claim.where] for verdict in found],
        caption=caption,
        left=(0, 1, 2),
        wrap=(0, 1),
    )
    shown = [
        (f"{verdict.claim.statement} {verdict.said[0].upper()}{verdict.said[1:]}.", parts)
        for verdict in found
        if (parts := _why(verdict))
    ]
    rules = details(
        "What it takes to be upheld, claim by claim",
        bullets([f"{verdict.claim.statement} {verdict.claim.rule}" for verdict in found]),
    )
    return stack([glance, *([entries(shown)] if shown else []), rules])


def _why(verdict: ClaimVerdict) -> list[str | Html]:
    """The reason, part by part, then links."""
    return [*reasons(verdict), *(link(text, f"{page}.html") for page, text in verdict.evidence)]


def reasons(verdict: ClaimVerdict) -> list[str]:
    """The reason of a verdict as sentences, one for each of its parts.

    >>> reasons(ClaimVerdict(CLAIMS[0], reason="by modules 3; c1 = 0"))
    ['By modules 3.', 'c1 = 0.']
    """
    parts = verdict.reason.split("; ") if verdict.reason else []
    return [f"{part[0].upper() if part[1:2].isalpha() else part[0]}{part[1:]}." for part in parts]

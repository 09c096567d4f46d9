"""The verdicts on the paper's claims about how well state space models rank, from the accuracy runs.

One entry per data set; a data set counts where the models that a claim is about have both been run. Users are compared
with themselves, each with the mean over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqrec_lib.report.claims import SSM, ClaimVerdict, Word, claim, here_table
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import dataset_name, model_name
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.report.statistics import compare_models, within
from seqrec_lib.report.tables import format_interval, metric_name, p_in_words

METRIC = "ndcg@10"
RANKINGS = ((METRIC, ""), (f"masked_{METRIC}", ", seen items left out"))
SIMILAR = 0.1  # a difference of less than this part of the other's metric
Runs = Sequence[ModelRuns]


def _means(runs: Runs, metric: str) -> dict[str, np.ndarray]:
    """Each model's users, of the first of its settings that has ranks."""
    found: dict[str, np.ndarray] = {}
    for own in runs:
        values = own.user_means(metric)
        if values is not None and not own.other_model:
            found.setdefault(own.model, values)
    return found


def _ids(by_dataset: Sequence[Runs], models: Sequence[str]) -> tuple[str, ...]:
    return tuple(r.run_id for runs in by_dataset for own in runs if own.model in models for r in own.complete)


def _word(held: Sequence[bool]) -> Word:
    """upheld: everywhere, partly: somewhere, not upheld: nowhere, of where it could be told."""
    if not held:
        return "not tested yet"
    return "upheld" if all(held) else "partly" if any(held) else "not upheld"


def _seeds(runs: Runs, models: Sequence[str]) -> str:
    """How many seeds the models' means are over: "3 seeds", "1 to 5 seeds"."""
    first = {own.model: own for own in reversed(runs) if own.user_means(METRIC) is not None and not own.other_model}
    counts = sorted({len(first[model].complete) for model in models if model in first})
    text = " to ".join(map(str, (counts[0], counts[-1]) if len(counts) > 1 else counts))
    return f"{text} seed{'' if counts == [1] else 's'}"


def average(by_dataset: Sequence[Runs]) -> ClaimVerdict:
    """Do state space models rank better than SASRec on average: is the mean over them higher, and told apart?

    The paper does not say whether seen items are ranked, so both rankings are asked.
    """
    held, words, asked = [], [], []
    for runs in by_dataset:
        for metric, ranked in RANKINGS:
            means = _means(runs, metric)
            spaces = [model for model in SSM if model in means]
            if not spaces or "sasrec" not in means:
                continue
            mean = np.mean([means[model] for model in spaces], axis=0)
            (test,) = compare_models({"spaces": mean, "sasrec": means["sasrec"]})
            asked += [] if ranked else [runs]
            held.append(test.difference.estimate > 0 and test.p <= 0.05)
            names = ", ".join(model_name(model) for model in spaces)
            of = ranked or f", mean of {names} minus SASRec ({_seeds(runs, [*spaces, 'sasrec'])})"
            words.append(
                f"{dataset_name(runs[0].dataset)}{of}: {metric_name(METRIC)} {test.difference.estimate:+.4f} "
                f"({format_interval(test.difference, signed=True)}), {p_in_words(test.p)}"
            )
    return ClaimVerdict(claim("quality-ssm"), _word(held), "; ".join(words), _ids(asked, (*SSM, "sasrec")))


def hydra(by_dataset: Sequence[Runs]) -> ClaimVerdict:
    """Is Hydra4Rec similar to Mamba4Rec: does the interval of the difference stay within a tenth of Mamba4Rec's, in
    both rankings? One that reaches across a tenth leaves it open, and does not count."""
    held, words, asked = [], [], []
    for runs in by_dataset:
        for metric, ranked in RANKINGS:
            means = _means(runs, metric)
            if not {"hydra4rec", "mamba4rec"} <= set(means):
                continue
            (test,) = compare_models({name: means[name] for name in ("hydra4rec", "mamba4rec")})
            base, gap = float(means["mamba4rec"].mean()), test.difference
            asked += [] if ranked else [runs]
            similar = within(gap, SIMILAR * base)
            held += [] if similar is None else [similar]
            of = ranked or f" ({_seeds(runs, ['hydra4rec', 'mamba4rec'])})"
            words.append(
                f"{dataset_name(runs[0].dataset)}{of}: {metric_name(METRIC)} {gap.estimate / base:+.1%} of Mamba4Rec's "
                f"({gap.low / base:+.1%} to {gap.high / base:+.1%})" + (", left open" if similar is None else "")
            )
    return ClaimVerdict(claim("quality-hydra"), _word(held), "; ".join(words), _ids(asked, ("hydra4rec", "mamba4rec")))


def verdicts(by_dataset: Sequence[Runs]) -> list[ClaimVerdict]:
    """Both claims."""
    return [average(by_dataset), hydra(by_dataset)]


def quality_claims_table(runs: Runs) -> Html:
    """Both claims with word and reason, on one data set."""
    return here_table(verdicts([runs]), "accuracy")

"""Frames of the page about tuning on preferences (experiment `orpo`): before and after, arm by arm.

All arms of a seed start from one fine-tuned ranker, so that a difference is taken user by user between the ranks
before and after. Seeds are averaged first; as users say nothing about another seed's tuning, the number of seeds that
rank better stands beside each difference.
"""

from __future__ import annotations

import pandas as pd

from seqrec_lib.report import floors, frames
from seqrec_lib.report.paper import METRICS, comparable, paper_number
from seqrec_lib.report.rankers import FLOORS
from seqrec_lib.results import RunStore

LABELS = {
    "sft": "More fine-tuning",
    "letters": "Cross-entropy over letters",
    "dpo": "DPO",
    "s-dpo": "S-DPO, all others rejected",
    "simpo": "SimPO",
    "orpo-paper": "ORPO, the paper's setting and pairs",
    "orpo-paper-random": "ORPO, the paper's setting, random",
    "orpo": "ORPO",
    "orpo-multi": "ORPO, all others rejected",
    "orpo-retriever": "ORPO, retriever's candidates and best wrong",
    "orpo-own-error": "ORPO, own worst error",
    "orpo-lower-rated": "ORPO, lower rated",
    "orpo-lightfm": "ORPO, LightFM's worst",
    "orpo-lightfm-pool": "ORPO, LightFM's worst candidate",
    "orpo-leaky": "ORPO on the test items (a leak)",
}
"""Arms of the experiment as a reader calls them."""

REJECTED = {
    "random": "a random candidate",
    "retriever": "the retriever's best wrong item",
    "own-error": "the wrong candidate that the ranker likes best",
    "lower-rated": "the lower rated of the user's last two items",
    "lightfm": "LightFM's worst item",
    "lightfm-pool": "LightFM's worst candidate",
    "paper": "the lower rated of the user's last two items, or LightFM's worst",
    "leaky": "a random candidate; the chosen item is the test item",
}
"""Kinds of rejected items (`seqrec_lib.language.pairings`) as a reader calls them."""
_BY_OBJECTIVE = {"sft": "none", "letters": "none"} | dict.fromkeys(("s-dpo", "orpo-multi"), "all other candidates")

PAPER_ARMS = ("orpo-paper", "orpo-paper-random")
BEFORE = "Fine-tuned ranker, before"


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the arm as ``label``, ``setting`` (the paper's, a workable one, or a leak) and ``rejected`` item.

    Where the paper's pairs lack their first part, one pair for each user, label and item say so.
    """
    labels, rejected = [], []
    for row in runs.to_dict("records"):
        alone = row["arm"] == "orpo-paper" and row.get("pairs") == row["users"]
        label = LABELS[row["arm"]] + (" (LightFM's alone: no ratings)" if alone else "")
        labels.append(label + (", edited" if row["edited"] else ""))
        kind = "lightfm" if alone else row["preference.negatives"]
        rejected.append(_BY_OBJECTIVE.get(row["preference.objective"], REJECTED[kind]))
    settings = {"orpo-leaky": "a leak"} | dict.fromkeys(PAPER_ARMS, "the paper's setting")
    setting = [settings.get(arm, "a workable setting") for arm in runs["arm"]]
    return runs.assign(label=labels, setting=setting, rejected=rejected)


def changes(runs: pd.DataFrame, store: RunStore, metric: str = "ndcg@10") -> pd.DataFrame:
    """For each fine-tuned ranker: the ranker itself, every arm, and the floors of their candidates.

    Columns: those of `floors.compare`, where gap is after minus before; p (of the gap, Holm's correction over the arms
    of a ranker), up (seeds that rank better after), blend (after, blended with the retriever), beside (after, minus
    after as many steps of more fine-tuning) with beside low and beside high, setting, made, origin.
    """
    parts = []
    for (made, origin), own in runs.groupby(["made", "base.source"], sort=False):
        arms = dict(list(own.groupby("label", sort=False)))
        entries = [floors.Entry(BEFORE, own, f"before_{metric}", "ranker")]
        entries += [floors.Entry(str(label), mine, metric, "ranker") for label, mine in arms.items()]
        entries += [floors.Entry(f"Candidates: {n}", own, prefix + metric, "floor") for prefix, n in FLOORS.items()]
        table = floors.compare(entries, store, against=BEFORE).set_index("label")
        after, before = (
            {n: frames.users(mine, p + metric, store) for n, mine in arms.items()} for p in ("", "before_")
        )
        gaps = frames.differences([(after[name], before[name]) for name in arms]).set_axis(list(arms))
        table[["gap", "gap low", "gap high", "p"]] = gaps  # an arm has its own seeds before it
        more = after.pop(LABELS["sft"], None)
        beside = frames.differences([(after.get(name), more) for name in arms]).set_axis(list(arms))
        table[["beside", "beside low", "beside high"]] = beside[["difference", "low", "high"]]
        ran = {name: arms[name] for name in gaps.index[gaps["difference"].notna()]}
        ups = {name: float((mine[metric] > mine[f"before_{metric}"]).sum()) for name, mine in ran.items()}
        table["up"] = pd.Series(ups, dtype=float)
        table["blend"] = pd.Series({name: mine[f"blend_{metric}"].mean() for name, mine in ran.items()}, dtype=float)
        table["setting"] = pd.Series({label: mine["setting"].iloc[0] for label, mine in arms.items()})
        parts.append(table.reset_index().assign(made=made, origin=origin))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def figures(runs: pd.DataFrame, store: RunStore, arm: str) -> pd.DataFrame:
    """The paper's Figures 1 and 2: one arm before and after by metric, with intervals over users; paper: its LlamaRec
    as its tables print it, of the same data, beside before."""
    own = runs[(runs["arm"] == arm) & (runs["status"] == frames.COMPLETE)]
    dataset = str(runs["dataset"].iloc[0])
    if own.empty:
        return pd.DataFrame()
    found = frames.means(own, [prefix + metric for metric in METRICS for prefix in ("before_", "")], store)
    before, metric = found["metric"].str.startswith("before_"), found["metric"].str.removeprefix("before_")
    printed = {name: number.value for name in METRICS if (number := paper_number(dataset, "llamarec", name))}
    paper = metric.map(printed if comparable(dataset) else {}).where(before)
    found = found.assign(metric=metric.str.upper(), when=before.map({True: "before", False: "after"}), paper=paper)
    return found[["metric", "when", "label", "mean", "low", "high", "paper"]]

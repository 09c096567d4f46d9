"""What does tuning on preferences add to a ranker that was fine-tuned already? The question behind "slight impact".

One run is one arm: an objective, a kind of rejected item, a seed. All arms of a seed start from one fine-tuned ranker
(a run of `llamarec`, whose model is used), take equally many steps on prompts of the same users, and go through the
same code; they differ in the loss, in what is rejected, and where the paper's setting is meant, in the learning rate.

Table "ranks": each user's rank after (``rank``) and ``before_rank``, with the floors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import llamarec
from seqrec_lib.experiments.base import Context, Outcome, key
from seqrec_lib.experiments.weights import weights_of_parent
from seqrec_lib.language.quantized import base
from seqrec_lib.language.ranker_recipes import BY_TITLES, Preference
from seqrec_lib.language.sources import prepare
from seqrec_lib.validation import Checked, Names, Seed32, Seeds32, Settings, assembled, plans, refuse_unknown

if TYPE_CHECKING:
    import numpy as np

    from seqrec_lib.data.sequences import Sequences

NAME = "orpo"


@dataclass(frozen=True)
class Arm:
    """What is tuned on. ``paper``: the paper's learning rate and schedule, else the workable ones."""

    objective: str
    negatives: str = "random"
    paper: bool = False


ARMS: dict[str, Arm] = {
    "sft": Arm("sft"),
    "letters": Arm("letters"),
    "dpo": Arm("dpo"),
    "s-dpo": Arm("s-dpo"),
    "simpo": Arm("simpo"),
    "orpo-paper": Arm("orpo", "paper", paper=True),
    "orpo-paper-random": Arm("orpo", paper=True),
    "orpo": Arm("orpo"),
    "orpo-multi": Arm("orpo-multi"),
    "orpo-retriever": Arm("orpo", "retriever"),
    "orpo-own-error": Arm("orpo", "own-error"),
    "orpo-lower-rated": Arm("orpo", "lower-rated"),
    "orpo-lightfm": Arm("orpo", "lightfm"),
    "orpo-lightfm-pool": Arm("orpo", "lightfm-pool"),
    "orpo-leaky": Arm("orpo", "leaky"),
}


@dataclass(frozen=True)
class Config(Checked):
    """One arm; ``base`` is the fine-tuned ranker that it starts from, of the same seed."""

    base: llamarec.Config
    dataset: str
    model: str
    seed: Seed32
    arm: str
    preference: Preference


GOLDEN: dict[str, dict[str, Any]] = {
    "objectives-and-pairs": {
        **{k: v for k, v in llamarec.GOLDEN["letter-rankers"].items() if k not in ("retrievers", "negatives")},
        "retriever": "sasrec",
        "arms": [name for name in ARMS if "lightfm" not in name],  # whose factors are made by another package
        "tuning": {"epochs": 1, "batch": 8, "warmup_steps": 2},
    }
}
ORDERS = ("permuted_", "averaged_")  # metrics over random orders of the candidates
PAPER: dict[str, Any] = {"learning_rate": 5e-6, "schedule": "inverse-sqrt", "warmup_steps": 100}
DATASETS: dict[str, dict[str, Any]] = {"demo": {"epochs": 1, "batch": 32, "warmup_steps": 5}}


def revision(config: Config) -> int:
    """Raised for the configurations whose results a change alters."""
    return 1


@plans(retriever=str, arms=Names, seeds=Seeds32, tuning=Settings)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """A run for each of ``arms`` and each of ``seeds``, on the ranker that `llamarec.plan` gives for the rest.

    ``tuning`` are fields of `Preference`, ``overrides`` are of the fine-tuned ranker.
    """
    refuse_unknown(parameters["arms"], ARMS, "arm")
    bases = llamarec.plan({**parameters, "retrievers": [parameters["retriever"]], "negatives": []})
    if any(base.teaching.prompts == 0 or base.setting.prompt in BY_TITLES for base in bases):
        raise SeqRecError(
            f"prompts is {bases[0].teaching.prompts}, prompt {bases[0].setting.prompt}; what is tuned on preferences "
            f"has been tuned on letters first: set prompts, and another prompt than {' or '.join(BY_TITLES)}"
        )
    configs = []
    for name in parameters["arms"]:
        arm = ARMS[name]
        fixed = {"objective": arm.objective, "negatives": arm.negatives}
        given = fixed | DATASETS.get(parameters["dataset"], {}) | (PAPER if arm.paper else {})
        (setting,) = assembled((Preference,), given, parameters.get("tuning", {}), "an arm", tuple(fixed))
        configs += [Config(b, b.dataset, f"{llamarec.MODEL}+{name}", b.seed, name, setting) for b in bases]
    return configs


def parents(config: Config) -> tuple[str, ...]:
    """The fine-tuned ranker's run."""
    return (key(llamarec, config.base),)


def run(config: Config, context: Context) -> Outcome:
    """Load the fine-tuned ranker, rank with it, tune it, rank again."""
    import numpy as np
    import pyarrow as pa

    from seqrec_lib.data import load
    from seqrec_lib.language.pairings import check, pairing
    from seqrec_lib.language.ranker_training import Meter, tune
    from seqrec_lib.language.ranking import LetterRanker

    sequences, setting = load(config.dataset), config.preference
    check(setting.negatives, sequences)
    prepare(base(config.base.source), context.report)
    folder = weights_of_parent(llamarec, config.base, sequences.split_hash, context) / llamarec.KEPT
    retriever = llamarec.load_retriever(config.base.retriever, sequences, context)
    language = llamarec.tuned_model(config.base, folder, context.device)
    ranker = llamarec.make_ranker(config.base, language, sequences, context.device)
    assert isinstance(ranker, LetterRanker)  # `plan` refuses a base that is not tuned, and titles are not
    ranker.folder, ranker.report, ranker.report_share = context.workdir, context.report, context.report_share
    ranker.stage = "before"
    unchanged, before, cost_before = llamarec.assess(ranker, sequences, retriever, config.base)
    rng = np.random.default_rng([config.seed, 0x0DD5])
    prompts = setting.epochs * sequences.n_users
    pairs = pairing(setting.negatives, ranker, sequences, retriever, prompts, rng)
    how = replace(setting, epochs=1)  # the prompts of all its epochs are drawn already
    meter = Meter()
    history = tune(ranker, pairs.examples, how, config.seed, data=sequences.split_hash, meter=meter)
    ranker.stage = "after"
    result, after, cost = llamarec.assess(ranker, sequences, retriever, config.base)
    result.add("before_", before)
    bases = {name: value for name, value in unchanged.metrics.items() if name.startswith(ORDERS)}
    result.metrics |= {f"before_{name}": value for name, value in bases.items()}
    asked = result.asked
    result.metrics |= changes(sequences, result.pools.items[asked], before[asked], after[asked])
    cost |= {
        **meter.cost(ranker.model.device),
        "steps": -(-prompts // setting.batch),
        "before_milliseconds_per_user": cost_before["milliseconds_per_user"],
        **pairs.counts,
    }
    tables, made = {"ranks": pa.table(result.columns)}, llamarec.made_of(language, ranker)
    return Outcome(sequences.description(), result.metrics, history, cost, tables, made)


def changes(sequences: Sequences, items: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """How two rankings of the same candidates differ.

    Returns:
        kl: of the letters' distributions, before from after, mean over users, in nats; changed: share of users with
        another first choice; popularity, before_popularity: mean share of the catalogue that is no more popular in
        training than an item of the first ten.
    """
    import numpy as np
    from scipy.special import log_softmax
    from scipy.stats import rankdata

    from seqrec_lib.models.popularity import Popularity

    old, new = (log_softmax(z.astype(np.float64), axis=1) for z in (before, after))
    counts = Popularity(sequences).counts.numpy()[1:]
    share = np.concatenate([[0.0], rankdata(counts, "max") / len(counts)])
    found = {
        "kl": float((np.exp(old) * (old - new)).sum(1).mean()),
        "changed": float((before.argmax(1) != after.argmax(1)).mean()),
    }
    for name, logits in (("before_popularity", before), ("popularity", after)):
        first = np.argsort(-logits, axis=1, kind="stable")[:, :10]
        found[name] = float(share[np.take_along_axis(items, first, 1)].mean())
    return found

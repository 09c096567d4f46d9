"""The front page (book/index.md) and the opening pages of the chapters on language models, preference tuning and the
optimizer: what they rest on. The front page's figure is the one of the order of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seqrec_lib.evaluate.statistics import Interval, bootstrap_interval, metric_values, paired_difference, ratio
from seqrec_lib.language.corpus import GPT4REC, NEXT_TITLE, PAPER_RANKING, Prompt
from seqrec_lib.report.frames import NotRun, Runs, users_of
from seqrec_lib.report.paper import SSM
from seqrec_lib.report.scaling import BEST, Scaling
from seqrec_lib.report.statements import Evidence, difference, greatest, over_runs, over_seeds, statement
from seqrec_lib.report.values import value
from seqrec_lib.results import RunRecord

SEEDS = (0, 1, 2, 3, 4)


# The front page


@statement("true-order-no-state-space-model-hits-more-than-sasrec", seeds=(0, 1, 2))
def _no_lead(runs: Runs) -> Evidence:
    """HT@10, the best of Mamba4Rec, 2Mamba4Rec and Hydra4Rec minus SASRec.

    MovieLens 1M, seen items ranked, each user's mean over the seeds, paired by user: none of the three differences
    has a 95 % interval that lies above 0."""
    pairs = [(("ml-1m", model), ("ml-1m", "sasrec")) for model in SSM]
    return greatest([difference(runs, *pair, "ht@10", lambda lead: lead.low <= 0) for pair in pairs])


@statement("at-8000-items-attention-takes-over-ten-times-as-long")
def _attention(runs: Runs) -> Evidence:
    """Time to read 8,000 items, SASRec in units of Mamba4Rec.

    One core, batch 1, random weights. Each model by the faster of its two programs, its PyTorch module and the one
    compiled for serving, chosen by the median over rounds. The interval is over rounds and lies above 10."""
    scaling = Scaling.newest(runs, "ml-1m")
    slow, fast = (scaling.curve("length", name, BEST).loc[8_000].to_numpy() for name in ("sasrec", "mamba4rec"))
    found = ratio(slow, fast)
    return Evidence.of(found.low > 10, found, len(slow), (scaling.record.run_id,), "rounds")


# Language models


@statement("mamrec-without-dropout-ahead-of-gpt4rec-with-it", seeds=(0, 1, 2))
def _mamrec(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 100K, MamRec minus GPT4Rec, both from scratch with 0.3 million weights.

    Each as its library makes it: GPT-2 with a dropout of 0.1, Mamba-2 with none. Seen items ranked. MamRec's NDCG@10 is
    higher at each of the three seeds; the estimate is the mean difference."""
    mamrec, gpt4rec = _writer(runs, "mamrec", 0), _writer(runs, "gpt4rec", 0.1)
    return gaps(mamrec, gpt4rec, lambda found: min(found) > 0, "ndcg@10")


@statement("with-equal-dropout-mamrec-not-ahead-of-gpt4rec", seeds=(0, 1, 2))
def _equal_dropout(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 100K, MamRec minus GPT4Rec, both from scratch and with a dropout of 0.1.

    Mamba-2 has it where GPT-2 has it, on the embeddings and on what each layer adds. Seen items ranked, each user's
    mean over three seeds, paired by user: the 95 % interval does not lie above 0."""
    return _duel(runs, 0.1, lambda found: found.low <= 0)


@statement("without-dropout-mamrec-ahead-of-gpt4rec", seeds=(0, 1, 2))
def _no_dropout(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 100K, MamRec minus GPT4Rec, both from scratch and without dropout.

    Seen items ranked, each user's mean over three seeds, paired by user: the 95 % interval lies above 0."""
    return _duel(runs, 0, lambda found: found.low > 0)


def _duel(runs: Runs, dropout: float, rule: Callable[[Interval], bool]) -> Evidence:
    records = [_writer(runs, model, dropout) for model in ("mamrec", "gpt4rec")]
    found, _ = paired_difference(*(users_of(own, "ndcg@10", runs.store) for own in records))
    users = int(records[0][0].dataset["n_users"])
    return Evidence.of(rule(found), found, users, tuple(record.run_id for own in records for record in own))


def _writer(runs: Runs, model: str, dropout: float) -> list[RunRecord]:
    """The runs from scratch with this dropout, by seed."""
    records = {
        int(record.config["seed"]): record
        for record in runs.records("generative", "ml-100k", model=model)
        if (size := record.config["size"]) is not None
        and (size["dropout"] if model == "gpt4rec" or size.get("same_dropout") else 0) == dropout
    }
    if len(records) < 3:
        raise NotRun(f"{model} on ml-100k with a dropout of {dropout:g}, three seeds")
    return [records[seed] for seed in sorted(records)]


@statement("an-untuned-pretrained-ranker-orders-by-place", seeds=(0,))
def _untuned(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates in random order, Gemma 3 270M without tuning minus chance.

    MovieLens 100K, the users whose next film is among SASRec's 20 candidates. With the candidates in the
    retriever's order the ranker's NDCG@10 is above chance by 0.05 or more; with their order drawn at random it is
    within 0.02 of chance. The estimate is that of the random order."""
    record = _gemma(runs, PAPER_RANKING)
    chance = record.metrics["random_subset_ndcg@10"]
    shuffled = record.metrics["permuted_subset_ndcg@10"] - chance
    held = record.metrics["subset_ndcg@10"] - chance >= 0.05 and abs(shuffled) <= 0.02
    users = round(record.metrics["recall@20"] * record.dataset["n_users"])
    return Evidence(held, shuffled, None, None, users, (record.run_id,))


@statement("likelihood-of-titles-not-told-from-chance", seeds=(0,))
def _by_titles(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, ranked by how likely Gemma 3 270M finds their titles, minus chance.

    MovieLens 100K, the users whose next film is among SASRec's 20 candidates; the 95 % interval holds 0."""
    record = _gemma(runs, GPT4REC)
    values, chance = _of_found(runs, record, "rank"), record.metrics["random_subset_ndcg@10"]
    found = bootstrap_interval(values - chance)
    return Evidence.of(found.low <= 0 <= found.high, found, len(values), (record.run_id,))


@statement("titles-in-a-row-above-chance", seeds=(0,))
def _in_a_row(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, ranked by the likelihood of whole titles behind a row of titles, minus chance.

    Gemma 3 270M without tuning, with the catalogue's tokens alone to choose from. MovieLens 100K, the users whose next
    film is among SASRec's 20 candidates; the 95 % interval lies above 0."""
    record = _gemma(runs, NEXT_TITLE)
    values, chance = _of_found(runs, record, "rank"), record.metrics["random_subset_ndcg@10"]
    found = bootstrap_interval(values - chance)
    return Evidence.of(found.low > 0, found, len(values), (record.run_id,))


@statement("two-ways-of-asking-not-told-apart", seeds=(0,))
def _ways(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, Gemma 3 270M asked for whole titles in a row minus asked behind GPT4Rec's prompt.

    Without tuning. MovieLens 100K, the users whose next film is among SASRec's 20 candidates, paired; the 95 % interval
    holds 0."""
    return _two_runs(runs, _gemma(runs, NEXT_TITLE), _gemma(runs, GPT4REC))


@statement("tuning-on-titles-not-told-from-none", seeds=(0,))
def _tuning(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, Gemma 3 270M tuned on rows of titles minus the same without tuning.

    MovieLens 100K, the users whose next film is among SASRec's 20 candidates, paired; the 95 % interval holds 0."""
    return _two_runs(runs, _gemma(runs, NEXT_TITLE, tuned=True), _gemma(runs, NEXT_TITLE))


def _two_runs(runs: Runs, first: RunRecord, second: RunRecord) -> Evidence:
    values = _of_found(runs, first, "rank")
    found, _ = paired_difference(values, _of_found(runs, second, "rank"))
    return Evidence.of(found.low <= 0 <= found.high, found, len(values), (first.run_id, second.run_id))


@statement("tuned-on-titles-below-its-retriever", seeds=(0,))
def _titles_below(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, Gemma 3 270M tuned on rows of titles minus the order of its retriever, SASRec.

    MovieLens 100K, the users whose next film is among the candidates, paired; the 95 % interval lies below 0."""
    return _tuned_against(runs, "retriever_rank", lambda found: found.high < 0)


@statement("tuned-on-titles-not-told-from-popularity", seeds=(0,))
def _titles_popular(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, Gemma 3 270M tuned on rows of titles minus the order of popularity.

    MovieLens 100K, the users whose next film is among SASRec's candidates, paired; the 95 % interval holds 0."""
    return _tuned_against(runs, "popularity_rank", lambda found: found.low <= 0 <= found.high)


@statement("shuffled-titles-not-told-from-own", seeds=(0,))
def _meaning(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, Gemma 3 270M tuned on rows of shuffled titles minus tuned on the films' own titles.

    Shuffled: each film has the title of another one, in tuning and in ranking. MovieLens 100K, the users whose next
    film is among SASRec's candidates in both runs, paired; the 95 % interval holds 0. The run with shuffled titles
    multiplied in bfloat16, and its SASRec was trained anew on another processor."""
    shuffled, own = (_gemma(runs, NEXT_TITLE, tuned=True, titles=titles) for titles in ("shuffled", "own"))
    tables = [runs.store.table(record, "ranks").to_pandas() for record in (shuffled, own)]
    both = (tables[0]["place"] >= 0) & (tables[1]["place"] >= 0)
    found, _ = paired_difference(*(metric_values(table.loc[both, "rank"].to_numpy(), "ndcg@10") for table in tables))
    return Evidence.of(found.low <= 0 <= found.high, found, int(both.sum()), (shuffled.run_id, own.run_id))


@statement("tuned-on-shuffled-titles-above-chance", seeds=(0,))
def _shuffled(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates, Gemma 3 270M tuned on rows of shuffled titles, minus chance.

    MovieLens 100K, the users whose next film is among SASRec's candidates; the 95 % interval lies above 0."""
    record = _gemma(runs, NEXT_TITLE, tuned=True, titles="shuffled")
    values, chance = _of_found(runs, record, "rank"), record.metrics["random_subset_ndcg@10"]
    found = bootstrap_interval(values - chance)
    return Evidence.of(found.low > 0, found, len(values), (record.run_id,))


def _tuned_against(runs: Runs, floor: str, rule: Callable[[Interval], bool]) -> Evidence:
    record = _gemma(runs, NEXT_TITLE, tuned=True)
    values = _of_found(runs, record, "rank")
    found, _ = paired_difference(values, _of_found(runs, record, floor))
    return Evidence.of(rule(found), found, len(values), (record.run_id,))


value("titles/rows")(lambda runs: int(_gemma(runs, NEXT_TITLE, tuned=True).config["teaching"]["prompts"]))
value("titles/below")(lambda runs: -float(_tuned_against(runs, "retriever_rank", lambda found: True).estimate or 0))


def _of_found(runs: Runs, record: RunRecord, column: str) -> np.ndarray:
    """NDCG@10 of each user whose item is a candidate, by one of the orders of the record."""
    ranks = runs.store.table(record, "ranks").to_pandas()
    return metric_values(ranks.loc[ranks["place"] >= 0, column].to_numpy(), "ndcg@10")


def _gemma(runs: Runs, prompt: Prompt, tuned: bool = False, titles: str = "own") -> RunRecord:
    """The run with a prompt, of the model as it is or tuned, with the films' own titles or shuffled ones."""
    for record in runs.records("llamarec", "ml-100k", source="gemma-3-270m"):
        setting = record.config["setting"]
        asked = setting["prompt"] == prompt.name and setting.get("titles", "own") == titles
        if asked and (record.config["teaching"].get("prompts") != 0) == tuned:
            return record
    raise NotRun(f"llamarec on ml-100k, gemma-3-270m, prompt {prompt.name}{'' if tuned else ', not tuned'}")


# Preference tuning


def _tuned(runs: Runs, dataset: str | None = None, **config: str) -> list[RunRecord]:
    records = runs.records("orpo", dataset, **config)
    if not records:
        raise NotRun("orpo")
    return records


@statement("no-tuned-ranker-reaches-its-retriever")
def _below(runs: Runs) -> Evidence:
    """NDCG@10 of the tuned ranker minus that of its retriever, the best of all runs.

    Seen items left out. In every run, whatever the method, data set and seed, the tuned ranker's NDCG@10 is below
    that of the retriever whose candidates it ranks."""
    records = _tuned(runs)
    most = max(record.metrics["ndcg@10"] - record.metrics["retriever_ndcg@10"] for record in records)
    return over_runs(most < 0, most, records)


@statement("orpo-by-the-papers-setting-changes-little")
def _little(runs: Runs) -> Evidence:
    """NDCG@10 of the ranker after ORPO minus before, the largest change of all runs.

    The paper's setting (rate 5e-6, weight 0.05), on MovieLens 100K, MovieLens 1M and Video Games: in no run does
    NDCG@10 change by more than 0.002 in either direction."""
    records = _tuned(runs, arm="orpo-paper")
    changes = [record.metrics["ndcg@10"] - record.metrics["before_ndcg@10"] for record in records]
    largest = max(changes, key=abs)
    return over_runs(abs(largest) <= 0.002, largest, records)


@statement("films-ranker-not-above-popularity", seeds=(0, 1, 2))
def _untested(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 1M of the ranker before tuning minus its candidates by popularity.

    Seen items left out. At each of the three seeds the ranker that ORPO starts from orders its candidates no better
    than their popularity does."""
    records = _tuned(runs, "ml-1m", arm="orpo-paper")
    if len(records) < 3:
        raise NotRun("orpo on ml-1m, three seeds")
    leads = [record.metrics["before_ndcg@10"] - record.metrics["popularity_ndcg@10"] for record in records]
    return over_seeds(max(leads) <= 0, leads, records)


# The optimizer

USGM, SGD = {"name": "usgm", "D": 100.0, "lr": 1.0}, {"name": "sgd", "lr": 1.0}
ADAM = {"name": "adamw"}


def trained(
    runs: Runs,
    optimizer: Mapping[str, Any],
    rate: float = 1e-3,
    *,
    batching: Mapping[str, Any] | None = None,
    epochs: int = 10,
    seeds: Sequence[int] = SEEDS,
) -> list[RunRecord]:
    """The runs of 2Mamba4Rec on MovieLens 100K with an optimizer at a constant rate, one for each of ``seeds``; raises
    `NotRun` where a seed has none."""
    found = {
        record.config["seed"]: record
        for record in runs.records("optimizers", "ml-100k", kind="train", model="2mamba4rec", optimizer=optimizer)
        if record.config["batching"] == (batching or {})
        and record.config["training"]["epochs"] == epochs
        and record.config["training"]["tokens_per_batch"] == 1600
        and record.config["training"]["learning_rate"] == rate
        and record.config["training"].get("schedule", "constant") == "constant"
    }
    if set(seeds) - set(found):
        raise NotRun(f"{optimizer['name']} on ml-100k")
    return [found[seed] for seed in seeds]


def gaps(
    a: Sequence[RunRecord], b: Sequence[RunRecord], held: Callable[[list[float]], bool], metric: str = "best_valid_loss"
) -> Evidence:
    """A metric of the runs ``a`` minus that of the runs ``b``, seed by seed."""
    found = [x.metrics[metric] - y.metrics[metric] for x, y in zip(a, b, strict=True)]
    return over_seeds(held(found), found, [*a, *b])


@statement("tuned-usgm-is-sgd", seeds=SEEDS)
def _usgm(runs: Runs) -> Evidence:
    """Best validation loss on MovieLens 100K, tuned USGM minus SGD at rate 1.

    2Mamba4Rec, ten epochs, USGM with D = 100 and a first rate of 1, as tuned. At each of the five seeds the two
    losses differ by less than 0.002, and USGM's H moves by less than 2 % from its first value in each run."""
    usgm = trained(runs, USGM)
    still = max(_moved(runs, record) for record in usgm) < 0.02
    return gaps(usgm, trained(runs, SGD), lambda found: still and max(map(abs, found)) < 0.002)


def _moved(runs: Runs, record: RunRecord) -> float:
    """By which part of its first value H has grown at the end of a run."""
    step = runs.store.table(record, "trace")["H"].to_numpy()
    return float(step[-1] / step[0] - 1)


value("usgm-h-moved")(lambda runs: max(_moved(runs, record) for record in trained(runs, USGM)))


def mean_of(records: Sequence[RunRecord], metric: str = "best_valid_loss") -> float:
    """Mean of a metric over runs."""
    return float(np.mean([record.metrics[metric] for record in records]))


value("usgm-loss")(lambda runs: mean_of(trained(runs, USGM)))
value("sgd-loss")(lambda runs: mean_of(trained(runs, SGD)))
value("adam-loss")(lambda runs: mean_of(trained(runs, ADAM, 3e-3)))


@statement("tuned-adam-ahead-of-tuned-usgm", seeds=SEEDS)
def _adam(runs: Runs) -> Evidence:
    """Best validation loss on MovieLens 100K, tuned USGM minus tuned Adam.

    2Mamba4Rec, ten epochs, Adam at a constant 0.003: its loss is lower at each of the five seeds."""
    return gaps(trained(runs, USGM), trained(runs, ADAM, 3e-3), lambda found: min(found) > 0)

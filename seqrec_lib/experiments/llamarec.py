"""LlamaRec: a retriever proposes candidates, a language model ranks them by letters; and what it must be held against.

One run is one (data set, retriever, ranker, seed). The retriever is a trained model of the experiment `accuracy`, whose
kept weights are used, or which is trained first. The ranker is tuned on prefixes of the training sequences and
then ranks the retriever's candidates for every test user in one forward pass each. Items of the history are no
candidates.

Table "ranks": each user's rank by the ranker (``rank``) and by each floor, and the target's ``place`` among the
candidates. Table "letters": what place does (`assessment.position_bias`). The tuned model stays in the run's folder in
the hub's format, where the experiment `orpo` finds it; of one with four-bit weights (`quantized`), its adapter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_lib.checksums import seal
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import Context, Outcome, key
from seqrec_lib.experiments.weights import load_recommender, weights_of_parent
from seqrec_lib.language import quantized
from seqrec_lib.language.adapters import with_adapter
from seqrec_lib.language.hub_format import quiet, save
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.ranker_recipes import BY_TITLES, RETRIEVER, Setting, Teaching, resolve
from seqrec_lib.language.sources import check_content, content_hash, described, prepare
from seqrec_lib.language.title_tokens import SOURCE
from seqrec_lib.models import COUNTED
from seqrec_lib.results import ADDED_LATER, plain
from seqrec_lib.validation import AnyNames, Checked, Names, Seed, Seeds, Settings, plans

if TYPE_CHECKING:
    import numpy as np

    from seqrec_lib.data.sequences import Sequences
    from seqrec_lib.language.assessment import Assessment
    from seqrec_lib.language.candidates import Pools
    from seqrec_lib.language.pretrained import LanguageModel
    from seqrec_lib.language.ranking import CandidateRanker
    from seqrec_lib.models.base import SequentialRecommender

NAME = "llamarec"
MODEL = "llamarec"
KEPT = "model"  # the tuned model's folder within `keep`
SHUFFLED = 0x717135  # of the titles' random order, which is the same for all rankers
GOLDEN: dict[str, dict[str, Any]] = {
    "letter-rankers": {
        "dataset": "ml-latest-small",
        "retrievers": ["sasrec"],
        "retriever_overrides": accuracy.tiny()["overrides"],
        "negatives": ["random", "retriever"],
        "seeds": [0],
        "overrides": {
            "d_model": 16, "n_layers": 2, "history": 8, "candidates": 8, "lessons": 64, "per_user": 3, "batch": 16,
            "warmup_steps": 2, "orders": 1, "valid_users": 16,
        },
    }
}  # fmt: skip


@dataclass(frozen=True)
class Config(Checked):
    """One run. ``size`` is None for a pretrained model; a ``source`` that is a folder has its content's hash."""

    retriever: accuracy.Config
    dataset: str
    model: str
    seed: Seed
    source: str
    size: Size | None
    setting: Setting
    teaching: Teaching
    source_sha256: str = field(default="", metadata=ADDED_LATER)


def revision(config: Config) -> int:
    """Raised for the configurations whose results a change alters."""
    return 1


@plans(
    dataset=str,
    retrievers=Names,
    negatives=AnyNames,
    seeds=Seeds,
    source=str,
    overrides=Settings,
    retriever_overrides=Settings,
)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """A run for each of ``retrievers``, each kind of ``negatives`` to be taught on, and each of ``seeds``.

    ``source`` is one of `sources`, or scratch:titles; with nf4: in front, its weights are kept in four bits.
    ``overrides`` are fields of `Size`, `Setting` and `Teaching`; ``retriever_overrides`` of the retriever's recipe.

    Raises:
        SeqRecError: a name or a value that is not allowed, alone or with the others.
    """
    from seqrec_lib.data import registry

    dataset, source = registry.get(parameters["dataset"]).name, parameters.get("source") or SOURCE
    size, setting, teaching = resolve(dataset, source, parameters.get("overrides"))
    if teaching.prompts != 0:
        quantized.check(source, setting.lora_rank)
    if quantized.is_quantized(source) and setting.precision != "fp32":
        raise SeqRecError(
            f"precision is {setting.precision} for {source}; four-bit weights choose theirs: leave it out"
        )
    if (setting.prompt == "titles") != (source == SOURCE):
        raise SeqRecError(f"prompt {setting.prompt!r} for {source}; title tokens go with {SOURCE}, and nothing else")
    recipe = parameters.get("retriever_overrides") or RETRIEVER.get(dataset, {})
    digest = content_hash(quantized.base(source))
    configs: list[Config] = []
    for name in parameters["retrievers"]:
        if name in COUNTED:
            raise SeqRecError(f"retriever {name!r} only counts; use a trained model, such as sasrec")
        (retriever,) = accuracy.plan({"dataset": dataset, "models": [name], "seeds": [0], "overrides": recipe})
        width = retriever.architecture["d_model"]
        if size is not None and setting.vectors and width > size.d_model:
            raise SeqRecError(f"d_model is {size.d_model}; it should be at least that of {name}, which is {width}")
        for kind in parameters.get("negatives") or [setting.negatives]:
            own = replace(setting, negatives=kind)
            for seed in parameters["seeds"]:
                configs.append(Config(retriever, dataset, MODEL, seed, source, size, own, teaching, digest))
    return configs


def parents(config: Config) -> tuple[str, ...]:
    """The retriever's run."""
    return (key(accuracy, config.retriever),)


def run(config: Config, context: Context) -> Outcome:
    """Tune the ranker, keep it, rank every test user's candidates."""
    import pyarrow as pa

    from seqrec_lib.data import load
    from seqrec_lib.language.candidates import check_histories
    from seqrec_lib.language.ranker_training import Meter, teach

    prepare(quantized.base(config.source), context.report)
    sequences = load(config.dataset)
    check_histories(sequences, config.setting.candidates)
    retriever = load_retriever(config.retriever, sequences, context)
    language = new_model(config, sequences, retriever, context.device)
    ranker = make_ranker(config, language, sequences, context.device)
    ranker.folder, ranker.report, ranker.report_share = context.workdir, context.report, context.report_share
    meter = Meter()
    history = teach(ranker, sequences, retriever, config.teaching, config.seed, meter)
    _keep(ranker, language, context.workdir / "keep" / KEPT, tuned=config.teaching.prompts != 0)
    ranker.stage = "tuned"
    result, _, cost = assess(ranker, sequences, retriever, config)
    tables = {"ranks": pa.table(result.columns)}
    if result.letters:
        tables["letters"] = pa.table(result.letters)
    cost |= meter.cost(ranker.model.device)
    return Outcome(sequences.description(), result.metrics, history, cost, tables, made_of(language, ranker))


def made_of(language: LanguageModel, ranker: CandidateRanker) -> dict[str, Any]:
    """What a record says of the model: where it comes from, and its precision where that is the setting's to choose."""
    made: dict[str, Any] = {"language_model": language.provenance}
    return made if "quantisation" in language.provenance else made | {"precision": ranker.precision}


def load_retriever(config: accuracy.Config, sequences: Sequences, context: Context) -> SequentialRecommender:
    """The retriever from its run's kept weights; where there are none from these data, it is run first."""
    folder = weights_of_parent(accuracy, config, sequences.split_hash, context)
    return load_recommender(folder, plain(config), sequences.n_items)


def new_model(
    config: Config, sequences: Sequences, retriever: SequentialRecommender, device: str = "auto"
) -> LanguageModel:
    """The ranker's model before any tuning. Four-bit weights are on their device already."""
    from seqrec_lib.language import pretrained
    from seqrec_lib.language.title_tokens import title_model

    check_content(quantized.base(config.source), config.source_sha256)
    if quantized.is_quantized(config.source):
        return quantized.load(config.source, _place(device))
    if config.size is None:
        return pretrained.load(config.source)
    vectors = retriever.item_embedding.weight.detach().numpy() if config.setting.vectors else None
    return title_model(sequences.n_items, config.size, config.seed, vectors)


def tuned_model(config: Config, folder: Path, device: str) -> LanguageModel:
    """What the run of ``config`` kept in ``folder``; its provenance says where its weights came from at first."""
    from seqrec_lib.language import pretrained

    if quantized.is_quantized(config.source):
        return quantized.load_tuned(folder, config.source, _place(device))
    with quiet():
        language = pretrained.load(str(folder))
    return replace(language, provenance=language.provenance | described(config.source))


def make_ranker(config: Config, language: LanguageModel, sequences: Sequences, device: str) -> CandidateRanker:
    """The model with the prompt of ``config``, on its device; the seed decides its adapters."""
    import numpy as np
    import torch

    from seqrec_lib.language.corpus import GPT4REC, LLAMAREC, NEXT_TITLE, PAPER_RANKING, item_titles
    from seqrec_lib.language.ranking import LetterRanker, TitleRanker
    from seqrec_lib.language.title_tokens import TITLES, names

    setting = config.setting
    prompt = {own.name: own for own in (TITLES, PAPER_RANKING, LLAMAREC, GPT4REC, NEXT_TITLE)}[setting.prompt]
    titles = names(sequences.n_items) if prompt is TITLES else item_titles(sequences)
    if setting.titles == "shuffled":
        order = np.random.default_rng(SHUFFLED).permutation(len(titles) - 1) + 1
        titles = ("", *(titles[item] for item in order))
    kind = TitleRanker if prompt.name in BY_TITLES else LetterRanker
    ranker: CandidateRanker = kind(language, prompt, titles, setting)
    if setting.lora_rank:
        adapted = quantized.with_adapter if quantized.is_quantized(config.source) else with_adapter
        how: dict[str, Any] = {"alpha": setting.lora_alpha, "dropout": setting.lora_dropout}
        how |= {"targets": setting.lora_targets, "layers": setting.lora_layers}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            ranker.model = adapted(ranker.model, rank=setting.lora_rank, **how)
    ranker.model = ranker.model.to(_place(device)).eval()
    return ranker


def _place(device: str) -> str:
    import torch

    return "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"


def _keep(ranker: CandidateRanker, language: LanguageModel, folder: Path, tuned: bool) -> None:
    """Merge the adapters, but of four-bit weights, and keep what was tuned: elsewhere the source is the model."""
    four_bits = "quantisation" in language.provenance
    if hasattr(ranker.model, "merge_and_unload") and not four_bits:
        ranker.model = ranker.model.merge_and_unload().eval()
    if tuned and four_bits:
        quantized.save(ranker.model, ranker.tokenizer, language.provenance, folder)
    elif tuned:
        save(ranker.model, ranker.tokenizer, folder)
    if tuned:
        seal(folder.parent)


def assess(
    ranker: CandidateRanker, sequences: Sequences, retriever: SequentialRecommender, config: Config
) -> tuple[Assessment, np.ndarray, dict[str, Any]]:
    """(assessment of the test users, with what places do where random orders are asked for; letters' logits; cost)."""
    import numpy as np

    from seqrec_lib.language.assessment import Assessment, best_blend, log_odds, position_bias, subset_ndcg
    from seqrec_lib.language.candidates import retrieve
    from seqrec_lib.models.popularity import Popularity

    k, test, valid = config.setting.candidates, sequences.split("test"), sequences.split("valid")
    begin = time.perf_counter()
    result = Assessment(*retrieve(retriever, sequences, test, k), everyone=config.size is not None)
    retrieved = time.perf_counter()
    asked = result.asked
    logits = np.zeros((len(test), k), np.float32)
    logits[asked], reading = ranker.read(ranker.prompts(sequences, test.take(asked), result.pools.items[asked]))
    result.add("", logits)
    result.add("popularity_", Popularity(sequences).counts.numpy()[result.pools.items])

    some = np.sort(np.random.default_rng([config.seed, 0xB1E2D]).permutation(len(valid))[: config.setting.valid_users])
    users = valid.take(some)
    pools, _ = retrieve(retriever, sequences, users, k)
    if config.size is None:  # nothing is learnt from a pool without its target
        users, pools = users.take(pools.place >= 0), pools.take(pools.place >= 0)
    scores = ranker.scores(ranker.prompts(sequences, users, pools.items))
    result.add_blend(logits, best_blend(pools.scores, log_odds(scores), pools.place))
    if (pools.place >= 0).any():
        result.metrics["valid_subset_ndcg@10"] = subset_ndcg(scores, pools.place)
    total, body = quantized.parameter_counts(ranker.model)
    cost = {
        "parameters": total,
        "parameters_without_embeddings": body,
        "retriever_milliseconds_per_user": 1e3 * (retrieved - begin) / len(test),
        "milliseconds_per_user": 1e3 * reading.seconds / max(asked.sum(), 1),
        "prompt_tokens": reading.tokens / max(asked.sum(), 1),
        "rank_tokens_per_second": reading.tokens / max(reading.seconds, 1e-9),
        "peak_memory_bytes": accuracy.peak_memory(ranker.model.device.type),
    }
    if config.setting.orders and result.found.any():
        users = test.take(result.found)
        empty = ranker.scores(ranker.encoder.prompts([[]], [[0] * k]))[0]

        def score(pools: Pools) -> np.ndarray:
            return ranker.scores(ranker.prompts(sequences, users, pools.items))

        rng = np.random.default_rng([config.seed, 0x0DE2])
        result.letters = position_bias(result, score, logits, empty, config.setting.orders, rng)
    return result, logits, cost

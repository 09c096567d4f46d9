"""GPT4Rec and MamRec: a language model writes queries, BM25 turns them into items; and floors that need no model.

One run is one (data set, model, seed). It tunes the model on next titles, writes queries for some validation users to
choose BM25's constants, then writes every test user's queries twice: freely, and held to the catalogue's titles.
Lists:

    (no prefix)   K free queries, one new item each, in beam order: the row of the tables
    m10_, m5_ ... the first m free queries, K/m items each
    trie_         queries held to titles, whose items they name: no search

Table "ranks": each user's rank for each list, unmasked and with seen items passed over. What was written is not kept in
the record: titles are the data set's. The tuned model stays in the run's folder in the hub's format.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.checksums import seal
from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.language import pretrained
from seqrec_lib.language.hub_format import save
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.recipes import ARCHITECTURES, FLOORS, Tuning, Writing, resolve
from seqrec_lib.language.sources import check_content, content_hash, prepare
from seqrec_lib.results import ADDED_LATER
from seqrec_lib.validation import Checked, Names, Seed32, Seeds32, Settings, plans, refuse_unknown

if TYPE_CHECKING:
    from seqrec_lib.data.sequences import Histories, Sequences
    from seqrec_lib.language.corpus import Encoder
    from seqrec_lib.language.generation import Lists
    from seqrec_lib.language.trie import TitleTrie

NAME = "generative"
MODEL = "model"  # the tuned model's folder within `keep`
GOLDEN: dict[str, dict[str, Any]] = {
    "queries": {
        "dataset": "ml-latest-small",
        "models": ["bm25-last", "title-markov", "gpt4rec", "mamrec"],
        "seeds": [0],
        "overrides": {
            "d_model": 32, "n_layers": 2, "heads": 2, "d_state": 16, "vocabulary": 300, "positions": 96, "history": 8,
            "prompt_tokens": 64, "title_tokens": 16, "epochs": 2, "tokens_per_batch": 1024, "learning_rate": 1e-2,
            "beams": 4, "length": 4, "fewer": [2], "steps": 8, "constants_users": 16, "k1": [0.5, 1.5],
            "b": [0.0, 0.75],
        },
    }
}  # fmt: skip

Queries = list[list[str]]


@dataclass(frozen=True)
class Config(Checked):
    """One run. Floors have neither source nor size nor tuning; a source that is a folder has its content's hash."""

    dataset: str
    model: str
    seed: Seed32
    source: str
    size: Size | None
    tuning: Tuning | None
    writing: Writing
    source_sha256: str = field(default="", metadata=ADDED_LATER)


def revision(config: Config) -> int:
    """Raised for the configurations whose results a change alters."""
    return 1


@plans(dataset=str, models=Names, seeds=Seeds32, sources=dict[str, str], overrides=Settings)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """Runs for ``dataset``, each of ``models`` and, where there is something to train, each of ``seeds``.

    ``sources`` maps a model to a source (`language.sources`); without one it is made from scratch. ``overrides`` are
    fields of `Size`, `Tuning` and `Writing`.
    """
    from seqrec_lib.data import registry

    dataset = registry.get(parameters["dataset"]).name
    sources, overrides = (parameters.get(name, {}) for name in ("sources", "overrides"))
    refuse_unknown(parameters["models"], (*FLOORS, *ARCHITECTURES), "model that writes queries")
    refuse_unknown(sources, ARCHITECTURES, "model of sources")
    scratch = [source for source in sources.values() if source.startswith("scratch:")]
    refuse_unknown(scratch, [f"scratch:{name}" for name in pretrained.ARCHITECTURES], "source")
    chosen = {
        model: "" if model in FLOORS else sources.get(model, f"scratch:{ARCHITECTURES[model]}")
        for model in parameters["models"]
    }
    made = any(source.startswith("scratch:") for source in chosen.values())
    parts = [Writing, *[Tuning] * any(chosen.values()), *[Size] * made]
    known = [field.name for part in parts for field in fields(part)]
    refuse_unknown(overrides, known, "override", ", ".join(chosen))
    configs = []
    for model, source in chosen.items():
        size, tuning, writing = resolve(dataset, model, source or "scratch:", overrides)
        for seed in (0,) if model in FLOORS else parameters["seeds"]:
            own = (None, None) if model in FLOORS else (size, tuning)
            configs.append(Config(dataset, model, seed, source, own[0], own[1], writing, content_hash(source)))
    return configs


def run(config: Config, context: Context) -> Outcome:
    """Tune (resuming), write, search; give the metrics of every list and every user's ranks."""
    from seqrec_lib.data import load

    sequences = load(config.dataset)
    return _floor(config, sequences) if config.tuning is None else _written(config, config.tuning, sequences, context)


def _floor(config: Config, sequences: Sequences) -> Outcome:
    from seqrec_lib.language.corpus import item_titles
    from seqrec_lib.language.generation import Lists, following_titles, last_titles

    setting, titles = config.writing, item_titles(sequences)
    last = config.model == "bm25-last"

    def write(histories: Histories) -> Queries:
        if last:
            return last_titles(sequences, histories, titles)
        return following_titles(sequences, histories, titles, setting.length)

    some, each = _sample(sequences, config), setting.length if last else 1
    lists = Lists(sequences, titles, setting)
    constants = lists.choose_constants(write(some), some.targets, each)
    lists.search("", write(lists.test), each)
    return _outcome(sequences, lists, constants, {"parameters": 0, "parameters_without_embeddings": 0})


def _sample(sequences: Sequences, config: Config) -> Histories:
    """The validation users whose queries choose BM25's constants."""
    valid, rng = sequences.split("valid"), np.random.default_rng([config.seed, 0xB25])
    return valid.take(np.sort(rng.permutation(len(valid))[: config.writing.constants_users]))


def _written(config: Config, tuning: Tuning, sequences: Sequences, context: Context) -> Outcome:
    from seqrec_lib.language.corpus import GPT4REC, Encoder, item_titles, latest_items
    from seqrec_lib.language.generation import Lists, searched
    from seqrec_lib.language.trie import TitleTrie
    from seqrec_lib.language.tuning import tune
    from seqrec_lib.train.checkpoint import Checkpoint
    from seqrec_lib.train.contracts import rounded

    setting, titles, size, texts = config.writing, item_titles(sequences), config.size, []
    if size is not None:
        texts = pretrained.prompt_texts(titles[1:], GPT4REC.render(["a"]))
        size = pretrained.matched(size, config.source.partition(":")[2])
    prepare(config.source, context.report)
    check_content(config.source, config.source_sha256)
    language = pretrained.load(config.source, texts=texts, size=size, seed=config.seed)
    encoder = Encoder(
        language.tokenizer, GPT4REC, titles, prompt_tokens=tuning.prompt_tokens, title_tokens=tuning.title_tokens
    )
    model, tuned = tune(
        language,
        sequences,
        encoder,
        tuning,
        config.seed,
        context.workdir,
        device=context.device,
        report=context.report,
        report_share=context.report_share,
    )
    save(model, language.tokenizer, context.workdir / "keep" / MODEL)
    seal(context.workdir / "keep")

    some, lists = _sample(sequences, config), Lists(sequences, encoder.titles, setting)
    titled = lists.catalogue.items
    tree = TitleTrie(encoder.answers(list(titled)), model.config.vocab_size)
    tree.to(next(model.parameters()).device)

    def write(name: str, histories: Histories, trie: TitleTrie | None = None) -> _Written:
        """The queries of some histories, written once: they are a checkpoint in the run's folder."""
        identity = {"data": sequences.split_hash, "users": len(histories), **asdict(setting)}
        file = Checkpoint(context.workdir / f"queries-{name}.pt", identity, {}, report=context.report)
        written = file.load(_Written)
        if not written.cost:
            read = latest_items(sequences, histories, tuning.history)
            written = _write(
                model, encoder, read, setting, trie, lambda share: context.report_share(share, f"writing {name}")
            )
            file.save(written)
        return written

    asked, free, held = write("valid", some), write("test", lists.test), write("test-trie", lists.test, tree)
    constants = lists.choose_constants(asked.queries, some.targets, 1)
    lists.search("", free.queries, 1)
    for m in setting.fewer:
        lists.search(f"m{m}_", [own[:m] for own in free.queries], setting.length // m)
    by_title = partial(searched, lists.catalogue.find, held.queries, setting.length, each=setting.length)
    lists.add("trie_", by_title)
    written = [query for own in free.queries for query in own]
    lists.metrics["exact_share"] = sum(query in titled for query in written) / len(written)
    lists.metrics["distinct_queries"] = float(np.mean([len(set(own)) for own in free.queries]))
    total, body = pretrained.parameter_counts(model)
    cost = {
        "parameters": total,
        "parameters_without_embeddings": body,
        "epochs": len(tuned.history),
        "train_seconds": tuned.seconds,
    }
    cost |= {f"{way}_{k}": v for way, queries in (("free", free), ("trie", held)) for k, v in queries.cost.items()}
    outcome = _outcome(sequences, lists, constants, cost)
    outcome.history = rounded(tuned.history)
    outcome.environment["language_model"] = language.provenance | {"vocabulary": len(language.tokenizer)}
    return outcome


@dataclass
class _Written:
    """Queries of each user, best first, and what they cost (milliseconds a user, tokens a second)."""

    queries: Queries = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)


def _write(
    model: Any,
    encoder: Encoder,
    histories: Sequence[Sequence[int]],
    setting: Writing,
    trie: TitleTrie | None,
    report: Callable[[float], None],
) -> _Written:
    from seqrec_lib.language.beams import Search, search

    how = Search(setting.beams, trie.longest if trie is not None else setting.steps, setting.length_penalty)
    tokenizer, begin = encoder.tokenizer, time.perf_counter()
    found = search(model, encoder.prompts(histories), how, tokenizer.eos_token_id, trie=trie, report=report)
    seconds = time.perf_counter() - begin
    flat = [query.tokens for own in found for query in own]
    texts = iter(tokenizer.batch_decode([list(tokens) for tokens in flat]))
    cost = {
        "milliseconds_per_user": 1e3 * seconds / max(len(histories), 1),
        "tokens_per_second": sum(len(tokens) + 1 for tokens in flat) / seconds,
    }
    return _Written([[next(texts).strip() for _ in own] for own in found], cost)


def _outcome(sequences: Sequences, lists: Lists, constants: dict[str, float], cost: dict[str, Any]) -> Outcome:
    import pyarrow as pa

    shared = {"titles_shared": sequences.n_items - len(lists.catalogue.items)}
    tables = {"ranks": pa.table(lists.columns)}
    return Outcome(sequences.description() | shared, lists.metrics | constants, cost=cost, tables=tables)

"""GPT4Rec and MamRec: a language model writes queries, BM25 turns them into items; and floors that need no model.

One run is one (data set, model, seed). It tunes the model on next titles, writes queries for some validation users to
choose BM25's constants, then writes every test user's queries twice: freely, and held to the catalogue's titles.
Lists:

    (no prefix)   K free queries, one new item each, in beam order: the row of the tables
    m10_, m5_ ... the first m free queries, K/m items each
    trie_         queries held to titles, whose items they name: no search

Table "ranks": each user's rank for each list, unmasked and with seen items passed over. What was written is not kept
in the
record: titles are the data set's. The tuned model stays in the run's folder in the hub's format.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.experiments.base import Context, Outcome
from seqrec_lib.language import pretrained
from seqrec_lib.language.hub_format import quiet
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.recipes import ARCHITECTURES, FLOORS, Writing, resolve
from seqrec_lib.language.sources import check_content, content_hash, prepare
from seqrec_lib.language.tuning import Tuning
from seqrec_lib.results import ADDED_LATER
from seqrec_lib.validation import Checked, Names, Seed32, Seeds32, Settings, plans, refuse_unknown

if TYPE_CHECKING:
    from seqrec_lib.data.sequences import Histories, Sequences
    from seqrec_lib.language.corpus import Encoder
    from seqrec_lib.language.generation import Catalogue
    from seqrec_lib.language.search import TitleSearch

NAME = "generative"
AT = 10  # cut-off of diversity and coverage
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

    ``sources`` maps a model to a hub id or a folder; without one it is made from scratch. ``overrides`` are fields of
    `Size`, `Tuning` and `Writing`.

    Raises:
        SeqRecError: an unknown data set, model, source from scratch or override, or a value that is not allowed.
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
    own = (
        [Writing]
        + [Tuning] * any(chosen.values())
        + [Size] * any(source.startswith("scratch:") for source in chosen.values())
    )
    known = [field.name for part in own for field in fields(part)]
    refuse_unknown(overrides, known, "override", ", ".join(chosen))
    configs = []
    for model, source in chosen.items():
        floor = model in FLOORS
        size, tuning, writing = resolve(dataset, model, source or "scratch:", overrides)
        for seed in (0,) if floor else parameters["seeds"]:
            made = (None if floor else size, None if floor else tuning)
            configs.append(Config(dataset, model, seed, source, made[0], made[1], writing, content_hash(source)))
    return configs


def run(config: Config, context: Context) -> Outcome:
    """Tune (resuming), write, search; give the metrics of every list and every user's ranks."""
    from seqrec_lib.data import load

    sequences = load(config.dataset)
    return _floor(config, sequences) if config.tuning is None else _written(config, config.tuning, sequences, context)


def _floor(config: Config, sequences: Sequences) -> Outcome:
    from seqrec_lib.language.corpus import item_titles
    from seqrec_lib.language.generation import Catalogue, following_titles, last_titles, training_counts

    setting, titles = config.writing, item_titles(sequences)
    catalogue = Catalogue(titles, training_counts(sequences))
    valid, test = sequences.split("valid"), sequences.split("test")
    write: Callable[[Histories], Queries]
    if config.model == "bm25-last":
        write, each = (lambda split: last_titles(sequences, split, titles)), setting.length
    else:
        write, each = (lambda split: following_titles(sequences, split, titles, setting.length)), 1
    some = _sample(len(valid), setting.constants_users, config.seed)
    asked = write(valid)
    engine, constants = _tuned_search(catalogue, [asked[u] for u in some], valid.targets[some], setting, each)
    queries = write(test)
    result = _Lists(sequences, test, catalogue, setting)
    result.search("", engine, queries, each)
    return result.outcome(constants, {"parameters": 0, "parameters_without_embeddings": 0})


def _sample(users: int, count: int, seed: int) -> np.ndarray:
    """The users whose queries choose BM25's constants."""
    return np.sort(np.random.default_rng([seed, 0xB25]).permutation(users)[:count])


def _written(config: Config, tuning: Tuning, sequences: Sequences, context: Context) -> Outcome:
    from seqrec_lib.language.corpus import GPT4REC, Encoder, item_titles
    from seqrec_lib.language.generation import Catalogue, training_counts
    from seqrec_lib.language.trie import TitleTrie
    from seqrec_lib.language.tuning import tune

    setting, titles = config.writing, item_titles(sequences)
    size = config.size
    texts = pretrained.prompt_texts(titles[1:], GPT4REC.render(["a"])) if size else []
    if size is not None:
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
    _keep(context.workdir, model, language.tokenizer)

    catalogue = Catalogue(encoder.titles, training_counts(sequences))
    valid, test = sequences.split("valid"), sequences.split("test")
    some = _sample(len(valid), setting.constants_users, config.seed)
    writer = _Writer(model, encoder, config, sequences, context)
    trie = TitleTrie(encoder.answers(list(catalogue.items)), model.config.vocab_size)
    tries = trie.to(next(model.parameters()).device)
    chosen, _ = writer.write("valid", valid, some)
    everyone = np.arange(len(test))
    free, free_cost = writer.write("test", test, everyone)
    held, held_cost = writer.write("test-trie", test, everyone, tries)

    engine, constants = _tuned_search(catalogue, chosen, valid.targets[some], setting, 1)
    result = _Lists(sequences, test, catalogue, setting)
    result.search("", engine, free, 1)
    for m in setting.fewer:
        result.search(f"m{m}_", engine, [own[:m] for own in free], setting.length // m)
    result.name("trie_", held)
    written = [query for own in free for query in own]
    result.metrics["exact_share"] = sum(map(catalogue.is_title, written)) / len(written)
    result.metrics["distinct_queries"] = float(np.mean([len(set(own)) for own in free]))
    total, body = pretrained.parameter_counts(model)
    cost = {
        "parameters": total,
        "parameters_without_embeddings": body,
        "epochs": len(tuned.history),
        "train_seconds": tuned.seconds,
    }
    cost |= {f"free_{name}": value for name, value in free_cost.items()}
    cost |= {f"trie_{name}": value for name, value in held_cost.items()}
    outcome = result.outcome(constants, cost)
    outcome.history = [{k: int(v) if k == "epoch" else float(f"{v:.6g}") for k, v in e.items()} for e in tuned.history]
    outcome.environment["language_model"] = language.provenance | {"vocabulary": len(language.tokenizer)}
    return outcome


def _keep(workdir: Path, model: Any, tokenizer: Any) -> None:
    from seqrec_lib.checksums import seal

    folder = workdir / "keep" / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    seal(folder.parent)


@dataclass
class _Written:
    """Queries of each user, best first, and what they cost."""

    queries: Queries | None = None
    cost: dict[str, float] = field(default_factory=dict)


class _Writer:
    """Writes queries with a tuned model, once: what was written is a checkpoint in the run's folder."""

    def __init__(self, model: Any, encoder: Encoder, config: Config, sequences: Sequences, context: Context) -> None:
        self.model, self.encoder, self.setting = model, encoder, config.writing
        self.history = config.tuning.history if config.tuning else 0
        self.sequences, self.context = sequences, context

    def write(
        self, name: str, split: Histories, users: np.ndarray, trie: Any = None
    ) -> tuple[Queries, dict[str, float]]:
        """Queries of some users of a split, best first, and what it cost (milliseconds a user, tokens a second)."""
        from seqrec_lib.language.beams import Search, search
        from seqrec_lib.train.checkpoint import Checkpoint

        setting = self.setting
        identity = {"data": self.sequences.split_hash, "users": len(users), **asdict(setting)}
        file = Checkpoint(self.context.workdir / f"queries-{name}.pt", identity, {}, report=self.context.report)
        known = file.load(_Written)
        if known.queries is not None:
            return known.queries, known.cost
        histories = [
            self.sequences.items[max(split.start[u], split.stop[u] - self.history) : split.stop[u]].tolist()
            for u in users
        ]
        begin = time.perf_counter()
        found = search(
            self.model,
            self.encoder.prompts(histories),
            Search(setting.beams, trie.longest if trie is not None else setting.steps, setting.length_penalty),
            self.encoder.tokenizer.eos_token_id,
            trie=trie,
            report=lambda done, total: self.context.report_share(done / total, f"writing {name}"),
        )
        seconds = time.perf_counter() - begin
        flat = [query.tokens for own in found for query in own]
        texts = iter(self.encoder.tokenizer.batch_decode([list(tokens) for tokens in flat]))
        queries = [[next(texts).strip() for _ in own] for own in found]
        cost = {
            "milliseconds_per_user": 1e3 * seconds / max(len(users), 1),
            "tokens_per_second": sum(len(tokens) + 1 for tokens in flat) / seconds,
        }
        file.save(_Written(queries, cost))
        return queries, cost


def _tuned_search(
    catalogue: Catalogue, queries: Queries, targets: np.ndarray, setting: Writing, each: int
) -> tuple[TitleSearch, dict[str, float]]:
    """BM25 with the constants that give these validation users the best NDCG@10 (the first of equals)."""
    from seqrec_lib.evaluate.metrics import rank_metrics
    from seqrec_lib.language.generation import list_ranks, searched

    engine = catalogue.engine(setting.k1[0], setting.b[0])
    scores = {}
    for k1 in setting.k1:
        for b in setting.b:
            engine.tune(k1, b)
            ranks = list_ranks(searched(engine, queries, setting.length, each=each), targets, catalogue.n_items)
            scores[k1, b] = rank_metrics(ranks, (10,))["ndcg@10"]
    k1, b = max(scores, key=lambda pair: scores[pair])
    engine.tune(k1, b)
    return engine, {"bm25_k1": k1, "bm25_b": b, "valid_ndcg@10": scores[k1, b]}


class _Lists:
    """Collects the lists of a run: their metrics and ranks, under a prefix each."""

    def __init__(self, sequences: Sequences, split: Histories, catalogue: Catalogue, setting: Writing) -> None:
        from seqrec_lib.language.generation import seen_items

        self.sequences, self.split, self.catalogue, self.setting = sequences, split, catalogue, setting
        self.seen = seen_items(sequences, split)
        self.metrics: dict[str, float] = {}
        self.columns: dict[str, np.ndarray] = {}

    def search(self, prefix: str, engine: TitleSearch, queries: Queries, each: int) -> None:
        """Lists by BM25."""
        from seqrec_lib.language.generation import searched

        length = self.setting.length
        plain = searched(engine, queries, length, each=each)
        self._add(prefix, plain, searched(engine, queries, length, each=each, seen=self.seen))

    def name(self, prefix: str, queries: Queries) -> None:
        """Lists of the items that queries name."""
        from seqrec_lib.language.generation import named

        length = self.setting.length
        plain = named(self.catalogue, queries, length)
        self._add(prefix, plain, named(self.catalogue, queries, length, seen=self.seen))

    def _add(self, prefix: str, plain: Sequence[Sequence[int]], masked: Sequence[Sequence[int]]) -> None:
        from seqrec_lib.evaluate.metrics import CUTOFFS, rank_metrics
        from seqrec_lib.language.generation import coverage, diversity, list_ranks

        n_items, targets = self.catalogue.n_items, self.split.targets
        cutoffs = [k for k in CUTOFFS if k <= self.setting.length]  # a list of 10 says nothing about the first 20
        for mask, lists in (("", plain), ("masked_", masked)):
            ranks = list_ranks(lists, targets, n_items)
            self.columns[f"{prefix}{mask}rank"] = ranks
            self.metrics |= {f"{prefix}{mask}{name}": value for name, value in rank_metrics(ranks, cutoffs).items()}
        self.metrics |= {
            f"{prefix}diversity@{AT}": diversity(self.catalogue, plain, AT),
            f"{prefix}coverage@{AT}": coverage(plain, AT, n_items),
            f"{prefix}list_length": float(np.mean([len(own) for own in plain])),
        }

    def outcome(self, constants: Mapping[str, float], cost: dict[str, Any]) -> Outcome:
        import pyarrow as pa

        data = self.sequences
        return Outcome(
            dataset=data.description() | {"titles_shared": data.n_items - len(self.catalogue.items)},
            metrics=self.metrics | dict(constants),
            cost=cost,
            tables={"ranks": pa.table(self.columns)},
        )

"""How long does one user wait? Language models beside those that are served, one request at a time, in turns.

    python -m benchmarks.query_latency [ml-100k ml-1m] [--threads 1] [--clock cpu] [--device cuda] [--save]

Contestants answer the same users in random blocks, whose order is drawn anew for each block:

    served   SASRec and the state-space models, as `seqrec recommend` serves them (random weights: time is the same)
    free     GPT4Rec and MamRec from scratch at the data set's settings: prompt, beams, queries, BM25, one list
    held     the same, held to the catalogue's titles: no search engine
    paper    GPT-2 (117M) and Mamba-2 (130M), RANDOM WEIGHTS, on prompts of as many tokens; fewer users
    ranker   LlamaRec from scratch: a served model finds candidates, one forward pass orders them (random weights)

On a GPU all models are there, the served ones as CUDA graphs (path "graph"), BM25 stays on the CPU, and one more takes
part:

    paper-ranker   a ranker of Llama-2 7B's geometry in bfloat16, RANDOM WEIGHTS, on a prompt of as many tokens

A contestant that fails while it warms up is left out; the record has its error. A record from a GPU has a name of its
own.

A pair from scratch is the one that was tuned here (seed 0), where its weights are still in the store of runs; else it
has random weights, which never end a query early: then the time is an upper bound. The record says which. What is kept
are the medians of the blocks.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import numpy as np
import torch
import typer

from benchmarks.conditions import Conditions, check_device, keep
from benchmarks.decoding_speed import SIZES, TINY, Clock, clock_of, llama, model_of
from seqrec_lib.data import load
from seqrec_lib.data.sequences import Sequences
from seqrec_lib.experiments import generative, llamarec
from seqrec_lib.experiments.base import key
from seqrec_lib.language import beams, pretrained
from seqrec_lib.language.beams import Search
from seqrec_lib.language.corpus import GPT4REC, Encoder, item_titles
from seqrec_lib.language.generation import Catalogue, searched, training_counts
from seqrec_lib.language.ranking import LetterRanker
from seqrec_lib.language.search import TitleSearch
from seqrec_lib.language.trie import TitleTrie
from seqrec_lib.latency.clock import Clock as Marks
from seqrec_lib.latency.contestants import Graphed, Served, contestants, make_model
from seqrec_lib.report.rankers import LLAMA_TOKENS
from seqrec_lib.results import RunStore
from seqrec_lib.train.recipes import resolve

SERVED = ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")
RETRIEVERS = ("sasrec", "2mamba4rec")
WRITERS = {"gpt4rec": "gpt2", "mamrec": "mamba2"}
AT_SIZE = ("paper", "paper-ranker")  # paths of models of the paper's sizes


class Contestant(Protocol):
    """One row: answers a history (item ids) and says how many tokens it wrote."""

    @property
    def model(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    def answer(self, history: np.ndarray) -> int: ...


@dataclass
class Server:
    """A served model, on a GPU as a CUDA graph."""

    served: Served | Graphed
    parameters: int
    weights: str = "random"

    @property
    def model(self) -> str:
        return self.served.model

    @property
    def path(self) -> str:
        return self.served.path

    def answer(self, history: np.ndarray) -> int:
        self.served.serve(history, 10, Marks())
        return 0


@dataclass
class Writer:
    """A pair's model at the data set's settings, from the history to the list."""

    model: str
    path: str
    weights: str
    language: Any
    encoder: Encoder
    config: generative.Config
    catalogue: Catalogue
    engine: TitleSearch
    trie: TitleTrie | None = None

    @property
    def parameters(self) -> int:
        return pretrained.parameter_counts(self.language)[0]

    def answer(self, history: np.ndarray) -> int:
        assert self.config.tuning is not None
        setting, tokenizer = self.config.writing, self.encoder.tokenizer
        steps = setting.steps if self.trie is None else self.trie.longest
        prompts = self.encoder.prompts([history[-self.config.tuning.history :].tolist()])
        search = Search(setting.beams, steps, setting.length_penalty)
        (found,) = beams.search(self.language, prompts, search, tokenizer.eos_token_id, trie=self.trie)
        texts = [text.strip() for text in tokenizer.batch_decode([list(query.tokens) for query in found])]
        seen = [set(history.tolist())]
        if self.trie is None:
            searched(self.engine.find, [texts], setting.length, seen=seen)
        else:
            searched(self.catalogue.find, [texts], setting.length, each=setting.length, seen=seen)
        return sum(len(query.tokens) + 1 for query in found)


@dataclass
class PaperSize:
    """A language model of the paper's size with random weights, on prompts as long as ours."""

    model: str
    language: Any
    like: Writer
    path: str = "paper"
    weights: str = "random"

    @property
    def parameters(self) -> int:
        return pretrained.parameter_counts(self.language)[0]

    def answer(self, history: np.ndarray) -> int:
        tuning, setting = self.like.config.tuning, self.like.config.writing
        assert tuning is not None
        vocabulary = self.language.config.vocab_size
        (prompt,) = self.like.encoder.prompts([history[-tuning.history :].tolist()])
        search = Search(setting.beams, setting.steps, setting.length_penalty)
        (found,) = beams.search(self.language, [[token % vocabulary for token in prompt]], search, vocabulary)
        return sum(len(query.tokens) for query in found)


@dataclass
class Ranker:
    """LlamaRec at the data set's settings, from the history to the ordered candidates, with the retriever's time."""

    model: str
    retriever: Served | Graphed
    ranker: LetterRanker
    path: str = "ranker"
    weights: str = "random"

    @property
    def parameters(self) -> int:
        return pretrained.parameter_counts(self.ranker.model)[0]

    def answer(self, history: np.ndarray) -> int:
        (items,), _ = self.retriever.server.recommend([history], self.ranker.candidates)
        prompts = self.ranker.encoder.prompts([history[-self.ranker.history :].tolist()], [items.tolist()])
        self.ordered = items[np.argsort(-self.ranker.scores(prompts)[0], kind="stable")]
        return 0


@dataclass
class PaperRanker:
    """A ranker of the paper's size with random weights: orders a retriever's candidates by the logits of the last token
    of a prompt of ``tokens`` tokens."""

    language: Any
    retriever: Served | Graphed
    tokens: int
    candidates: int
    model: str = "llamarec"
    path: str = "paper-ranker"
    weights: str = "random"

    @property
    def parameters(self) -> int:
        return pretrained.parameter_counts(self.language)[0]

    @torch.inference_mode()
    def answer(self, history: np.ndarray) -> int:
        (items,), _ = self.retriever.server.recommend([history], self.candidates)
        size, device = self.language.config.vocab_size, next(self.language.parameters()).device
        prompt = torch.from_numpy(np.resize(history, self.tokens) % size)[None].to(device)
        logits = self.language(prompt, logits_to_keep=1).logits[0, -1, : self.candidates]
        self.ordered = items[np.argsort(-logits.float().cpu().numpy(), kind="stable")]
        return 0


def served(models: dict[str, Any], sequences: Sequences, device: str) -> list[Served | Graphed]:
    """Models, already on the device, as they are served there."""
    found = contestants(models, sequences.n_items, ("served" if device == "cpu" else "graph",))
    return [one for one in found if isinstance(one, (Served, Graphed))]


def servers(dataset: str, sequences: Sequences, device: str = "cpu") -> list[Contestant]:
    """The served models at the data set's settings, all reading equally long histories."""
    _, training = resolve(dataset, "mamba4rec", 0)
    assert training is not None
    models = {
        name: make_model(name, sequences.n_items, training.max_length, resolve(dataset, name, 0)[0], 0).to(device)
        for name in SERVED
    }
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    return [Server(own, sizes[own.model]) for own in served(models, sequences, device)]


def writers(dataset: str, sequences: Sequences, store: RunStore, device: str = "cpu") -> list[Contestant]:
    """Each model of the pair, free and held to titles."""
    titles, found = item_titles(sequences), []
    for model in WRITERS:
        (config,) = generative.plan({"dataset": dataset, "models": [model], "seeds": [0]})
        tuning = config.tuning
        assert tuning is not None and config.size is not None
        kept = store.kept(key(generative, config))
        folder = None if kept is None else kept / generative.MODEL
        if folder is not None and (folder / "config.json").is_file():
            made, weights = pretrained.load(str(folder)), "tuned"
        else:
            texts = pretrained.prompt_texts(titles[1:], GPT4REC.render(["a"]))
            size = pretrained.matched(config.size, WRITERS[model])
            made, weights = pretrained.load(config.source, texts=texts, size=size, seed=0), "random"
        encoder = Encoder(
            made.tokenizer, GPT4REC, titles, prompt_tokens=tuning.prompt_tokens, title_tokens=tuning.title_tokens
        )
        catalogue = Catalogue(encoder.titles, training_counts(sequences))
        trie = TitleTrie(encoder.answers(list(catalogue.items)), made.model.config.vocab_size)
        fixed = (weights, made.model.eval().to(device), encoder, config, catalogue, catalogue.engine())
        found += [Writer(model, "free", *fixed), Writer(model, "held", *fixed, trie)]
    return list(found)


def rankers(dataset: str, sequences: Sequences, device: str = "cpu") -> list[Ranker]:
    """LlamaRec on SASRec, and on the state-space model that retrieves for it."""
    found: list[Ranker] = []
    for retriever in RETRIEVERS:
        (config,) = llamarec.plan({"dataset": dataset, "retrievers": [retriever], "seeds": [0]})
        assert config.retriever.training is not None
        length = config.retriever.training.max_length
        net = make_model(retriever, sequences.n_items, length, config.retriever.architecture, 0)
        ranker = llamarec.make_ranker(config, llamarec.new_model(config, sequences, net), sequences, device)
        assert isinstance(ranker, LetterRanker)
        (own,) = served({retriever: net.to(device)}, sequences, device)
        model = config.model if retriever == "sasrec" else f"{config.model}+{retriever}"
        found.append(Ranker(model, own, ranker))
    return found


def paper_sizes(pair: Sequence[Contestant], tiny: bool, device: str = "cpu") -> list[Contestant]:
    """GPT-2 and Mamba-2 at the paper's sizes."""
    like = {writer.model: writer for writer in pair if isinstance(writer, Writer)}
    return [
        PaperSize(model, model_of(kind, TINY if tiny else SIZES[kind], 1024, device), like["gpt4rec"])
        for model, kind in WRITERS.items()
    ]


def paper_ranker(like: Ranker, tiny: bool, device: str) -> PaperRanker:
    """Llama-2 7B's geometry behind the same retriever, on a prompt as long as its own tokenizer makes it."""
    return PaperRanker(llama(tiny, device), like.retriever, LLAMA_TOKENS, like.ranker.candidates)


@dataclass
class Times:
    """Of one contestant: seconds by block and user, tokens written, prompts' tokens."""

    blocks: list[list[float]] = field(default_factory=list)
    tokens: int = 0


def in_turns(
    field_: Sequence[Contestant],
    histories: Sequence[np.ndarray],
    blocks: int,
    users: int,
    paper_blocks: int,
    clock: Clock,
    rng: np.random.Generator,
) -> tuple[list[Times], dict[str, str]]:
    """Blocks of the same users for everyone, in an order drawn for each; a model of the paper's size serves one user
    of each of the first ``paper_blocks``. Second, the errors of those that failed as they warmed up, which take no
    part."""
    times, errors = [Times() for _ in field_], {}
    for contestant in field_:  # warms up
        for user in rng.integers(len(histories), size=1 if contestant.path in AT_SIZE else 3):
            try:
                contestant.answer(histories[user])
            except Exception as error:
                lines = str(error).strip().splitlines() or ["no message"]
                errors[f"{contestant.model}, {contestant.path}"] = f"{type(error).__name__}: {lines[0]}"
                break
    for block in range(blocks):
        drawn = rng.integers(len(histories), size=users)
        for place in rng.permutation(len(field_)):
            contestant, own = field_[place], times[place]
            if contestant.path in AT_SIZE and block >= paper_blocks:
                continue
            if f"{contestant.model}, {contestant.path}" in errors:
                continue
            taken = []
            for user in drawn[: 1 if contestant.path in AT_SIZE else None]:
                begin = clock()
                own.tokens += contestant.answer(histories[user])
                taken.append(clock() - begin)
            own.blocks.append(taken)
        print(f"block {block + 1}/{blocks}", flush=True)
    return times, errors


@dataclass(frozen=True)
class Turns:
    """How many blocks, users in each, blocks with models of the paper's size; and whether those are tiny."""

    blocks: int
    users: int
    paper_blocks: int
    tiny: bool


def measure(dataset: str, turns: Turns, clock: Clock, store: RunStore, device: str = "cpu") -> dict[str, Any]:
    """All contestants on one data set."""
    sequences = load(dataset, progress=False)
    test = sequences.split("test")
    histories = [sequences.items[a:b].astype(np.int64) for a, b in zip(test.start, test.stop, strict=True)]
    pair, ordering = writers(dataset, sequences, store, device), rankers(dataset, sequences, device)
    field_ = [*servers(dataset, sequences, device), *pair, *ordering]
    if turns.paper_blocks:
        field_ += paper_sizes(pair, turns.tiny, device)
    if turns.paper_blocks and device == "cuda":
        field_.append(paper_ranker(ordering[0], turns.tiny, device))
    rng = np.random.default_rng(0)
    times, errors = in_turns(field_, histories, turns.blocks, turns.users, turns.paper_blocks, clock, rng)
    first = next(writer for writer in pair if isinstance(writer, Writer))
    assert first.config.tuning is not None
    lengths = [
        len(first.encoder.prompts([history[-first.config.tuning.history :].tolist()])[0]) for history in histories[:200]
    ]
    setting = first.config.writing
    return {
        "items": sequences.n_items,
        "beams": setting.beams,
        "steps": setting.steps,
        "queries": setting.length,
        "prompt_tokens": int(statistics.median(lengths)),
        "contestants": [
            {
                "model": contestant.model,
                "path": contestant.path,
                "weights": contestant.weights,
                "parameters": contestant.parameters,
                "block_milliseconds": [round(1e3 * statistics.median(block), 4) for block in own.blocks],
                "users": sum(map(len, own.blocks)),
                "tokens_per_second": round(own.tokens / sum(map(sum, own.blocks)), 1) if own.tokens else None,
            }
            for contestant, own in zip(field_, times, strict=True)
            if own.blocks
        ],
    } | ({"errors": errors} if errors else {})


def main(
    datasets: Annotated[list[str] | None, typer.Argument(help="data sets (default: ml-100k ml-1m)")] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: all cores")] = 1,
    blocks: Annotated[int, typer.Option(min=1)] = 12,
    users: Annotated[int, typer.Option(min=1, help="in a block")] = 4,
    paper_blocks: Annotated[int, typer.Option(min=0, help="with the paper's sizes; 0 leaves them out")] = 5,
    clock: Annotated[str, typer.Option(help="wall | cpu: what is reported; cpu needs one thread")] = "wall",
    device: Annotated[str, typer.Option(help="cpu | cuda")] = "cpu",
    tiny: Annotated[bool, typer.Option("--tiny", help="tiny models for the paper's, to try it")] = False,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Answer the same users with every model, one request at a time."""
    check_device(device, clock)
    conditions, store = Conditions(threads, clock), RunStore()
    torch.set_num_threads(conditions.threads)
    turns = Turns(blocks, users, paper_blocks, tiny)
    found = {name: measure(name, turns, clock_of(clock), store, device) for name in datasets or ["ml-100k", "ml-1m"]}
    setting = {"clock": clock, "blocks": blocks, "users": users}
    record = conditions.record("query_latency", ("torch", "transformers"), setting=setting, datasets=found)
    print(json.dumps(record, indent=1))
    if save:
        keep(record, "query_latency_cuda" if device == "cuda" else None)


if __name__ == "__main__":
    typer.run(main)

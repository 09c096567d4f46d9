"""How fast do GPT-2 and Mamba-2 read and write at the paper's sizes? RANDOM WEIGHTS: speed and memory, no quality.

    python -m benchmarks.decoding_speed [--threads 1] [--clock cpu] [--device cpu] [--save]

GPT-2 (117M) and Mamba-2 (130M) read prompts of growing length and write queries by beam search, with this study's
states. Apart from each other: seconds of reading the prompt, seconds of the steps that write, seconds of the whole
search, and the bytes that are kept for one user when it ends (each storage once, so a view counts with all that it
holds). The end of text is out of reach, so every search takes all its steps. GPT-2's window is 1,024 tokens; beyond it
stands a model of the same shape with more positions, to see what attention costs there.

At one length, transformers' own models and its `generate` take turns with ours; a factor is the median over turns.
On a GPU the record has a name of its own.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.conditions import Conditions, check_device, keep
from seqrec_lib.language import beams
from seqrec_lib.language.beams import Search
from seqrec_lib.language.hub_format import quiet
from seqrec_lib.language.pretrained import Size, configuration, parameter_counts
from seqrec_lib.language.states import GPT2States, Mamba2States, States, states_of

SIZES = {
    "gpt2": Size(d_model=768, n_layers=12, heads=12, positions=1024, vocabulary=50257),
    "mamba2": Size(d_model=768, n_layers=24, heads=24, d_state=128, positions=1024, vocabulary=50288),
}
TINY = Size(d_model=32, n_layers=2, heads=2, d_state=16, positions=1024, vocabulary=200)
Clock = Callable[[], float]


def clock_of(name: str) -> Clock:
    """Seconds by the wall clock (on a GPU once its work is done) or of this process's CPU time."""

    def wall() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    return time.process_time if name == "cpu" else wall


def llama(tiny: bool, device: str) -> Any:
    """Llama-2 7B's geometry in bfloat16 with random weights, made where it will run: a host need not hold it.

    A tiny one has two narrow layers.
    """
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig()  # its defaults are the 7B model's
    if tiny:
        config = LlamaConfig(
            vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
        )
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device=device)
    with torch.device(device):
        model.model.rotary_emb = LlamaRotaryEmbedding(config)  # a table, no weights
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.02)
            else:
                parameter.fill_(1.0)
    return model.eval()


class Watched:
    """States that note how long reading and writing take."""

    def __init__(self, states: States, clock: Clock) -> None:
        self.states, self.clock = states, clock
        self.read = self.written = 0.0
        self.steps = 0

    def start(self, ids: Tensor, lengths: Tensor, beams: int, steps: int) -> Tensor:
        begin = self.clock()
        logits = self.states.start(ids, lengths, beams, steps)
        self.read += self.clock() - begin
        return logits

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        begin = self.clock()
        logits = self.states.step(tokens, parents)
        self.written += self.clock() - begin
        self.steps += 1
        return logits

    def keep(self, users: Tensor) -> None:
        self.states.keep(users)


def kept_bytes(states: States) -> int:
    """Bytes that states hold between two tokens, each storage once."""
    if isinstance(states, GPT2States):
        tensors = [tensor for pair in (*states.prompt, *states.own) for tensor in pair]
    else:
        assert isinstance(states, Mamba2States)
        tensors = [*states.conv, *states.ssm]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def model_of(architecture: str, size: Size, positions: int, device: str) -> Any:
    """A model with random weights, with room for ``positions`` tokens."""
    torch.manual_seed(0)
    wide = replace(size, positions=max(size.positions, positions))
    return AutoModelForCausalLM.from_config(configuration(architecture, wide)).to(device).eval()


@torch.inference_mode()
def one_search(model: Any, context: int, setting: Search, clock: Clock) -> dict[str, float]:
    """One user's search after a prompt of ``context`` tokens."""
    states = states_of(model)
    assert states is not None
    watched: Any = Watched(states, clock)  # stands for the states
    vocabulary = model.config.vocab_size
    prompt = torch.randint(1, vocabulary, (context,)).tolist()
    begin = clock()
    beams._search(watched, [prompt], setting, vocabulary, None, next(model.parameters()).device)
    total = clock() - begin
    return {
        "read_seconds": watched.read,
        "step_seconds": watched.written / watched.steps,
        "total_seconds": total,
        "kept_bytes": kept_bytes(states),
    }


def by_context(
    models: dict[str, Any], contexts: list[int], setting: Search, rounds: Callable[[int], int], clock: Clock
) -> list[dict[str, Any]]:
    """Every length and architecture, architectures in turns: lists of seconds over rounds, and bytes."""
    for model in models.values():
        one_search(model, min(contexts), setting, clock)  # warms up
    rows = []
    for context in contexts:
        for model in models.values():
            if next(model.parameters()).is_cuda:
                one_search(model, context, setting, clock)  # kernels are compiled for each number of chunks
        found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
        for _ in range(rounds(context)):
            for name, model in models.items():
                found[name].append(one_search(model, context, setting, clock))
        for name, taken in found.items():
            lists = {key: [round(one[key], 5) for one in taken] for key in taken[0] if key != "kept_bytes"}
            row = {"architecture": name, "context": context, "kept_bytes": int(taken[0]["kept_bytes"])} | lists
            rows.append(row)
            print(name, context, {k: v for k, v in row.items() if k not in {"architecture", "context"}}, flush=True)
    return rows


def beside_transformers(model: Any, prompt: int, setting: Search, rounds: int, clock: Clock) -> dict[str, Any]:
    """Reading and the whole search of one user, ours and transformers', in turns."""
    vocabulary = model.config.vocab_size
    rows = torch.randint(1, vocabulary, (1, prompt)).tolist()
    device = next(model.parameters()).device
    ids, lengths = torch.tensor(rows, device=device), torch.tensor([prompt], device=device)
    states = states_of(model)
    assert states is not None
    actions: dict[str, Callable[[], Any]] = {
        "read": lambda: states.start(ids, lengths, setting.beams, setting.steps),
        "their_read": lambda: model(ids, use_cache=True, logits_to_keep=1),
        "search": lambda: beams.search(model, rows, setting, vocabulary),
        "their_search": lambda: beams._generate(model, rows, setting, vocabulary, None),
    }
    seconds: dict[str, list[float]] = {f"{name}_seconds": [] for name in actions}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, action in actions.items():
                begin = clock()
                action()
                seconds[f"{name}_seconds"].append(round(clock() - begin, 5))
    factors = {
        name: statistics.median(
            b / a for a, b in zip(seconds[f"{name}_seconds"], seconds[f"their_{name}_seconds"], strict=True)
        )
        for name in ("read", "search")
    }
    return {"prompt": prompt} | seconds | {f"{name}_times_as_fast": factors[name] for name in factors}


def main(
    threads: Annotated[int, typer.Option(min=0, help="0: all cores")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="up to 512 tokens; beyond, one")] = 3,
    beams: Annotated[int, typer.Option(min=1)] = 10,
    steps: Annotated[int, typer.Option(min=1, help="tokens of a query")] = 8,
    contexts: Annotated[str, typer.Option(help="prompts' lengths, with commas between")] = "128,256,512,1024,2048,4096",
    peer_prompt: Annotated[int, typer.Option(min=1, help="where transformers takes part")] = 128,
    device: Annotated[str, typer.Option(help="cpu | cuda")] = "cpu",
    clock: Annotated[str, typer.Option(help="wall | cpu: what is reported; cpu needs one thread")] = "wall",
    tiny: Annotated[bool, typer.Option("--tiny", help="tiny models, to try the script")] = False,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Read prompts and write queries with models of the paper's sizes, in turns with transformers."""
    check_device(device, clock)
    conditions = Conditions(threads, clock)
    torch.set_num_threads(conditions.threads)
    lengths = [int(length) for length in contexts.split(",")]
    timer, setting = clock_of(clock), Search(beams, steps)
    sizes = {name: TINY if tiny else size for name, size in SIZES.items()}
    models = {name: model_of(name, size, max(lengths) + steps, device) for name, size in sizes.items()}
    rows = by_context(models, lengths, setting, lambda n: rounds if n <= 512 else 1, timer)
    with quiet():
        peers = {
            name: beside_transformers(model, peer_prompt, setting, rounds, timer) for name, model in models.items()
        }
    print(json.dumps(peers, indent=1))
    if save:
        record = conditions.record(
            "decoding_speed",
            ("torch", "transformers"),
            weights="random",
            setting={"beams": beams, "steps": steps, "rounds": rounds, "clock": clock},
            models={name: _facts(name, model, sizes[name]) for name, model in models.items()},
            contexts=rows,
            peers=peers,
        )
        keep(record, "decoding_speed_cuda" if device == "cuda" else None)


def _facts(architecture: str, model: Any, size: Size) -> dict[str, int]:
    """What memory follows from, and the size with the published number of positions."""
    extra = getattr(model.config, "n_positions", size.positions) - size.positions
    total = parameter_counts(model)[0] - (extra * size.d_model if architecture == "gpt2" else 0)
    return {"parameters": total, "d_model": size.d_model, "layers": size.n_layers, "d_state": size.d_state}


if __name__ == "__main__":
    typer.run(main)

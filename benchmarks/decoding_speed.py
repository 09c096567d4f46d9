"""How fast do GPT-2 and Mamba-2 read and write at the paper's sizes? RANDOM WEIGHTS: speed and memory, no quality.

    python benchmarks/decoding_speed.py [--threads 1] [--clock cpu] [--device cpu] [--save]

GPT-2 (117M) and Mamba-2 (130M) read prompts of growing length and write queries by beam search, with this study's
states. Apart from each other: seconds of reading the prompt, seconds of the steps that write, seconds of the whole
search, and the bytes that are kept for one user when it ends (each storage once, so a view counts with all that it
holds). The end of text is out of reach, so every search takes all its steps. GPT-2's window is 1,024 tokens; beyond it
stands a model of the same shape with more positions, to see what attention costs there.

At one length, transformers' own models and its `generate` take turns with ours; a factor is the median over turns.
On a GPU the record has a name of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from seqrec_lib.language import beams
from seqrec_lib.language.beams import Search
from seqrec_lib.language.pretrained import Size, configuration, parameter_counts, quiet
from seqrec_lib.language.states import GPT2States, Mamba2States, States, states_of
from seqrec_lib.results.provenance import cpu_model, usable_cores

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
    watched, vocabulary = Watched(states, clock), model.config.vocab_size
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3, help="up to 512 tokens; beyond, one")
    parser.add_argument("--beams", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--peer-prompt", type=int, default=128, help="where transformers takes part")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the script")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and options.clock == "cpu":
        parser.error("a GPU's work is not in the CPU's seconds; use --clock wall")
    torch.set_num_threads(options.threads)
    load = [round(os.getloadavg()[0], 1)]
    clock, setting = clock_of(options.clock), Search(options.beams, options.steps)
    room = max(options.contexts) + options.steps
    models = {
        name: model_of(name, TINY if options.tiny else size, room, options.device) for name, size in SIZES.items()
    }
    rows = by_context(models, options.contexts, setting, lambda n: options.rounds if n <= 512 else 1, clock)
    with quiet():
        peers = {
            name: beside_transformers(model, options.peer_prompt, setting, options.rounds, clock)
            for name, model in models.items()
        }
    print(json.dumps(peers, indent=1))
    load.append(round(os.getloadavg()[0], 1))
    record = {
        "benchmark": "decoding_speed",
        "weights": "random",
        "date": datetime.now(UTC).date().isoformat(),
        "environment": {
            "cpu": cpu_model(),
            "cores": usable_cores(),
            "threads": options.threads,
            "load_average": load,
            "gpu": torch.cuda.get_device_name(0) if options.device == "cuda" else None,
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "setting": {"beams": options.beams, "steps": options.steps, "rounds": options.rounds, "clock": options.clock},
        "models": {name: _facts(name, model, TINY if options.tiny else SIZES[name]) for name, model in models.items()},
        "contexts": rows,
        "peers": peers,
    }
    if options.save:
        name = "decoding_speed" + ("_cuda" if options.device == "cuda" else "")
        path = Path(__file__).parent / "results" / f"{name}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}")


def _facts(architecture: str, model: Any, size: Size) -> dict[str, int]:
    """What memory follows from, and the size with the published number of positions."""
    extra = getattr(model.config, "n_positions", size.positions) - size.positions
    total = parameter_counts(model)[0] - (extra * size.d_model if architecture == "gpt2" else 0)
    return {"parameters": total, "d_model": size.d_model, "layers": size.n_layers, "d_state": size.d_state}


if __name__ == "__main__":
    main()

"""How fast do GPT-2 and Mamba-2 read and write at the paper's sizes? RANDOM WEIGHTS: speed only, no quality.

    python benchmarks/decoding_speed.py [--threads 1] [--rounds 3] [--device cpu] [--save]

GPT-2 (117M) and Mamba-2 (130M) read a prompt (prefill) and write queries by beam search, once with this study's
states and once with transformers' own `generate`, in turns; a factor is the median over rounds. Tokens per second
count the beams' tokens. The same number of steps is written by both, as the end of text is out of reach for random
weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from seqrec_lib.language import beams
from seqrec_lib.language.beams import Search
from seqrec_lib.language.pretrained import Size, configuration
from seqrec_lib.language.states import states_of

GPT2 = Size(d_model=768, n_layers=12, heads=12, positions=1024, vocabulary=50257)
MAMBA2 = Size(d_model=768, n_layers=24, heads=24, d_state=128, positions=1024, vocabulary=50288)
TINY = Size(d_model=32, n_layers=2, heads=2, d_state=16, positions=1024, vocabulary=200)


def timed(action: Callable[[], Any]) -> float:
    """Seconds that an action takes."""
    begin = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(model: Any, prompt: int, users: int, setting: Search, rounds: int) -> dict[str, float]:
    """Medians of prefill and writing, ours and transformers', in turns."""
    vocabulary, end = model.config.vocab_size, model.config.vocab_size  # an end that no token is
    device = next(model.parameters()).device
    rows = torch.randint(1, vocabulary, (users, prompt)).tolist()
    ids = torch.tensor(rows, device=device)
    lengths = torch.full((users,), prompt, device=device)
    states = states_of(model)
    assert states is not None
    actions = {
        "prefill": lambda: states.start(ids, lengths, setting.beams, setting.steps),
        "their_prefill": lambda: model(ids, use_cache=True, logits_to_keep=1),
        "writing": lambda: beams.search(model, rows, setting, end),
        "their_writing": lambda: beams._generate(model, rows, setting, end, None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, action in actions.items():
                taken = timed(action)
                if turn:  # the first turn warms up
                    seconds[name].append(taken)
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    factor = statistics.median(a / b for a, b in zip(seconds["their_writing"], seconds["writing"], strict=True))
    return {
        "prefill_tokens_per_second": users * prompt / middle["prefill"],
        "their_prefill_tokens_per_second": users * prompt / middle["their_prefill"],
        "written_tokens_per_second": users * setting.beams * setting.steps / middle["writing"],
        "their_written_tokens_per_second": users * setting.beams * setting.steps / middle["their_writing"],
        "milliseconds_per_user": 1e3 * middle["writing"] / users,
        "times_as_fast": factor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=2)
    parser.add_argument("--beams", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the script")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    setting = Search(options.beams, options.steps)
    results = []
    for architecture, size in (("gpt2", TINY if options.tiny else GPT2), ("mamba2", TINY if options.tiny else MAMBA2)):
        model = AutoModelForCausalLM.from_config(configuration(architecture, size)).to(options.device).eval()
        for prompt in options.prompts:
            row = measure(model, prompt, options.users, setting, options.rounds)
            results.append({"architecture": architecture, "prompt": prompt, **row})
            print(architecture, prompt, {name: round(value, 2) for name, value in row.items()})
    record = {
        "weights": "random",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": options.threads},
        "device": torch.cuda.get_device_name(0) if options.device == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "setting": {"users": options.users, "beams": options.beams, "steps": options.steps, "rounds": options.rounds},
        "rows": results,
    }
    if options.save:
        path = Path(__file__).parent / "results" / "decoding_speed.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()

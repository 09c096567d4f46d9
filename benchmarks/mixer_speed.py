"""How fast are the state-space mixers on this CPU beside transformers' Mamba and Mamba-2?

    python -m benchmarks.mixer_speed --environments DIR [--threads 2] [--rounds 15] [--save]

A forward and backward pass of one mixer, same sizes, float32 (ours also in bfloat16, where the processor multiplies
it). The contestants take turns, as in `ssm_speed`. `--environments` gets a virtual environment with the last release
of transformers whose Mamba-2 sums over products with broadcasting; later ones compute by matrix products, as ours
does. What those products alone would take at the rate of a large one is the floor of any implementation by products.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from transformers import Mamba2Config, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from benchmarks.conditions import Conditions, keep
from benchmarks.ssm_speed import D_MODEL, SHAPES, in_bfloat16, interleaved, product_flops, ratio
from benchmarks.train_speed import Side, Worker, prepare_environment
from seqrec_lib.results.provenance import version
from seqrec_lib.ssm import Mamba, Mamba2
from seqrec_lib.train.loop import matmul_rate, usable_precision

PEER_GOAL = 5.0  # the least factor over transformers
OLDER = "5.17.0"  # 5.18.0 brought the products
# Rounds of Mamba, on the shorter shape alone: its peer walks over the tokens, a quarter of a minute a pass.
FEW = 2
OURS, OURS_BF16 = "ours", "ours in bf16"
BLOCK: dict[str, Any] = {"hidden_size": D_MODEL, "expand": 2, "conv_kernel": 4}
BLOCK |= {"num_hidden_layers": 1, "use_bias": False}
# transformers' default chunk of 256 is slower at these lengths
BLOCK_2 = BLOCK | {"state_size": 128, "head_dim": 64, "num_heads": 2, "n_groups": 1, "chunk_size": 64}


def mixer_step(mixer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward of a mixer alone."""
    x, g = x.clone().requires_grad_(), torch.randn_like(x)

    def step() -> None:
        mixer.zero_grad(set_to_none=True)
        mixer(x).backward(g)

    return step


def against_transformers(
    ours: nn.Module, theirs: nn.Module, x: Tensor, rounds: int, rate: float, older: Worker | None = None
) -> dict[str, dict[str, float]]:
    """Milliseconds of each side, products, their floor at ``rate`` (FLOP/s), and how many times as fast ours is."""
    step, peer = mixer_step(ours, x), mixer_step(theirs, x)
    step()  # ours compiles or loads its kernels
    steps: dict[str, Callable[[], Any]] = {OURS: step}
    if usable_precision("softmax-bf16", x.device) != "fp32":  # elsewhere it is converted, and nobody would ask for it
        steps[OURS_BF16] = in_bfloat16(step)
    if older is not None:
        steps[f"transformers {OLDER}"] = lambda: older.turn("wall", 1e-9)  # a turn that short is one pass
    now = f"transformers {version('transformers')}"
    steps[now] = peer
    seconds = interleaved(steps, rounds, warm_up=min(2, rounds - 1))
    rows = {
        name: {"milliseconds": 1e3 * statistics.median(taken), "ours_times_as_fast": ratio(taken, seconds[OURS])}
        for name, taken in seconds.items()
    }
    for name, counted in ((OURS, step), (now, peer)):
        flops = product_flops(counted)
        rows[name] |= {"product_gflop": flops / 1e9, "floor_milliseconds": 1e3 * flops / rate}
    return rows


def main(
    environments: Annotated[Path, typer.Option(help="folder for the virtual environment of the older release")],
    threads: Annotated[int, typer.Option(min=0, help="0: all cores")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="turns of each side")] = 15,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Time our mixers in turns with transformers', of this release and of an older one."""
    conditions = Conditions(threads)
    torch.set_num_threads(conditions.threads)
    torch.manual_seed(0)
    if version("transformers") == OLDER:
        raise SystemExit(f"error: transformers {OLDER} is installed here; that is the older side, install a newer one")
    rate = matmul_rate(torch.device("cpu"))
    release = torch.__version__.partition("+")[0]
    needs: dict[str, tuple[str, ...]] = {"packages": (f"transformers=={OLDER}",)}
    python = {"older": prepare_environment(environments, f"transformers-{OLDER}", release, needs)}
    shapes: list[dict[str, Any]] = []
    for length, batch in SHAPES:
        x = torch.randn(batch, length, D_MODEL)
        size = BLOCK_2 | {"batch": batch, "length": length}
        side = Side("older", "transformers_mixer.py", "older", size)
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
            worker = Worker(side, python, {"threads": conditions.threads}, Path(folder), log)
            try:
                worker.report()
                theirs = Mamba2Mixer(Mamba2Config(**BLOCK_2), layer_idx=0)
                mixers = {"Mamba-2": against_transformers(Mamba2(D_MODEL, 128), theirs, x, rounds, rate, worker)}
            except RuntimeError as error:
                raise SystemExit(
                    f"error: {error}\n{(Path(folder) / 'log').read_text(errors='replace')[-3000:]}"
                ) from None
            finally:
                worker.stop()
        if length <= 200:
            walking = MambaMixer(MambaConfig(state_size=32, **BLOCK), layer_idx=0)
            mixers["Mamba"] = against_transformers(Mamba(D_MODEL, 32), walking, x, FEW, rate)
        counts = {name: FEW if name == "Mamba" else rounds for name in mixers}
        shapes.append({"length": length, "batch": batch, "rounds": counts, "mixers": mixers})
        show(shapes[-1])
    if save:
        keep(conditions.record("mixer_speed", ("torch", "numba"), product_gflops=rate / 1e9, shapes=shapes))


def show(shape: dict[str, Any]) -> None:
    """One shape in the terminal."""
    print(
        f"\n{shape['batch']} histories of {shape['length']}, d = {D_MODEL}; ours: at least {PEER_GOAL:g} times as fast"
    )
    for mixer, rows in shape["mixers"].items():
        for name, row in rows.items():
            floor = f"   its products {row['floor_milliseconds']:.1f}" if "floor_milliseconds" in row else ""
            print(f"{mixer:10}{name:22}{row['milliseconds']:10.1f} ms{row['ours_times_as_fast']:8.1f}{floor}")


if __name__ == "__main__":
    typer.run(main)

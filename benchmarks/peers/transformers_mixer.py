"""The Mamba-2 mixer of another transformers release, a forward and backward pass a turn (see turns.py).

Runs in an environment of that release; the settings are those of its configuration, with ``batch`` and ``length``.
"""

from __future__ import annotations

from turns import Turns, settings


def main() -> None:
    given = settings()
    import torch
    import transformers
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    torch.set_num_threads(given.pop("threads"))
    batch, length = given.pop("batch"), given.pop("length")
    mixer = Mamba2Mixer(transformers.Mamba2Config(**given), layer_idx=0)
    x = torch.randn(batch, length, given["hidden_size"], requires_grad=True)
    g = torch.randn_like(x)
    turns = Turns(versions={"torch": torch.__version__, "transformers": transformers.__version__})
    while True:
        mixer.zero_grad(set_to_none=True)
        mixer(x).backward(g)
        turns.step(0, batch * length, batch * length)


if __name__ == "__main__":
    main()

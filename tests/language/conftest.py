"""Small language models and titles that are hard to handle, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqrec_lib.language.corpus import GPT4REC, letters
from seqrec_lib.language.pretrained import LanguageModel, Size, from_scratch, prompt_texts
from seqrec_lib.language.ranker_recipes import Preference

TITLES = (
    "",
    "The Silent Comet (1995)",
    "Pale Fog",
    "Pale Fog II",
    "Дневной дозор",
    "千と千尋の神隠し",
    "{braces} and 100 %",
    "Pale Fog",  # the same text as item 2
    "item B0042",
    "???",
)
TINY = Size(d_model=16, n_layers=2, heads=2, d_state=8, positions=128, vocabulary=500)


def make(architecture: str, size: Size = TINY, seed: int = 0) -> LanguageModel:
    """A tiny model whose weights are large enough to tell tokens apart."""
    texts = prompt_texts(TITLES[1:], GPT4REC.render(["a"]), " " + " ".join(letters(20)))
    made = from_scratch(architecture, texts, size, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    made.model.eval()
    return made


def once(objective: str = "sft", **settings: Any) -> Preference:
    """One pass over the examples by LlamaRec's rate and warm-up, where ``settings`` say nothing else."""
    return Preference(objective, **{"learning_rate": 1e-4, "warmup_steps": 100, "epochs": 1} | settings)


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    return {name: make(name) for name in ("gpt2", "mamba2", "llama")}

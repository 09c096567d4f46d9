"""A language model from scratch that reads one token per title, and starts with an induction head.

To name the letter of a fitting candidate takes an *induction head* (Olsson et al. 2022): attention that looks for an
earlier place that fits, and copies its neighbour. A small model with random weights stays at chance for thousands of
steps before it has one. So this one is given one at the start, as weights that are trained on like all others (mimetic
initialisation: Trockman and Kolter 2023):

    layer 1   keys and queries prefer the token before: each token takes in its neighbour,    x_t += B^T A x_{t-1}
    layer 2   what was taken in (B) looks for titles like it (A), and copies what they took in: their letter

Titles begin with vectors of the caller's, such as a retriever's item embeddings, where items that follow each other
are near; else with random ones. A title is one token, so that a prompt of 20 titles and 20 candidates has 63.

Glossary: d width; h width of a head; A, B (h, d) with orthonormal rows; theta_f the frequencies of the rotary position
embedding.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seqrec_lib.language.corpus import Prompt, letters
from seqrec_lib.language.pretrained import END, LanguageModel, Size, configuration, sizes_of

if TYPE_CHECKING:
    import numpy as np

SOURCE = "scratch:titles"

TITLES = Prompt("titles", "Pool {candidates} History {history} Answer", candidate="{letter} {title}")
"""The ranking prompt of title tokens. The pool comes first, so that the answer stands right behind the last title."""

# Of layer 1's preference for the token before: the next one but one gets exp(-20 sum_f (1 - cos theta_f) / sqrt(h)) of
# its weight, over the rotary frequencies theta_f of heads of width h; at h = 32 a tenth.
SHARPNESS = 20.0
MATCH = 1.5  # scale of layer 2's queries and keys
HEADROOM = 0.15  # of the last norm: with vectors of length sqrt(d) the first logits are then about 1


def names(n_items: int) -> tuple[str, ...]:
    """(n_items + 1,) what stands for each item in a prompt, "" for padding: "<1>", "<2>", ..."""
    return ("", *(f"<{item}>" for item in range(1, n_items + 1)))


def tokenizer(n_items: int) -> Any:
    """A fast tokenizer of transformers: words behind white space; each item's name, each letter one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [END, *names(n_items)[1:], *letters(26), *(w for w in TITLES.text.split() if not w.startswith("{"))]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=END))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=END, eos_token=END, pad_token=END, unk_token=END)


def title_model(n_items: int, size: Size, seed: int, vectors: np.ndarray | None = None) -> LanguageModel:
    """A model of Llama's architecture (with biases in attention) over title tokens.

    Args:
        size: its width, layers (2 at least) and heads; the vocabulary is that of the titles.
        vectors: (n_items + 1, width <= d) the titles' first embeddings; they are centred and scaled to length sqrt(d).
    """
    import torch
    from transformers import AutoModelForCausalLM

    made = tokenizer(n_items)
    config = configuration("llama", replace(size, vocabulary=len(made)))
    config.attention_bias = True
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        embedding = model.get_input_embeddings().weight
        embedding.normal_()
        if vectors is not None:
            own = torch.as_tensor(vectors[1:], dtype=torch.float32)
            own = own - own.mean(0)
            own = own / own.norm(dim=1, keepdim=True).clamp(min=1e-6) * math.sqrt(size.d_model)
            embedding[1 : n_items + 1] = torch.nn.functional.pad(own, (0, size.d_model - own.shape[1]))
        _give_induction_head(model)
    made.model_max_length = size.positions
    provenance = {"kind": "scratch", "name": SOURCE} | sizes_of(model) | {"vectors": vectors is not None}
    return LanguageModel(model, made, provenance)


def _give_induction_head(model: Any) -> None:
    """The first head of the first two layers; see the module's text."""
    import torch

    config = model.config
    width = config.hidden_size // config.num_attention_heads
    half = width // 2
    a, b = (torch.nn.init.orthogonal_(torch.empty(width, config.hidden_size)) for _ in range(2))
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    # Rotated by their positions, these biases have the product SHARPNESS sum_f cos(theta_f (distance - 1)).
    angle = config.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    root = math.sqrt(SHARPNESS)
    first.q_proj.weight[:width] = 0
    first.k_proj.weight[:width] = 0
    first.k_proj.bias[:width] = torch.cat([torch.full((half,), root), torch.zeros(half)])
    first.q_proj.bias[:width] = root * torch.cat([angle.cos(), -angle.sin()])
    first.v_proj.weight[:width], first.o_proj.weight[:, :width] = a, b.T
    second.q_proj.weight[:width], second.k_proj.weight[:width] = MATCH * b, MATCH * a
    second.v_proj.weight[:width], second.o_proj.weight[:, :width] = b, a.T
    model.model.norm.weight.fill_(HEADROOM)

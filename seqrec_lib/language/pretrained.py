"""A causal language model and its tokenizer, from any source (`sources`), and which one it was.

A result from scratch must never pass for one of a pretrained model, so `LanguageModel.provenance` goes into every
record. From scratch, all architectures share one byte-level BPE, which is trained on the data set's titles and the
prompt's words, and `matched` makes their sizes equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import gguf_files, sources
from seqrec_lib.language.hub_format import configuration_of, read_model, readable, tokenizer_of
from seqrec_lib.results.record import ADDED_LATER
from seqrec_lib.validation import Checked, Count, Length, Part, Width

if TYPE_CHECKING:
    from torch import Tensor

END = "<|endoftext|>"  # begins nothing, ends every text; GPT-2's own token
ARCHITECTURES = ("gpt2", "mamba2", "llama")
CHUNK = 64  # tokens of a chunk in Mamba-2: transformers' CPU path holds (chunk x chunk) numbers for each head


@dataclass(frozen=True)
class Size(Checked):
    """Dimensions of a model from scratch.

    Attributes:
        d_model, n_layers: width and depth. heads: of attention, or those that share Mamba-2's 2 d_model channels.
        d_state: numbers of state per channel (Mamba-2 only).
        positions: longest text (Mamba-2 has none). vocabulary: tokens, at most (few titles give fewer).
        dropout: of GPT-2's residual, embedding and attention dropouts (Mamba-2 and Llama have none of their own).
        same_dropout: whether Mamba-2 has it as well, on the embeddings and on what each layer adds.
    """

    d_model: Width = 128
    n_layers: Width = 3
    heads: Width = 4
    d_state: Width = 64
    positions: Length = 256
    vocabulary: Count = 2048
    dropout: Part = 0.1
    same_dropout: bool = field(default=False, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.heads:
            raise SeqRecError(f"heads is {self.heads}; it should divide d_model, which is {self.d_model}")


@dataclass(frozen=True)
class LanguageModel:
    """A model (``transformers.PreTrainedModel``), its fast tokenizer, and where they come from.

    ``provenance``: kind (hub | folder | gguf | scratch), name, architecture, parameters, parameters_without_embeddings
    and, where there were weights, their sha256. Plain values, for a record.
    """

    model: Any
    tokenizer: Any
    provenance: dict[str, Any]


def load(source: str, *, texts: Iterable[str] = (), size: Size | None = None, seed: int = 0) -> LanguageModel:
    """The language model at ``source``.

    Args:
        texts, size, seed: for a model from scratch: what its tokenizer is trained on, its size, its initial weights.

    Raises:
        SeqRecError: an unknown architecture; a folder without a model; an id that is neither cached nor reachable.
    """
    if sources.kind(source) == "scratch":
        return from_scratch(source.partition(":")[2], texts, size or Size(), seed)
    folder = sources.folder_of(source)
    with readable(source):
        config = configuration_of(folder)
        if config.model_type == "mamba2":
            config.chunk_size = min(config.chunk_size, CHUNK)
        model = read_model(source, folder, config=config)
    return LanguageModel(model.eval(), tokenizer_of(source, folder), provenance(source, model, folder))


def from_scratch(architecture: str, texts: Iterable[str], size: Size, seed: int) -> LanguageModel:
    """Random weights of an architecture, and a byte-level BPE trained on ``texts``."""
    import torch
    from transformers import AutoModelForCausalLM

    if architecture not in ARCHITECTURES:
        raise SeqRecError(f"no architecture {architecture!r} from scratch; there are {', '.join(ARCHITECTURES)}")
    tokenizer = train_tokenizer(texts, size.vocabulary)
    config = configuration(architecture, replace(size, vocabulary=len(tokenizer)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    if architecture == "mamba2" and size.same_dropout:
        _add_dropout(model, size.dropout)
    tokenizer.model_max_length = size.positions
    made = {"kind": "scratch", "name": f"scratch:{architecture}"} | sizes_of(model)
    return LanguageModel(model, tokenizer, made)


def configuration(architecture: str, size: Size) -> Any:
    """transformers' configuration of an architecture at a size; the output layer is tied to the embedding."""
    from transformers import GPT2Config, LlamaConfig, Mamba2Config

    shared: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": size.vocabulary}
    if architecture == "gpt2":
        shared |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), size.dropout)
        return GPT2Config(
            n_embd=size.d_model, n_layer=size.n_layers, n_head=size.heads, n_positions=size.positions, **shared
        )
    shared |= {"hidden_size": size.d_model, "num_hidden_layers": size.n_layers, "tie_word_embeddings": True}
    if architecture == "llama":
        return LlamaConfig(
            num_attention_heads=size.heads,
            intermediate_size=8 * size.d_model // 3,
            max_position_embeddings=size.positions,
            **shared,
        )
    return Mamba2Config(
        num_heads=size.heads,
        head_dim=2 * size.d_model // size.heads,
        state_size=size.d_state,
        n_groups=1,
        chunk_size=CHUNK,
        initializer_range=0.02,  # with a tied output layer the default 0.1 starts at a loss far above log V
        **shared,
    )


def _add_dropout(model: Any, p: float) -> None:
    """Dropout in training where GPT-2 has it and Mamba-2 has such a place."""
    from torch.nn import functional as F

    def drop(module: Any, _: Any, output: Tensor) -> Tensor:
        return F.dropout(output, p, module.training)

    model.backbone.embeddings.register_forward_hook(drop)
    for layer in model.backbone.layers:
        layer.mixer.register_forward_hook(drop)


def matched(size: Size, architecture: str) -> Size:
    """The size at which ``architecture`` has about as many parameters as GPT-2 has at ``size``.

    Width and vocabulary stay; the number of layers is chosen, then for Mamba-2 the state size (a multiple of 8).
    """
    if architecture == "gpt2":
        return size
    wanted = count("gpt2", size)
    layers = min(
        range(1, 8 * size.n_layers + 1), key=lambda n: abs(count(architecture, replace(size, n_layers=n)) - wanted)
    )
    if architecture != "mamba2":
        return replace(size, n_layers=layers)
    options = [
        replace(size, n_layers=n, d_state=state)
        for n in {layers, max(1, layers - 1), layers + 1}
        for state in range(max(8, size.d_state // 2), 3 * size.d_state // 2 + 1, 8)
    ]
    return min(options, key=lambda s: (abs(count(architecture, s) - wanted), abs(s.d_state - size.d_state)))


def count(architecture: str, size: Size) -> int:
    """Parameters of an architecture at a size, by arithmetic (a test compares with the models themselves)."""
    d, N, H = size.d_model, size.d_state, size.heads
    if architecture == "gpt2":
        return (size.vocabulary + size.positions + 2) * d + size.n_layers * (12 * d + 13) * d
    if architecture == "llama":
        return (size.vocabulary + 1) * d + size.n_layers * (2 * d + 4 * d * d + 3 * d * (8 * d // 3))
    inner, channels = 2 * d, 2 * d + 2 * N
    mixer = d * (inner + channels + H) + 5 * channels + 3 * H + inner + inner * d  # in, convolution, A D dt, norm, out
    return (size.vocabulary + 1) * d + size.n_layers * (d + mixer)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE trained on ``texts``, in any order, as a fast tokenizer of transformers.

    Every byte is a token: no text in any script is unknown.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(sorted(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=END, eos_token=END, pad_token=END)


def parameter_counts(model: Any) -> tuple[int, int]:
    """(all parameters, those without the token embedding and, where it is not tied, the output layer)."""
    total = sum(p.numel() for p in model.parameters())
    outside = {
        id(part.weight): part.weight.numel() for part in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    return total, total - sum(outside.values())


def sizes_of(model: Any) -> dict[str, Any]:
    """What a record says of any model: architecture and sizes."""
    total, body = parameter_counts(model)
    architecture = model.config.model_type
    return {"architecture": architecture, "parameters": total, "parameters_without_embeddings": body}


def provenance(source: str, model: Any, folder: Path) -> dict[str, Any]:
    """What a record says of a checkpoint, with the hash of its weights; ``model`` has its parameters."""
    hashed = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        hashed.update(bytes.fromhex(gguf_files.sum_of([path])))
    return sources.described(source) | sizes_of(model) | {"weights_sha256": hashed.hexdigest()}


def prompt_texts(titles: Sequence[str], *rendered: str) -> list[str]:
    """What a tokenizer from scratch is trained on: each title as it stands behind a space, and rendered prompts.

    A prompt is repeated as often as there are titles, so that its words become tokens of their own.
    """
    return [f" {title}." for title in titles] + [text for text in rendered for _ in titles]

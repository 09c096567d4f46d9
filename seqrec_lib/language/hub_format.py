"""Folders in the Hugging Face hub's own format: what belongs to one, and how model and tokenizer are read from it.

Weights are read from safetensors only, and no code of a checkpoint is executed. What cannot be read is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # of a checkpoint: configuration, weights, tokenizer
COMPUTED = re.compile(r"(rotary_emb\.inv_freq|\battn\.(masked_)?bias|\battention\.(masked_)?bias)$")
"""Tensors of older checkpoints that models compute themselves today."""
SAMPLE = "User history: The Silent Comet (1999)"

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # how checkpoints are read


def read_model(source: str, folder: Path, **how: Any) -> Any:
    """The model in a checkpoint's folder, in float32. transformers would draw what it does not find there at random.

    Raises:
        SeqRecError: a tensor of the model is missing or has another shape, or there is one that no model has.
    """
    from transformers import AutoModelForCausalLM

    with quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype="float32", output_loading_info=True, ignore_mismatched_sizes=True,
            **how, **LOCAL,
        )  # fmt: skip
    model, loading = loaded
    wrong = {
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted(name for name in loading["unexpected_keys"] if not COMPUTED.search(name)),
        "of another shape": sorted(own[0] for own in loading["mismatched_keys"]),
    }
    named = [f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in wrong.items() if names]
    if named:
        raise SeqRecError(
            f"{source}: its tensors are not those of the {model.config.model_type} that its config.json describes: "
            f"{'; '.join(named)}; get the model anew"
        )
    return model


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Within: what cannot be read of a checkpoint is one line that names it."""
    try:
        yield
    except SeqRecError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors have many kinds
        reason = " ".join(str(error).split())[:200]
        raise SeqRecError(f"{source}: cannot be loaded as a causal language model ({reason}); get it anew") from None


def configuration_of(folder: Path) -> Any:
    """The transformers configuration in a checkpoint's folder."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, **LOCAL)


def tokenizer_of(source: str, folder: Path) -> Any:
    """The tokenizer of a checkpoint, with a token for padding.

    Raises:
        SeqRecError: it cannot be read, is not a fast one, has no end of text, or no tokens for text: transformers makes
            an empty one where its files are missing.
    """
    from transformers import AutoTokenizer

    with readable(source):
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise SeqRecError(f"{source}: its tokenizer is not a fast one with an end of text; add a tokenizer.json")
    special = {*tokenizer.added_tokens_decoder, tokenizer.unk_token_id}
    words = sorted(word for word, number in tokenizer.get_vocab().items() if number not in special)
    sample = " ".join([SAMPLE, *words[:20]])  # of a tokenizer whose tokens are whole words, some of those
    if not set(tokenizer.encode(sample, add_special_tokens=False)) - special:
        raise SeqRecError(f"{source}: its tokenizer has no tokens for text; add the model's tokenizer.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so no new token (and no new row) is needed
    return tokenizer


def save(model: Any, tokenizer: Any, folder: Path, **how: Any) -> None:
    """Write a model and its tokenizer; ``how`` goes to the model's ``save_pretrained``."""
    with quiet():
        model.save_pretrained(folder, **how)
        tokenizer.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Within: transformers shows no bars and no remarks below an error (its own state is put back)."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""Low-rank adapters (LoRA, Hu et al. 2022) on a language model, by peft: the one place where they are attached.

Of a linear layer with weights W the output becomes W x + (alpha / rank) B A x, where A (rank x in) and B (out x rank)
alone are trained. B starts at zero: training starts at the model as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any, Literal

from seqrec_lib.errors import SeqRecError

Targets = Literal["query-value", "all-linear"]  # LlamaRec's choice; attention and MLP, but not the output layer
NAMES = {"gpt2": ["c_attn", "c_proj", "c_fc"], "mamba2": ["in_proj"]}  # where not all linear maps can have one


def with_adapter(
    model: Any,
    *,
    rank: int = 8,
    alpha: int = 32,
    dropout: float = 0.05,
    targets: Targets | Collection[str] = "query-value",
    layers: float = 1.0,
) -> Any:
    """The model with adapters (LlamaRec's by default), which alone are trained.

    Args:
        targets: which linear maps, a choice or their names.
        layers: the share of the model's layers that have them, counted from the top.

    Raises:
        SeqRecError: the model has no such layer.
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from torch import nn

    kind, depth = model.config.model_type, int(getattr(model.config, "num_hidden_layers", 0))
    if targets == "query-value":
        names = ["q_proj", "v_proj"]
    elif targets == "all-linear":
        output = model.get_output_embeddings()
        linear = [name for name, own in model.named_modules() if isinstance(own, nn.Linear) and own is not output]
        names = NAMES.get(kind) or sorted({name.rpartition(".")[2] for name in linear})
    else:
        names = list(targets)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=names,
        layers_to_transform=None if layers == 1 else list(range(round((1 - layers) * depth), depth)),
        fan_in_fan_out=kind == "gpt2",  # its layers hold their weights transposed
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        with warnings.catch_warnings():  # peft reads an attribute that transformers has renamed
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            return get_peft_model(model, config)
    except ValueError as error:
        raise SeqRecError(f"no adapter on {', '.join(names)}: {str(error)[:120]}") from None

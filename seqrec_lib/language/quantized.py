"""QLoRA (Dettmers et al. 2023): a base model in four bits and adapters in full precision, which alone are trained.

``nf4:<hub id or folder>`` is the source of such a model. Of every linear layer but the output layer, blocks of `BLOCK`
weights share a scale s, their largest absolute value, and each weight w is the nearest of s q_0, ..., s q_15, where
q_0 = -1 < ... < q_15 = 1 are quantiles of the normal distribution (NF4). The scales are quantised in their turn, to
eight bits in blocks of `SCALES` ("double quantisation"). Embeddings, norms and the output layer stay in float32: the
letters that a ranker reads must not be rounded into ties. bitsandbytes does the arithmetic, on the CPU as well.

What is kept of a tuned model is its adapter: adding it to four-bit weights would round it away, and adding it to
full-precision weights would make a model that was never trained. Nothing here imports torch before a model is asked
for.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import adapters, hub_format, pretrained, sources
from seqrec_lib.language.pretrained import LanguageModel
from seqrec_lib.validation import read_json

if TYPE_CHECKING:
    import torch

PREFIX = "nf4:"
BLOCK = 64  # weights that share a scale
SCALES = 256  # scales that share a float32
FIRST = "default"  # the adapter of a fine-tuned model: peft's own name for an only one
FURTHER = "further"  # the one beside it, where such a model is tuned further
BASE = "base.json"  # in the folder of a kept adapter: which weights it belongs to


def is_quantized(source: str) -> bool:
    """Whether a source asks for four-bit weights."""
    return source.startswith(PREFIX)


def base(source: str) -> str:
    """The source of the full-precision weights behind a source; any other source is its own."""
    return source.removeprefix(PREFIX)


def check(source: str, lora_rank: int) -> None:
    """Refuse, before anything is loaded, what four bits cannot do.

    Raises:
        SeqRecError: a four-bit model from scratch, or without adapters.
    """
    if not is_quantized(source):
        return
    if not base(source) or sources.kind(base(source)) == "scratch":
        raise SeqRecError(
            f"source {source!r}: four bits are for pretrained weights; put a hub id or a folder behind nf4:"
        )
    if lora_rank < 1:
        raise SeqRecError(f"lora_rank {lora_rank} with {source}: four-bit weights are not trained, adapters are; use 8")


def bits_per_weight() -> float:
    """Bits of memory for one quantised weight, its share of the scales included.

    >>> round(bits_per_weight(), 3)
    4.127
    """
    return 4 + 8 / BLOCK + 32 / (BLOCK * SCALES)


def load(source: str, device: str) -> LanguageModel:
    """The model of a four-bit ``source`` on ``device`` (cpu | cuda), frozen, with gradient checkpointing in training.

    Matrices are multiplied in bfloat16 on a GPU that has it, elsewhere in float32; the output layer always in float32.
    ``provenance`` is that of the unquantised model, with "quantisation".

    Raises:
        SeqRecError: bitsandbytes is missing or does not work on the device; no such model; nothing to quantise.
    """
    library, name = _library(device), base(source)
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM

    folder, compute = sources.folder_of(name), _compute(device)
    model = _read(name, folder, compute, device)
    layers = [module for module in model.modules() if isinstance(module, library.nn.Linear4bit)]
    architecture = model.config.model_type
    if not layers:
        raise SeqRecError(f"{name}: {architecture} has no linear layer to keep in four bits; use source {name!r}")
    for width in {layer.in_features for layer in layers if layer.in_features % BLOCK}:
        _try(library, device, width)  # rows that are no multiple of a block: not every CPU kernel reads them rightly
    for layer in layers:
        # On a CPU with AVX-512 for bfloat16, an evaluation would repack the weights for a product that rounds to
        # bfloat16 and, in training afterwards, has no gradient.
        layer.support_avx512bf16_for_cpu = False
    with warnings.catch_warnings():  # peft calls a method that transformers has renamed
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    if compute != torch.float32:  # the body alone: the output layer's logits decide ranks
        body = model.base_model
        body.forward = torch.autocast(device, dtype=compute)(body.forward)
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(hub_format.configuration_of(folder))
    provenance = pretrained.provenance(name, plain, folder)
    state = layers[0].weight.quant_state
    provenance["quantisation"] = {
        "type": state.quant_type,
        "block": state.blocksize,
        "double": state.nested,
        "scales_block": state.state2.blocksize if state.nested else None,
        "compute": str(compute).removeprefix("torch."),
        "layers": len(layers),
        "weight_bytes": weight_bytes(model),
        "library": f"bitsandbytes {library.__version__}",
    }
    return LanguageModel(model.eval(), hub_format.tokenizer_of(name, folder), provenance)


def _read(name: str, folder: Path, compute: torch.dtype, device: str) -> Any:
    """The model with NF4 weights; what is refused is what `pretrained.load` refuses."""
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    with hub_format.readable(name), hub_format.quiet():
        config = hub_format.configuration_of(folder)
        if getattr(config, "quantization_config", None) is not None:
            raise SeqRecError(f"{name}: its weights are quantised already; give the model that they were made from")
        return hub_format.read_model(name, folder, config=config, quantization_config=how, device_map={"": device})


def with_adapter(model: Any, *, rank: int, **how: Any) -> Any:
    """A model of `load` with adapters to be trained; one of `load_tuned` gets new ones beside its own, which stay.

    Either way training starts at the model as it is.
    """
    if FIRST not in getattr(model, "peft_config", {}):
        return adapters.with_adapter(model, rank=rank, **how)
    config = copy.deepcopy(model.peft_config[FIRST])
    config.r, config.inference_mode = rank, False
    model.add_adapter(FURTHER, config)
    model.base_model.set_adapter([FIRST, FURTHER])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{FURTHER}." in name)
    return model


def save(model: Any, tokenizer: Any, provenance: Mapping[str, Any], folder: Path) -> None:
    """Write a tuned model's adapter in peft's format, its tokenizer, and which base it belongs to."""
    config = model.peft_config[FIRST]
    config.base_model_name_or_path = provenance["name"]
    hub_format.save(model, tokenizer, folder, selected_adapters=[FIRST], save_embedding_layers=False)
    belongs = {name: provenance[name] for name in ("name", "weights_sha256")}
    (folder / BASE).write_text(json.dumps(belongs, indent=1) + "\n", encoding="utf-8")


def load_tuned(folder: Path, source: str, device: str) -> LanguageModel:
    """The model that `save` wrote: ``source`` in four bits again, with the adapter, frozen and without dropout.

    Raises:
        SeqRecError: the weights behind ``source`` are not those that the adapter was trained on; what `load` raises.
    """
    language = load(source, device)
    wanted = read_json(folder / BASE, "delete the ranker's record and tune it again")
    if wanted["weights_sha256"] != language.provenance["weights_sha256"]:
        raise SeqRecError(
            f"{base(source)}: its weights are not those that the adapter in {folder.name} was tuned on; "
            "put the former back, or delete the ranker's record and tune it again"
        )
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    config = LoraConfig.from_pretrained(str(folder))
    shape: dict[str, Any] = {"rank": config.r, "alpha": config.lora_alpha, "targets": tuple(config.target_modules)}
    model = adapters.with_adapter(language.model, **shape, dropout=0.0)  # a part of it now, as merged weights are
    model.peft_config[FIRST] = config
    outcome: Any = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    lost = [name for name in outcome.missing_keys if "lora_" in name] + list(outcome.unexpected_keys)
    if lost:
        raise SeqRecError(
            f"{source}: the adapter in {folder.name} does not fit ({lost[0]}); delete the ranker's record"
        )
    return LanguageModel(model.requires_grad_(False).eval(), language.tokenizer, language.provenance)


def parameter_counts(model: Any) -> tuple[int, int]:
    """`pretrained.parameter_counts`, where a quantised weight counts as one and not as half a byte."""
    total, body = pretrained.parameter_counts(model)
    packed = [(p, p.quant_state.shape) for p in model.parameters() if getattr(p, "quant_state", None) is not None]
    more = sum(math.prod(shape) - p.numel() for p, shape in packed)
    return total + more, body + more


def weight_bytes(model: Any) -> int:
    """Bytes of the weights as they are saved, with the scales and, for each layer, the tables of levels of those that
    are quantised."""
    tensors = {name: tensor for name, tensor in model.state_dict().items() if ".quant_state." not in name}
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors.values()}.values())


def _library(device: str) -> Any:
    """bitsandbytes, after it has shown on the device that it can quantise."""
    try:
        import bitsandbytes
    except Exception as error:  # a broken installation raises many kinds
        reason = " ".join(str(error).split())[:120]
        raise SeqRecError(f"bitsandbytes is missing ({reason}); for sources with nf4: pip install '.[qlora]'") from None
    _try(bitsandbytes, device, BLOCK)
    return bitsandbytes


def _try(library: Any, device: str, width: int) -> None:
    """Quantise a small matrix of rows of ``width`` on the device, and see whether it comes back."""
    import torch

    try:
        values = torch.linspace(-1, 1, 8 * width, device=device).reshape(8, width)
        packed, state = library.functional.quantize_4bit(
            values, blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )
        error = float((library.functional.dequantize_4bit(packed, state) - values).abs().max())
        if not error < 0.2:  # half of the widest gap between two levels is 0.15
            raise RuntimeError(f"numbers in [-1, 1] come back {error:.2g} off")
    except Exception as failure:  # bitsandbytes, CUDA and torch raise many kinds
        reason = " ".join(str(failure).split())[:120]
        raise SeqRecError(
            f"no four-bit weights in rows of {width} on {device} ({reason}); use another device, or no nf4:"
        ) from None


def _compute(device: str) -> torch.dtype:
    """What matrices are multiplied in. float16 is no choice: without a scaled loss small gradients vanish in it."""
    import torch

    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32

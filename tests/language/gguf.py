"""A tiny Gemma 3 in a GGUF file, as llama.cpp's converter would write it: some weights in eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from seqrec_lib.language.corpus import letters

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip


def vocabulary() -> list[str]:
    """Special tokens, all bytes, letters and digits, and those behind a space."""
    signs = [*letters(26), *letters(26).lower(), *"0123456789", "▁", *"().,:;#&'|"]
    return [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *signs, *(f"▁{own}" for own in letters(26))]


def gemma(layers: int = 7, window: int = 16) -> Any:
    """A random Gemma 3 with sliding and full attention."""
    config = Gemma3TextConfig(
        vocab_size=len(vocabulary()), hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, sliding_window=window, query_pre_attn_scalar=256,
        max_position_embeddings=1024, pad_token_id=0, eos_token_id=1, bos_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Gemma3ForCausalLM(config).eval()


def write(path: Path, model: Any) -> Path:
    """The model as a GGUF file; its matrices are rounded to eight bits first, so that nothing is lost in writing."""
    from gguf import GGMLQuantizationType as Kind
    from gguf import GGUFWriter, dequantize, quantize

    config, tokens = model.config, vocabulary()
    writer = GGUFWriter(path, "gemma3")
    writer.add_name("Tiny Gemma")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(n) for n in range(len(tokens))])
    writer.add_token_types([3] * 3 + [2] + [6] * 256 + [1] * (len(tokens) - 260))
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    with torch.no_grad():
        for name, value in model.model.named_parameters():
            if value.ndim == 2:
                packed = quantize(value.numpy(), Kind.Q8_0)
                value.copy_(torch.from_numpy(dequantize(packed, Kind.Q8_0)))
                writer.add_tensor(_name(name), packed, raw_dtype=Kind.Q8_0)
            else:
                writer.add_tensor(_name(name), value.numpy().astype(np.float32) + 1)  # llama.cpp keeps 1 + weight
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(name: str) -> str:
    if not name.startswith("layers."):
        return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]
    _, number, rest = name.split(".", 2)
    return f"blk.{number}.{NAMES[rest.removesuffix('.weight')]}.weight"

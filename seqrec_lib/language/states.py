"""What beam search keeps between two tokens: GPT-2's keys and values, Mamba-2's states.

Both read a batch of prompts once (`start`), then one token for each beam at a time (`step`); a step names for each beam
the one that it continues. They compute what transformers' own models compute, with the same weights. GPT-2 keeps keys
and values of a prompt *once for a user*; only the few tokens of a query are kept beam by beam. (transformers copies the
prompt for each beam.) Mamba-2 has one state of fixed size for each beam, which goes on from another beam's:

    h_i = decay_i h_parent(i) + x_i b_i^T,    y_i = h_i c_i

The states are by far the largest thing that a step reads and writes, so on a CPU choosing the parents, the update and
the output are one pass over them (`seqrec_lib.fast.kernels.beams`); elsewhere, three.

Glossary: B users, m beams, M beams kept before (1 or m), L prompt tokens, T tokens of a query, D width, H heads, E
width of a head in GPT-2, P in Mamba-2, N numbers of state, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_lib.language.mixers import SharedMixer, fits
from seqrec_lib.ssm.backends import missing


def states_of(model: Any) -> States | None:
    """The states of a model that this module knows, else None (then transformers decodes)."""
    config = model.config
    if config.model_type == "gpt2":
        odd = config.add_cross_attention or config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights
        plain = all(type(block.attn.c_attn).__name__ == "Conv1D" for block in model.transformer.h)
        return GPT2States(model) if plain and not odd else None
    return Mamba2States(model) if fits(model) else None


class GPT2States:
    """Keys and values of GPT-2."""

    def __init__(self, model: Any) -> None:
        self.model, self.body = model, model.transformer
        self.heads = model.config.n_head

    def start(self, ids: Tensor, lengths: Tensor, beams: int, steps: int) -> Tensor:
        """Read prompts (B, L), right-padded, with ``steps`` tokens at most to follow; logits (B, V) behind each."""
        self.lengths, self.done = lengths, 0
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.body.wte(ids) + self.body.wpe(positions)
        outside = positions >= lengths[:, None]  # (B, L)
        self.bias = torch.zeros_like(outside, dtype=x.dtype).masked_fill(outside, -torch.inf)[:, None, None]
        self.prompt, self.own = [], []
        for block in self.body.h:
            q, k, v = self._qkv(block, x)  # (B, H, L, E) each
            x = self._after(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
            self.prompt.append((k, v))
            shape = (len(ids), beams, steps, self.heads, k.shape[-1])
            self.own.append([k.new_empty(shape), k.new_empty(shape)])
        last = x[torch.arange(len(ids), device=ids.device), lengths - 1]
        return self._logits(last)

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Read one token for each beam (B, m), which continues beam ``parents`` (B, m); logits (B, m, V)."""
        B, m = tokens.shape
        t = self.done
        x = self.body.wte(tokens) + self.body.wpe(self.lengths + t)[:, None]  # (B, m, D)
        index = parents[:, :, None, None, None]
        for block, (K, V), own in zip(self.body.h, self.prompt, self.own, strict=True):
            q, k, v = self._qkv(block, x)  # (B, H, m, E)
            if t:
                for kept in own:
                    kept[:, :, :t] = kept[:, :, :t].take_along_dim(index, dim=1)
            own[0][:, :, t], own[1][:, :, t] = k.transpose(1, 2), v.transpose(1, 2)
            ours_k, ours_v = own[0][:, :, : t + 1], own[1][:, :, : t + 1]  # (B, m, t + 1, H, E)
            scale = q.shape[-1] ** -0.5
            before = (q @ K.mT) * scale + self.bias  # (B, H, m, L)
            within = torch.einsum("bhme,bmthe->bhmt", q, ours_k) * scale
            weights = torch.softmax(torch.cat([before, within], dim=-1), dim=-1)
            L = before.shape[-1]
            mixed = weights[..., :L] @ V + torch.einsum("bhmt,bmthe->bhme", weights[..., L:], ours_v)
            x = self._after(block, x, mixed)
        self.done += 1
        return self._logits(x.flatten(0, 1)).unflatten(0, (B, m))

    def keep(self, users: Tensor) -> None:
        """Go on with some of the users only: (b,) indices."""
        self.lengths, self.bias = self.lengths[users], self.bias[users]
        self.prompt = [(k[users], v[users]) for k, v in self.prompt]
        self.own = [[kept[users] for kept in own] for own in self.own]

    def _qkv(self, block: Any, x: Tensor) -> list[Tensor]:
        parts = block.attn.c_attn(block.ln_1(x)).chunk(3, dim=-1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]

    def _after(self, block: Any, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + block.attn.c_proj(mixed.transpose(1, 2).flatten(-2))
        return x + block.mlp(block.ln_2(x))

    def _logits(self, x: Tensor) -> Tensor:
        return self.model.lm_head(self.body.ln_f(x)).float()


class Mamba2States:
    """Convolution inputs and states of Mamba-2; its methods take and give what those of `GPT2States` do."""

    def __init__(self, model: Any) -> None:
        self.model, self.body = model, model.backbone
        self.mixers = [SharedMixer(layer.mixer) for layer in self.body.layers]

    def start(self, ids: Tensor, lengths: Tensor, beams: int, steps: int) -> Tensor:
        x = self.body.embeddings(ids)
        self.conv, self.ssm = [], []
        self.spare: Tensor | None = None
        for layer, mixer in zip(self.body.layers, self.mixers, strict=True):
            out, conv, ssm = mixer.prefill(layer.norm(x), lengths)
            x = x + out
            # One copy for a user; the first step's parents are all beam 0, which makes a copy for each beam.
            self.conv.append(conv[:, None])
            self.ssm.append(ssm[:, None])
        last = x[torch.arange(len(ids), device=ids.device), lengths - 1]
        return self._logits(last)

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        B, m = tokens.shape
        x = self.body.embeddings(tokens)  # (B, m, D)
        for number, (layer, mixer) in enumerate(zip(self.body.layers, self.mixers, strict=True)):
            N, inner, H = mixer.d_state, mixer.d_inner, mixer.nheads
            z, xBC, dt = mixer.in_proj(layer.norm(x)).split([inner, inner + 2 * N, H], dim=-1)
            conv = self.conv[number].take_along_dim(parents[:, :, None, None], dim=1)  # (B, m, taps - 1, channels)
            taps = torch.cat([conv, xBC[:, :, None]], dim=2)
            self.conv[number] = taps[:, :, 1:]
            weight = mixer.conv1d.weight[:, 0].T  # (taps, channels)
            u = (taps * weight).sum(2)
            u = F.silu(u if mixer.conv1d.bias is None else u + mixer.conv1d.bias)
            u, b, c = u.split([inner, N, N], dim=-1)
            dt = F.softplus(dt + mixer.dt_bias)  # (B, m, H)
            decay = torch.exp(dt * -torch.exp(mixer.A_log))
            heads = u.unflatten(-1, (H, -1))
            before = self.ssm[number]
            self.ssm[number], y = advance(before, parents, decay, dt[..., None] * heads, b, c, self.spare)
            self.spare = before  # the next layer writes where this one read: no memory is asked for anew
            y = (y + mixer.D[:, None] * heads).flatten(-2)
            x = x + mixer.out_proj(mixer.norm(y, z))
        return self._logits(x.flatten(0, 1)).unflatten(0, (B, m))

    def keep(self, users: Tensor) -> None:
        self.conv = [state[users] for state in self.conv]
        self.ssm = [state[users] for state in self.ssm]
        self.spare = None

    def _logits(self, x: Tensor) -> Tensor:
        return self.model.lm_head(self.body.norm_f(x)).float()


States = GPT2States | Mamba2States


def advance(
    state: Tensor, parents: Tensor, decay: Tensor, x: Tensor, b: Tensor, c: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The states after one more token, and the outputs without D x.

    Args:
        state: (B, M, H, P, N). parents: (B, m) int64, each beam's place among the M. decay: (B, m, H).
        x: (B, m, H, P), dt already in it. b, c: (B, m, N), shared by the heads.
        out: where to write the new states (not ``state`` itself); by default a new tensor.

    Returns:
        (B, m, H, P, N), (B, m, H, P).
    """
    if not state.is_cuda and state.dtype == torch.float32 and (compiled := _compiled()) is not None:
        return compiled(state, parents, decay, x, b, c, out)
    chosen = state.take_along_dim(parents[:, :, None, None, None], dim=1)
    new = decay[..., None, None] * chosen + x[..., None] * b[:, :, None, None]
    return new, (new * c[:, :, None, None]).sum(-1)


def _compiled() -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The kernel; None without numba or `seqrec_lib.fast`."""
    if missing("cpu"):
        return None
    from seqrec_lib.fast.kernels.beams import advance

    return advance

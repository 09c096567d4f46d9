"""The server by a model's own ``score``: any model, on any device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError
from seqrec_lib.models.base import SequentialRecommender, last_position
from seqrec_lib.models.state_space import StateSpaceRecommender
from seqrec_lib.serving.base import Server
from seqrec_lib.serving.batches import padded, read_in_batches


class ModuleServer(Server):
    """Any model with ``score(items, lengths)`` and ``max_length``, in inference mode, histories in padded batches.

    Args:
        model: copied, if it is a module, so that training it further does not reach the server.
        n_items: needed where the model does not know it.
    """

    def __init__(self, model: Any, n_items: int | None = None) -> None:
        size = getattr(model, "n_items", n_items)
        if size is None:
            raise SeqRecError(f"{type(model).__name__} does not know its catalogue; give n_items")
        super().__init__(size, model.max_length, np.empty((0, 0), np.float32))
        self.model: Any = model
        self.device = torch.device("cpu")
        if isinstance(model, torch.nn.Module):
            self.model, self.device = copy.deepcopy(model).eval(), next(model.parameters()).device
        if (bias := getattr(model, "repeat_bias", None)) is not None:
            self.repeat_bias, self.max_length = bias.item(), model.window
        own = self.model.encode if hasattr(self.model, "encode") else self.model.score
        self._pass = _last_outputs(self.model) or own
        # Where a model scores by its item embedding, as the base class does, so does its server.
        if getattr(type(model), "scores", None) is SequentialRecommender.scores and self.device.type == "cpu":
            self.embedding = self.model.item_embedding.weight.detach().float().numpy()

    def encode(self, history: np.ndarray) -> np.ndarray:
        encoded: np.ndarray = self._encode([history])[0]
        return encoded

    def encode_many(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        return read_in_batches(histories, self._encode)

    @torch.inference_mode()
    def _encode(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """(B, d), or (B, n_items + 1) of a counting model: its scores are all there is."""
        items, lengths = (part.to(self.device) for part in padded(histories))
        encoded: np.ndarray = self._pass(items, lengths).float().cpu().numpy()
        return encoded

    def score(self, encoded: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return super().score(encoded, out) if self.embedding.size else self.score_many(encoded[None])[0]

    @torch.inference_mode()
    def score_many(self, encoded: np.ndarray) -> np.ndarray:
        if self.embedding.size:
            return super().score_many(encoded)
        if not hasattr(self.model, "encode"):
            return encoded.copy()
        scores: np.ndarray = self.model.scores(torch.from_numpy(encoded).to(self.device)).float().cpu().numpy()
        return scores


def _last_outputs(model: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    """``encode`` of a stack of state-space layers with what follows the top mixer at the last positions only.

    None for any other model, and for a class that changes the pass: only its own ``encode`` is known to be right.
    """
    passes = ("encode", "last_hidden", "hidden")
    if not isinstance(model, StateSpaceRecommender) or any(
        getattr(type(model), name) is not getattr(StateSpaceRecommender, name) for name in passes
    ):
        return None

    def encode(items: Tensor, lengths: Tensor) -> Tensor:
        x = model.embed(items)
        *below, top = model.stack
        for layer in below:
            x = layer.after_mixer(x, model.mix(layer.mixer, x, lengths))
        mixed = model.mix(top.mixer, x, lengths)
        if len(items) == 1:  # one history is not padded
            ends = x[:, -1], mixed[:, -1]
        else:
            ends = last_position(x, lengths), last_position(mixed, lengths)
        last: Tensor = top.after_mixer(*ends)
        return last

    return encode

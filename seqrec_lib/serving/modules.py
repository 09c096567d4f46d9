"""Servers by a model's own ``score``: any model on the CPU, and CUDA graphs on a GPU."""

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
from seqrec_lib.serving.base import Server, select
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


class GraphServer(Server):
    """A model on a GPU: its pass from ids to the k best, captured as one CUDA graph per (length, k) and replayed.

    At batch 1 a GPU spends its time between kernels; a replayed graph launches all of them at once. Lengths are rounded
    up to a power of two, so that few graphs serve all histories.
    """

    path = "CUDA graph"

    def __init__(self, model: Any) -> None:
        super().__init__(model.n_items, model.max_length, np.empty((0, 0), np.float32))
        self.model = copy.deepcopy(model).eval()
        self.device = model.item_embedding.weight.device
        self._graphs: dict[tuple[int, int], tuple[Any, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]] = {}

    def recommend(
        self, histories: Sequence[Sequence[int] | np.ndarray], k: int = 10, *, exclude_seen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """As the base class: one history after another, each by a replayed graph."""
        checked = [self.check(history) for history in histories]
        if k < 1:
            raise SeqRecError(f"k is {k}; ask for at least one recommendation")
        ids, best = np.zeros((len(checked), k), np.int64), np.full((len(checked), k), -np.inf, np.float32)
        for row, history in enumerate(checked):
            read = self.cut(history)
            got, values = self.replay(read, k, history if exclude_seen else history[:0])
            ids[row, : len(got)], best[row, : len(got)] = got.cpu().numpy(), values.cpu().numpy()
        ids[np.isneginf(best)] = 0
        return ids, best

    def encode(self, history: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            items = torch.from_numpy(history)[None].to(self.device)
            encoded: np.ndarray = (
                self.model.encode(items, torch.tensor([len(history)], device=self.device))[0].cpu().numpy()
            )
        return encoded

    def score(self, encoded: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        with torch.inference_mode():
            scores: np.ndarray = self.model.scores(torch.from_numpy(encoded)[None].to(self.device))[0].cpu().numpy()
        return scores

    def best(
        self, encoded: np.ndarray, k: int, left_out: np.ndarray, scores: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return select(self.score(encoded), k, left_out)

    @torch.inference_mode()  # the graph's own tensors were made in it, and cannot be written to outside
    def replay(self, read: np.ndarray, k: int, left_out: np.ndarray) -> tuple[Tensor, Tensor]:
        """The k best for one history, still on the GPU and not yet waited for."""
        room = 1 << (len(read) - 1).bit_length()
        if self.max_length is not None:
            room = min(room, self.max_length)
        key = (room, min(k, self.n_items))
        if key not in self._graphs:
            self._graphs[key] = self._capture(*key)
        graph, items, lengths, blocked, (values, ids) = self._graphs[key]
        row = np.zeros(room, np.int64)
        row[: len(read)] = read
        items.copy_(torch.from_numpy(row)[None])
        lengths.fill_(len(read))
        blocked.zero_()
        if len(left_out):
            blocked[torch.from_numpy(left_out).to(self.device)] = -torch.inf
        graph.replay()
        return ids, values

    @torch.inference_mode()
    def _capture(self, room: int, k: int) -> tuple[Any, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        items = torch.ones(1, room, dtype=torch.int64, device=self.device)
        lengths = torch.full((1,), room, dtype=torch.int64, device=self.device)
        blocked = torch.zeros(self.n_items + 1, device=self.device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels are chosen and compiled before the capture
            for _ in range(3):
                (self.model.score(items, lengths)[0] + blocked).topk(k)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            values, ids = (self.model.score(items, lengths)[0] + blocked).topk(k)
        return graph, items, lengths, blocked, (values, ids)

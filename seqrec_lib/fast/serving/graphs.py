"""A server by CUDA graphs: a model on a GPU, its whole request captured once for each length and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.errors import SeqRecError
from seqrec_lib.serving.modules import ModuleServer


class GraphServer(ModuleServer):
    """A model on a GPU: its pass from ids to the k best, captured as one CUDA graph per (length, k) and replayed.

    At batch 1 a GPU spends its time between kernels; a replayed graph launches all of them at once. Lengths are rounded
    up to a power of two, so that few graphs serve all histories.
    """

    path = "CUDA graph"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.max_length = model.max_length  # the model's own scores count repeats over all of it
        self._graphs: dict[tuple[int, int], tuple[Any, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]] = {}

    def recommend(
        self, histories: Sequence[Sequence[int] | np.ndarray], k: int = 10, *, exclude_seen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """As the base class: one history after another, each by a replayed graph."""
        checked = self.check_all(histories)
        if k < 1:
            raise SeqRecError(f"k is {k}; ask for at least one recommendation")
        ids, best = np.zeros((len(checked), k), np.int64), np.full((len(checked), k), -np.inf, np.float32)
        for row, history in enumerate(checked):
            read = self.cut(history)
            got, values = self.replay(read, k, history if exclude_seen else history[:0])
            ids[row, : len(got)], best[row, : len(got)] = got.cpu().numpy(), values.cpu().numpy()
        ids[np.isneginf(best)] = 0
        return ids, best

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

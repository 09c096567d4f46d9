"""What every sequential recommender of the study shares: embed -> mix -> tied scores.

Glossary of shapes: B histories, L positions, d = d_model, V = n_items + 1 (id 0 is padding). Histories are padded
on the right; a model's output for a history never depends on what it is batched with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_lib.errors import SeqRecError


class SequentialRecommender(nn.Module):
    """Base class: an item embedding that is tied to the output layer (paper, section 3: softmax(h E^T)).

    A subclass provides :meth:`hidden`. It sets ``causal = True`` when its output at position t depends on the items
    up to t only, so that one pass trains every position of a window.
    """

    causal: bool = True

    def __init__(self, n_items: int, d_model: int, max_length: int) -> None:
        super().__init__()
        self.n_items, self.d_model, self.max_length = n_items, d_model, max_length
        self.item_embedding = nn.Embedding(n_items + 1, d_model, padding_idx=0)

    def hidden(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Outputs at every position: (B, L) int64 ids, (B,) lengths -> (B, L, d). Rows beyond a length mean nothing."""
        raise NotImplementedError

    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The output at each history's last item: (B, L) int64, (B,) lengths >= 1 -> (B, d)."""
        return last_position(self.hidden(items, lengths), lengths)

    def scores(self, encoded: Tensor) -> Tensor:
        """Scores of all items in float32: (B, d) -> (B, V); column 0 (padding) is -inf."""
        logits = encoded.float() @ self.item_embedding.weight.float().T
        logits[:, 0] = -torch.inf
        return logits

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Histories to scores of all items: (B, L), (B,) -> (B, V) float32."""
        return self.scores(self.encode(items, lengths))

    def bias(self, items: Tensor, at: Tensor) -> tuple[Tensor, Tensor] | None:
        """A number that the model adds to some logits beyond h E^T, and where: None for all but the repeat bias.

        Args:
            items: (B, L) int64 ids. at: (P,) positions of the flattened (B, L), in ascending order.

        Returns:
            The number, and for each of the positions the items, (P, L) ids, as `catalogue_cross_entropy` takes them.
        """
        return None

    def recommend(
        self, histories: Sequence[Sequence[int] | np.ndarray], k: int = 10, *, exclude_seen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best next items for each history (oldest item first), by the fastest path this machine has.

        The weights are laid out for serving anew at each call; for many calls keep `seqrec_lib.serving.serve(model)`.

        Returns:
            Item ids (B, k) int64 and scores (B, k) float32, best first; id 0 and -inf where the catalogue ends.

        Raises:
            SeqRecError: an empty history, an id outside 1..n_items, or k < 1.
        """
        from seqrec_lib.serving import serve

        return serve(self).recommend(histories, k, exclude_seen=exclude_seen)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """:meth:`hidden`, so that wrappers which call the module (DDP, compile) work."""
        return self.hidden(items, lengths)

    def parameter_counts(self) -> tuple[int, int]:
        """(all parameters, those without the item embedding)."""
        total = sum(p.numel() for p in self.parameters())
        return total, total - self.item_embedding.weight.numel()


def refuse_past_window(length: int, window: int | None) -> None:
    """Whether a stream of ``length`` items takes one more event: the model reads the latest ``window`` items only.

    In a full window each item pushes the oldest one out, which no kept state can forget: attention's positions all
    move, and a state-space state has mixed that item into everything since.

    Raises:
        SeqRecError: the window is full.
    """
    if window is not None and length >= window:
        raise SeqRecError(
            f"a stream of {length} items has no room for one more, as the model reads {window}; start it anew with at "
            f"most {window - 1} of the latest items, or encode the latest {window}"
        )


def last_position(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Rows of (B, L, d) at position length - 1: (B, d)."""
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """N(0, std) for linear and embedding weights, zeros for biases and the padding row (BERT's and RecBole's rule)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx].zero_()

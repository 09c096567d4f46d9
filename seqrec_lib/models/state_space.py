"""What the state-space recommenders share: embed, N x (mixer, feed-forward), last position, tied scores.

The layout is Mamba4Rec's (Liu et al. 2024; paper, section 3): dropout, then LayerNorm on the embeddings, no positions;
each layer is LN(drop(mixer(x)) [+ x]) followed by LN(drop(PFFN(h)) + h). A single layer has no residual around its
mixer, as in the public code, unless ``residual`` asks for one; more layers have one each. On short histories the
residual is what a single layer lacks (the book's ablation on Amazon 2014 Beauty): without it, the last item reaches the
output through the mixer alone.

Shapes: B histories, L positions, d = d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from seqrec_lib.models.base import SequentialRecommender, initialise, refuse_past_window
from seqrec_lib.models.layers import Dropout, FeedForward
from seqrec_lib.models.registry import Initialisation
from seqrec_lib.ssm import checked

LAYER_NORM_EPS = 1e-12  # the public code's value

State = list[dict[str, Tensor]]  # of each layer


class StateSpaceLayer(nn.Module):
    """Mixer and feed-forward network, each with dropout and LayerNorm."""

    mixer: Any  # a module of `seqrec_lib.ssm`: forward(x, lengths), init_state(batch), step(x, state)

    def __init__(self, mixer: nn.Module, d_model: int, dropout: float, residual: bool) -> None:
        super().__init__()
        self.mixer, self.residual = mixer, residual
        self.mixer_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.feed_forward = FeedForward(d_model, dropout)
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(dropout)

    def after_mixer(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The layer's output from its input and its mixer's: (..., d), (..., d) -> (..., d)."""
        h = self.dropout(mixed)
        h = self.mixer_norm(h + x if self.residual else h)
        return self.feed_forward_norm(self.dropout(self.feed_forward(h)) + h)


class StateSpaceRecommender(SequentialRecommender):
    """A stack of state-space layers.

    Args:
        n_items: catalogue size; max_length: longest history that is read.
        make_mixer: gives the mixer of one layer from ``d_model`` and the settings ``of_mixer``.
        dropout: of the embeddings, the mixers' outputs and the feed-forward networks.
        initialisation: ``"own"`` keeps the mixers' own (dt between 0.001 and 0.1 at the start); ``"blanket"`` is the
            public Mamba4Rec code's N(0, 0.02) for every linear layer, which in Mamba also erases the bias of dt (dt is
            then about 0.69 and the memory one or two items); ``"blanket-but-dt"`` is the same without that accident.
        residual: whether a single layer, too, has a residual connection around its mixer.
        repeats: see the base class.
    """

    def __init__(
        self,
        n_items: int,
        max_length: int,
        make_mixer: Callable[..., nn.Module],
        *,
        d_model: int = 64,
        n_layers: int = 1,
        dropout: float = 0.2,
        initialisation: Initialisation = "own",
        residual: bool = False,
        repeats: bool = False,
        **of_mixer: int,
    ) -> None:
        super().__init__(n_items, d_model, max_length, repeats=repeats)
        self.norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            StateSpaceLayer(make_mixer(d_model, **of_mixer), d_model, dropout, residual or n_layers > 1)
            for _ in range(n_layers)
        )
        self._initialise(initialisation)

    def _initialise(self, how: Initialisation) -> None:
        if how == "own":
            initialise(self.item_embedding)
            for layer in self.stack:
                initialise(layer.feed_forward)
            return
        if how not in get_args(Initialisation):
            raise ValueError(f"initialisation is {how!r}; use {', '.join(get_args(Initialisation))}")
        spared = [p for name, p in self.named_parameters() if ".dt_proj." in name and how == "blanket-but-dt"]
        kept = [p.detach().clone() for p in spared]
        initialise(self)
        with torch.no_grad():
            for parameter, value in zip(spared, kept, strict=True):
                parameter.copy_(value)

    @classmethod
    def kernels(cls, device_type: str) -> dict[str, Any]:
        """As the base class.

        Raises:
            SeqRecError: the mixers' kernels here disagree with their reference.
        """
        return {"mixers": checked(device_type)}

    @property
    def stack(self) -> list[StateSpaceLayer]:
        """The layers, first to last."""
        return cast("list[StateSpaceLayer]", list(self.layers))

    def embed(self, items: Tensor) -> Tensor:
        """Item ids to the first layer's input: (...) int64 -> (..., d)."""
        return self.norm(self.dropout(self.item_embedding(items)))

    def mix(self, mixer: Any, x: Tensor, lengths: Tensor) -> Tensor:
        """Run one layer's mixer over (B, L, d)."""
        return mixer(x, lengths)

    def hidden(self, items: Tensor, lengths: Tensor) -> Tensor:
        x = self.embed(items)
        for layer in self.stack:
            x = layer.after_mixer(x, self.mix(layer.mixer, x, lengths))
        return x

    def init_state(self, batch: int) -> State:
        """The state of ``batch`` users without history. States may be sliced, concatenated and saved along axis 0."""
        states: State = [layer.mixer.init_state(batch) for layer in self.stack]
        states[0]["length"] = torch.zeros(batch, dtype=torch.int64, device=self.item_embedding.weight.device)
        return states

    @torch.inference_mode()
    def step(self, items: Tensor, state: State) -> tuple[Tensor, State]:
        """One more event per user, at a cost that does not depend on the history's length.

        Args:
            items: (B,) int64, the new items; ``state``: after the items before them.

        Returns:
            (B, d), equal to :meth:`encode` of the whole history, and the new state; the given one is left as it is.

        Raises:
            SeqRecError: a user's window is full (see `refuse_past_window`).
        """
        lengths = state[0]["length"]
        refuse_past_window(int(lengths.max()), self.window)
        x = self.embed(items)
        states: State = []
        for layer, before in zip(self.stack, state, strict=True):
            mixed, after = layer.mixer.step(x, before)
            states.append(after)
            x = layer.after_mixer(x, mixed)
        states[0]["length"] = lengths + 1
        return x, states

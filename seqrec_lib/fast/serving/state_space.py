"""Servers of the one-layer state-space models: `blocks` between the embedding and the feed-forward network, with the
residual around the mixer where the model has one.

Without positions, an item's input projection is the same wherever it stands: `rows` of all items are kept in a table
where that is small (`TABLE_BYTES`), and computed for the history at hand where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.nn import functional as F

from seqrec_lib.fast.serving import blocks, selective
from seqrec_lib.fast.serving.kernels import KERNEL, LOG2_E, feed_forward, layer_norm, matvec
from seqrec_lib.models.state_space import StateSpaceRecommender
from seqrec_lib.serving.base import SteppingServer
from seqrec_lib.ssm.convolution import taps_of

TABLE_BYTES = 64 * 2**20  # the largest table of projected items


@dataclass
class State:
    """One user's state: the arrays that a step reads and changes, after ``length`` items."""

    arrays: tuple[np.ndarray, ...]
    length: int


def packed(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Copies as contiguous float32 arrays."""
    return tuple(np.array(t.detach().cpu().float().numpy(), order="C", copy=True) for t in tensors)


def transposed(linear: nn.Linear) -> Tensor:
    """A linear layer's weight as (inputs, outputs)."""
    return linear.weight.detach().T


def packed_rest(norm: nn.LayerNorm, ffn: Any, last: nn.LayerNorm) -> tuple[np.ndarray, ...]:
    """A layer's weights after the product with which its mixer or attention ends, in the order of `finish`."""
    products = (transposed(ffn.w1), ffn.w1.bias, transposed(ffn.w2), ffn.w2.bias)
    return packed(norm.weight, norm.bias, *products, last.weight, last.bias)


@njit(**KERNEL)
def finish(y, h, weight, g1, b1, w1, c1, w2, c2, g2, b2, eps, out):  # type: ignore[no-untyped-def]
    """The rest of a layer after the inner output y (D_in,) of its mixer: out = LN(PFFN(n) + n), n = LN(y weight + h).

    ``h`` (d,) is the residual, and working space.
    """
    matvec(y, weight, h)
    layer_norm(h, g1, b1, eps, h)
    hidden = np.empty(c1.size, np.float32)
    feed_forward(h, w1, c1, w2, c2, hidden, out)
    for i in range(out.size):
        out[i] += h[i]
    layer_norm(out, g2, b2, eps, out)


class StateSpaceServer(SteppingServer):
    """What the three share. A subclass packs its mixer and gives `_read` (a history) and `_advance` (one item)."""

    path = "compiled loops"

    def __init__(self, model: StateSpaceRecommender) -> None:
        (layer,) = model.stack
        (embedding,) = packed(model.item_embedding.weight)
        super().__init__(model.n_items, model.window, embedding)
        self._eps = np.float32(model.norm.eps)
        self._norm = packed(model.norm.weight, model.norm.bias)
        rest = packed_rest(layer.mixer_norm, layer.feed_forward, layer.feed_forward_norm)
        self._finish = (*packed(transposed(layer.mixer.out_proj)), *rest)
        self._channels, self._residual = layer.mixer.d_inner, layer.residual
        self._pack(layer.mixer)
        width = self._to_rows.shape[0] + self._to_dt.shape[0]
        self._table: tuple[np.ndarray, np.ndarray] | None = None
        if 4 * width * (model.n_items + 1) <= TABLE_BYTES:
            self._table = self._project(torch.from_numpy(embedding))

    _to_rows: Tensor  # (row width, d)
    _to_dt: Tensor  # (H, d); no rows for Mamba
    _dt_bias: Tensor
    _to_z: np.ndarray  # (d, D_in)

    def _pack(self, mixer: Any) -> None:
        raise NotImplementedError

    def _split(self, mixer: Any, z: slice, rows: slice, dt: slice) -> None:
        """Take the input projection apart."""
        weight = mixer.in_proj.weight.detach().cpu().float()
        self._to_rows, self._to_dt = weight[rows].contiguous(), weight[dt].contiguous()
        (self._to_z,) = packed(weight[z].T)

    @torch.inference_mode()
    def _project(self, embedded: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Rows and step sizes of embedded items: (L, d) -> (L, row width), (L, H)."""
        weight, bias = (torch.from_numpy(part) for part in self._norm)
        x = F.layer_norm(embedded, (embedded.shape[1],), weight, bias, float(self._eps))
        rows = F.linear(x, self._to_rows)
        if not len(self._to_dt):
            return rows.numpy(), np.empty((len(x), 0), np.float32)
        return rows.numpy(), F.softplus(F.linear(x, self._to_dt) + self._dt_bias).numpy()

    def _rows(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._table is not None:
            return self._table[0].take(items, 0), self._table[1].take(items, 0)
        return self._project(torch.from_numpy(self.embedding.take(items, 0)))

    def _gate(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """The layer's input at the last item (d,), and the gate from it (D_in,)."""
        x, z = np.empty(self.embedding.shape[1], np.float32), np.zeros(self._channels, np.float32)
        layer_norm(self.embedding[item], *self._norm, self._eps, x)
        matvec(x, self._to_z, z)
        return x, z

    def _finished(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        finish(y, x if self._residual else np.zeros_like(x), *self._finish, self._eps, out)
        return out

    def encode(self, history: np.ndarray) -> np.ndarray:
        (rows, dt), (x, z) = self._rows(history), self._gate(history[-1])
        return self._finished(self._read(rows, dt, z), x)

    def _follow(self, state: State, item: int) -> np.ndarray:
        (rows, dt), (x, z) = self._rows(np.array([item])), self._gate(item)
        return self._finished(self._advance(state, rows[0], dt[0], z), x)

    def state_bytes(self, length: int) -> int:
        return sum(array.nbytes for array in self._begin(np.empty(0, np.int64)).arrays)

    def _read(self, rows: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        """The mixer's inner output at the last of ``rows``, gated: (D_in,)."""
        raise NotImplementedError

    def _advance(self, state: State, row: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        """The same for one more row; changes ``state``."""
        raise NotImplementedError


def window_of(rows: np.ndarray, taps: int) -> np.ndarray:
    """The last ``taps`` rows, zeros in front where there are fewer: (taps, width)."""
    window = np.zeros((taps, rows.shape[1]), np.float32)
    kept = rows[-taps:]
    window[taps - len(kept) :] = kept
    return window


def _padded(weight: Tensor) -> Tensor:
    """Rows of zeros behind, up to a multiple of `LANES`: (rows, width)."""
    return F.pad(weight, (0, 0, 0, selective.padded(len(weight)) - len(weight)))


class MambaServer(StateSpaceServer):
    """Mamba4Rec with one layer. State: window (K, D_in), h (D_in, N); N is padded, see `selective`."""

    def _pack(self, mixer: Any) -> None:
        channels, rank, states = mixer.d_inner, mixer.dt_rank, mixer.d_state
        self._split(mixer, slice(channels, None), slice(channels), slice(0))
        weight, bias = taps_of(mixer.conv1d)
        dt, B, C = mixer.x_proj.weight.detach().split([rank, states, states])
        x_proj = torch.cat([_padded(part) for part in (B, dt, C)]).T
        # A padded number of state has B = C = 0 and the last one's decay, which leaves `rates` as they are.
        A2 = -torch.exp(mixer.A_log.detach()) * LOG2_E
        A2 = F.pad(A2[None], (0, selective.padded(states) - states), mode="replicate")[0]
        self._scan = packed(weight.T, bias, x_proj, transposed(mixer.dt_proj), mixer.dt_proj.bias, A2)
        (self._D,) = packed(mixer.D)
        self._rates, self._states, self._taps = selective.rates(self._scan[-1]), states, mixer.d_conv

    def _empty(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Space for h (zeros), u and ``mixed``."""
        x_proj, A2 = self._scan[2], self._scan[-1]
        return np.zeros_like(A2), np.empty(self._channels, np.float32), np.empty(x_proj.shape[1], np.float32)

    def _readout(self, u: np.ndarray, mixed: np.ndarray, h: np.ndarray, z: np.ndarray) -> np.ndarray:
        y = np.empty(self._channels, np.float32)
        selective.readout(u, z, self._D, mixed[-h.shape[1] :], h, y)
        return y

    def _read(self, rows: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        h, u, mixed = self._empty()
        selective.scan(rows, *self._scan, self._rates, self._states, h, u, mixed)
        return self._readout(u, mixed, h, z)

    def _begin(self, history: np.ndarray) -> State:
        rows, (h, u, mixed) = self._rows(history)[0], self._empty()
        if len(rows):
            selective.scan(rows, *self._scan, self._rates, self._states, h, u, mixed)
        return State((window_of(rows, self._taps), h), len(history))

    def _advance(self, state: State, row: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        window, h = state.arrays
        blocks.shift(window, row)
        _, u, mixed = self._empty()
        taps, bias, *scan = self._scan
        blocks.convolved(window, self._taps - 1, self._taps - 1, taps, bias, 0, len(row), u)
        selective.advance(u, *scan, h, mixed)
        return self._readout(u, mixed, h, z)


class _PerHead(StateSpaceServer):
    """Mamba-2 and Hydra: one decay per head."""

    _norm_first = False

    def _common(self, mixer: Any) -> None:
        width = self._channels + 2 * mixer.d_state
        weight, bias = taps_of(mixer.conv1d)
        self._taps, self._bias = packed(weight[:width].T, bias[:width])
        self._A, self._D, self._gain = packed(-torch.exp(mixer.A_log.detach()), mixer.D, mixer.norm.weight)
        self._dt_bias = mixer.dt_bias.detach().cpu().float()
        self._gain_eps = np.float32(mixer.norm.eps)
        self._shape = (mixer.nheads, mixer.headdim, mixer.d_state)

    def _gated(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        blocks.gated_norm(y, z, self._gain, self._gain_eps, self._norm_first)
        return y

    def _state(self, rows: np.ndarray, dt: np.ndarray, past: int, stop: int) -> np.ndarray:
        h = np.zeros(self._shape, np.float32)
        blocks.run_states(rows, dt, past, stop, self._taps, self._bias, self._A, h)
        return h


class Mamba2Server(_PerHead):
    """2Mamba4Rec with one layer. State: window (K, D_in + 2 N), h (H, P, N)."""

    def _pack(self, mixer: Any) -> None:
        channels, heads = mixer.d_inner, mixer.nheads
        self._split(mixer, slice(channels), slice(channels, -heads), slice(-heads, None))
        self._common(mixer)

    def _read(self, rows: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        y, newest = np.empty(self._channels, np.float32), np.empty(self._channels, np.float32)
        blocks.read_last(rows, dt, len(self._taps) - 1, 0, self._taps, self._bias, self._A, y, newest)
        return self._gated(y + np.repeat(self._D, self._shape[1]) * newest, z)

    def _begin(self, history: np.ndarray) -> State:
        rows, dt = self._rows(history)
        taps = len(self._taps)
        return State((window_of(rows, taps), self._state(rows, dt, taps - 1, len(rows))), len(history))

    def _advance(self, state: State, row: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        y, space = np.empty(self._channels, np.float32), np.empty_like(row)
        window, h = state.arrays
        blocks.ssd_step(row, dt, window, self._taps, self._bias, self._A, self._D, h, y, space)
        return self._gated(y, z)


class HydraServer(_PerHead):
    """Hydra4Rec with one layer. State: window (K, D_in + 2 N), dt of the last r items (r, H), h (H, P, N)."""

    _norm_first = True

    def _pack(self, mixer: Any) -> None:
        channels, heads = mixer.d_inner, mixer.nheads
        rows = slice(channels, 2 * channels + 2 * mixer.d_state)
        self._split(mixer, slice(channels), rows, slice(-2 * heads, -heads))
        self._common(mixer)
        (self._fc_D,) = packed(transposed(mixer.fc_D))

    def _read(self, rows: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        y, newest = np.empty(self._channels, np.float32), np.empty(self._channels, np.float32)
        blocks.read_last(rows, dt, len(self._taps) // 2, 1, self._taps, self._bias, self._A, y, newest)
        blocks.hydra_diagonal(newest, self._fc_D, self._D, y)
        return self._gated(y, z)

    def _begin(self, history: np.ndarray) -> State:
        rows, dt = self._rows(history)
        taps, r = len(self._taps), len(self._taps) // 2
        h = self._state(rows, dt, r, max(0, len(rows) - r))
        return State((window_of(rows, taps), window_of(dt, r), h), len(history))

    def _advance(self, state: State, row: np.ndarray, dt: np.ndarray, z: np.ndarray) -> np.ndarray:
        y, space = np.empty(self._channels, np.float32), np.empty_like(row)
        window, waiting, h = state.arrays
        blocks.hydra_step(
            row, dt, window, waiting, self._taps, self._bias, self._A, self._fc_D, self._D, h, y, space
        )  # fmt: skip
        return self._gated(y, z)

"""Parameter counts in closed form, to see which settings explain the sizes that the paper prints.

Symbols: d = width (64), N = ids in the embedding table (items + 1 for padding), L = maximal length. A linear
layer from a to b has a b weights and b biases; a layer norm has 2 d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seqrec_lib.report.paper import PAPER, TABLE_4, PaperRow

WIDTH = 64

CATALOGUES_2014 = {"amazon-2023-beauty-and-personal-care": 12_101, "amazon-2023-video-games": 10_672}
"""Items of the 5-core Amazon **2014** category (Beauty; Video Games) beside the paper's 2023 one."""


def _linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


FEED_FORWARD = _linear(WIDTH, 4 * WIDTH) + _linear(4 * WIDTH, WIDTH)
"""PFFN of width 4 d: two linear layers, 33,088 parameters."""


def sasrec(ids: int, length: int) -> int:
    """SASRec in RecBole's form: item and position embeddings, a layer norm, then two layers of attention and PFFN with
    a layer norm each.

    >>> sasrec(3417, 50), sasrec(3417, 200)
    (321984, 331584)
    """
    layer = 4 * _linear(WIDTH, WIDTH) + FEED_FORWARD + 2 * 2 * WIDTH
    return (ids + length) * WIDTH + 2 * WIDTH + 2 * layer


def hydra_body() -> int:
    """Hydra4Rec without embeddings: one layer of the public Hydra block (state 32, one head of 64 for each half of the
    inner width 2 d, convolution of 7) and a PFFN, three layer norms.

    >>> hydra_body()
    68934
    """
    inner, heads = 2 * WIDTH, 2
    mixed = inner + 2 * 2 * 32  # x, and B and C for both directions
    block = _linear(WIDTH, inner + mixed + 2 * heads, bias=False)  # z, mixed, and dt for both directions
    block += mixed * 7 + mixed  # depthwise convolution
    block += 3 * heads + _linear(inner, heads, bias=False)  # A, bias of dt and D; what makes D depend on the input
    block += inner + _linear(inner, WIDTH, bias=False)  # gated norm, output projection
    return block + FEED_FORWARD + 3 * 2 * WIDTH


@dataclass(frozen=True)
class SizeFinding:
    """A printed parameter count and the numbers of ids that would explain it with d = 64 and a given body."""

    row: PaperRow
    body: float
    ids_low: int
    ids_high: int
    ids_table_4: int

    @property
    def fits(self) -> bool:
        """Whether the catalogue of Table 4 explains the printed count."""
        return self.ids_low <= self.ids_table_4 <= self.ids_high

    @property
    def fits_2014(self) -> bool:
        """Whether the same category's catalogue of 2014 explains it."""
        older = CATALOGUES_2014.get(self.row.dataset)
        return older is not None and self.ids_low <= older + 1 <= self.ids_high

    @property
    def explained_by(self) -> str:
        """The catalogue that explains the printed count."""
        if self.fits:
            return "Table 4"
        return f"{CATALOGUES_2014[self.row.dataset]:,} (2014)" if self.fits_2014 else "neither"


def implied_ids() -> list[SizeFinding]:
    """For each model with an item embedding: between how many ids the printed count lies, to correct rounding.

    The body is the paper's own count in parentheses (with its rounding), or `hydra_body` for Hydra4Rec, for which none
    is printed.
    """
    findings = []
    for row in PAPER:
        if row.body is None and row.model != "hydra4rec":
            continue
        low, high = row.parameters.range()
        least, most = (hydra_body(),) * 2 if row.body is None else row.body.range()
        middle = float(hydra_body()) if row.body is None else row.body.value
        ids = (math.ceil((low - most) / WIDTH), math.floor((high - least) / WIDTH))
        findings.append(SizeFinding(row, middle, *ids, table_4_ids(row.dataset)))
    return findings


def table_4_ids(dataset: str) -> int:
    """Ids of the embedding table by Table 4, padding included: its ML-1M row counts the padding id already (3,416 items
    after the 5-core), and the others are taken the same way. One id more or less changes no printed digit."""
    return next(row.items for row in TABLE_4 if row.dataset == dataset)

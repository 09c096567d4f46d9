"""Parameter counts in closed form, to see which settings explain the sizes that the paper prints.

Symbols: d = width (64), N = ids in the embedding table (items + 1 for padding), L = maximal length. A linear
layer from a to b has a b weights and b biases; a layer norm has 2 d.
"""

from __future__ import annotations

import math

from seqrec_lib.report.paper import TABLE_4, PaperRow, comparable

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


def implied_ids(row: PaperRow) -> range:
    """The numbers of ids that explain a row's printed count, to correct rounding; empty without an item embedding.

    The body is the paper's own count in parentheses (with its rounding), or `hydra_body` for Hydra4Rec, for which none
    is printed.
    """
    if row.body is None and row.model != "hydra4rec":
        return range(0)
    low, high = row.parameters.range()
    least, most = (hydra_body(),) * 2 if row.body is None else row.body.range()
    return range(math.ceil((low - most) / WIDTH), math.floor((high - least) / WIDTH) + 1)


def explained_by(row: PaperRow) -> str:
    """The catalogue that explains a row's printed count: Table 4's, or that of 2014."""
    if table_4_ids(row.dataset) in implied_ids(row):
        return "Table 4"
    older = CATALOGUES_2014.get(row.dataset, -1)
    return f"{older:,} (2014)" if older + 1 in implied_ids(row) else "neither"


def about_the_same_data(row: PaperRow, dataset: str) -> bool:
    """Whether a row is about this data set of ours: by its name, or because its count of parameters names the
    collection of 2014."""
    return comparable(dataset) or ("2014" in dataset and "2014" in explained_by(row))


def table_4_ids(dataset: str) -> int:
    """Ids of the embedding table by Table 4, padding included: its ML-1M row counts the padding id already (3,416 items
    after the 5-core), and the others are taken the same way. One id more or less changes no printed digit."""
    return next(row.items for row in TABLE_4 if row.dataset == dataset)

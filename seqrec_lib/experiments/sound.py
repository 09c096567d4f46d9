"""Whether the values of a configuration can be meant: choices and ranges, asked before anything runs.

Overrides are checked for name and type where a recipe takes them. What is left is a value of the right type that no
code refuses: an objective that does not exist trains the default one, and no epoch trains nothing. The choices are
those of the ``Literal`` fields of the configurations, the ranges those of `RANGES`, by names that all of them share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seqrec_lib.errors import SeqRecError
from seqrec_lib.parameters import suggest


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; an end that is ``open`` is not among them."""

    low: float
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return (
            low if self.high == float("inf") else f"{low} and {'below' if self.open_high else 'at most'} {self.high:g}"
        )


COUNT, ANY_COUNT = Range(1), Range(0)
POSITIVE, SHARE, PART = Range(0, open_low=True), Range(0, 1), Range(0, 1, open_high=True)

RANGES: dict[str, Range] = {
    **dict.fromkeys(
        ("seed", "stride", "patience", "warmup_steps", "lora_rank", "lessons", "orders", "weight_decay"), ANY_COUNT
    ),
    **dict.fromkeys(("learning_rate", "clip"), POSITIVE),
    **dict.fromkeys(("dropout", "average"), PART),
    **dict.fromkeys(("warmup", "b"), SHARE),
    "k1": ANY_COUNT,
    "candidates": Range(2, 26),  # one letter each
    **dict.fromkeys(
        (
            # training
            "epochs", "validate_every", "max_length", "tokens_per_batch", "batch", "per_user",
            # architecture
            "d_model", "n_layers", "n_heads", "heads", "d_state", "d_conv", "expand", "headdim", "positions",
            "vocabulary",
            # texts and queries
            "history", "prompt_tokens", "title_tokens", "beams", "steps", "length", "fewer", "constants_users",
            "valid_users",
            # timing
            "threads", "processes", "blocks", "block_users", "samples", "sample_users", "batches", "batch_rounds", "k",
            "lengths", "batch_length", "catalogues", "catalogue_length", "rounds",
        ),
        COUNT,
    ),
}  # fmt: skip


def check_config(config: Any) -> None:
    """Check a configuration, the ones within it included.

    Raises:
        SeqRecError: a value is none of its field's choices, or outside its name's range; the line names both.
    """
    hints = get_type_hints(type(config)) if is_dataclass(config) else {}
    for name, value in _items(config):
        kind = hints.get(name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            allowed = [str(choice) for choice in get_args(kind)]
            raise SeqRecError(f"{name} is {value!r}; {suggest(str(value), allowed)}")
        for number in value if isinstance(value, (list, tuple)) else (value,):
            wrong = isinstance(number, (int, float)) and not isinstance(number, bool)
            if wrong and name in RANGES and number not in RANGES[name]:
                raise SeqRecError(f"{name} is {number!r}; expected {RANGES[name]}")
        if is_dataclass(value) or isinstance(value, Mapping):
            check_config(value)


def _items(config: Any) -> list[tuple[str, Any]]:
    if is_dataclass(config):
        return [(field.name, getattr(config, field.name)) for field in fields(config)]
    return [(str(name), value) for name, value in config.items()]

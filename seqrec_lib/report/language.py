"""Recommenders that write queries (experiment `generative`) as rows beside other models. Where a language model comes
from stands in every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seqrec_lib.language.quantized import base, is_quantized
from seqrec_lib.language.recipes import FLOORS
from seqrec_lib.report.runs import ModelRuns, gather
from seqrec_lib.results import RunRecord, RunStore, plain


def rows(configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore) -> list[ModelRuns]:
    """`gather`, with each language model's source and size in its label; each source is a row of its own."""
    sources = [plain(config)["source"] for config in configs]
    found = []
    for source in dict.fromkeys(sources):
        chosen = [i for i, other in enumerate(sources) if other == source]
        runs = gather([configs[i] for i in chosen], [records[i] for i in chosen], store)
        found += [replace(own, label=_label(own, source), other_model=is_scratch(source)) for own in runs]
    order = list(dict.fromkeys(plain(config)["model"] for config in configs))
    return sorted(found, key=lambda own: order.index(own.model))


def known(configs: Sequence[Any], records: Sequence[RunRecord | None]) -> tuple[list[Any], list[RunRecord | None]]:
    """Of planned runs, those that are complete; of a model that has none, the first, which shows as "not run"."""
    done = {plain(c)["model"] for c, r in zip(configs, records, strict=True) if r is not None and r.complete}
    kept: dict[Any, tuple[Any, RunRecord | None]] = {}
    for config, record in zip(configs, records, strict=True):
        model = plain(config)["model"]
        if model not in done:
            kept.setdefault(model, (config, record))
        elif record is not None and record.complete:
            kept[record.run_id] = (config, record)
    return [config for config, _ in kept.values()], [record for _, record in kept.values()]


def beside(
    configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore
) -> tuple[list[ModelRuns], list[RunRecord | None]]:
    """What other pages show of the models that write queries: `known` planned runs, and every pretrained model's.

    Args:
        configs, records: planned runs from scratch on one data set, and what became of them.

    Returns:
        rows, the language models first and then their floors, and the records behind them.
    """
    dataset = plain(configs[0])["dataset"]
    configs, records = known(configs, records)
    for record in store.records("generative"):
        source = str(record.config.get("source", ""))
        if record.complete and record.config["dataset"] == dataset and source and not is_scratch(source):
            configs, records = [*configs, record.config], [*records, record]
    found = rows(configs, records, store)
    return sorted(found, key=lambda own: own.model in FLOORS), list(records)


def is_scratch(source: str) -> bool:
    """Whether a model of this source has no pretrained weights."""
    return source.startswith("scratch:")


def _label(own: ModelRuns, source: str) -> str:
    return f"{own.label} ({origin(own, source)})" if source else own.label


def origin(own: ModelRuns, source: str) -> str:
    """Where a language model comes from and how large it is, in a few words."""
    made = own.complete[0].environment.get("language_model", {}) if own.complete else {}
    name = "from scratch" if is_scratch(source) else str(made.get("name", base(source))).rstrip("/").rpartition("/")[2]
    name += " in four bits" if is_quantized(source) else ""
    return name + (f", {weights(made['parameters'])}" if made else "")


def weights(count: float) -> str:
    """A number of weights as a label has it.

    >>> weights(413_888), weights(124_439_808)
    ('0.41 M weights', '124 M weights')
    """
    millions = count / 1e6
    return f"{millions:.2g} M weights" if millions < 10 else f"{millions:,.0f} M weights"

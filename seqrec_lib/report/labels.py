"""What runs are called: the model's name, and whatever tells apart runs of one name.

Two runs of one name and data set are "SASRec (dropout 0.0)" and "SASRec (dropout 0.1)"; seeds make no difference. A
language model's label says where it comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from seqrec_lib.language.corpus import GPT4REC, NEXT_TITLE
from seqrec_lib.language.quantized import base, is_quantized
from seqrec_lib.report.paper import model_name
from seqrec_lib.results import RunRecord, without_seed
from seqrec_lib.train.recipes import PUBLIC_CODE

BY_TITLES = {GPT4REC.name: "Likelihood of titles", NEXT_TITLE.name: "Titles in a row"}  # by prompt
IN_WORDS = {
    "same_dropout True": "with dropout",
    "titles shuffled": "shuffled titles",
}


def labels(configs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each configuration: its model, and in parentheses what language model it is and the settings that
    differ among those of its name.

    Args:
        configs: as records have them.
        rows: what a frame says of each: dataset, origin, model and experiment.
    """
    names = [(row["dataset"], row["origin"], _name(config, row)) for config, row in zip(configs, rows, strict=True)]
    settings = [
        {path: value for path, value in settings_of(without_seed(config)).items() if path not in {"dataset", "model"}}
        for config in configs
    ]
    members = Counter(names)
    equal = Counter((name, p, repr(v)) for name, own in zip(names, settings, strict=True) for p, v in own.items())
    texts = []
    for name, own, row in zip(names, settings, rows, strict=True):
        differing = [
            f"{path.rpartition('.')[2]} {value}"
            for path, value in own.items()
            if equal[name, path, repr(value)] < members[name]
        ]
        details = ([row["origin"]] if row["origin"] else []) + [IN_WORDS.get(text, text) for text in differing]
        texts.append(name[-1] + (f" ({', '.join(details)})" if details else ""))
    return texts


def _name(config: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    name = model_name(row["model"] or row["experiment"] or "")
    samples = (config.get("training") or {}).get("samples_per_step")
    name += ", public recipe" if samples == PUBLIC_CODE["samples_per_step"] else ""
    name = BY_TITLES.get(str((config.get("setting") or {}).get("prompt")), name)
    over = config.get("retriever", {}).get("model")
    return f"{name} on {model_name(over)}" if over else name


def origin_of(values: Mapping[str, Any], record: RunRecord | None) -> str | None:
    """Where a language model comes from, how large it is where its name does not say so, and whether it was not tuned:
    "from scratch, 0.41 M weights", "Gemma 3 270M, 4-bit weights, pretrained, zero-shot"; None of another model."""
    source = str(values.get("source") or "")
    if not source:
        return None
    made = record.environment.get("language_model", {}) if record else {}
    name = "from scratch" if source.startswith("scratch:") else str(made.get("name", base(source)))
    name = name.rstrip("/").rpartition("/")[2] + (" in four bits" if is_quantized(source) else "")
    millions = 0 if made.get("kind") == "gguf" else made.get("parameters", 0) / 1e6
    size = f"{millions:.2g}" if millions < 10 else f"{millions:,.0f}"
    name += f", {size} M weights" if millions else ""
    return name + (", zero-shot" if (values.get("teaching") or {}).get("prompts") == 0 else "")


def settings_of(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The configuration as one flat mapping: {"training": {"epochs": 3}} -> {"training.epochs": 3}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= settings_of(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return flat

"""Trained weights as scripts for the book's page *Try it*, where book/_static/live/recurrent.js reads them.

For each data set that has kept weights of all `MODELS` here, one script: its titles, and each model's settings and
weights as 16-bit floats in base64. ``models.js`` lists the scripts; without weights its list is empty, and
the page says how to get them. Nothing is trained, and nothing is downloaded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_lib.data import available, get, load
from seqrec_lib.recommend import newest_weights
from seqrec_lib.results import RunStore

if TYPE_CHECKING:
    from seqrec_lib.models.base import SequentialRecommender

FREE = "demo"  # simulated, so that its titles may be published
DATASETS = (FREE, "ml-1m")
MODELS = {"2mamba4rec+repeats": "2Mamba4Rec", "sasrec+repeats": "SASRec"}
FOLDER = Path("_static") / "live"
INDEX = "models.js"


def export(source: Path, store: RunStore | None = None) -> list[str]:
    """Write the scripts into the book's sources; returns the data sets that the page can show, `FREE` first."""
    store, folder = store or RunStore(), source / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for dataset in DATASETS:
        content = dataset_content(dataset, store)
        if content is not None:
            script = f"globalThis.SeqRecData = {json.dumps(content, ensure_ascii=False)};\n"
            (folder / f"{dataset}.js").write_text(script.replace("</", "<\\/"), encoding="utf-8")
            shown.append(dataset)
    entries = [{"dataset": name, "title": get(name).title, "file": f"{name}.js"} for name in shown]
    (folder / INDEX).write_text(f"globalThis.SeqRecModels = {json.dumps(entries)};\n", encoding="utf-8")
    return shown


def dataset_content(dataset: str, store: RunStore) -> dict[str, Any] | None:
    """Titles and models of a data set, as its script holds them; None where data or weights of a model are not here."""
    from seqrec_lib.experiments.weights import load_recommender

    trained_here = [r for r in store.records("accuracy", dataset) if r.config.get("model") in MODELS]
    if not any(store.kept(record.run_id) for record in trained_here) or not available(dataset)[0]:
        return None
    sequences = load(dataset)
    models = []
    for model, title in MODELS.items():
        newest = newest_weights(dataset, model, sequences.split_hash, store, lambda line: None)
        if newest is None:
            return None
        config, folder = newest
        trained = load_recommender(folder, config, sequences.n_items)
        models.append({"title": title, **model_content(trained, model.partition("+")[0], config["architecture"])})
    titles = [title or f"item {label}" for title, label in zip(sequences.titles, sequences.item_labels, strict=True)]
    return {"titles": titles, "models": models}


def model_content(trained: SequentialRecommender, name: str, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and weights of one model: ``tensors`` names them with their sizes, ``numbers`` holds them end to end."""
    import numpy as np

    bias = trained.repeat_bias
    settings = {key: value for key, value in architecture.items() if isinstance(value, int)} | {
        "window": trained.window,
        "residual": any(getattr(layer, "residual", False) for layer in trained.get_submodule("layers").children()),
        "repeat_bias": 0.0 if bias is None else bias.item(),
    }
    tensors = {key: tensor for key, tensor in trained.state_dict().items() if key != "repeats"}
    numbers = np.concatenate([tensor.flatten().numpy() for tensor in tensors.values()]).astype("<f2")
    return {
        "architecture": name,
        "settings": settings,
        "tensors": [(key, tensor.numel()) for key, tensor in tensors.items()],
        "numbers": base64.b64encode(numbers.tobytes()).decode(),
    }

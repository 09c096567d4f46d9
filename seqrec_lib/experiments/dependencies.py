"""What a run depends on here: the modules that its code begins with, and the data set as it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from seqrec_lib.results import RunRecord, plain

if TYPE_CHECKING:
    from seqrec_lib.experiments.base import Experiment


def modules_of(experiment: Experiment, config: Any) -> list[str]:
    """The modules that a run begins with: the experiment's own, and those of the models that ``config`` names."""
    from seqrec_lib.models import COUNTED, MODELS, module_of

    home = getattr(experiment, "__name__", None) or type(experiment).__module__
    models = [module_of(name) for name in _models_in(plain(config)) if name in MODELS or name in COUNTED]
    return [home, *models] if home.startswith("seqrec_lib.") else models


def _models_in(value: Any) -> list[str]:
    """All texts that stand under "model" or in "models" of a configuration, at any depth."""
    if isinstance(value, list):
        return [name for item in value for name in _models_in(item)]
    if not isinstance(value, Mapping):
        return []
    named = [value.get("model"), *(value.get("models") or ())]
    return [name for name in named if isinstance(name, str)] + _models_in(list(value.values()))


def installed_split(name: str) -> str | None:
    """Split hash of the data set ``name`` as it is here, or None: it is not here. Read anew when its files change."""
    from seqrec_lib.data.download import locate
    from seqrec_lib.data.registry import find

    spec = find(name)
    found = None if spec is None else locate(spec)
    if spec is None or (found is None and spec.sources):
        return None
    files = [raw.path for raw in found[1].values()] if found else []
    return _split_of(name, tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=32)  # a page asks for each of its runs
def _split_of(name: str, _files: tuple[tuple[str, int, int], ...]) -> str:
    from seqrec_lib.data import load

    return load(name).split_hash


def is_of_other_data(record: RunRecord) -> bool:
    """Whether the data set that is installed here is not the one of a record."""
    split = record.dataset.get("split_sha256")
    here = installed_split(record.dataset["name"]) if split is not None else None
    return here is not None and here != split

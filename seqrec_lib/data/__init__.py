"""Data: from the name of a data set to its sequences.

``load("ml-1m")`` finds or downloads the raw files, reads them, filters to the 5-core and returns ``Sequences``. The
processed arrays are cached, keyed by the checksums of the raw files and by the code that processes them, so that a
stale result is never read; a checksum of the cache file itself keeps a damaged one from being read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np

from seqrec_lib.checksums import append_sum, ends_in_sum
from seqrec_lib.data import files, interactions, own, own_table, readers, simulate, tables, times
from seqrec_lib.data.download import fetch, locate, missing
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.interactions import Interactions, drop_duplicates, drop_untitled, k_core, statistics, to_sequences
from seqrec_lib.data.registry import DATASETS, DatasetSpec, Source, get, verification
from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import cache_folder, make_cache

__all__ = [
    "DATASETS",
    "Interactions",
    "Sequences",
    "available",
    "clean",
    "get",
    "load",
    "process",
    "read",
    "statistics",
    "verification",
]
_ARRAYS = ("items", "offsets", "timestamps", "ratings")  # of `Sequences`, as the cache has them


def load(name: str, *, strict: bool = True, cache: bool = True, progress: bool = False) -> Sequences:
    """The processed data set of this name.

    strict: a malformed line is an error; False: it is skipped, and a warning tells how many were
    cache: use and write the cache of processed arrays
    progress: show a bar while downloading

    Raises SeqRecError: unknown name (with close matches); files neither found nor downloadable; wrong
    checksum; damaged or malformed file; nothing left after filtering. Warns where no item has a title, for each load.
    """
    spec = get(name)
    source, raw = fetch(spec, progress=progress) if spec.sources else (None, {})
    stored = cache_folder() / "sequences" / f"{name}-{_key(spec, raw)}.npz"
    if cache and (sequences := _restore(name, stored)) is not None:
        _warn_if_untitled(sequences, raw)
        return sequences
    rows = _read(spec, source, raw, strict)
    sequences = process(spec, rows)
    _warn_if_untitled(sequences, raw)
    if cache and (strict or not rows.skipped):  # else another load, a strict one, would take up what this one skipped
        _store(sequences, stored)
    return sequences


def read(name: str) -> Interactions:
    """The rows of a data set as its files have them: not cleaned, filtered or ordered. Raises as ``load`` does."""
    spec = get(name)
    source, raw = fetch(spec) if spec.sources else (None, {})
    return _read(spec, source, raw, True)


def clean(spec: DatasetSpec, rows: Interactions) -> Interactions:
    """Drop what the data set's entry says, then filter to its k-core."""
    if spec.drop_untitled:
        rows = drop_untitled(rows)
    if spec.drop_duplicates:
        rows = drop_duplicates(rows)
    return k_core(rows, spec.k, spec.least)


def process(spec: DatasetSpec, rows: Interactions) -> Sequences:
    """Clean, filter and order the rows of a data set."""
    return to_sequences(spec.name, clean(spec, rows), spec.order)


def available(name: str) -> tuple[bool, str]:
    """(whether the data set can be loaded without a download, where it lies or why not)."""
    spec = get(name)
    if not spec.sources:
        return True, "simulated"
    if (found := locate(spec)) is None:
        return False, missing(spec)
    return True, str(next(iter(found[1].values())).path.parent)


def _read(spec: DatasetSpec, source: Source | None, raw: dict[str, RawFile], strict: bool) -> Interactions:
    rows = simulate.simulate() if source is None else source.read(raw, strict)
    if rows.skipped:
        warnings.warn(f"{spec.name}: skipped {rows.skipped:,} bad lines", stacklevel=3)
    if len(rows) and spec.drop_untitled and not any(title.strip() for title in rows.titles.values()):
        raise SeqRecError(
            f"{spec.name}: {_titles_label(raw)} holds no titles, and items without one are dropped; get it again"
        )
    return rows


def _titles_label(raw: dict[str, RawFile]) -> str:
    return raw["titles"].label if "titles" in raw else "the source"


def _warn_if_untitled(sequences: Sequences, raw: dict[str, RawFile]) -> None:
    if not any(sequences.titles) and not own.is_own(sequences.name):  # of a reader's file, its facts count the titles
        warnings.warn(
            f"{sequences.name}: {_titles_label(raw)} holds no title for any of the {sequences.n_items:,} items; "
            "they go by their ids",
            stacklevel=3,
        )


def _key(spec: DatasetSpec, raw: dict[str, RawFile]) -> str:
    """Identifies the processed arrays: raw bytes, processing code, the entry's settings."""
    digest = hashlib.sha256()
    for role in sorted(raw):
        digest.update(f"{role} {raw[role].checksum()} {raw[role].member}\n".encode())
    for module in (files, interactions, own, own_table, readers, simulate, tables, times):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())  # cleans, and writes the cache itself
    digest.update(f"{spec.k} {spec.least} {spec.drop_untitled} {spec.drop_duplicates} {spec.order}".encode())
    return digest.hexdigest()[:16]


def _store(sequences: Sequences, path: Path) -> None:
    """Write the arrays without pickle, and behind them the sum of file name and arrays, in one step.

    Where that fails, the next load is only slower.
    """
    texts = json.dumps([sequences.titles, sequences.item_labels]).encode()
    arrays = {part: array for part in _ARRAYS if (array := getattr(sequences, part)) is not None}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        make_cache("sequences")
        with temporary.open("w+b") as stream:
            np.savez(stream, texts=np.frombuffer(texts, np.uint8), **arrays)
            append_sum(stream, path.name.encode())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _restore(name: str, path: Path) -> Sequences | None:
    """The cached sequences; None where there are none, or not the very bytes that were written under this name."""
    try:
        with path.open("rb") as stream:
            if not ends_in_sum(stream, path.name.encode()):
                return None
            with np.load(stream, allow_pickle=False) as arrays:
                titles, labels = map(tuple, json.loads(arrays["texts"].tobytes()))
                known = {part: arrays.get(part) for part in _ARRAYS}
                return Sequences(name=name, titles=titles, item_labels=labels, **known)
    except OSError:
        return None

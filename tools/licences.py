"""The licence of every package in the locks, as its own metadata has it: ``python -m tools.licences``.

Writes ``requirements-licences.csv`` beside the locks. A package of a lock that is not installed here is listed without
a licence; run it in the environment of the lock in question. What a package says is copied, not judged.
"""

from __future__ import annotations

import csv
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements-cpu.lock", "requirements-cuda.lock")
TARGET = ROOT / "requirements-licences.csv"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
KNOWN = {"einops": "MIT", "torch": "BSD-3-Clause"}  # by the file LICENSE of their repositories
LONGEST = 60  # letters of a licence's name; some packages put its whole text there


def pinned(text: str) -> dict[str, str]:
    """Package -> version of a lock's text, names in lower case with hyphens.

    >>> pinned("Foo_Bar==1.2 \\\\\\n    --hash=sha256:0\\n# a comment\\nbaz[extra]==3; sys_platform == 'linux'\\n")
    {'foo-bar': '1.2', 'baz': '3'}
    """
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def licence_of(package: Distribution) -> str:
    """The licence by the metadata's field, else by its classifiers, else by the first line of the licence's text."""
    metadata: Any = package.metadata  # a Message, whose ``get`` its type does not show
    for field in ("License-Expression", "License"):
        text = (metadata.get(field) or "").strip()
        if text and len(text) <= LONGEST and text.upper() != "UNKNOWN":
            return text
    classifiers = metadata.get_all("Classifier") or []
    names = [name.rpartition(" :: ")[2] for name in classifiers if name.startswith("License :: ")]
    if chosen := "; ".join(name for name in names if name != "OSI Approved"):
        return chosen
    texts = [metadata.get("License") or ""]
    texts += [
        path.read_text(encoding="utf-8") for path in package.files or () if re.match("licen[cs]e", path.name, re.I)
    ]
    return next((line.strip(" #") for text in texts for line in text.splitlines() if line.strip()), "")[:LONGEST]


def rows() -> list[tuple[str, str, str]]:
    """(package, version, licence) of all locks, each package once for each version."""
    found = {}
    for lock in LOCKS:
        for name, version in pinned((ROOT / lock).read_text(encoding="utf-8")).items():
            try:
                licence = KNOWN.get(name) or licence_of(distribution(name))
            except PackageNotFoundError:
                licence = ""
            found[name, version] = licence
    return [(name, version, licence) for (name, version), licence in sorted(found.items())]


def main() -> int:
    """Write the list, and say which packages have no licence in it."""
    listed = rows()
    with TARGET.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("package", "version", "licence"))
        writer.writerows(listed)
    unknown = [name for name, _, licence in listed if not licence]
    print(f"{TARGET}: {len(listed)} packages, {len(unknown)} without a licence here: {', '.join(unknown)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

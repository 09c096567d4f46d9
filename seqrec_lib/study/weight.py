"""The built book's weight: `slim` takes from it what no reader opens.

Sphinx copies each notebook with its outputs beside the page that shows them, the theme brings maps of its scripts and
its own translations, and a figure within a page is a third larger than one in a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

from seqrec_lib.validation import read_json

UNUSED = (
    "_static/**/*.map",  # for who debugs the theme
    "_static/locales",  # read while building
    "_static/vendor/fontawesome/webfonts/*.ttf",  # the same fonts are there as woff2
    "_static/sphinx-thebe.*",  # its scripts are on no page (offline_page)
)
_DATA = "data:image/svg+xml;base64,"
_FIGURE = re.compile(rf"{re.escape(_DATA)}([A-Za-z0-9+/=]+)")
_NOT_DRAWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.S)
_LONG_NUMBER = re.compile(r"(?<![\d.])(?<!scale\()-?\d+\.\d{3,}")  # a scale keeps its digits


def slim(html: Path) -> None:
    """Remove unused files from the built book, outputs from the notebooks to download, and put figures into files."""
    for pattern in UNUSED:
        for path in list(html.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (html / "_sources").rglob("*.ipynb"):
        notebook = read_json(path, "build the book again")
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        figures = {encoded: _figure_file(html, encoded) for encoded in set(_FIGURE.findall(text))}
        up = "../" * (len(path.relative_to(html).parts) - 1)
        for encoded, file in figures.items():
            text = text.replace(f"{_DATA}{encoded}", up + file)
        path.write_text(text, encoding="utf-8")


def _figure_file(html: Path, encoded: str) -> str:
    """Write a figure, without what is not drawn and in hundredths of a point; returns its place in the book."""
    svg = _NOT_DRAWN.sub("", base64.b64decode(encoded).decode())
    svg = _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><").strip()
    path = html / "_images" / f"{hashlib.sha256(svg.encode()).hexdigest()[:16]}.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(svg, encoding="utf-8")
    return path.relative_to(html).as_posix()

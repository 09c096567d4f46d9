"""The built book's weight: `slim` takes from it what no reader opens.

Sphinx copies each notebook with its outputs beside the page that shows them, and the theme brings maps of its scripts
and its own translations.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from seqrec_lib.validation import read_json

UNUSED = (
    "_static/**/*.map",  # for who debugs the theme
    "_static/locales",  # read while building
    "_static/vendor/fontawesome/webfonts/*.ttf",  # the same fonts are there as woff2
    "_static/sphinx-thebe.*",  # its scripts are on no page (offline_page)
)


def slim(html: Path) -> None:
    """Remove unused files from the built book, and outputs from the notebooks to download."""
    for pattern in UNUSED:
        for path in list(html.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (html / "_sources").rglob("*.ipynb"):
        notebook = read_json(path, "build the book again")
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")

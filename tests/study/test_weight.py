"""A built book is light: what nobody opens leaves it, and what everybody sees stays."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from seqrec_lib.study import weight

SVG = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">
<svg viewBox="0 0 10 10"><metadata><x/></metadata><!-- 2 -->
  <path d="M 1.23456 -2.00001
L 3 4" transform="translate(5.6789 1) scale(0.015625)"/>
</svg>"""


def test_figures_move_to_files_and_notebooks_lose_their_outputs(tmp_path: Path) -> None:
    sources, pages, scripts = (tmp_path / name for name in ("_sources/notebooks", "notebooks", "_static/scripts"))
    for folder in (sources, pages, scripts):
        folder.mkdir(parents=True)
    code = {"cell_type": "code", "source": "1", "outputs": [{"text": "much"}], "execution_count": 3, "metadata": {}}
    notebook = {"cells": [code, {"cell_type": "markdown", "source": "# T", "metadata": {}}]}
    (sources / "n.ipynb").write_text(json.dumps(notebook))
    figure = f'<img alt="a" src="data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}">'
    (pages / "n.html").write_text(figure)
    (tmp_path / "index.html").write_text(figure)
    for name in ("theme.js", "theme.js.map"):
        (scripts / name).write_text("x")

    weight.slim(tmp_path)
    cells = json.loads((sources / "n.ipynb").read_text())["cells"]
    assert [cell["source"] for cell in cells] == ["1", "# T"]
    assert (cells[0]["outputs"], cells[0]["execution_count"]) == ([], None)
    (image,) = (tmp_path / "_images").iterdir()  # the same figure twice is one file
    assert (pages / "n.html").read_text() == f'<img alt="a" src="../_images/{image.name}">'
    assert (tmp_path / "index.html").read_text() == f'<img alt="a" src="_images/{image.name}">'
    drawn = '<path d="M 1.23 -2 L 3 4" transform="translate(5.68 1) scale(0.015625)"/>'
    assert image.read_text() == f'<svg viewBox="0 0 10 10">{drawn}</svg>'
    assert [path.name for path in scripts.iterdir()] == ["theme.js"]

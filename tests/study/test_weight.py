"""A built book is light: what nobody opens leaves it, and what everybody sees stays."""

from __future__ import annotations

import json
from pathlib import Path

from seqrec_lib.study import weight


def test_notebooks_lose_their_outputs_and_unused_files_go(tmp_path: Path) -> None:
    sources, scripts = (tmp_path / name for name in ("_sources/notebooks", "_static/scripts"))
    for folder in (sources, scripts):
        folder.mkdir(parents=True)
    code = {"cell_type": "code", "source": "1", "outputs": [{"text": "much"}], "execution_count": 3, "metadata": {}}
    notebook = {"cells": [code, {"cell_type": "markdown", "source": "# T", "metadata": {}}]}
    (sources / "n.ipynb").write_text(json.dumps(notebook))
    for name in ("theme.js", "theme.js.map"):
        (scripts / name).write_text("x")

    weight.slim(tmp_path)
    cells = json.loads((sources / "n.ipynb").read_text())["cells"]
    assert [cell["source"] for cell in cells] == ["1", "# T"]
    assert (cells[0]["outputs"], cells[0]["execution_count"]) == ([], None)
    assert [path.name for path in scripts.iterdir()] == ["theme.js"]

"""Where the project lies: the folder with study.yml, from which stores, notebooks and book are reached.

A notebook opened in JupyterLab runs in notebooks/, papermill in the reader's own folder; both must find the
same records, so relative places start from the project and not from the working folder.
"""

from __future__ import annotations

from pathlib import Path

MARK = "study.yml"


def project_root() -> Path:
    """The nearest folder at or above the working folder that holds study.yml; else the one that holds this
    package."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MARK).is_file() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parent.parent

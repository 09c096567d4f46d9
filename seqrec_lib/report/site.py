"""Where and by whom this study is published, from the one file that says so: CITATION.cff.

Chapters name these values (``{{ site/repository }}``); the staged book, its PDF and its archive take them from here.
The repository and the authors in that file are placeholders until somebody publishes the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FILE = "CITATION.cff"
HOSTS = ("https://github.com/", "https://gitlab.com/", "https://bitbucket.org/")  # the theme's button knows these


def read_site(root: Path) -> dict[str, str]:
    """title, authors, repository (an address to clone) and release (a tag), as the project's citation file has them;
    empty without that file."""
    path = root / FILE
    if not path.is_file():
        return {}
    citation = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        "title": citation["title"],
        "authors": ", ".join(map(_name, citation["authors"])),
        "repository": citation["repository-code"].removesuffix("/").removesuffix(".git") + ".git",
        "release": f"v{citation['version']}",
    }


def _name(author: Mapping[str, str]) -> str:
    """A person's name, or that of a group."""
    return author.get("name") or f"{author['given-names']} {author['family-names']}"


def configured(config: Mapping[str, Any], site: Mapping[str, str]) -> dict[str, Any]:
    """Jupyter Book's configuration with the authors and, where the repository is one that the theme can link to, the
    button that leads there."""
    if not site:
        return dict(config)
    filled = {**config, "author": site["authors"], "copyright": f"{config.get('copyright', '')}, {site['authors']}"}
    address = site["repository"].removesuffix(".git")
    if not address.startswith(HOSTS):
        return filled
    return {**filled, "html": {**config["html"], "use_repository_button": True}, "repository": {"url": address}}

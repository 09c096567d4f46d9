"""Fingerprints change with code and only with code; the description of the machine is plain JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.results import provenance
from seqrec_lib.results.provenance import ROOT, environment, fingerprint, git_state
from tests.fakes import make_checkout

CODE = '''"""Module."""
def f(x: int) -> str:
    """Function."""
    return f"{x!r:>5}" if x > 0 else "no"  # comment
class C:
    """Class."""
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def of(code: str) -> str:
        (tmp_path / "module.py").write_text(code)
        return fingerprint(("module",))

    return of


def test_prose_and_layout_do_not_change_the_fingerprint(mark) -> None:
    moved = """# a comment

def f(x: int) -> str:
    return (f"{x!r:>5}" if x > 0
        else "no")
class C: 'Other.'
"""
    assert mark(CODE) == mark(moved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x > 0", "x >= 0"),
        ('"no"', '"yes"'),
        ("!r", "!s"),
        ("int", "float"),
        ("class C", "class D"),
        ("> 0", "> 0.0"),
    ],
)
def test_code_changes_the_fingerprint(mark, old: str, new: str) -> None:
    assert old in CODE
    assert mark(CODE) != mark(CODE.replace(old, new))


def test_fingerprint_is_the_same_under_every_python(mark) -> None:
    # written down once: a Python with other syntax trees must not make all records "older code"
    assert mark(CODE) == "acf459e7fe257fdd"


def test_a_package_stands_for_its_modules_and_an_unknown_one_is_an_error(tmp_path: Path, mark) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/part.py").write_text("x = 1")
    before = fingerprint(("package",))
    (tmp_path / "package/part.py").write_text("x = 2")
    assert fingerprint(("package",)) != before
    with pytest.raises(SeqRecError, match=r"'seqrec_lib\.nothing' is not found"):
        fingerprint(("seqrec_lib.nothing",))


def test_fingerprint_and_environment_load_nothing_heavy() -> None:
    code = (
        "import sys; from seqrec_lib.results.provenance import environment, fingerprint; environment();"
        "fingerprint(('seqrec_lib.experiments.base', 'seqrec_lib.models'));"
        "print({'torch', 'pandas', 'transformers', 'papermill'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_hardware_is_named_without_torch_where_no_gpu_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    assert provenance.hardware() == (gpu or provenance.cpu_model())
    assert provenance.has_gpu_driver() or gpu is None
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(provenance, "GPU_DEVICES", (str(tmp_path / "no-device"),))
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    assert provenance.hardware() == provenance.cpu_model()
    monkeypatch.setattr(provenance, "GPU_DEVICES", (str(tmp_path),))
    with pytest.raises(ImportError):
        provenance.hardware()


def test_environment_is_plain_and_names_the_machine() -> None:
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] >= 1
    assert facts["device"]
    assert set(facts["kernels"]) == {"mamba-ssm", "causal-conv1d"}
    assert facts["versions"]["torch"] is not None


def test_git_state_ignores_results(checkout: Path) -> None:
    commit, dirty = git_state(checkout)
    assert (len(commit or ""), dirty) == (40, False)
    for folder in ("results", "benchmarks/results"):
        (checkout / folder).mkdir(parents=True)
        (checkout / folder / "new.json").write_text("{}")
        assert git_state(checkout) == (commit, False)
    (checkout / "new.py").write_text("x = 1")
    assert git_state(checkout) == (commit, True)


def test_without_git_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)

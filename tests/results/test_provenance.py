"""The description of the machine is plain JSON, and making it loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_lib.results import provenance
from seqrec_lib.results.provenance import ROOT, environment, git_state
from tests.fakes import make_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout")


def test_describing_the_machine_loads_nothing_heavy() -> None:
    code = (
        "import sys; from seqrec_lib.results.provenance import environment; environment();"
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

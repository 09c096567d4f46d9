"""The files around the code agree: pyproject.toml, environment.yml, locks, Makefile, licence, citation."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from seqrec_lib.results.transfer import PUBLISHED_LIMIT

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMED_BY_THE_STUDY = (
    "jupyter", "jupyter-book", "papermill", "torch", "mamba-ssm", "causal-conv1d", "transformers", "trl", "peft",
    "bitsandbytes", "seaborn", "scipy",
)  # fmt: skip
CONDA_NAMES = {"pytorch": "torch", "playwright-python": "playwright"}  # conda-forge's name -> PyPI's
MODULES = {
    "bs4": "beautifulsoup4",
    "yaml": "pyyaml",
    "llvmlite": "numba",
    "lightfm": "lightfm-next",
    "tokenizers": "transformers",
    "huggingface_hub": "transformers",
    "IPython": "ipython",
}  # module -> the requirement that brings it


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def declared() -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"]
    return requirements([*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)])


ENVIRONMENTS = ("environment.yml", "environment-gpu.yml")
KERNELS = ("mamba-ssm", "causal-conv1d")
NEED_TORCH = {"accelerate", "peft", "trl", "transformers"}  # on conda-forge they bring or expect its pytorch


def environment(name: str) -> tuple[list[str], list[str]]:
    """The specifications of an environment file, conda's and pip's."""
    entries = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["dependencies"]
    conda = [entry for entry in entries if isinstance(entry, str)]
    return conda, [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]


def lock(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert pins == sorted(pins), f"{name} is not sorted"
    return dict(pins)


def test_every_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["gpu"],
        *PROJECT["optional-dependencies"]["qlora"],
        *PROJECT["optional-dependencies"]["dev"],
    ]:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert len(line.partition("#")[2].strip()) > 4, f"{requirement} has no comment"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_and_pyproject_name_the_same_packages_with_the_same_bounds(name: str) -> None:
    conda, pip = environment(name)
    listed = requirements([line for line in [*conda, *pip] if line.split(">")[0] not in {"python", "pip"}])
    listed = {CONDA_NAMES.get(package, package): requirement for package, requirement in listed.items()}
    own = declared()
    if name == "environment.yml":
        own = {package: requirement for package, requirement in own.items() if package not in KERNELS}
    assert listed.keys() == own.keys()
    assert {n: r.specifier for n, r in listed.items()} == {n: r.specifier for n, r in own.items()}
    assert f"python{PROJECT['requires-python']}" in conda


def test_the_kernels_have_an_environment_of_their_own_with_pips_torch() -> None:
    """Their wheels are built against the torch of PyPI, and no machine without CUDA has to solve for them."""
    conda, pip = (requirements(lines) for lines in environment("environment-gpu.yml"))
    assert {*KERNELS, "torch"} <= pip.keys()
    assert not {"pytorch", *NEED_TORCH} & conda.keys()
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
    assert all(word in comments for word in ("environment-gpu.yml", *KERNELS))
    assert yaml.safe_load(text)["name"] != "seqrec-gpu"


def test_environments_name_the_packages_that_the_study_is_about() -> None:
    lines = [line for file in ENVIRONMENTS for part in environment(file) for line in part]
    names = {CONDA_NAMES.get(name, name) for name in requirements(lines)}
    assert names.issuperset(NAMED_BY_THE_STUDY)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_conda_can_read_every_specification(name: str) -> None:
    rattler = pytest.importorskip("rattler", reason="py-rattler reads conda's specifications")
    for entry in environment(name)[0]:
        spec = rattler.MatchSpec(entry, strict=True)
        assert (spec.version is None) == (re.search("[<>=]", entry) is None), entry


def test_solving_says_what_it_could_not_do(tmp_path: Path) -> None:
    """On a channel on the disk that has all but one package."""
    pytest.importorskip("rattler", reason="py-rattler solves as conda does")
    conda, _ = environment("environment.yml")
    packages = {re.split("[<>=]", line)[0] for line in conda}
    entry = {"version": "999.0", "build": "0", "build_number": 0, "depends": [], "subdir": "noarch"}
    exact = {"jupyter-book": "1.0.4.post1"}
    for folder, missing, expected in (("all", set(), "solved, "), ("less", {"scipy"}, "not solved: ")):
        files = {
            f"{name}-{exact.get(name, '999.0')}-0.tar.bz2": entry | {"name": name, "version": exact.get(name, "999.0")}
            for name in packages - missing
        }
        for subdir, listed in (("noarch", files), ("linux-64", {})):
            place = tmp_path / folder / subdir
            place.mkdir(parents=True)
            (place / "repodata.json").write_text(json.dumps({"info": {"subdir": subdir}, "packages": listed}))
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / "solve.py", "--channel", (tmp_path / folder).as_uri()],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"environment.yml: {expected}" in done.stdout, done.stdout + done.stderr
        assert done.returncode == (1 if missing else 0)


@pytest.mark.parametrize(("name", "torch"), [("requirements-cpu.lock", "2.13.0"), ("requirements-cuda.lock", "2.11.0")])
def test_a_lock_pins_what_the_project_asks_for(name: str, torch: str) -> None:
    pins = lock(name)
    wanted = requirements([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
    assert pins["torch"] == torch
    assert not [package for package in pins if package.startswith(("nvidia-", "cuda-")) or package == "triton"]
    for package, requirement in wanted.items():
        assert package in pins, f"{name} lacks {package}; run make lock"
        assert requirement.specifier.contains(pins[package], prereleases=True), f"{name}: {package}; run make lock"


def test_what_is_locked_installs_on_the_oldest_python() -> None:
    """A distribution's Python may be 3.11.2, and some packages ask for a later patch release."""
    release = PROJECT["requires-python"].removeprefix(">=") + ".0"
    pins, checked = lock("requirements-cpu.lock"), 0
    for package in importlib.metadata.distributions():
        name = canonicalize_name(package.metadata["Name"])
        if pins.get(name) == package.version:
            asked = package.metadata["Requires-Python"] or ""
            assert SpecifierSet(asked).contains(release), f"{name} {package.version} asks for Python {asked}"
            checked += 1
    assert checked > 100


def test_the_locks_differ_only_where_torch_makes_them() -> None:
    cpu, cuda = lock("requirements-cpu.lock"), lock("requirements-cuda.lock")
    assert {name for name in cpu.keys() & cuda.keys() if cpu[name] != cuda[name]} <= {"torch", "setuptools"}


def test_the_cuda_lock_names_the_kernels_that_the_gpu_extra_asks_for() -> None:
    head = (ROOT / "requirements-cuda.lock").read_text(encoding="utf-8")
    for package, requirement in requirements(PROJECT["optional-dependencies"]["gpu"]).items():
        pinned = re.search(rf"{package}==(\S+)", head)
        assert pinned is not None and requirement.specifier.contains(pinned[1])


def imported_modules(folder: Path) -> dict[str, str]:
    """Third-party top-level modules, with a file that imports each."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names):
                found[top] = str(path.relative_to(ROOT))
    return {top: where for top, where in found.items() if top not in {"seqrec_lib", "tests"}}


def test_what_the_library_imports_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    own = requirements([*PROJECT["dependencies"], *(line for e in extras if e != "dev" for line in extras[e])])
    for module, where in imported_modules(ROOT / "seqrec_lib").items():
        assert canonicalize_name(MODULES.get(module, module)) in own, f"{where} imports {module}, which is not declared"


def test_the_console_script_points_at_a_function() -> None:
    module, _, name = PROJECT["scripts"]["seqrec"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments, *(f"{key}={value}" for key, value in variables.items())],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_make_study_passes_profile_and_data_sets_on(tmp_path: Path) -> None:
    done = make("-n", "study", VENV=str(tmp_path / "venv"), PROFILE="paper", DATASETS="ml-1m,ml-100k")
    assert "seqrec study --profile paper --dataset ml-1m --dataset ml-100k" in done.stdout
    assert "--profile demo" in make("-n", "study", VENV=str(tmp_path / "venv")).stdout


def test_make_setup_adds_the_index_that_it_is_given(tmp_path: Path) -> None:
    index = "https://example.org/cpu"
    assert (
        f"--extra-index-url {index} -r requirements-cpu.lock"
        in make("-n", "setup", VENV=str(tmp_path / "venv"), TORCH_INDEX=index).stdout
    )
    assert "--extra-index-url" not in make("-n", "setup", VENV=str(tmp_path / "venv")).stdout


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nexec false "$@"\n')  # as a Python whose version check fails
    old.chmod(0o755)
    done = make("setup", VENV=str(tmp_path / "venv"), PYTHON=str(old))
    ours = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(ours) == 1
    assert "older than Python 3.11" in ours[0]
    assert "PYTHON=python3.12" in ours[0]
    assert not (tmp_path / "venv").exists()


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = make("help").stdout
    for target in re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split():
        assert f"  {target}: " in listed


def test_the_ci_script_is_sound_and_calls_the_readmes_commands() -> None:
    path = ROOT / ".ci" / "run"
    text = path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert "set -euo pipefail" in text
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make study", "make test"):
        assert command in text
        assert command in readme


def product_files() -> list[Path]:
    """Files that are, or would be, in the repository."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_data_weights_or_large_files_are_in_the_repository() -> None:
    forbidden = re.compile(r"(ratings|u)\.(dat|data|csv)|\.(dat|gz|zip|pt|pth|ckpt|safetensors|npz|pkl|pickle)$")
    for path in product_files():
        name = path.relative_to(ROOT).as_posix()
        made_up = name.startswith("tests/golden/raw/")
        assert made_up or not forbidden.search(path.name), f"{name} looks like data or weights"
        assert path.stat().st_size < 2 * 2**20, f"{name} is larger than 2 MB"


def test_the_published_records_stay_small() -> None:
    sizes = [path.stat().st_size for path in product_files() if path.relative_to(ROOT).parts[0] == "results"]
    assert sum(sizes) < PUBLISHED_LIMIT  # what publishing refuses to pass: a clone stays a matter of seconds


def test_only_the_ci_script_names_a_folder_outside_the_repository() -> None:
    outside = re.compile("|".join([r"\.\./" + "shared", "(?<![a-z.])/work" + "/", "/tmp" + "/w/", "/home" + "/[a-z]"]))
    for path in product_files():
        name = path.relative_to(ROOT).as_posix()
        if name == ".ci/run" or name.startswith("book/_static/mathjax/") or path.suffix in {".parquet", ".woff", ".gz"}:
            continue
        found = outside.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{name} names {found[0] if found else ''}"


def test_licence_and_citation() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License")
    assert "CC BY 4.0" in licence
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert "arXiv:2408.05606" in str(citation["references"])


def test_who_and_where_are_named_in_the_citation_file_alone() -> None:
    """Who fills in CITATION.cff has filled in everything."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    files = [*ROOT.glob("*.*"), *(ROOT / "book").glob("*.*"), *(ROOT / "notebooks").glob("*.ipynb")]
    for placeholder in (citation["repository-code"], "The authors of this study"):
        named = {path.name for path in files if path.is_file() and placeholder in path.read_text("utf-8", "replace")}
        assert named <= {"CITATION.cff"}, placeholder

"""The notebook's parameters: how the cell is read, what is refused, and with which hint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.parameters import check, check_notebook, known_values, parse, schema
from seqrec_lib.results.provenance import ROOT
from tests.fakes import make_project

CELL = """dataset: str = "demo"  # a data set
models: list[str] = ["sasrec"]  # model ids
seeds: list[int] = [0]
rate: float = 0.5  # learning rate
rates: list[float] = [0.5]
quick: bool = False
depth: int = 2  # blocks; 2 = the paper's
limit: int | None = None
overrides: dict = {}  # of the recipe
missing: str = "run"  # run | skip: what to do about missing runs
"""


def test_cell_is_read_with_types_defaults_help_and_choices() -> None:
    found = parse(CELL, "x")
    names = "dataset, models, seeds, rate, rates, quick, depth, limit, overrides, missing"
    assert ", ".join(found) == names
    assert (found["models"].type, found["models"].default, found["models"].help) == (
        "list[str]",
        ["sasrec"],
        "model ids",
    )
    assert found["depth"].help == "blocks; 2 = the paper's"
    assert (found["limit"].type, found["limit"].optional, found["limit"].default) == ("int", True, None)
    assert found["missing"].choices == ("run", "skip")
    assert all(not p.choices for name, p in found.items() if name != "missing")


def test_our_reading_is_papermills(tmp_path: Path) -> None:
    from papermill import inspect_notebook

    project = make_project(tmp_path, {"n": [CELL]})
    theirs = inspect_notebook(project / "notebooks/n.ipynb")
    ours = schema(project / "notebooks/n.ipynb")
    # papermill drops a line whose comment has an equals sign, and does not know "int | None"
    for name, parameter in ours.items():
        if name not in {"depth", "limit"}:
            assert theirs[name]["inferred_type_name"].replace(" ", "") == parameter.type
            assert theirs[name]["help"].strip() == parameter.help


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x = 1", "write 'name: type = default"),
        ("x: int", "write 'name: type = default"),
        ("import os", "write 'name: type = default"),
        ("x: set = 1", "a type that is not known"),
        ("x: int = f()", "no literal default"),
        ("x: int = 'a'", "x is 'a'; it should be a valid integer"),
        ("x: int = (", "is no Python"),
        ("x: str = 'z'  # a | b", "unknown value of x 'z'"),
    ],
)
def test_a_cell_that_is_no_schema_is_refused(line: str, message: str) -> None:
    with pytest.raises(SeqRecError, match="^n.ipynb: .*" + message):
        parse(line, "n.ipynb")


GOOD: list[dict[str, Any]] = [
    {"dataset": "ml-1m", "models": ["a", "b"], "seeds": [1, 2], "rate": 0.1, "quick": True, "depth": 3},
    {"limit": None},
    {"limit": 3},
    {"models": ["sasrec"]},
    {"overrides": {"dropout": 0.1}},
    {"missing": "skip"},
]


@pytest.mark.parametrize("values", GOOD)
def test_good_values_pass_unchanged(values: dict[str, Any]) -> None:
    assert check(values, parse(CELL, "x")) == values


def test_whole_numbers_become_floats_where_a_float_is_expected() -> None:
    checked = check({"rate": 1, "rates": [1, 2]}, parse(CELL, "x"))
    assert [type(v) for v in (checked["rate"], *checked["rates"])] == [float] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modles": ["a"]}, "unknown parameter 'modles'; did you mean 'models'"),
        ({"zzz": 1}, "unknown parameter 'zzz'; known are dataset, "),
        ({"seeds": "[0,1]"}, r"seeds is '\[0,1\]'; .* use -y 'seeds: \[0,1\]'"),
        ({"models": "sasrec"}, r"-y 'models: \[sasrec\]'"),
        ({"overrides": "{}"}, "use -y"),
        ({"seeds": 0}, "seeds is 0; it should be a valid list"),
        ({"seeds": [0, "1"]}, r"seeds\[1\] is '1'"),
        ({"seeds": [True]}, r"seeds\[0\] is True"),
        ({"seeds": [0.5]}, r"seeds\[0\] is 0.5"),
        ({"seeds": []}, r"seeds is \[\]; it should have at least 1 item"),
        ({"overrides": {1: 2}}, r"overrides\[1\] is 1; it should be a valid string"),
        ({"depth": 2.5}, "depth is 2.5; it should be a valid integer"),
        ({"depth": "2"}, "depth is '2'; it should be a valid integer"),
        ({"depth": None}, "depth is None; it should"),
        ({"quick": 1}, "quick is 1; it should be a valid boolean"),
        ({"rate": True}, "rate is True; it should be a valid number"),
        ({"rate": float("nan")}, "rate is nan; it should be a finite number"),
        ({"dataset": 1}, "dataset is 1; it should be a valid string"),
        ({"missing": "skp"}, "unknown value of missing 'skp'; did you mean 'skip'"),
        ({"dataset": "ml-1n"}, "unknown value of dataset 'ml-1n'; did you mean 'ml-1m'"),
        ({"models": ["sasrec", "sasrek"]}, "unknown value of models 'sasrek'; did you mean 'sasrec'"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(values: dict[str, Any], message: str) -> None:
    choices = {"dataset": ["demo", "ml-1m"], "models": ["sasrec", "markov"]}
    with pytest.raises(SeqRecError, match=message):
        check(values, parse(CELL, "x"), choices)


def test_metrics_and_the_keys_of_sources_are_known() -> None:
    cell = "metrics: list[str] = ['ht@10']\nsources: dict = {}"
    known = parse(cell, "x")
    assert check({"sources": {"gpt4rec": "gpt2"}}, known, known_values(known))
    for values, message in (({"metrics": ["auc"]}, "'auc'; known are ht@5"), ({"sources": {"gpt": "x"}}, "'gpt4rec'")):
        with pytest.raises(SeqRecError, match=message):
            check(values, known, known_values(known))


def test_a_variant_of_a_known_model_passes() -> None:
    check({"models": ["llamarec+orpo"]}, parse(CELL, "x"), {"models": ["llamarec"]})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_project(tmp_path, {"n": [CELL]})
    monkeypatch.chdir(folder / "notebooks")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def namespace_of(*cells: str) -> dict[str, Any]:
    """The globals of a kernel that has executed these cells."""
    namespace: dict[str, Any] = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, namespace)
    return namespace


def test_notebook_checks_what_papermill_injected(project: Path) -> None:
    namespace = namespace_of(CELL, "# Parameters\nrate = 1\nseeds = [1, 2]\n")
    values = check_notebook(namespace, "n")
    assert (values["rate"], values["seeds"], values["models"]) == (1.0, [1, 2], ["sasrec"])
    assert type(namespace["rate"]) is float
    for cell, message in {
        "# Parameters\nmodel = ['sasrec']\n": "n: unknown parameter 'model'; did you mean 'models'",
        '# Parameters\nseeds = "[0, 1]"\n': "use -y",
        '# Parameters\ndataset = "ml-1"\n': "unknown value of dataset 'ml-1'",
    }.items():
        with pytest.raises(SeqRecError, match=message):
            check_notebook(namespace_of(CELL, cell), "n")


def test_variables_of_the_notebook_itself_are_no_parameters(project: Path) -> None:
    namespace = namespace_of(CELL, "rows = [1]\nmodel = 'x'", CELL)  # all cells executed, then the first again
    assert check_notebook(namespace, "n")["dataset"] == "demo"


def test_a_parameter_that_is_not_defined_and_a_notebook_that_is_not_there(project: Path) -> None:
    with pytest.raises(SeqRecError, match="parameter dataset is not defined; execute the first cell"):
        check_notebook({}, "n")
    with pytest.raises(SeqRecError, match=r"unknown notebook 'm' in .*; known are n"):
        check_notebook({}, "m")


def test_a_list_through_papermills_p_is_refused_with_a_hint_at_y(project: Path) -> None:
    """The real thing: papermill's own command line, on a notebook whose second cell checks."""
    path = project / "notebooks/n.ipynb"
    notebook = nbformat.read(path, as_version=4)
    source = "from seqrec_lib.parameters import check_notebook\ncheck_notebook(globals(), 'n')"
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "papermill", str(path), str(project / "out.ipynb"), "--no-progress-bar"]
    done = subprocess.run([*command, "-p", "seeds", "[0,1]"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "use -y 'seeds: [0,1]'" in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_studys_notebooks_have_a_schema(path: Path) -> None:
    assert schema(path)


@pytest.mark.parametrize(("notebook", "wrong"), [("latency", "auto"), ("scaling", "gpu"), ("accuracy", "gpu")])
def test_a_device_is_one_that_the_notebook_knows(notebook: str, wrong: str) -> None:
    known = schema(Path(__file__).resolve().parent.parent / "notebooks" / f"{notebook}.ipynb")
    assert check({"device": "cuda"}, known, known_values(known))
    with pytest.raises(SeqRecError, match=f"'{wrong}'.*cpu"):
        check({"device": wrong}, known, known_values(known))


def test_a_readers_file_becomes_the_id_of_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("user,item,timestamp\na,b,1600000000\n")
    for notebook in ("accuracy", "datasets", "latency", "scaling", "which_model", "generative", "optimizers"):
        known = schema(ROOT / "notebooks" / f"{notebook}.ipynb")
        name = check({"dataset": "file:mine.csv"}, known, known_values(known))["dataset"]
        assert name.startswith("file-mine-")
        assert check({"dataset": name}, known, known_values(known)) == {"dataset": name}
        with pytest.raises(SeqRecError, match="'who'"):
            check({"dataset": "file:mine.csv?user=who"}, known, known_values(known))
        with pytest.raises(SeqRecError, match="is not known here"):
            check({"dataset": "file-mine-0123456789ab"}, known, known_values(known))

"""The notebooks as they are committed: their form, and that they work where nothing has been run."""

import ast
import json
import re

import pytest

from seqrec_lib.experiments import EXPERIMENTS
from seqrec_lib.parameters import schema
from seqrec_lib.places import project_root

FOLDER = project_root() / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_without_outputs_and_for_any_kernel(name):
    notebook = read(name)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
        assert len(source(cell).splitlines()) <= 25  # a screen


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opens_with_title_parameters_and_their_check(name):
    cells = read(name)["cells"]
    assert source(cells[0]).startswith("# ")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "parameters" in tags(code[0])
    assert f'check_notebook(globals(), "{name}")' in source(code[1])
    for parameter in schema(FOLDER / f"{name}.ipynb").values():
        assert parameter.help, parameter.name
    levels = [
        len(line.split()[0])
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in source(cell).splitlines()
        if line.startswith("#")
    ]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}


@pytest.mark.parametrize("name", [name for name in NAMES if "missing" in schema(FOLDER / f"{name}.ipynb")])
def test_a_notebook_that_runs_can_run_again_and_ends_with_its_failures(name):
    known = schema(FOLDER / f"{name}.ipynb")
    assert (known["rerun"].type, known["rerun"].default) == ("bool", False)
    assert (known["keep_going"].type, known["keep_going"].default) == ("bool", False)
    code = "\n".join(source(cell) for cell in read(name)["cells"] if cell["cell_type"] == "code")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    own = {name} & EXPERIMENTS.keys() or EXPERIMENTS.keys()  # a page without an experiment of its name runs several
    planned = [call for call in calls if getattr(call.func, "id", "") == "execute" and ast.unparse(call.args[0]) in own]
    # `choose` takes all parameters, rerun among them, and hands them on (tests/study/test_choice.py)
    shared = any(ast.unparse(call).startswith("choose(parameters") for call in calls)
    assert shared or any("rerun" in {keyword.arg for keyword in call.keywords} for call in planned)
    last = ast.parse(source(read(name)["cells"][-1])).body[-1].value
    assert (last.func.id, last.keywords[0].value.id) == ("raise_for_failures", "keep_going")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dataset", ["demo", "amazon-2023-video-games"])
def test_a_notebook_works_where_nothing_was_run(name, dataset, tmp_path, monkeypatch, capsys):
    from seqrec_lib.results import RunStore

    # An empty store, whatever this checkout has run or published.
    monkeypatch.setattr(RunStore.__init__, "__defaults__", (tmp_path / "new", tmp_path / "published"))
    namespace: dict = {}
    for cell in read(name)["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = source(cell)
        exec(compile(code, name, "exec"), namespace)
        if "parameters" in tags(cell):
            changed = {"dataset": dataset, "missing": "skip", "train": False}
            namespace |= {key: value for key, value in changed.items() if key in namespace}
    if "missing" in namespace:
        assert repr(namespace["records"]).count("None") == len(namespace["records"])
    assert "Traceback" not in capsys.readouterr().out


def test_rows_of_the_studys_own_settings_appear_where_those_were_run(tmp_path, monkeypatch):
    from seqrec_lib.experiments import accuracy
    from seqrec_lib.results import RunStore
    from seqrec_lib.results.record import plain
    from tests.fakes import make_record

    monkeypatch.setattr(RunStore.__init__, "__defaults__", (tmp_path / "new", tmp_path / "published"))
    changed = {"models": ["sasrec"], "overrides": {"epochs": 5}, "missing": "skip"}

    def epochs_of_rows() -> list[int]:
        namespace: dict = {}
        for cell in [cell for cell in read("accuracy")["cells"] if cell["cell_type"] == "code"][:3]:
            exec(source(cell), namespace)
            namespace |= changed if "parameters" in tags(cell) else {}
        assert len(namespace["records"]) == len(namespace["configs"])
        return [config.training.epochs for config in namespace["configs"]]

    assert epochs_of_rows() == [5, 5]
    (config, _) = accuracy.plan({"dataset": "demo", "models": ["sasrec"], "seeds": [0, 1]})
    record = make_record(config=plain(config), revision=accuracy.revision(config))
    RunStore(tmp_path / "published", tmp_path / "none").save(record)
    assert epochs_of_rows() == [5, 5, config.training.epochs]


def test_the_page_that_jupyterlab_opens_on_names_every_notebook():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\|.*\| \[\w+\]\((\w+)\.ipynb\) \|$", text, re.MULTILINE)) == NAMES
    makefile = (FOLDER.parent / "Makefile").read_text(encoding="utf-8")
    assert "--LabApp.default_url=/lab/tree/README.md" in makefile and "notebooks/lab" in makefile
    settings = json.loads((FOLDER / "lab" / "overrides.json").read_text(encoding="utf-8"))
    assert settings["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"] == {"markdown": "Markdown Preview"}

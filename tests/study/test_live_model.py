"""The models in the page: Node runs the book's own scripts on exported weights and agrees with PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.data import load
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import execute
from seqrec_lib.models import build
from seqrec_lib.models.registry import MODELS
from seqrec_lib.recommend import recommend
from seqrec_lib.report.pages.evening import evening, evening_data
from seqrec_lib.results import RunStore
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.study import live_model
from tests.fakes import run_node

SCRIPTS = ROOT / "book" / "_static" / "live"
ITEMS, WINDOW = 30, 12
HISTORIES = ([7], [3, 5], [1, 2, 3, 2, 1], list(range(1, 13)), [*range(1, 26), 4])  # short, repeated, full, past it


def node(program: str, given: Any) -> Any:
    """What a program for Node writes; its `load` requires one of the scripts."""
    return run_node(f"const load = (name) => require({json.dumps(str(SCRIPTS))} + '/' + name);{program}", given)


def rounded_model(model: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """A model whose weights are drawn so that every part of it counts, and are 16-bit floats; its architecture."""
    torch.manual_seed(0)
    architecture = {**MODELS[model].architecture, "d_model": 16, **changes}
    net = build(model, ITEMS, WINDOW, architecture).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name != "item_embedding.weight":
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter[1:].normal_()
            parameter.copy_(parameter.half().float())
    return net, architecture


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("2mamba4rec+repeats", {"headdim": 8, "d_state": 16}),
        ("2mamba4rec", {"headdim": 16, "d_state": 8, "n_layers": 2}),
        ("2mamba4rec+residual+repeats", {"headdim": 32, "d_state": 8, "d_conv": 3}),
        ("sasrec+repeats", {"n_heads": 4}),
        ("sasrec", {"n_layers": 1}),
    ],
)
def test_node_agrees_with_pytorch(model: str, changes: dict[str, Any]) -> None:
    net, architecture = rounded_model(model, **changes)
    content = live_model.model_content(net, model.partition("+")[0], architecture)
    program = """
      const model = load('recurrent.js').build(given.model);
      const all = given.histories.map((h) => Array.from(model.scores(model.read(h), h, true)).slice(1));
      console.log(JSON.stringify(all));
    """
    scores = node(program, {"model": content, "histories": HISTORIES})
    for history, found in zip(HISTORIES, scores, strict=True):
        items = torch.tensor([history if net.repeats is not None else history[-WINDOW:]])
        with torch.inference_mode():
            expected = net.score(items, torch.tensor([items.shape[1]]))[0, 1:].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.ptp(scores[-1]) > 1  # a model that says the same of all items would agree as well


def test_the_repeat_bias_can_be_switched_off_and_history_is_left_out() -> None:
    net, architecture = rounded_model("sasrec+repeats")
    program = """
      const { build, best } = load('recurrent.js');
      const model = build(given.model), history = [3, 9];
      const state = model.read(history);
      const on = model.scores(state, history, true), off = model.scores(state, history, false);
      const changed = Array.from(on.keys()).filter((i) => i && on[i] !== off[i]);
      console.log(JSON.stringify({ changed, by: on[3] - off[3], bytes: model.stateBytes(2), top: best(on, 30, history),
        all: best(on, 30, history, true) }));
    """
    found = node(program, {"model": live_model.model_content(net, "sasrec", architecture)})
    assert found["changed"] == [3, 9]
    assert found["by"] == pytest.approx(net.repeat_bias.item(), abs=1e-9)
    assert found["bytes"] == 2 * 2 * 2 * 16 * 4  # items, layers, keys and values, d_model, bytes
    assert sorted([*found["top"], 3, 9]) == sorted(found["all"]) == list(range(1, ITEMS + 1))


def test_halves_and_the_error_function_are_exact() -> None:
    import base64
    from math import erf

    numbers = np.array([0, 1, -2.5, 65504, 6.1e-5, 5.96e-8, -3.3e-6, 0.1], dtype="<f2")
    points = [-7.0, -2.5, -0.3, 0.0, 1e-6, 0.7, 3.0, 5.5]
    program = """
      const { halves, erf } = load('recurrent.js');
      console.log(JSON.stringify([Array.from(halves(given.base64)), given.points.map(erf)]));
    """
    decoded, errors = node(program, {"base64": base64.b64encode(numbers.tobytes()).decode(), "points": points})
    assert decoded == numbers.astype(float).tolist()
    np.testing.assert_allclose(errors, [erf(x) for x in points], atol=1e-14)


def test_what_is_trained_here_is_exported_and_nothing_else(
    tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live_model.export(tmp_path / "empty", store) == []
    index = tmp_path / "empty" / live_model.FOLDER / live_model.INDEX
    assert index.read_text() == "globalThis.SeqRecModels = [];\n"

    def settings_of(model: str) -> dict[str, int]:
        quick = {"epochs": 1, "d_model": 16, "headdim": 16, "d_state": 8, "max_length": 20}
        return {key: quick[key] for key in quick if key in {*MODELS[model].architecture, "epochs", "max_length"}}

    for model in live_model.MODELS:
        if store.records("accuracy", "demo"):
            assert live_model.export(tmp_path / "half", store) == []  # one of two models is not enough
        planned = accuracy.plan({"dataset": "demo", "models": [model], "seeds": [0], "overrides": settings_of(model)})
        (record,) = execute(accuracy, planned, store=store)
        assert record is not None and record.complete, record
    assert live_model.export(tmp_path / "book", store) == ["demo"]
    script = (tmp_path / "book" / live_model.FOLDER / "demo.js").read_text(encoding="utf-8")
    content = json.loads(script.removeprefix("globalThis.SeqRecData = ").removesuffix(";\n"))
    assert content["titles"] == ["item ", *load("demo").titles[1:]]
    assert [model["title"] for model in content["models"]] == list(live_model.MODELS.values())

    # published runs come without weights: the commands that the page names make them
    here = RunStore(new=tmp_path / "here", published=tmp_path / "new")
    plan, chapter = accuracy.plan, (ROOT / "book" / "try.md").read_text(encoding="utf-8")
    monkeypatch.setattr(accuracy, "plan", lambda given: plan({**given, "overrides": settings_of(*given["models"])}))
    for model in live_model.MODELS:
        assert live_model.export(tmp_path / "half", here) == []
        assert f'\nseqrec recommend --dataset ml-1m --model {model} --train "' in chapter
        recommend([load("demo").titles[1]], "demo", model, train=True, store=here)
    assert live_model.export(tmp_path / "here", here) == ["demo"]


def test_the_evening_in_the_page_follows_the_chapters_rules() -> None:
    data = evening_data()
    program = "console.log(JSON.stringify(load('evening.js').orders(given.rows, given.keys)));"
    frame = evening()
    for title, order in zip(data["rules"], node(program, data), strict=True):
        expected = frame[frame["order"] == title].sort_values("place")
        assert [row["letter"] for row in order] == expected["letter"].tolist(), title
        assert [row["tied"] for row in order] == expected["tied as"].tolist(), title


def test_moving_a_row_of_the_file_changes_the_test_items_that_follow_it() -> None:
    data = evening_data()
    program = """
      const { orders, moved } = load('evening.js');
      const last = (rows) => orders(rows, given.keys).map((order) => order[order.length - 1].letter);
      console.log(JSON.stringify([last(given.rows), given.rows.map((_, from) => last(moved(given.rows, from, 6)))]));
    """
    before, after = node(program, data)
    assert len(set(before[:3])) == 3
    assert all(items[2] == before[2] for items in after)  # ties by the film's number
    assert {items[1] for items in after} > {before[1]}  # RecBole's

"""The timing runs: what they plan, that every contestant meets the same users, and what their tables hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import latency, scaling
from seqrec_lib.experiments.base import Context, execute, key
from seqrec_lib.latency.contestants import contestants, held_bytes, make_model
from seqrec_lib.latency.worker import Timed
from seqrec_lib.models import MODELS
from seqrec_lib.report.timings import found
from seqrec_lib.results import RunStore, plain, run_key
from seqrec_lib.results.limits import usable_cores

SMALL: dict[str, Any] = {
    "dataset": "demo",
    "models": ["popularity", "sasrec", "2mamba4rec"],
    "processes": 1,
    "blocks": 3,
    "block_users": 4,
    "samples": 2,
    "sample_users": 5,
    "batches": [1, 3],
    "batch_rounds": 1,
    "threads": 1,
    "device": "cpu",
}
SIZES: dict[str, Any] = {
    "dataset": "demo",
    "models": ["sasrec", "hydra4rec"],
    "lengths": [20, 5],
    "batches": [1, 2],
    "batch_length": 5,
    "catalogues": [50, 80],
    "catalogue_length": 5,
    "rounds": 2,
    "threads": 1,
}


def test_a_run_holds_all_models_at_one_length() -> None:
    (config,) = latency.plan(SMALL)
    assert config.max_length == 50
    assert set(config.architectures) == {"sasrec", "2mamba4rec"}
    assert latency.TIMED
    with pytest.raises(SeqRecError, match="blocks is 0"):
        latency.plan(SMALL | {"blocks": 0})
    with pytest.raises(SeqRecError, match="unknown model 'sasrek'"):
        latency.plan(SMALL | {"models": ["sasrek"]})


def test_paths_are_those_of_the_device_and_all_of_them_by_default() -> None:
    (config,) = latency.plan(SMALL)
    assert "paths" not in plain(config), "the keys of runs from before there was a choice"
    assert latency._job(config, 0).paths == ("served", "module", "step")
    (config,) = latency.plan(SMALL | {"device": "cuda", "paths": ["graph"]})
    assert latency._job(config, 0).paths == ("graph",) and plain(config)["paths"] == ["graph"]
    with pytest.raises(SeqRecError, match="unknown path on cpu 'graph'; known are served, module, step"):
        latency.plan(SMALL | {"paths": ["graph"]})


def test_processes_share_the_papers_samples_and_have_their_own_users() -> None:
    (config,) = latency.plan(SMALL | {"processes": 4, "samples": 30})
    jobs = [latency._job(config, number) for number in range(4)]
    assert [job.samples for job in jobs] == [8, 8, 7, 7]
    assert len({job.seed for job in jobs}) == 4
    assert [job.memory for job in jobs] == [True, False, False, False]


def test_every_contestant_serves_the_same_users_in_every_block(tmp_path: Path) -> None:
    (config,) = latency.plan(SMALL)
    timed = Timed(latency._job(config, 0))
    assert [(own["model"], own["path"]) for own in timed.facts] == [
        ("popularity", "served"),
        ("sasrec", "served"), ("sasrec", "module"), ("sasrec", "step"),
        ("2mamba4rec", "served"), ("2mamba4rec", "again"), ("2mamba4rec", "module"), ("2mamba4rec", "step"),
    ]  # fmt: skip
    names = [(own["model"], own["path"]) for own in timed.facts]
    calls = pd.DataFrame(timed.calls)
    calls["contestant"] = [names.index(place) for place in zip(calls["model"], calls["path"], strict=True)]
    lengths = calls.groupby(["contestant", "block"])["length"].agg(list)
    assert all(lengths[c, b] == lengths[0, b] and len(lengths[0, b]) == 4 for c in range(8) for b in range(3))
    orders = [calls["contestant"][calls["block"] == b].tolist()[::4] for b in range(3)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1  # an order of its own for each block
    assert (calls[["encode", "score", "top_k"]] > 0).all(axis=None)
    assert len(timed.paper) == 2 * 5  # module and served of each sample
    assert len(timed.batches) == 2 * 2  # two trained models, two sizes
    timed.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["calls"] == timed.calls


def test_a_run_in_processes_of_its_own_becomes_a_record_of_this_hardware(store: RunStore) -> None:
    configs = latency.plan(SMALL)
    (record,) = execute(latency, configs, store=store, progress=False)
    assert record is not None and record.complete, record and record.error
    assert record.hardware
    assert record.environment["cores"] == usable_cores() and "core_quota" in record.environment
    calls = store.table(record, "calls").to_pandas()
    assert len(calls) == 8 * 3 * 4
    assert record.metrics["served/sasrec/held_bytes"] > record.metrics["module/sasrec/held_bytes"] / 2 > 0
    median = calls.query("model == 'sasrec' and path == 'served'")[["encode", "score", "top_k"]].sum(axis=1).median()
    assert record.metrics["served/sasrec/median_us"] == pytest.approx(median, rel=0.01)


def test_a_timing_from_elsewhere_is_read_and_never_taken_for_this_machines(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = scaling.plan(SIZES)
    (record,) = execute(scaling, configs, store=store, progress=False)
    assert record is not None and record.complete, record and record.error
    monkeypatch.setattr("seqrec_lib.experiments.base.hardware", lambda: "another CPU")
    assert key(scaling, configs[0]) != record.run_id
    (here,) = execute(scaling, configs, store=store, missing="skip", progress=False)
    assert here is None
    assert found(configs, [here], store, "scaling") == [record]
    other = [replace(configs[0], rounds=3)]
    assert found(other, [None], store, "scaling") == [None]


def test_scaling_times_every_cell_in_every_round(tmp_path: Path) -> None:
    (config,) = scaling.plan(SIZES)
    assert config.lengths == (5, 20)
    outcome = scaling.run(config, Context(tmp_path, progress=False))
    times = outcome.tables["times"].to_pandas()
    counts = times.groupby(["kind", "model", "path", "size"]).size()
    assert (counts == 2).all()
    assert set(times["kind"]) == {"length", "event", "batch", "catalogue"}
    assert (times["time"] > 0).all()
    memory = outcome.tables["memory"].to_pandas().set_index(["model", "path", "length"])["state"]
    assert memory["sasrec", "served", 20] == 4 * memory["sasrec", "served", 5]
    assert memory["hydra4rec", "served", 20] == memory["hydra4rec", "served", 5] > 0
    with pytest.raises(SeqRecError, match="unknown trained model 'popularity'"):
        scaling.plan(SIZES | {"models": ["popularity"]})
    with pytest.raises(SeqRecError, match=r"lengths\[0\] is 0"):
        scaling.plan(SIZES | {"lengths": [0]})


def test_a_runs_key_is_older_than_the_choice_of_a_device() -> None:
    (config,) = scaling.plan(SIZES)
    assert scaling.plan(SIZES | {"device": "cpu"}) == [config] and "device" not in plain(config)
    (other,) = scaling.plan(SIZES | {"device": "cuda"})
    assert plain(other)["device"] == "cuda"
    assert run_key("scaling", plain(config), 2, (), "a CPU") == "ab2a79ba887b4c8e"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_none_is_timed(tmp_path: Path) -> None:
    for experiment, values in ((latency, SMALL), (scaling, SIZES)):
        (config,) = experiment.plan(values | {"device": "cuda"})
        with pytest.raises(SeqRecError, match="device is cuda but no GPU is visible here; use device cpu"):
            experiment.run(config, Context(tmp_path, progress=False))


def test_the_cells_of_a_gpu_are_modules_and_whole_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with a stand-in for graphs."""
    asked = []

    class Graphs:
        def replay(self, read: np.ndarray, k: int, left_out: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            asked.append((len(read), k, len(left_out)))
            return torch.arange(k), torch.zeros(k)

    monkeypatch.setattr("seqrec_lib.serving.serve", lambda model: Graphs())
    monkeypatch.setattr("seqrec_lib.latency.clock.peak_memory", lambda call, device: 7 if device == "cuda" else None)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)
    (config,) = scaling.plan(SIZES | {"device": "cuda"})
    results, rng = scaling._Results(), np.random.default_rng(0)
    scaling._lengths(config, 60, rng, results)
    scaling._catalogue(config, 50, rng, results)
    cells = {row[:4] for row in results.rows}
    models, ways = SIZES["models"], ("module", "graph")
    assert cells == {("length", m, p, n) for m in models for p in ways for n in (5, 20)} | {
        ("catalogue", m, p, 50) for m in models for p in ways
    }
    assert len(results.rows) == 2 * len(cells) and set(asked) == {(5, 10, 5), (20, 10, 20)}
    assert {(path, peak, state) for _, path, _, peak, state in results.memory} == {("module", 7, 0), ("graph", 7, 0)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible to torch")
@pytest.mark.filterwarnings("ignore:slow state-space mixers:RuntimeWarning")
def test_a_gpu_is_timed(tmp_path: Path) -> None:
    (config,) = scaling.plan(SIZES | {"device": "cuda"})
    outcome = scaling.run(config, Context(tmp_path, progress=False))
    times = outcome.tables["times"].to_pandas()
    assert (times.groupby(["kind", "model", "path", "size"]).size() == 2).all() and (times["time"] > 0).all()
    assert set(times["path"]) == {"module", "graph"} and set(times["kind"]) == {"length", "batch", "catalogue"}
    assert (outcome.tables["memory"].to_pandas()["peak"] > 0).all()
    (single,) = latency.plan(SMALL | {"device": "cuda", "paths": ["eager", "graph"]})
    calls = latency.run(single, Context(tmp_path, progress=False)).tables["calls"].to_pandas()
    assert set(calls["path"]) == {"eager", "graph"} and (calls["device"] > 0).all()


def test_what_a_contestant_holds_is_counted_once() -> None:
    model = make_model("sasrec", 30, 10, MODELS["sasrec"].architecture, 0)
    own, *_ = contestants({"sasrec": model}, 30, ["module"])
    assert held_bytes(own) == 4 * sum(p.numel() for p in model.parameters())

"""The optimizer study: its plan, its runs on demo data, and the measurement of beta where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import beta, optimizers
from seqrec_lib.experiments.arms import ARMS, GRIDS, TUNED, WITHOUT_TUNING
from seqrec_lib.experiments.base import Context, execute
from seqrec_lib.optim.probing import LARGEST_START
from seqrec_lib.results import RunStore

QUICK = {"d_model": 8, "max_length": 20, "n_layers": 1}


def parameters(**changes: object) -> dict[str, object]:
    return {
        "dataset": "demo",
        "model": "sasrec",
        "arms": ["adam", "usgm-paper"],
        "grids": [],
        "seeds": [0, 1],
        "epochs": 1,
        "grid_epochs": 1,
        "measure_beta": False,
        "draws": 1,
        "beta_epochs": 1,
        "overrides": QUICK,
    } | changes


def test_a_plan_has_each_run_once_though_two_places_show_it() -> None:
    asked = parameters(grids=["adam"])
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    assert len(cells) == 2 * 2 + 5
    assert len(configs) == 4 + 5 - 1  # the tuned rate is a point of the grid
    assert all(configs.count(cell.config) == 1 for cell in cells)


def test_grids_that_tune_have_equal_sizes_and_contain_what_is_used() -> None:
    tuning = {grid.tunes: grid for grid in GRIDS.values() if grid.tunes}
    assert set(tuning) == set(TUNED) and {len(grid.points) for grid in tuning.values()} == {5}
    for name, grid in tuning.items():
        used = [arm for (value,), arm in grid.points if value == TUNED[name]]
        assert [(a.optimizer, a.batching, a.training) for a in used] == [
            (ARMS[name].optimizer, ARMS[name].batching, ARMS[name].training)
        ]


def test_the_variant_without_a_rate_starts_from_rates_that_differ_and_stands_beside_its_own_model() -> None:
    for own, peers in WITHOUT_TUNING.items():
        starts = [min(arm.optimizer["lr"], LARGEST_START) for _, arm in GRIDS[own].points]
        assert len(set(starts)) == len(starts)  # a start above the largest is cut to it: the same run again
        assert {GRIDS[own].model} == {GRIDS[peer].model for peer in peers}


def test_beta_is_not_measured_on_a_loss_that_did_not_train() -> None:
    with pytest.raises(SeqRecError, match="negatives is 50; beta is measured on the exact loss"):
        optimizers.plan(parameters(seeds=[0], arms=[], measure_beta=True, overrides={"negatives": 50}))


def test_runs_give_history_metrics_and_a_trace(store: RunStore) -> None:
    asked = parameters(seeds=[0], arms=["adam", "usgm-paper", "probing"], measure_beta=True, epochs=2)
    configs = optimizers.plan(asked)
    records = execute(optimizers, configs, store=store, progress=False)
    assert [record.error for record in records if record] == [None] * 4
    adam, paper, probing, measured = records
    assert adam is not None and paper is not None and probing is not None and measured is not None
    for record in (adam, paper, probing):
        assert [entry["epoch"] for entry in record.history] == [1, 2]
        assert sum(entry["steps"] for entry in record.history) == record.cost["steps"]
        assert sum(entry["samples"] for entry in record.history) == record.cost["samples"]
        trace = store.table(record, "trace").to_pandas()
        assert 0 < len(trace) <= optimizers.TRACE_ROWS
        assert {"H", "D", "r", "beta"} <= set(trace) or record is adam
    assert paper.cost["steps"] < adam.cost["steps"]
    grown = store.table(paper, "trace")["m"].to_pylist()
    assert grown[:3] == [2, 3, 4]
    noise = store.table(measured, "noise").to_pandas()
    assert set(noise["step"]) == {"real", "fixed"} and set(noise["m"]) >= {1, 2, 4}
    fixed = noise[noise["step"] == "fixed"]["r"]
    assert fixed.min() == pytest.approx(fixed.max(), rel=1e-5)


def test_a_trace_survives_a_line_cut_off_by_a_kill_and_not_damage(tmp_path: Path) -> None:
    trace = optimizers._Trace(Context(tmp_path), None)
    for step, loss in ((1, 2.0), (2, 1.75), (2, 1.5)):
        trace._append(f'{{"epoch": 1, "step": {step}, "loss": {loss}, "m": 1}}')
    whole = trace.path.read_bytes()
    trace.path.write_bytes(whole + b'1234abcd {"epoch": 1, "st')
    trace = optimizers._Trace(Context(tmp_path), None)  # of the process that goes on
    trace._append('{"epoch": 1, "step": 3, "loss": 1.25, "m": 1}')
    assert [(row["step"], row["loss"]) for row in trace.rows()] == [(1, 2.0), (2, 1.5), (3, 1.25)]
    first = whole.index(b"loss") + 6
    for damaged in (whole[:first] + b"3" + whole[first + 1 :], b"\0" * 9 + whole[9:], b"[]\n" + whole):
        trace.path.write_bytes(damaged)
        with pytest.raises(SeqRecError, match="damaged; delete its folder"):
            trace.rows()


class Noisy(nn.Module):
    """A quadratic with curvature L whose batches have gradients L x + noise of their own."""

    def __init__(self, n_batches: int, n: int = 300) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.full((n,), 0.05))
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(n_batches, n)) / np.sqrt(n)
        self.noise = torch.from_numpy(noise - noise.mean(axis=0)).float()

    def backward(self, index: int) -> int:
        gradient = 0.5 * self.x.detach() + self.noise[index]
        self.x.grad = gradient if self.x.grad is None else self.x.grad + gradient
        return 1


def test_beta_goes_as_the_axes_of_the_derivation() -> None:
    """Real steps: a + b / m with a = L |f'|^2 / H^2, b = (1 / H + L / H^2) sigma^2; here L = 0.5, H = 2, sigma = 1."""
    model = Noisy(600)
    rows: Any = beta.measure(
        model, model.backward, 600, H=2.0, sizes=(1, 4, 16), draws=30, rng=np.random.default_rng(1)
    )
    slope = float((0.5 * model.x.detach()).square().sum())
    for m in (1, 4, 16):
        real, fixed = (
            np.mean([r["beta"] for r in rows if r["m"] == m and r["step"] == step]) for step in ("real", "fixed")
        )
        assert real == pytest.approx(0.5 * slope / 4 + (0.5 + 0.125) / m, rel=0.1)
        length = next(r["r"] for r in rows if r["step"] == "fixed")
        size = np.sqrt(slope + 1 / m)
        assert fixed == pytest.approx(length / m / size + 0.5 * length**2, rel=0.1)
    assert torch.equal(model.x.detach(), torch.full((300,), 0.05))

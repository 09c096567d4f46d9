"""Two processes train the model of one: the same losses, decisions, ranks and weights at the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.results.provenance import ROOT
from seqrec_lib.train import loop
from seqrec_lib.train.processes import seed_step
from tests.train import several

Results = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes trained; one epoch by one process lies there for them to go on with."""
    folder = tmp_path_factory.mktemp("several")
    config = replace(several.RESUMED, epochs=1)
    one = several.model_of(0, torch.float64)
    loop.train(one, several.SEQUENCES, config, folder / "from one", accelerator=loop.make_accelerator("cpu"))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    ended = subprocess.run(
        [*launch, "--main_process_port", "0", "-m", "tests.train.several", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder


def by_process(folder: Path, process: int) -> Results:
    results: Results = torch.load(folder / f"process {process}.pt", weights_only=True)
    return results


@pytest.fixture(scope="module")
def two(folder: Path) -> Results:
    results = by_process(folder, 0)
    assert results["processes"] == 2
    return results


@pytest.mark.parametrize("way", several.WAYS)
def test_two_processes_train_what_one_trains(way: str, two: Results, tmp_path: Path) -> None:
    one = several.train(way, tmp_path, loop.make_accelerator("cpu"))
    single = way == "float32"
    steps = 20 if single else 100
    assert len(one["losses"]) == len(two[way]["losses"]) > (steps if way in ("float64", "float32") else 5)
    np.testing.assert_allclose(two[way]["losses"][:steps], one["losses"][:steps], rtol=1e-4 if single else 1e-8)
    assert two[way]["decisions"] == one["decisions"]
    if single:
        return
    torch.testing.assert_close(two[way]["weights"], one["weights"], rtol=1e-8, atol=1e-9)
    assert two[way]["loss"] == pytest.approx(one["loss"], rel=1e-6)
    for ranks in ("ranks", "masked"):
        assert torch.equal(two[way][ranks], one[ranks])


def test_a_rule_of_batches_had_something_to_decide(two: Results) -> None:
    assert all(len(set(two[way]["decisions"])) > 2 for way in ("paper", "noise"))


def test_all_processes_end_with_the_same_model(folder: Path, two: Results) -> None:
    other = by_process(folder, 1)
    for way in several.WAYS:
        assert torch.equal(two[way]["weights"], other[way]["weights"])
        assert torch.equal(two[way]["ranks"], other[way]["ranks"])
    assert torch.equal(two["dropout"], other["dropout"])


def test_a_checkpoint_moves_between_numbers_of_processes(folder: Path, two: Results, tmp_path: Path) -> None:
    accelerator = loop.make_accelerator("cpu")
    whole = several.resume(tmp_path, accelerator)
    torch.testing.assert_close(two["resumed"], whole, rtol=1e-8, atol=1e-9)
    assert (folder / "from two" / loop.CHECKPOINT).is_file()
    torch.testing.assert_close(several.resume(folder / "from two", accelerator), whole, rtol=1e-8, atol=1e-9)


def test_two_processes_broken_off_and_started_again_end_bit_for_bit_the_same(two: Results) -> None:
    assert torch.equal(two["dropout, broken off"], two["dropout"])


def test_random_numbers_differ_by_seed_step_and_process_and_come_again() -> None:
    draws = []
    for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**64 - 1, 0, 0), (0, 0, 0)):
        seed_step(*numbers)
        draws.append(torch.rand(()).item())
    assert draws[0] == draws[-1] and len(set(draws)) == len(draws) - 1


def test_processes_share_each_batch() -> None:
    batches = [loop._Batches(several.SEQUENCES, several.CONFIG, torch.device("cpu"), (rank, 2)) for rank in range(2)]
    whole = loop._Batches(several.SEQUENCES, several.CONFIG, torch.device("cpu"))
    for each in (*batches, whole):
        each.start_epoch(4)
    for step in range(len(whole)):
        expected = whole.load(step)
        assert expected is not None
        shares = [share for each in batches if (share := each.load(step)) is not None]
        targets = torch.cat([share.targets for share in shares])
        assert torch.equal(targets.sort().values, expected.targets.sort().values)
        assert whole.n_targets(step) == batches[0].n_targets(step) == len(targets)

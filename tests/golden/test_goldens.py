"""Every experiment's tiny runs give the numbers that are kept (`harness` says how they are compared)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from seqrec_lib.experiments import EXPERIMENTS, get
from seqrec_lib.results import code
from tests.golden import harness

CASES = list(harness.cases())
TIMED = ("latency", "scaling")
RESUMED = ("sasrec-prefixes: ml-latest-small sasrec", "optimizers: ml-latest-small sasrec train usgm noise")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs lie that several cases build on."""
    return tmp_path_factory.mktemp("goldens")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.experiment.NAME}-{case.name}")
def test_a_tiny_run_gives_the_numbers_that_are_kept(case: harness.Case, folder: Path) -> None:
    kept = harness.read(case.experiment).get(case.name, {}).get(str(case.revision))
    assert kept is not None, f"no golden of revision {case.revision}; `make goldens` adds one"
    now = harness.summary(case, harness.run(case, folder / case.root))
    assert harness.differences(case, kept, now) == []


def test_every_experiment_has_goldens_that_tell_its_cases_apart() -> None:
    names = [(case.experiment.NAME, case.name) for case in CASES]
    assert len(names) == len(set(names))
    # the ablation's runs are those of `accuracy`
    assert {name for name, _ in names} == EXPERIMENTS.keys() - {*TIMED, "ablation"}


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_that_was_killed_gives_the_golden_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    (case,) = (case for case in CASES if case.name == name)

    def kill_once() -> Callable[[str], None]:
        epochs = iter([KeyboardInterrupt()])

        def report(line: str) -> None:
            if (error := next(epochs, None)) is not None:
                raise error

        return report

    report = kill_once()
    with pytest.raises(KeyboardInterrupt):
        harness.run(case, tmp_path, report)
    now = harness.summary(case, harness.run(case, tmp_path, report))
    kept = harness.read(case.experiment)[case.name][str(case.revision)]
    assert harness.differences(case, kept, now) == []


@pytest.mark.parametrize("change", [{"dropout": 0.11}, {"clip": 0.5}, {"learning_rate": 5.05e-3}, {"seed": 1}])
def test_a_change_of_what_is_computed_leaves_the_bands(change: dict[str, float], tmp_path: Path) -> None:
    (case,) = (case for case in CASES if case.name == "sasrec: ml-latest-small sasrec")
    config = case.config
    architecture = config.architecture | {k: v for k, v in change.items() if k in config.architecture}
    training = {k: v for k, v in change.items() if k not in architecture}
    changed = dataclasses.replace(
        config, architecture=architecture, training=dataclasses.replace(config.training, **training)
    )
    now = harness.summary(case, harness.run(dataclasses.replace(case, config=changed), tmp_path))
    kept = harness.read(case.experiment)[case.name][str(case.revision)]
    assert harness.differences(case, kept, now)


def test_the_code_is_stamped() -> None:
    stamp, now = code.read_stamp(), code.make_stamp(harness.deciding_modules())
    hashes = ({name: one["code"] for name, one in stamp.items()}, {name: one["code"] for name, one in now.items()})
    assert hashes[0] == hashes[1], "the code has changed since the goldens last held; run `make goldens`"


def test_a_golden_is_never_overwritten() -> None:
    with pytest.raises(ValueError, match="raise the revision"):
        harness.add(CASES[0], {})


@pytest.mark.parametrize("name", sorted({case.experiment.NAME for case in CASES}))
def test_no_golden_that_was_committed_is_gone_or_changed(name: str) -> None:
    path = harness.path_of(get(name))
    # By what an entry holds: one that was given another name, with configuration and numbers as they were, is kept.
    today = [entry for revisions in harness.read(get(name)).values() for entry in revisions.values()]
    for text in _committed(path):
        for case, revisions in json.loads(text).items():
            for revision, entry in revisions.items():
                assert entry in today, f"{case}, revision {revision}"


def _committed(path: Path) -> list[str]:
    """All versions of a file in the history of this checkout; none where there is no git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(path.parent), *arguments], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    return [git("show", f"{commit}:./{path.name}") for commit in git("rev-list", "HEAD", "--", path.name).split()]

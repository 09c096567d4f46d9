"""Weights that a run builds on: made once, from the data installed, and never damaged ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seqrec_lib.checksums import seal
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import Context, Outcome, execute, key, look_up
from seqrec_lib.experiments.weights import ensure_weights
from seqrec_lib.results import RunStore
from seqrec_lib.results.store import MADE_AGAIN

HERE, ELSEWHERE = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Config:
    dataset: str = "made-up"
    seed: int = 0


_Config = Config  # a name for types where an experiment's attribute hides the class's


class Keeping:
    """An experiment that keeps a file; ``data`` is the split hash of what is installed."""

    NAME = "keeping"
    Config = Config

    def __init__(self, data: str = HERE, fail: bool = False, keep: bool = True) -> None:
        self.data, self.fail, self.keep, self.runs, self.resumed = data, fail, keep, 0, False

    def revision(self, config: _Config) -> int:
        return 1

    def plan(self, parameters: Any) -> list[_Config]:
        return [Config()]

    def run(self, config: _Config, context: Context) -> Outcome:
        self.runs += 1
        checkpoint = context.workdir / "checkpoint.pt"
        self.resumed = checkpoint.exists()
        checkpoint.write_text("x")
        if self.fail:
            raise SeqRecError("it diverged")
        if self.keep:
            folder = context.workdir / "keep"
            folder.mkdir(exist_ok=True)
            (folder / "weights").write_text(self.data)
            seal(folder)
        return Outcome({"name": "made-up", "split_sha256": self.data})


def weights(folder: Path) -> str:
    return (folder / "weights").read_text()


def test_a_run_that_is_missing_is_made_and_recorded_once(store: RunStore) -> None:
    experiment = Keeping()
    for _ in range(2):
        assert weights(ensure_weights(experiment, Config(), HERE, store)) == HERE
    assert experiment.runs == 1 and len(store.records()) == 1


def test_a_record_that_came_without_its_weights_stays_as_it_is(store: RunStore) -> None:
    experiment = Keeping()
    (record,) = execute(experiment, [Config()], store=store, progress=False)
    folder = store.kept(record.run_id)
    for path in folder.iterdir():
        path.unlink()
    again = ensure_weights(experiment, Config(), HERE, store)
    assert weights(again) == HERE and experiment.runs == 2 and store.records() == [record]
    assert [path.name for path in again.parent.iterdir()] == ["keep"]


@pytest.mark.parametrize("damaged", [True, False])
@pytest.mark.parametrize(("code", "data"), [(None, HERE), (None, ELSEWHERE), ("other code", HERE)])
def test_weights_are_made_from_a_checkpoint_of_the_same_code_and_data_only(
    code: str | None, data: str, damaged: bool, store: RunStore
) -> None:
    experiment = Keeping()
    (record,) = execute(experiment, [Config()], store=store, progress=False)
    if damaged:
        (store.kept(record.run_id) / "weights").write_text("of another length")
    else:
        shutil.rmtree(store.kept(record.run_id))
    today = look_up(experiment, Config(), store).code
    store.goes_on(record.run_id, f"{MADE_AGAIN}{code or today} {data}")
    (store.workdir(record.run_id) / "checkpoint.pt").write_text("of a run that was killed")
    execute(experiment, [Config()], store=store, progress=False)  # a page that only reads the record
    ensure_weights(experiment, Config(), HERE, store)
    assert experiment.resumed == (code is None and data == HERE)


def test_damaged_weights_are_made_again_and_a_line_says_so(store: RunStore) -> None:
    experiment, lines = Keeping(), []  # type: ignore[var-annotated]
    folder = ensure_weights(experiment, Config(), HERE, store)
    (folder / "weights").write_text(ELSEWHERE)
    assert weights(ensure_weights(experiment, Config(), HERE, store, report=lines.append)) == HERE
    assert experiment.runs == 2 and sum("not used" in line for line in lines) == 1


def test_weights_from_other_data_are_not_used_nor_is_their_record_touched(store: RunStore) -> None:
    first = ensure_weights(Keeping(ELSEWHERE), Config(), ELSEWHERE, store)
    (record,) = store.records()
    here = Keeping(HERE)
    for _ in range(2):
        assert weights(ensure_weights(here, Config(), HERE, store)) == HERE
    assert here.runs == 1 and store.records() == [record] and weights(first) == ELSEWHERE
    assert weights(ensure_weights(Keeping(ELSEWHERE), Config(), ELSEWHERE, store)) == ELSEWHERE


def test_a_run_that_was_killed_after_it_had_sealed_its_weights_is_recorded(store: RunStore) -> None:
    experiment = Keeping()
    experiment.run(Config(), Context(store.workdir(key(experiment, Config()))))
    ensure_weights(experiment, Config(), HERE, store)
    assert [record.complete for record in store.records()] == [True] and experiment.runs == 2


def test_what_fails_or_keeps_nothing_is_one_line(store: RunStore) -> None:
    with pytest.raises(SeqRecError, match="which this one builds on, failed: it diverged"):
        ensure_weights(Keeping(fail=True), Config(), HERE, store)
    with pytest.raises(SeqRecError, match="kept nothing; delete its record"):
        ensure_weights(Keeping(keep=False), Config(seed=1), HERE, store)
    failed = store.find(key(Keeping(), Config()))
    assert failed is not None and not failed.complete
    assert weights(ensure_weights(Keeping(), Config(), HERE, store)) == HERE  # a failure is tried again


SCRIPT = """
    import sys, time
    from pathlib import Path
    from seqrec_lib.experiments.weights import ensure_weights
    from seqrec_lib.results import RunStore
    from tests.experiments.test_weights import HERE, Config, Keeping

    folder = Path(sys.argv[1])

    class Slow(Keeping):
        def run(self, config, context):
            with (folder / "runs").open("a") as file:
                file.write("run ")
            time.sleep(1.5)
            return super().run(config, context)

    print("ready", flush=True)
    sys.stdin.readline()
    print(ensure_weights(Slow(), Config(), HERE, RunStore(folder / "new", folder / "published")))
"""


@pytest.mark.parametrize("recorded", [False, True])
def test_two_processes_make_the_weights_once(recorded: bool, tmp_path: Path, store: RunStore) -> None:
    if recorded:  # as a published record, which comes without them
        (record,) = execute(Keeping(), [Config()], store=store, progress=False)
        for path in (store.workdir(record.run_id) / "keep").iterdir():
            path.unlink()
    root = Path(__file__).parents[2]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    found = [process.communicate("\n")[0] for process in both]
    assert all(process.returncode == 0 for process in both) and found[0] == found[1]
    assert (tmp_path / "runs").read_text() == "run "
    assert store.records()[0].complete

"""Checkpoints: whatever happens to the file, a run goes on with the right numbers or says in a line what to delete."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from seqrec_lib.errors import SeqRecError
from seqrec_lib.train import checkpoint
from seqrec_lib.train.checkpoint import Checkpoint, Tensors, previous
from seqrec_lib.train.contracts import Progress
from seqrec_lib.train.loop import CHECKPOINT, train
from seqrec_lib.train.recipes import TrainingConfig
from tests.conftest import random_sequences
from tests.train.test_loop import small_model, weights

CONFIG = TrainingConfig(max_length=12, tokens_per_batch=60, epochs=3, average=0.9)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk takes longer than these epochs."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@dataclass
class Place:
    step: int = 0
    history: list[float] = field(default_factory=list)


def checkpoint_of(path: Path, model: nn.Module, report: Callable[[str], None] = print, **identity: Any) -> Checkpoint:
    return Checkpoint(path, {"seed": 1} | identity, {"model": model}, report=report)


def layer(value: float, size: int = 40) -> nn.Module:
    made = nn.Linear(size, size, bias=False)
    nn.init.constant_(made.weight, value)
    return made


def saved_twice(folder: Path) -> Path:
    """A file of step 2 and the one before, of step 1."""
    path = folder / "checkpoint.pt"
    for step in (1, 2):
        checkpoint_of(path, layer(step)).save(Place(step, [0.5] * step))
    return path


def with_its_sum(path: Path, content: Any, protocol: int | None = None) -> None:
    """A file that only looks like a checkpoint: its sum is right."""
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    data = path.read_bytes()
    path.write_bytes(data + hashlib.sha256(data).digest())


def zeroed(path: Path, start: int, count: int) -> None:
    data = bytearray(path.read_bytes())
    assert any(data[start : start + count]), "there is nothing to be lost"
    data[start : start + count] = bytes(count)
    path.write_bytes(data)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "data").write_text("x")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a block of zeros in the middle": lambda path: zeroed(path, path.stat().st_size // 2, 4096),
    "a block of zeros at the start": lambda path: zeroed(path, 0, 64),
    "a block of zeros at the end": lambda path: zeroed(path, path.stat().st_size - 16, 16),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "without its sum": lambda path: path.write_bytes(path.read_bytes()[:-32]),
    "a byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "twice": lambda path: path.write_bytes(2 * path.read_bytes()),
    "nothing": lambda path: path.write_bytes(b""),
    "the sum of nothing": lambda path: path.write_bytes(hashlib.sha256(b"").digest()),
    "text": lambda path: path.write_text("half way\n" * 99),
    "a folder": folder_instead,
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to what never ends": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a list": lambda path: torch.save([1, 2, 3], path),
    "a dictionary": lambda path: torch.save({"a": 1}, path),
    "a list with its sum": lambda path: with_its_sum(path, [1, 2, 3]),
    "a dictionary with its sum": lambda path: with_its_sum(path, {"a": 1}),
    "a number with its sum": lambda path: with_its_sum(path, 3, protocol=2),
    "weights alone": lambda path: torch.save(layer(2).state_dict(), path),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_line_and_the_one_before_is_used(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    path, model, lines = saved_twice(tmp_path), layer(0), []  # type: ignore[var-annotated]
    damage(path)
    place = checkpoint_of(path, model, lines.append).load(Place)
    assert place == Place(1, [0.5]) and torch.equal(model.weight, layer(1).weight)  # type: ignore[arg-type]
    assert len(lines) == 1 and str(path) in lines[0] and "\n" not in lines[0]

    checkpoint_of(path, layer(3)).save(Place(3))  # the damaged one is not what is kept beside the next
    assert checkpoint_of(path, model).load(Place) == Place(3)
    assert checkpoint_of(previous(path), model).load(Place) == Place(1, [0.5])

    previous(path).unlink()
    damage(path)
    for _ in range(2):  # it is not deleted where it is all there is
        with pytest.raises(SeqRecError, match=r"not a checkpoint.*delete it") as caught:
            checkpoint_of(path, model).load(Place)
        assert str(path) in str(caught.value)


def test_no_flipped_bit_is_read(tmp_path: Path) -> None:
    path, model = saved_twice(tmp_path), layer(0)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*rng.integers(0, 8 * len(data), 300), *(8 * len(data) - 1 - np.arange(0, 256, 7)), *range(0, 64, 5)]
    for place in map(int, places):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        assert checkpoint_of(path, model).load(Place).step == 1, place
    path.write_bytes(data)
    assert checkpoint_of(path, model).load(Place).step == 2


def test_where_both_are_damaged_nothing_is_guessed(tmp_path: Path) -> None:
    path = saved_twice(tmp_path)
    zeroed(path, 0, 64)
    zeroed(previous(path), 0, 64)
    with pytest.raises(SeqRecError, match="delete it") as caught:
        checkpoint_of(path, layer(0)).load(Place)
    assert str(path) in str(caught.value) and str(previous(path)) in str(caught.value)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = saved_twice(tmp_path), os.replace

    for kill_at in (1, 2):
        done = 0

        def rename(old: Any, new: Any) -> None:
            nonlocal done
            done += 1
            if done == kill_at:  # noqa: B023
                raise KeyboardInterrupt
            real(old, new)

        monkeypatch.setattr(os, "replace", rename)
        with pytest.raises(KeyboardInterrupt):
            checkpoint_of(path, layer(3)).save(Place(3))
        monkeypatch.undo()
        assert checkpoint_of(path, layer(0)).load(Place).step == 2, kill_at
    checkpoint_of(path, layer(4)).save(Place(4))
    assert checkpoint_of(path, layer(0)).load(Place).step == 4


def test_a_full_disk_is_one_line_and_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved_twice(tmp_path)
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(SeqRecError, match=r"cannot write.*No space left"):
        checkpoint_of(path, layer(3)).save(Place(3))
    assert checkpoint_of(path, layer(0)).load(Place).step == 2
    assert sorted(tmp_path.iterdir()) == [path, previous(path)]


def test_there_are_never_more_than_two_files(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    (tmp_path / "checkpoint.pt.part").write_bytes(b"left by a kill")
    for step in range(5):
        checkpoint_of(path, layer(step)).save(Place(step))
    assert sorted(tmp_path.iterdir()) == [path, previous(path)]


def test_code_is_not_run_whatever_the_sum_says(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "harm"),))

    for protocol in (None, 2):
        with_its_sum(tmp_path / "checkpoint.pt", Harm(), protocol)
        with pytest.raises(SeqRecError, match=r"not a checkpoint.*delete it"):
            checkpoint_of(tmp_path / "checkpoint.pt", layer(0)).load(Place)
    assert not (tmp_path / "harm").exists()


def test_another_run_or_another_shape_is_one_line(tmp_path: Path) -> None:
    path = saved_twice(tmp_path)
    with pytest.raises(SeqRecError, match="another run; delete its folder"):
        checkpoint_of(path, layer(0), seed=2).load(Place)
    bias = nn.Linear(40, 40)
    for model in (layer(0, size=3), bias):
        with pytest.raises(SeqRecError, match=r"does not fit this run.*delete its folder"):
            checkpoint_of(path, model).load(Place)

    @dataclass
    class Other:
        steps: int = 0

    for part, kind in (({"model": layer(0)}, Other), ({"optimizer": layer(0)}, Place)):
        with pytest.raises(SeqRecError, match="does not fit this run"):
            Checkpoint(path, {"seed": 1}, part, report=print).load(kind)


def test_tensors_are_restored_in_place_and_never_broadcast() -> None:
    mine = {"a": torch.zeros(2, 3), "b": torch.zeros(())}
    tensors = Tensors(mine.items())
    tensors.load_state_dict({"a": torch.ones(2, 3), "b": torch.ones(())})
    assert mine["a"].sum() == 6 and mine["b"] == 1
    for other in ({"a": torch.ones(3), "b": torch.ones(())}, {"a": torch.ones(2, 3)}, {**mine, "c": torch.ones(1)}):
        with pytest.raises(ValueError, match="other names or shapes"):
            tensors.load_state_dict(other)


# Training


class Killed(Exception):
    pass


def killed_at(epoch: int, step: int) -> Callable[[Progress], None]:
    def listen(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (epoch, step) and progress.epoch_entry is None:
            raise Killed

    return listen


def cut(folder: Path, config: TrainingConfig, epoch: int, step: int) -> None:
    """Train up to a step (counted from 1), which the checkpoint does not hold; the one before it does."""
    with pytest.raises(Killed):
        train(small_model(), random_sequences(0), config, folder, listen=killed_at(epoch, step), checkpoint_seconds=0.0)


@pytest.mark.parametrize("name", ["a block of zeros in the middle", "half", "a folder"])
def test_training_goes_on_from_the_checkpoint_before_to_the_same_bits(name: str, tmp_path: Path) -> None:
    undisturbed, model, lines = small_model(), small_model(), []  # type: ignore[var-annotated]
    expected = train(undisturbed, random_sequences(0), CONFIG, tmp_path / "whole")
    cut(tmp_path / "cut", CONFIG, 2, 4)
    DAMAGE[name](tmp_path / "cut" / CHECKPOINT)
    result = train(model, random_sequences(0), CONFIG, tmp_path / "cut", report=lines.append)
    assert torch.equal(weights(model), weights(undisturbed)) and len(lines) == 1
    assert [entry["loss"] for entry in result.history] == [entry["loss"] for entry in expected.history]


@pytest.mark.parametrize(
    ("before", "after", "data"),
    [
        ({}, {"learning_rate": 0.5}, 0),
        ({"schedule": "cosine"}, {"epochs": 2}, 0),  # a schedule over the epochs can't change its length
        ({}, {}, 1),
    ],
)
def test_training_by_other_settings_or_on_other_data_does_not_go_on(
    before: dict[str, Any], after: dict[str, Any], data: int, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=1, **before)
    train(small_model(), random_sequences(0), config, tmp_path)
    with pytest.raises(SeqRecError, match="another run; delete its folder"):
        train(small_model(), random_sequences(data), replace(config, **after), tmp_path)


@pytest.mark.parametrize(
    ("first", "stop", "then", "right"),
    [
        ({"validate_every": 3, "epochs": 4}, (2, 3), {"epochs": 1}, False),  # epoch 1 was not validated
        ({"validate_every": 3, "epochs": 4}, (2, 3), {"epochs": 2}, True),
        ({"validate_every": 3, "epochs": 4}, (3, 3), {"epochs": 2}, False),
        ({"validate_every": 2, "epochs": 5}, (4, 2), {"epochs": 2}, False),  # further than asked for
        ({"validate_every": 2, "epochs": 3}, None, {"epochs": 4}, False),  # epoch 3 was validated as the last one
        ({"validate_every": 2, "epochs": 2}, None, {"epochs": 4}, True),
        ({"epochs": 3}, (2, 3), {"epochs": 1}, False),
        ({"epochs": 1}, None, {"epochs": 3}, True),
        ({"epochs": 6, "patience": 0, "learning_rate": 0.05}, (6, 2), {"patience": 1}, False),
        ({"epochs": 3, "patience": 0}, (2, 2), {"patience": 9}, True),
    ],
)
def test_a_run_resumed_for_another_time_gives_what_it_would_from_the_start_or_says_that_it_cannot(
    first: dict[str, Any], stop: tuple[int, int] | None, then: dict[str, Any], right: bool, tmp_path: Path
) -> None:
    before = replace(CONFIG, **first)
    if stop:
        cut(tmp_path / "cut", before, *stop)
    else:
        train(small_model(), random_sequences(0), before, tmp_path / "cut")
    after, model, fresh = replace(before, **then), small_model(), small_model()
    if not right:
        with pytest.raises(SeqRecError, match="delete its folder"):
            train(small_model(), random_sequences(0), after, tmp_path / "cut")
        shutil.rmtree(tmp_path / "cut")  # as it says
    result = train(model, random_sequences(0), after, tmp_path / "cut")
    expected = train(fresh, random_sequences(0), after, tmp_path / "fresh")
    assert torch.equal(weights(model), weights(fresh))
    assert (result.best_epoch, result.best_valid) == (expected.best_epoch, expected.best_valid)
    assert [entry.keys() for entry in result.history] == [entry.keys() for entry in expected.history]


def test_what_is_read_is_on_the_cpu_and_complete(tmp_path: Path) -> None:
    content = checkpoint.read(saved_twice(tmp_path))
    assert content["place"] == {"step": 2, "history": [0.5, 0.5]} and content["identity"] == {"seed": 1}
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "nowhere")

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from seqrec_lib.data.sequences import (
    WindowDataset,
    batches_by_step,
    bucketed_batches,
    cut_windows,
    padding_share,
    prefixes,
    user_batches,
)
from seqrec_lib.errors import SeqRecError
from tests.conftest import make_sequences, random_sequences


def test_leave_one_out_by_hand() -> None:
    data = make_sequences([[1, 2, 3, 4], [5, 6, 7]], 7)
    test, valid, train = (data.split(name) for name in ("test", "valid", "train"))
    assert test.targets.tolist() == [4, 7] and valid.targets.tolist() == [3, 6]
    assert train.targets.tolist() == [2, 5]
    assert [data.items[a:b].tolist() for a, b in zip(test.start, test.stop, strict=True)] == [[1, 2, 3], [5, 6]]


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(SeqRecError, match="a user has 2 interactions"):
        make_sequences([[1, 2, 3], [1, 2]], 3)
    with pytest.raises(SeqRecError, match="unknown split 'dev'"):
        make_sequences([[1, 2, 3]], 3).split("dev")  # type: ignore[arg-type]
    with pytest.raises(SeqRecError, match=r"stride in 1\.\.4, not 5"):
        cut_windows(random_sequences(0), 4, stride=5)


def test_split_hash_tells_order_and_counts_apart() -> None:
    data = make_sequences([[1, 2, 3], [3, 2, 1]], 3)
    swapped = make_sequences([[2, 1, 3], [3, 2, 1]], 3)
    more_items = make_sequences([[1, 2, 3], [3, 2, 1]], 4)
    assert len({data.split_hash, swapped.split_hash, more_items.split_hash}) == 3
    assert replace(data, name="other").split_hash == data.split_hash


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 12), data=st.data())
def test_windows_train_every_target_exactly_once(seed: int, length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, length))
    sequences = random_sequences(seed, n_users=8)
    rng = np.random.default_rng(seed) if data.draw(st.booleans()) else None
    windows = cut_windows(sequences, length, stride=stride, rng=rng)
    trained = np.concatenate([np.arange(f, s) + 1 for f, s in zip(windows.fresh, windows.stop, strict=True)])
    expected = [
        np.arange(begin + 1, end - 2) for begin, end in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]
    assert sorted(trained.tolist()) == np.concatenate(expected).tolist()
    assert windows.lengths.max(initial=0) <= length and (windows.fresh >= windows.start).all()
    # A window stays within its user, and a fresh target sees its whole history or at least length - stride items.
    owner = np.searchsorted(sequences.offsets, windows.start, side="right") - 1
    begin = sequences.offsets[owner]
    assert (windows.start >= begin).all() and (windows.stop <= sequences.offsets[owner + 1] - 3).all()
    assert ((windows.start == begin) | (windows.fresh - windows.start >= length - stride)).all()


def test_random_cuts_differ_between_epochs() -> None:
    sequences = random_sequences(1, longest=60)
    cuts = [cut_windows(sequences, 8, rng=np.random.default_rng([0, epoch])).fresh.tolist() for epoch in range(2)]
    assert cuts[0] != cuts[1]


def test_prefixes_are_all_histories_with_their_next_item() -> None:
    sequences = make_sequences([[1, 2, 3, 4, 5, 6]], 6)
    windows = prefixes(sequences, 2)
    found = [
        (sequences.items[a:b].tolist(), int(sequences.items[b]))
        for a, b in zip(windows.start, windows.stop, strict=True)
    ]
    assert found == [([1], 2), ([1, 2], 3), ([2, 3], 4)]
    assert (windows.fresh == windows.stop - 1).all()


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=80), tokens=st.integers(1, 600), shuffled=st.booleans()
)
def test_batches_hold_each_window_once_within_the_budget(lengths: list[int], tokens: int, shuffled: bool) -> None:
    array = np.array(lengths)
    batches = bucketed_batches(array, tokens, np.random.default_rng(0) if shuffled else None)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * array[batch].max() <= tokens
    padded = sum(len(batch) * array[batch].max() for batch in batches)
    assert padding_share(array, batches) == pytest.approx(1 - array.sum() / padded)


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=80),
    samples=st.integers(1, 90),
    tokens=st.integers(1, 600),
)
def test_steps_of_random_samples_hold_each_window_once(lengths: list[int], samples: int, tokens: int) -> None:
    array = np.array(lengths)
    batches, ends = batches_by_step(array, samples, tokens, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * array[batch].max() <= tokens for batch in batches)
    steps = [np.concatenate(batches[first:end]) for first, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert [len(step) for step in steps[:-1]] == [samples] * (len(steps) - 1)
    assert 1 <= len(steps[-1]) <= samples and ends[-1] == len(batches)


def test_a_step_of_random_samples_has_windows_of_all_lengths() -> None:
    lengths = np.arange(1, 1001)
    batches, ends = batches_by_step(lengths, 100, 2000, np.random.default_rng(0))
    first = lengths[np.concatenate(batches[: ends[0]])]
    assert first.max() - first.min() > 800
    assert not np.array_equal(first, lengths[np.concatenate(batches[ends[0] : ends[1]])])


def test_padding_of_realistic_lengths_is_small() -> None:
    lengths = np.minimum(np.random.default_rng(0).geometric(0.02, 5_000), 200)
    assert padding_share(lengths, bucketed_batches(lengths, 3_200, np.random.default_rng(0))) < 0.05


def test_dataset_serves_an_unmodified_loader() -> None:
    sequences = make_sequences([[1, 2, 3, 4, 5, 6, 7], [7, 6, 5]], 7)
    windows = cut_windows(sequences, 3)
    data: Any = WindowDataset(sequences, windows, 3)  # has what a loader asks for, and is none of torch's classes
    batches = list(DataLoader(data, batch_size=8))
    assert len(batches) == 1
    inputs, targets = (part.tolist() for part in batches[0])
    # user 0 trains on 1..5: inputs 1 2 3 | 2 3 4 with only target 5 fresh; user 1 has a single training item
    assert inputs == [[1, 2, 3], [2, 3, 4]] and targets == [[2, 3, 4], [0, 0, 5]]
    with pytest.raises(SeqRecError, match="does not fit into 2"):
        WindowDataset(sequences, windows, 2)


def test_user_batches_cover_all_users() -> None:
    histories = random_sequences(3).split("test")
    assert sorted(np.concatenate(list(user_batches(histories, 7))).tolist()) == list(range(len(histories)))

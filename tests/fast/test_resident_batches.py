from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.data.sequences import bucketed_batches, cut_windows
from seqrec_lib.fast.resident_batches import ResidentEpoch, Shape, coarse, rounded
from seqrec_lib.train.loop import _Batches
from seqrec_lib.train.recipes import TrainingConfig
from tests.conftest import make_sequences, random_sequences

CPU = torch.device("cpu")


def both(sequences, config: TrainingConfig) -> tuple[_Batches, _Batches]:
    """The ordinary batches and the resident ones."""
    return _Batches(sequences, config, CPU), _Batches(sequences, config, CPU, resident=True)


@st.composite
def cases(draw):
    histories = draw(st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=40), min_size=1, max_size=25))
    histories.append([1, 2, 3, 4])  # one window at least
    length = draw(st.integers(1, 20))
    config = TrainingConfig(
        objective=draw(st.sampled_from(["all-positions", "prefixes"])),
        max_length=length,
        stride=draw(st.integers(0, length)),
        tokens_per_batch=draw(st.integers(1, 120)),
        seed=draw(st.integers(0, 99)),
    )
    return make_sequences(histories, 9), config


@settings(max_examples=25, deadline=None)
@given(cases())
def test_batches_are_the_ordinary_ones_and_filled_up_the_same_with_nothing(case) -> None:
    sequences, config = case
    ordinary, resident = both(sequences, config)
    epoch = resident.resident
    for number in (0, 3, 1):  # buffers are used again, and grow
        for batches in (ordinary, resident):
            batches.start_epoch(number)
        assert len(ordinary) == len(resident) and ordinary.padding == resident.padding
        real = 0
        for step in range(len(ordinary)):
            expected = ordinary.load(step)
            for a, b in zip(expected[:4], resident.load(step)[:4], strict=True):
                assert a.dtype == b.dtype and torch.equal(a, b)
            assert expected[4:] == resident.load(step)[4:] == (None, len(expected.targets))

            items, lengths, at, targets, *_ = expected
            shape = rounded(epoch.shapes[step], config.max_length, config.tokens_per_batch)
            filled = epoch.gather(shape)  # the cursor is where load has put it
            rows, length = items.shape
            assert torch.equal(filled.items[:rows, :length], items)
            assert filled.items.shape == (shape.rows, shape.length) and filled.items.count_nonzero() == lengths.sum()
            assert torch.equal(filled.lengths[:rows], lengths) and not filled.lengths[rows:].any()
            n = len(targets)
            assert filled.n == n and filled.counted.tolist() == [j < n for j in range(shape.targets)]
            assert torch.equal(filled.at[:n], at // length * shape.length + at % length)
            assert torch.equal(filled.targets[:n], targets)
            assert not filled.at[n:].any() and (filled.targets[n:] == 1).all()
            real += int(lengths.sum())
        assert epoch.real_positions == real


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4000), st.data())
def test_filling_up_is_bounded_and_few_shapes_are_left(longest: int, tokens: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, longest))
    rows = data.draw(st.integers(1, max(1, tokens // length)))
    shape = Shape(rows, length, data.draw(st.integers(1, rows * length)))
    found = rounded(shape, longest, tokens)
    assert all(a >= b for a, b in zip(found, shape, strict=True))
    assert found.length <= longest and found.targets <= found.positions
    assert found.length <= 1.25 * length + 1 and found.targets <= 1.25 * shape.targets + 1
    assert found.positions <= max(1.34 * tokens, found.length)
    assert rounded(found, longest, max(tokens, found.positions)).length == found.length
    assert coarse(coarse(length)) == coarse(length)


def test_an_epoch_has_few_shapes() -> None:
    sequences = random_sequences(0, n_users=600, longest=120)
    windows = cut_windows(sequences, 100, rng=np.random.default_rng(0))
    epoch = ResidentEpoch(torch.from_numpy(sequences.items).long())
    epoch.fill(windows, bucketed_batches(windows.lengths, 400, np.random.default_rng(0)))
    exact, few = set(epoch.shapes), {rounded(shape, 100, 400) for shape in epoch.shapes}
    assert len(few) < len(exact) / 3 and len(few) <= 60


def test_larger_buffers_are_another_version() -> None:
    sequences = random_sequences(0)
    windows = cut_windows(sequences, 8)
    epoch = ResidentEpoch(torch.from_numpy(sequences.items).long())
    epoch.fill(windows, bucketed_batches(windows.lengths, 40))
    assert epoch.version == 1
    epoch.fill(windows, bucketed_batches(windows.lengths, 40, np.random.default_rng(1)))
    assert epoch.version == 1
    epoch.fill(windows, bucketed_batches(windows.lengths, 8))
    assert epoch.version == 2 and epoch.capacity >= len(epoch.shapes)

"""Values for other processes by memory that they share: the same as when they are sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from toolkit.batch.shared_slots import ALIGNMENT, LARGE_BYTES, Packed, SharedSlots, Whole

Arrays = dict[str, np.ndarray]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere values are sent")


@pytest.fixture
def slots() -> Iterator[SharedSlots]:
    """Two, taken by this process."""
    with SharedSlots.opened(2) as opened:
        assert opened.take is not None
        opened.take()
        yield opened


def arrays(first: int = 0, count: int = LARGE_BYTES) -> Arrays:
    """Large and small ones, of several types, in the order of rows and in others."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return {
        "odd": np.arange(count + 1) % 2 == 0,
        "large": numbers.reshape(2, -1),
        "turned": numbers.reshape(2, -1).T,
        "with gaps": numbers.reshape(2, -1)[:, ::2],
        "small": numbers[:3],
        "none": numbers[:0],
    }


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array), name


def test_a_value_is_what_was_packed(slots: SharedSlots) -> None:
    first, second = slots.packed(arrays()), slots.packed(arrays(5))
    assert isinstance(first, Packed)
    assert isinstance(second, Packed)
    assert len(first.pickled) < 3 * LARGE_BYTES  # which is the array with gaps, that is sent
    for packed, expected in ((first, arrays()), (second, arrays(5))):
        value = packed.value()
        assert_same(value, expected)
        value["large"][:] = 0  # its own until the slot is released
        assert value["large"].ctypes.data % ALIGNMENT == 0
    assert_same(slots.packed(arrays(7)).value(), arrays(7))  # sent whole, for no slot is free


def test_slots_are_used_again(slots: SharedSlots) -> None:
    for number in range(5):
        packed = slots.packed(arrays(number))
        assert isinstance(packed, Packed)
        assert_same(packed.value(), arrays(number))
        slots.release(packed)


def test_what_is_small_or_larger_than_the_first_is_sent(slots: SharedSlots) -> None:
    assert isinstance(slots.packed(arrays(count=4)), Whole)
    slots.release(slots.packed(arrays()))
    larger = slots.packed(arrays(count=2 * LARGE_BYTES))
    assert isinstance(larger, Whole)
    slots.release(larger)
    assert isinstance(slots.packed(arrays(3)), Packed)


@pytest.mark.parametrize("call", ["memfd_create", "ftruncate"])
def test_without_such_memory_values_are_sent(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, call, refused)
    with SharedSlots.opened(2) as slots:
        packed = slots.packed(arrays())
        assert isinstance(packed, Whole)
        assert_same(packed.value(), arrays())


def test_nothing_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    with SharedSlots.opened(2) as slots:
        assert isinstance(slots.packed(arrays()), Packed)
    del slots
    assert os.listdir("/proc/self/fd") == before

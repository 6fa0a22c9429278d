"""Arrays for other processes by memory that they share: the same as when they are sent."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from toolkit.batch.shared_slots import ALIGNMENT, InSlot, SharedSlots, Whole
from toolkit.specs import Tensors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere arrays are sent")


@pytest.fixture
def slots() -> Iterator[SharedSlots]:
    """Two, taken by this process."""
    with SharedSlots.opened(2) as opened:
        assert opened.take is not None
        opened.take()
        yield opened


def arrays(first: int = 0, count: int = 100) -> Tensors:
    """Of several types, in the order of rows and in others."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return {
        "odd": np.arange(count + 1) % 2 == 0,
        "rows": numbers.reshape(2, -1),
        "columns": numbers.reshape(2, -1).T,
        "with gaps": numbers.reshape(2, -1)[:, ::2],
        "one": np.array([first]),
        "none": numbers[:0].reshape(0, 3),
    }


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array), name


def test_arrays_are_those_that_were_put(slots: SharedSlots) -> None:
    first, second = slots.put(arrays()), slots.put(arrays(5))
    for sent, expected in ((first, arrays()), (second, arrays(5))):
        assert isinstance(sent, InSlot)
        found = sent.arrays()
        assert_same(found, expected)
        assert all(array.ctypes.data % ALIGNMENT == 0 for array in found.values())
        found["rows"][:] = 0  # its own until the slot is released
    assert_same(slots.put(arrays(7)).arrays(), arrays(7))  # sent, for no slot is free


def test_slots_are_used_again(slots: SharedSlots) -> None:
    for number in range(5):
        sent = slots.put(arrays(number))
        assert isinstance(sent, InSlot)
        assert_same(sent.arrays(), arrays(number))
        slots.release(sent)


def test_a_slot_is_taken_when_arrays_are_pickled(slots: SharedSlots) -> None:
    sending = [slots.sending(arrays(number)) for number in range(3)]
    for number in (2, 0, 1):
        arrived = pickle.loads(pickle.dumps(sending[number]))
        assert isinstance(arrived, Whole if number == 1 else InSlot)  # of two slots none is free
        assert_same(arrived.arrays(), arrays(number))
        assert_same(sending[number].arrays(), arrays(number))
    for each in (*sending, slots.sending(arrays())):  # the last was never pickled
        each.release()
    assert all(isinstance(slots.put(arrays()), InSlot) for _ in range(2))


def test_what_does_not_fit_is_sent(slots: SharedSlots) -> None:
    """The first ones say how large slots are."""
    assert isinstance(slots.put({}), Whole)
    assert isinstance(slots.put({"names": np.array(["a", None])}), Whole)
    assert isinstance(slots.put(arrays()), InSlot)
    assert isinstance(slots.put(arrays(count=200)), Whole)
    assert isinstance(slots.put(arrays(3, count=50)), InSlot)


@pytest.mark.parametrize(("module", "call"), [(os, "memfd_create"), (os, "posix_fallocate"), (mmap, "mmap")])
def test_without_such_memory_arrays_are_sent(module: ModuleType, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(module, call, refused)
    with SharedSlots.opened(2) as slots:
        sent = slots.put(arrays())
        assert isinstance(sent, Whole)
        assert_same(sent.arrays(), arrays())


def test_a_python_for_older_systems_shares_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with SharedSlots.opened(2) as slots:
        assert isinstance(slots.put(arrays()), InSlot)
    monkeypatch.setattr(os, "O_TMPFILE", os.O_RDONLY)  # a folder cannot be opened so
    with SharedSlots.opened(2) as slots:
        assert slots.take is None
        assert isinstance(slots.put(arrays()), Whole)


def test_nothing_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    with SharedSlots.opened(2) as slots:
        assert isinstance(slots.put(arrays()), InSlot)
    del slots
    assert os.listdir("/proc/self/fd") == before

"""One item is worked on while the next is made, and nothing is lost or left at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from toolkit.batch.behind import one_behind

PATIENCE = 30.0


def numbers(count: int, error: BaseException | None = None) -> Iterator[int]:
    yield from range(count)
    if error is not None:
        raise error


def test_values_come_in_order() -> None:
    assert list(one_behind(str, numbers(5))) == ["0", "1", "2", "3", "4"]
    assert list(one_behind(str, [])) == []


def test_work_goes_on_while_the_next_item_is_made() -> None:
    """Each waits for the other: one after the other would take forever."""
    begun, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert begun.wait(PATIENCE)
        made.set()
        yield 1

    def work(item: int) -> bool:
        begun.set()
        return made.wait(PATIENCE)

    assert list(one_behind(work, items())) == [True, True]


def test_nothing_is_at_work_while_the_caller_has_a_value() -> None:
    log: list[str] = []

    def work(item: int) -> int:
        log.append(f"begin {item}")
        time.sleep(0.01)
        log.append(f"end {item}")
        return item

    for item in one_behind(work, numbers(3)):
        assert log[-1] == f"end {item}"


def test_an_item_that_cannot_be_made_loses_none_before_it() -> None:
    values = one_behind(str, numbers(2, ValueError("item 2")))
    assert [next(values), next(values)] == ["0", "1"]
    with pytest.raises(ValueError, match="item 2"):
        next(values)


@pytest.mark.parametrize("count", [2, 3])
def test_failed_work_is_raised_at_its_turn_whatever_follows(count: int) -> None:
    def work(item: int) -> int:
        if item == 1:
            raise OSError("item 1")
        return item

    values = one_behind(work, numbers(count, ValueError("a later item")))
    assert next(values) == 0
    with pytest.raises(OSError, match="item 1"):
        next(values)


def test_an_interrupt_waits_for_what_is_at_work() -> None:
    """Whoever then removes what was written finds nobody who writes."""
    ended: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        list(one_behind(work, numbers(1, KeyboardInterrupt())))
    assert ended == [0]

"""How the norms of a state over a drive are told."""

from __future__ import annotations

from benchmarks.long_drive import course


def test_norms_are_compared_by_fifths_of_the_drive() -> None:
    expected = [2.0] * 10
    actual = [2.0, 2.0, 2.2, 2.2, 2.0, 2.0, 1.8, 1.8, 2.0, 2.4]
    assert course(expected, actual) == "1.0000, 1.1000, 1.0000, 0.9000, 1.1000; 0.9000 to 1.2000"


def test_a_state_may_be_empty_for_a_while_or_always() -> None:
    assert (
        course([0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0, 1.0])
        == "zero, zero, 1.0000, 1.0000, 1.0000; 1.0000 to 1.0000"
    )
    assert course([0.0, 0.0], [0.0, 0.0]) == "zero in FP32 in all frames"

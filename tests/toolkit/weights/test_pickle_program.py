"""The names that a pickle looks up, without running it."""

from __future__ import annotations

import collections
import fractions
import io
import os
import pickle
import re
from typing import Any

import numpy as np
import pytest

from toolkit.weights.pickle_program import MAX_DEPTH, names_in_pickle


def names(data: bytes) -> set[str]:
    return names_in_pickle(io.BytesIO(data), length=len(data), max_steps=10_000)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = (value,)
    return value


class Calls:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


@pytest.mark.parametrize("protocol", range(6))
def test_names_of_every_protocol(protocol: int) -> None:
    content = [Calls(), {fractions.Fraction(1, 2)}, collections.OrderedDict(a=1), ("fractions", "Decimal")]
    found = names(pickle.dumps(content, protocol))
    assert {f"{os.system.__module__}.system", "fractions.Fraction", "collections.OrderedDict"} <= found
    assert not any("Decimal" in name for name in found)


@pytest.mark.parametrize("protocol", range(6))
def test_data_is_let_through(protocol: int) -> None:
    """Small arrays too, whose data is the smallest part."""
    content = [{"a": np.zeros(0), "b": [np.float64(1), np.eye(3), "x" * 50, b"y" * 50]} for _ in range(20)]
    assert all(re.match(r"numpy\.|_codecs\.|builtins\.bytes", name) for name in names(pickle.dumps(content, protocol)))


def test_tuples_nested_too_deeply() -> None:
    def pickled(depth: int) -> bytes:
        return b"\x80\x02" + b")" + b"\x85" * depth + b"."

    assert names(pickled(MAX_DEPTH - 1)) == set()
    with pytest.raises(pickle.UnpicklingError, match=f"nested more than {MAX_DEPTH} deep"):
        names(pickled(MAX_DEPTH + 1))


def test_one_large_object_for_many_calls() -> None:
    text = b"X\x00\x04\x00\x00" + b"x" * 1024 + b"q\x00"
    data = b"\x80\x02(" + text + b"c_codecs\nencode\nh\x00\x85R" * 100 + b"l."
    with pytest.raises(pickle.UnpicklingError, match="calls functions with more than it holds"):
        names(data)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "an index lies outside the file"),
        (b"\x80\x02" + b"]0" * 10_000 + b"N.", "more than 10000 steps"),
        (b"\x80\x02\x85.", "takes what is not there"),
    ],
)
def test_programs_that_no_data_needs(data: bytes, fault: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match=fault):
        names(data)

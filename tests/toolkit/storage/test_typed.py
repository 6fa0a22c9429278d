"""Plain data as dataclasses: strict types, no further fields, bounded numbers; every fault with its place."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit.storage.typed import Count, Misfit, Text, completed, decode, number_array


class Wheel(Enum):
    FRONT = "front"
    REAR = "rear"


@dataclass(frozen=True)
class Engine:
    power: float
    cylinders: Count = 4

    def __post_init__(self) -> None:
        if self.power < 0:
            raise ValueError("an engine without power")


@dataclass(frozen=True)
class Car:
    name: Text
    engine: Engine
    spare: Engine | None
    doors: tuple[str, ...]
    size: tuple[float, float]
    pressure: Mapping[Wheel, float]
    parts: Mapping[str, Engine]
    notes: Mapping[str, Any]
    manual: Path


@dataclass(frozen=True, eq=False)
class Track:
    points: NDArray[np.float32]
    surface: NDArray[np.bool_]


DOCUMENT: dict[str, Any] = {
    "name": "a",
    "engine": {"power": 1},
    "spare": None,
    "doors": ["left", "right"],
    "size": [1, 2.5],
    "pressure": {"rear": 2.0},
    "parts": {f"part {i}": {"power": i} for i in range(9)},
    "notes": {"any": [{"thing": None}]},
    "manual": "a.pdf",
}
CAR = Car(
    "a",
    Engine(1.0),
    None,
    ("left", "right"),
    (1.0, 2.5),
    {Wheel.REAR: 2.0},
    {f"part {i}": Engine(float(i)) for i in range(9)},
    {"any": [{"thing": None}]},
    Path("a.pdf"),
)


def changed(*keys: Any, to: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    inner: Any = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return document


def test_plain_data_becomes_dataclasses() -> None:
    """Absent fields keep their defaults, whole numbers are floats too, and the document stays as it is."""
    document = copy.deepcopy(DOCUMENT)
    assert decode(Car, document) == CAR
    assert document == DOCUMENT
    assert isinstance(decode(Car, document).engine.power, float)
    assert decode(tuple[Car, ...], [document] * 2) == (CAR, CAR)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "$: expected an object, found list"),
        (changed("engine", to={}), "$.engine: field 'power' is missing"),
        (changed("engine", "power", to="big"), "$.engine.power: expected float, found 'big'"),
        (changed("engine", "power", to=True), "$.engine.power: expected float, found True"),
        (changed("engine", "power", to=-1), "$.engine: an engine without power"),
        (changed("engine", "power", to=float("nan")), "$.engine.power: expected a finite number, found nan"),
        (changed("engine", "power", to=10**400), "$.engine.power: Number out of range"),
        (changed("engine", "cylinders", to=4.0), "$.engine.cylinders: expected int, found 4.0"),
        (changed("engine", "cylinders", to=2**63), f"$.engine.cylinders: expected a number of 64 bits, found {2**63}"),
        (changed("engine", "cylinders", to=-1), "$.engine.cylinders: expected int >= 0, found -1"),
        (changed("engine", "colour", to=1), "$.engine: unknown field 'colour'; known fields: power, cylinders"),
        (changed("name", to=""), "$.name: expected str that is not empty, found ''"),
        (changed("name", to="\ud800"), "$.name: expected text, found half a character in '\\ud800'"),
        (changed("engine", "\ud800", to=1), "$: expected text, found half a character in the name of a field"),
        (changed("spare", to=7), "$.spare: expected an object or null, found int"),
        (changed("doors", to="left"), "$.doors: expected a list, found 'left'"),
        (changed("doors", 1, to=None), "$.doors[1]: expected str, found None"),
        (changed("size", to=[1, 2, 3]), "$.size: expected a list of 2, found [1, 2, 3]"),
        (changed("pressure", to={"middle": 1}), "$.pressure: Invalid enum value 'middle'"),
        (changed("pressure", "rear", to="low"), "$.pressure.rear: expected float, found 'low'"),
        (changed("parts", "part 6", "power", to=None), "$.parts['part 6'].power: expected float, found None"),
        (changed("notes", "any", 0, "x", to=2**64), f"$.notes.any[0].x: expected a number of 64 bits, found {2**64}"),
        (changed("notes", "\ud800", to=1), "$.notes['\\ud800']: expected text, found half a character in '\\ud800'"),
        (changed("manual", to=5), "$.manual: expected a path, found 5"),
        (changed("manual", to="a\0b"), "$.manual: expected a path, found 'a\\x00b'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place(document: Any, message: str) -> None:
    before = copy.deepcopy(document)
    with pytest.raises(Misfit) as raised:
        decode(Car, document)
    assert str(raised.value) == message
    assert list(document) == list(before)


def test_places_can_begin_with_another_name() -> None:
    with pytest.raises(Misfit, match=r"^car\.engine: field 'power' is missing$"):
        decode(Car, changed("engine", to={}), root="car")


def test_fields_that_are_not_read_can_be_ignored() -> None:
    assert decode(Car, changed("engine", "colour", to=1), ignored={"colour"}) == CAR


def test_depth_is_bounded() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(Misfit, match="is nested deeper than 64 levels"):
        decode(Car, changed("notes", "deep", to=deep))


def test_messages_are_bounded() -> None:
    for document in (changed("x" * 10**6, to=1), changed("doors", to="x" * 10**6), changed("parts", "x" * 10**6, to=1)):
        with pytest.raises(Misfit) as raised:
            decode(Car, document)
        assert len(str(raised.value)) < 600
        assert "\n" not in str(raised.value)


def test_floats_can_have_another_bound_or_none() -> None:
    for value, largest in ((1e9, 1e9), (float("inf"), float("inf")), (float("nan"), None)):
        decode(Car, changed("engine", "power", to=value), largest=largest)
    with pytest.raises(Misfit, match=r"\$\.engine\.power: expected at most 1e\+09, found 2000000000\.0"):
        decode(Car, changed("engine", "power", to=2 * 10**9), largest=1e9)


def test_arrays_come_from_lists_or_arrays() -> None:
    track = decode(Track, {"points": [[1, 2.5]], "surface": np.ones((2, 3), np.uint8)})
    assert track.points.dtype == np.float32
    np.testing.assert_array_equal(track.points, [[1, 2.5]])
    assert track.surface.dtype == np.bool_
    assert decode(Track, {"points": [], "surface": np.ones(0)}).points.shape == (0,)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("abc", "expected a list of numbers, found 'abc'"),
        ([[1, 2], [3]], "expected 2 x 2 numbers, found [[1, 2], [3]]"),
        ([1, True], "expected 2 numbers, found [1, True]"),
        ([[[[[[[[[[1]]]]]]]]]], "expected 1 x 1 x 1 x 1 x 1 x 1 x 1 x 1 numbers, found [[[[…]]]]"),
        ([1, float("nan")], "holds a value that is not finite"),
        ([1, 1e300], "holds a value that is not finite"),
        ([1, 10**400], "holds a value that is not finite"),
        ([1, 1e10], "holds a value above 1e+09"),
        (np.array(["a"]), "expected numbers, found an array of <U1"),
    ],
)
def test_arrays_hold_finite_numbers_in_even_rows(points: Any, message: str) -> None:
    with pytest.raises(Misfit) as raised:
        decode(Track, {"points": points, "surface": [1]}, largest=1e9)
    assert str(raised.value) == f"$.points: {message}"


def test_numbers_of_a_given_shape() -> None:
    np.testing.assert_array_equal(number_array([[1], [2]], (2, 1)), [[1.0], [2.0]])
    with pytest.raises(ValueError, match="expected 3 numbers, found"):
        number_array([1, 2], (3,))


def test_fields_from_elsewhere() -> None:
    assert completed({"a": 1}, "$", b=2) == {"a": 1, "b": 2}
    assert completed(7, "$", b=2) == 7
    with pytest.raises(Misfit, match=re.escape("$.x: unknown field 'b'")):
        completed({"b": 1}, "$.x", b=2)


NUMBERS = st.floats(-1e300, 1e300)
ENGINES = st.builds(Engine, st.floats(0, 1e300), st.integers(0, 2**63 - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
CARS = st.builds(
    Car,
    name=TEXTS.filter(bool),
    engine=ENGINES,
    spare=st.none() | ENGINES,
    doors=st.lists(TEXTS).map(tuple),
    size=st.tuples(NUMBERS, NUMBERS),
    pressure=st.dictionaries(st.sampled_from(Wheel), NUMBERS),
    parts=st.dictionaries(TEXTS, ENGINES),
    notes=st.dictionaries(TEXTS, NUMBERS | TEXTS | st.none()),
    manual=st.just(Path("a.pdf")),
)


@given(CARS)
def test_every_value_comes_back(car: Car) -> None:
    document = asdict(car) | {
        "pressure": {wheel.value: pressure for wheel, pressure in car.pressure.items()},
        "manual": str(car.manual),
    }
    assert decode(Car, document) == car

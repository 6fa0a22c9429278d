"""Motion anchors: the official pickle is read without running code; everything else is refused in one clear line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.motion.anchors import MAX_BYTES, load_motion_anchors
from toolkit.config.model import ModelConfig
from toolkit.errors import InputError

CONFIG = ModelConfig()
GROUPS = [
    ["car", "truck", "construction_vehicle", "bus", "trailer"],
    ["motorcycle", "bicycle"],
    ["pedestrian"],
    ["barrier", "traffic_cone"],
]
ANCHORS = np.random.default_rng(0).normal(size=(4, 6, 12, 2)).astype(np.float32)

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(data: bytes) -> Path:
        (tmp_path / "anchors").write_bytes(data)
        return tmp_path / "anchors"

    return write


def pickled(protocol: int = 2, **entries: Any) -> bytes:
    """A pickle laid out as the official file, with some entries replaced or added."""
    return pickle.dumps({"grouped_classes": GROUPS, "anchors_all": list(ANCHORS)} | entries, protocol)


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line that begins with the file."""
    with pytest.raises(InputError) as caught:
        load_motion_anchors(path, CONFIG)
    message = str(caught.value)
    assert message.startswith(f"motion anchors {path}")
    assert "\n" not in message
    return message


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_reads_the_official_layout(golden: Path) -> None:
    anchors = load_motion_anchors(golden / "motion_anchor_infos_mode6.pkl", CONFIG)
    assert anchors.dtype == np.float32
    assert np.array_equal(anchors, np.load(golden / "motion_anchor_infos_mode6_anchors.npy"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_every_pickle_protocol(protocol: int, write: Write) -> None:
    data = pickled(protocol, modes=np.int64(6))
    assert np.array_equal(load_motion_anchors(write(data), CONFIG), ANCHORS)


@pytest.mark.parametrize(("own", "other"), [(b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")])
def test_reads_pickles_of_numpy_1_and_2(own: bytes, other: bytes, write: Write) -> None:
    assert np.array_equal(load_motion_anchors(write(pickled().replace(own, other)), CONFIG), ANCHORS)


def test_reads_other_memory_layouts(write: Write) -> None:
    parts = [np.asfortranarray(part.astype(">f8")) for part in ANCHORS]
    assert np.array_equal(load_motion_anchors(write(pickled(anchors_all=parts)), CONFIG), ANCHORS)


def test_reads_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "anchors.npy", ANCHORS.astype(np.float64))
    assert np.array_equal(load_motion_anchors(tmp_path / "anchors.npy", CONFIG), ANCHORS)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_refuses_to_run_code(protocol: int, write: Write, tmp_path: Path) -> None:
    data = pickled(protocol, extra=Call(eval, f"open({str(tmp_path / 'mark')!r}, 'w')"))
    message = refusal(write(data))
    assert "eval'" in message
    assert "reading it would run that" in message
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pickled(grouped_classes=GROUPS[::-1]), "'grouped_classes' differs from the groups of the model"),
        (pickled(anchors_all=list(ANCHORS[:3])), "the model has 4 of (6, 12, 2)"),
        (pickled(anchors_all=list(ANCHORS[:, :, :6])), "groups of shapes [(6, 6, 2)"),
        (pickled(anchors_all=[]), "groups of shapes []"),
        (pickled(anchors_all=ANCHORS.tolist()), "'anchors_all' is not a list of arrays"),
        (pickled(anchors_all=[*ANCHORS[:3], ANCHORS[3] * np.nan]), "NaN or infinite values"),
        (pickled(anchors_all=[np.array([None])]), "arrays of type 'O8' are not supported"),
        (pickle.dumps({"anchors": []}), "no dict with an entry 'anchors_all'"),
        (pickle.dumps([1, 2]), "no dict with an entry 'anchors_all'"),
        (pickled()[:-500], "cannot be used"),
        (pickled(extra=Call(bytearray, 10**12)), "'__builtin__.bytearray'"),
        (b"\x80\x02}r\xff\xff\xff\xff.", "an index lies outside the file"),
        (b"<html>", "cannot be used"),
        (b"", "is empty"),
        pytest.param(bytes(MAX_BYTES + 1), "larger than", id="too large"),
    ],
)
def test_refuses_what_are_no_anchors(data: bytes, expected: str, write: Write) -> None:
    assert expected in refusal(write(data))


@pytest.mark.parametrize(
    "array",
    [np.array([None]), np.float32(1), ANCHORS[..., :1], ANCHORS.astype(np.complex64), ANCHORS * np.inf],
    ids=["objects", "scalar", "shape", "complex", "infinite"],
)
def test_refuses_other_npy_files(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "anchors.npy", array)
    refusal(tmp_path / "anchors.npy")


def test_refuses_missing_files_and_directories(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.pkl")
    assert "is a directory" in refusal(tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.sampled_from([pickled(2), pickled(4), pickled(5)]),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
)
def test_a_damaged_pickle_gives_anchors_or_a_clear_refusal(
    source: bytes, changes: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    data = bytearray(source)
    for position, replacement in changes:
        data[position : position + len(replacement)] = replacement
    (tmp_path / "anchors").write_bytes(data)
    try:
        anchors = load_motion_anchors(tmp_path / "anchors", CONFIG)
    except InputError:
        refusal(tmp_path / "anchors")
    else:
        assert anchors.shape == ANCHORS.shape
        assert np.isfinite(anchors).all()

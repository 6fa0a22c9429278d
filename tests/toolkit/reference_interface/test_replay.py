"""Official inputs from an npz, through a session, to official outputs."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.bounded.memory import memory_limit
from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.reference_interface.replay import output_keys, read_inputs, replay
from toolkit.reference_interface.tensors import FRAME, RECURRENT, TRACK_ROWS

pytestmark = pytest.mark.thorough

Arrays = dict[str, np.ndarray]
ZERO = np.zeros(1, np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Arrays], Path]:
    """Writes arrays to an npz and returns its path."""

    def write(arrays: Arrays) -> Path:
        np.savez(tmp_path / "inputs.npz", **arrays)  # type: ignore[arg-type]
        return tmp_path / "inputs.npz"

    return write


Write = Callable[[Arrays], Path]


def test_frames_are_sorted_by_their_number(write: Write) -> None:
    """As numbers, not as text; whatever the order in the file."""
    path = write({f"f{number}.in.command": np.array([number]) for number in reversed(range(11))})
    assert [frame["command"].item() for frame in read_inputs(path)] == list(range(11))


def test_other_keys_and_inputs_without_effect_are_ignored(write: Write) -> None:
    """So a file may hold outputs and notes as well."""
    names = ["f0.in.command", "f0.out.command", "note", "f1.in.gt_lane_labels", "f0.in.image_shape", "xf0.in.command"]
    assert list(read_inputs(write(dict.fromkeys(names, ZERO)))) == [{"command": ZERO}]


def test_recurrent_inputs_may_start_a_sequence(write: Write) -> None:
    (frame,) = read_inputs(write({"f0.in.prev_bev": ZERO, "f0.in.command": ZERO}))
    assert set(frame) == {"prev_bev", "command"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["note"], "holds no frames; keys are f{t}.in.NAME, t contiguous from 0"),
        (["f1.in.command"], "frame 0 is missing; t must be contiguous from 0"),
        (["f0.in.command", "f2.in.command"], "frame 1 is missing; t must be contiguous from 0"),
        (["f0.in.comand"], "f0.in.comand: unknown input; known are img, img_metas_lidar2img,"),
        (["f0.in.command", "f1.in.prev_bev"], "f1.in.prev_bev: recurrent inputs are fed back; give them in frame 0 on"),
    ],
    ids=["no frames", "no first frame", "a gap", "an unknown name", "state later on"],
)
def test_unusable_file(keys: list[str], message: str, write: Write) -> None:
    path = write(dict.fromkeys(keys, ZERO))
    with pytest.raises(InputError, match="inputs.npz:? " + re.escape(message)):
        read_inputs(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inputs\.npz cannot be read: No such file or directory; check the path"):
        read_inputs(tmp_path / "inputs.npz")


def test_file_that_is_no_npz(tmp_path: Path) -> None:
    """Text, a single array, objects that only a pickle could hold, and text in place of an array."""
    (tmp_path / "text.npz").write_text("dear diary")
    np.save(tmp_path / "array.npy", ZERO)
    np.savez(tmp_path / "objects.npz", **{"f0.in.command": np.array([object()])})  # type: ignore[arg-type]
    with zipfile.ZipFile(tmp_path / "member.npz", "w") as archive:
        archive.writestr("f0.in.command.npy", "dear diary")
    for name in ("text.npz", "array.npy", "objects.npz", "member.npz"):
        with pytest.raises(InputError, match=r"is not a readable npz: .*; write it with numpy\.savez"):
            list(read_inputs(tmp_path / name))


def test_damaged_file(tmp_path: Path) -> None:
    """Whichever byte of the compressed data is wrong."""
    path = tmp_path / "inputs.npz"
    np.savez_compressed(path, **{"f0.in.command": np.arange(100)})  # type: ignore[arg-type]
    intact = path.read_bytes()
    refused = 0
    for position in range(len(intact)):
        path.write_bytes(intact[:position] + bytes([intact[position] ^ 0xFF]) + intact[position + 1 :])
        try:
            list(read_inputs(path))
        except InputError:
            refused += 1
    assert refused > len(intact) / 2


def test_frames_are_read_one_at_a_time(tmp_path: Path) -> None:
    """Twenty frames of 16 MB, which would take 320 MB, where there are 128."""
    with zipfile.ZipFile(tmp_path / "inputs.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(20):
            with archive.open(f"f{number}.in.img.npy", "w") as member:
                np.lib.format.write_array(member, np.zeros(2**22, np.float32))
    frames = read_inputs(tmp_path / "inputs.npz")
    assert len(frames) == 20
    with memory_limit(2**27):
        assert sum(frame["img"].size for frame in frames) == 20 * 2**22
    assert [frame["img"].size for frame in frames[18:]] == [2**22, 2**22]


def test_a_frame_of_more_than_inputs_hold(tmp_path: Path) -> None:
    """Though each of its arrays could be an input; what has no effect is not read, and may be any size."""
    with zipfile.ZipFile(tmp_path / "inputs.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("gt_boxes", *list(RECURRENT)[:3]):
            with archive.open(f"f0.in.{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.zeros(100 * 2**20, np.uint8))
    with pytest.raises(InputError, match="frame 0 is larger than 268435456 bytes; no inputs are"):
        read_inputs(tmp_path / "inputs.npz")


class FakeSession:
    """Gives zeros, two valid track rows, and a BEV that is one more than the previous one."""

    name = "fake"

    def __init__(self, bundle: Bundle) -> None:
        dimensions = bundle.config.dimensions()
        self.outputs = {spec.name: spec.zeros(dimensions) for spec in bundle.results}
        self.outputs["track_count"] = np.array([2], np.int32)
        self.fed: list[Mapping[str, np.ndarray]] = []

    def upload(self, array: np.ndarray) -> Any:
        return array

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.fed.append(inputs)
        return self.outputs | {"bev": inputs["prev_bev"] + 1}

    def download(self, tensor: Any) -> np.ndarray:
        array: np.ndarray = tensor
        return array

    def finite(self, tensors: Iterable[Any]) -> bool:
        return all(np.isfinite(tensor).all() for tensor in tensors)


@pytest.fixture
def frames(official_bundle: Bundle) -> list[Arrays]:
    """Three frames of zeros that claim to continue a scene."""
    dimensions = official_bundle.config.dimensions()
    zeros = {spec.name: spec.zeros(dimensions) for spec in official_bundle.frame_inputs}
    official = {name: zeros[ours] for name, ours in FRAME.items()}
    return [official | {"use_prev_bev": np.ones(1, np.int32)} for _ in range(3)]


def test_state_is_fed_back(official_bundle: Bundle, frames: list[Arrays]) -> None:
    """The first frame starts a scene from zeros."""
    session = FakeSession(official_bundle)
    outputs = list(replay(official_bundle, session, frames))
    assert [frame["bev_embed"].max() for frame in outputs] == [1, 2, 3]
    assert [int(fed["use_previous"][0]) for fed in session.fed] == [0, 1, 1]
    assert outputs[0]["prev_track_intances0_out"].shape == (2, 8)


def test_sequence_starts_from_given_state(official_bundle: Bundle, frames: list[Arrays]) -> None:
    """Then the first frame may continue a scene."""
    dimensions = official_bundle.config.dimensions()
    zeros = {spec.name: spec.zeros(dimensions) for spec in official_bundle.state_inputs}
    frames[0] |= {name: zeros[ours] for name, ours in RECURRENT.items()}
    frames[0]["prev_bev"] = zeros["prev_bev"] + 10
    for i, name in TRACK_ROWS.items():
        frames[0][f"prev_track_intances{i}"] = zeros[f"prev_{name}"][:3]
    session = FakeSession(official_bundle)
    outputs = list(replay(official_bundle, session, frames))
    assert [frame["bev_embed"].max() for frame in outputs] == [11, 12, 13]
    assert session.fed[0]["use_previous"] == [1]
    assert session.fed[0]["prev_track_count"] == [3]


def test_faults_name_frame_and_input(official_bundle: Bundle, frames: list[Arrays]) -> None:
    del frames[2]["img"]
    with pytest.raises(InputError, match=r"^f2\.in\.img is missing"):
        list(replay(official_bundle, FakeSession(official_bundle), frames))
    frames[1]["timestamp"] = np.array([np.inf])
    with pytest.raises(InputError, match=r"^f1\.in\.timestamp holds non-finite values"):
        list(replay(official_bundle, FakeSession(official_bundle), frames))


def test_outputs_are_keyed_like_inputs() -> None:
    assert output_keys(3, {"scores": ZERO}) == {"f3.out.scores": ZERO}

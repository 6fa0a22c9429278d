"""Whatever stands in a file, reading it gives a value or an InputError."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.case import Sample, change_json, link_tree
from tests.corpus.frames import encoded
from tests.corpus.mutations import places
from tests.corpus.sample import CONFIG, make_frame
from toolkit.bundle import MANIFEST, Bundle
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.preprocess import read_jpeg
from toolkit.errors import InputError
from toolkit.reference_interface.replay import read_inputs
from toolkit.reference_interface.tensors import FRAME, RECURRENT

pytestmark = pytest.mark.slow

Result = TypeVar("Result")
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=9), v, max_size=4))
NUMBERS = st.lists(st.floats() | st.integers(-2, 2), min_size=3, max_size=4)
PICTURE = encoded(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))


def allowed(read: Callable[[], Result]) -> Result | None:
    """What is read, or None if it is refused."""
    with suppress(InputError):
        return read()
    return None


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """One good frame."""
    write_frame(make_frame(0), tmp_path / "frames")
    return tmp_path / "frames"


@relaxed
@given(data=st.data(), value=VALUES | NUMBERS)
def test_frame(data: st.DataObject, value: Any, frames: Path) -> None:
    """A frame that is read has finite numbers in range, whichever field was replaced."""
    good = (frames / "000.json").read_bytes()
    keys = data.draw(st.sampled_from(places(json.loads(good))))
    change_json(frames / "000.json", keys, value)
    if read := allowed(lambda: read_frame_folder(frames, CONFIG.image.cameras)):
        poses = [pose for frame in read for pose in (frame.lidar2ego, frame.ego2global)]
        assert all(np.abs(pose.translation).max() <= 1e9 for pose in poses)
    (frames / "000.json").write_bytes(good)


@relaxed
@given(text=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_frame_of_any_bytes(text: bytes, frames: Path) -> None:
    (frames / "000.json").write_bytes(text)
    assert allowed(lambda: read_frame_folder(frames)) is None


@relaxed
@given(data=st.data(), value=VALUES)
def test_manifest(data: st.DataObject, value: Any, sample: Sample, tmp_path: Path) -> None:
    """An edited manifest is refused, unless the edit changes nothing."""
    if not (tmp_path / "bundle").exists():
        link_tree(sample.bundle, tmp_path / "bundle")
    good = (sample.bundle / MANIFEST).read_bytes()
    keys = data.draw(st.sampled_from(places(json.loads(good))))
    change_json(tmp_path / "bundle" / MANIFEST, keys, value)
    edited = json.loads((tmp_path / "bundle" / MANIFEST).read_bytes())
    read = allowed(lambda: Bundle.read(tmp_path / "bundle"))
    assert (read is not None) == (json.dumps(edited) == json.dumps(json.loads(good)))
    (tmp_path / "bundle" / MANIFEST).unlink()
    (tmp_path / "bundle" / MANIFEST).write_bytes(good)


NAMES = st.sampled_from([*FRAME, *RECURRENT, "image_shape", "gt_boxes", "image"]) | st.text(max_size=9)
KEYS = st.builds("f{}.in.{}".format, st.integers(-1, 3) | st.text(max_size=3), NAMES) | st.text(max_size=9)
SAFE_KEYS = KEYS.filter(lambda key: key.isprintable() and "/" not in key and key != "file")


@relaxed
@given(keys=st.lists(SAFE_KEYS, max_size=5, unique=True))
def test_keys_of_a_replay(keys: list[str], tmp_path: Path) -> None:
    """Frames that are read are numbered without a gap and have known inputs only."""
    np.savez(tmp_path / "inputs.npz", **dict.fromkeys(keys, np.zeros(1)))  # type: ignore[arg-type]
    for frame in allowed(lambda: list(read_inputs(tmp_path / "inputs.npz"))) or []:
        assert frame.keys() <= {*FRAME, *RECURRENT}


@relaxed
@given(position=st.integers(0, len(PICTURE) - 1), junk=st.binary(min_size=1, max_size=4))
def test_damaged_picture(position: int, junk: bytes, tmp_path: Path) -> None:
    """Damage that the decoder does not notice leaves a picture of at most the stated size."""
    (tmp_path / "a.jpg").write_bytes(PICTURE[:position] + junk + PICTURE[position + len(junk) :])
    pixels = allowed(lambda: read_jpeg(tmp_path / "a.jpg"))
    assert pixels is None or (pixels.dtype == np.uint8 and pixels.ndim == 3)

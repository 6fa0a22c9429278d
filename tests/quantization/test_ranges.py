"""The file of ranges that calibration keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.quantization.calibration_file import Calibration
from toolkit.quantization.ranges import TensorRange, ranges_of

RANGES = {"image": TensorRange(-2.1, 2.6, 2.5, 0.001), "/encoder/Relu_output_0": TensorRange(0.0, 9.0, 9.0)}


def test_ranges_are_read_as_written() -> None:
    written = {"tensors": {name: asdict(found) for name, found in RANGES.items()}}
    assert ranges_of(json.loads(json.dumps(written))) == RANGES


DAMAGED = {
    "no JSON": ("{", "is not valid JSON"),
    "another format": ('{"format": 9, "tensors": {}}', "format is not 1"),
    "a field too few": ('{"format": 1, "tensors": {"x": {"minimum": 0, "maximum": 1}}}', "'threshold' is missing"),
    "infinite": ('{"format": 1, "tensors": {"x": {"minimum": 0, "maximum": 1, "threshold": Infinity}}}', "finite"),
    "negative": ('{"format": 1, "tensors": {"x": {"minimum": 0, "maximum": 1, "threshold": -1}}}', "threshold"),
    "upside down": ('{"format": 1, "tensors": {"x": {"minimum": 2, "maximum": 1, "threshold": 1}}}', "above its max"),
    "a share above 1": (
        '{"format": 1, "tensors": {"x": {"minimum": 0, "maximum": 1, "threshold": 1, "beyond": 2}}}',
        "beyond",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_line(kind: str, tmp_path: Path) -> None:
    text, reason = DAMAGED[kind]
    path = tmp_path / "ranges.json"
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        Calibration.read(path)
    assert "calibrate again" in str(caught.value)
    assert "\n" not in str(caught.value)

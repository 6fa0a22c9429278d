"""What `run` writes for the toy network is what it has always written.

`tests/data/recorded_run` holds the results of two frames. With the processor and the torch of the recording, what is
written is the same to the byte. Others sum in another order, so that floats may differ in their last digits; names,
their order, ids, labels and counts may not. To record a deliberate change, copy the files that the test wrote.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.cli.main import run
from toolkit.data.frame_folder import write_frame
from toolkit.runtime.result_reader import read_result

RECORDED = Path(__file__).parents[2] / "data" / "recorded_run"
FRAMES = ("frame0", "frame1")
CLOSE = 1e-4
"""Metres, radians, scores; with AVX2 in place of AVX-512 (`ATEN_CPU_CAPABILITY=avx2`) they differ by up to 1e-5."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a scene of two frames."""
    folder = tmp_path_factory.mktemp("recorded")
    write_toy_bundle(folder / "bundle")
    (folder / "frames").mkdir()
    for number in range(len(FRAMES)):
        write_frame(toy_frame(number, "scene"), folder / "frames")
    arguments = (folder / "bundle", folder / "frames", "-o", folder / "results", "--session", "torch", "--threads", 1)
    assert run(["run", *map(str, arguments), "--no-pictures"]) == 0
    return folder / "results"


@pytest.mark.parametrize("frame", FRAMES)
def test_json(frame: str, results: Path) -> None:
    expected, actual = (json.loads((folder / f"{frame}.json").read_text()) for folder in (RECORDED, results))
    assert_same(actual, expected, frame)


@pytest.mark.parametrize("frame", FRAMES)
def test_grids(frame: str, results: Path) -> None:
    with np.load(RECORDED / f"{frame}.npz") as expected, np.load(results / f"{frame}.npz") as actual:
        assert actual.files == expected.files
        for name in expected.files:
            wanted, found = expected[name], actual[name]
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(found.astype(float), wanted.astype(float), atol=CLOSE, err_msg=name)


def test_a_bundle_of_an_earlier_version_runs_without_the_later_results(tmp_path: Path) -> None:
    """The torch session builds it with plugins that give more than the bundle knows of."""
    bundle = write_toy_bundle(tmp_path / "bundle")
    later = {spec.name for spec in bundle.results if spec.name.startswith("detection")} | {"occupancy_instances"}
    records = [
        replace(record, outputs=tuple(name for name in record.outputs if name not in later))
        for record in bundle.submodules
    ]
    results = tuple(spec for spec in bundle.results if spec.name not in later)
    replace(bundle, submodules=tuple(records), results=results).write()
    (tmp_path / "frames").mkdir()
    write_frame(toy_frame(0, "scene"), tmp_path / "frames")
    arguments = ("run", tmp_path / "bundle", tmp_path / "frames", "-o", tmp_path / "results", "--session", "torch")
    assert run([*map(str, arguments), "--no-pictures"]) == 0
    result = read_result(tmp_path / "results" / "frame0.json")
    assert result.detections is None
    assert result.occupancy is not None
    assert result.occupancy.instances is None
    assert result.boxes


def assert_same(actual: Any, expected: Any, where: str) -> None:
    """Equal but for the last digits of floats; the fields of objects in the same order."""
    assert type(actual) is type(expected), where
    if isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for name, value in expected.items():
            assert_same(actual[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for i, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
            assert_same(found, wanted, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, abs=CLOSE), where
    else:
        assert actual == expected, where

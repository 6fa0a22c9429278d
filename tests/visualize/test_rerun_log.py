"""A recording that Rerun can read, with everything that a moment holds."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import pytest

from tests.visualize.drives import frame, full_result, result
from toolkit.data.annotations import Annotation
from toolkit.errors import InputError
from toolkit.visualize.rerun_log import check_rerun, rerun_recording

TRUTH = Annotation("a", "car", (0.0, 15.0, -1.0), (2.0, 4.0, 1.5), math.pi / 2, (0.0, 0.0))


def test_a_recording(tmp_path: Path) -> None:
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is missing, or does not fit NumPy", exc_type=ImportError)
    path = tmp_path / "drive.rrd"
    with warnings.catch_warnings(), rerun_recording(path) as recording:
        warnings.simplefilter("error")  # the SDK only warns of what it cannot log
        recording.log(full_result(), frame(), (TRUTH,))
        recording.log(result())
    columns = rerun.dataframe.load_recording(str(path)).schema().component_columns()
    entities = {column.entity_path for column in columns}
    for name in ("boxes", "ground_truth", "forecasts", "plan", "map", "occupancy", "CAM_BACK", "velocities"):
        assert f"/world/lidar/{name}" in entities
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed, or does not fit NumPy", exc_type=ImportError)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose a writable output"), rerun_recording(tmp_path / "file" / "a.rrd"):
        pass


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match=r"needs rerun-sdk.*pip install 'uniad-toolkit\[rerun\]'"):
        check_rerun(Path("drive.rrd"))


def test_another_name() -> None:
    with pytest.raises(InputError, match=r"is written as \.rrd"):
        check_rerun(Path("drive.bin"))

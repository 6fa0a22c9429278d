"""The recurrent part of the network, small, over many frames: alone, and with NaN that appears in its state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.soak import REDUCED, Soak, convert_made_up, drive, soak
from tests.session_cache import SessionCache
from toolkit.bundle import Bundle
from toolkit.cli import run_job
from toolkit.cli.main import run
from toolkit.cli.sessions import open_session
from toolkit.engines.session import Session
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.repairs import NO_REPAIRS, Repairs
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import write_drive

RECURRENT = ("image_encoder", "bev_encoder", "tracking")
QUERIES = 61
NUMBERS = ("boxes", "box_scores", "track_query")

both_sessions = pytest.mark.parametrize(
    "kind",
    ["onnxruntime", "torch"],
)


class SpoiledSession:
    """A session in whose outputs NaN appears: in frame `number`, at the given index of each of the named tensors."""

    name = "spoiled"

    def __init__(self, session: Session, number: int, spots: Mapping[str, Any]) -> None:
        self.session, self.number, self.spots = session, number, spots
        self.frames = 0

    def upload(self, array: np.ndarray) -> Any:
        return self.session.upload(array)

    def download(self, tensor: Any) -> np.ndarray:
        return self.session.download(tensor)

    def finite(self, tensors: Iterable[Any]) -> bool:
        return self.session.finite(tensors)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs = self.session.run(inputs)
        if self.frames == self.number:
            for name, spot in self.spots.items():
                array = self.download(outputs[name]).copy()
                array[spot] = np.nan
                outputs[name] = self.upload(array)
        self.frames += 1
        return outputs


@pytest.fixture(scope="module")
def reduced(conversions: SessionCache, plugins: PluginManager) -> Bundle:
    """The submodules that hold state, converted: a BEV of 20 x 20 cells, 61 queries, 101 track rows."""
    folder = conversions.once("reduced", lambda folder: convert_made_up(REDUCED, folder, plugins, RECURRENT))
    return Bundle.read(folder / "bundle")


@pytest.fixture
def spoil(reduced: Bundle, plugins: PluginManager) -> Callable[..., SpoiledSession]:
    def spoil(kind: str, number: int, spots: Mapping[str, Any]) -> SpoiledSession:
        return SpoiledSession(open_session(reduced, kind, plugins), number, spots)

    return spoil


@pytest.mark.slow
@both_sessions
def test_sixty_frames_with_scene_changes(kind: str, reduced: Bundle, plugins: PluginManager) -> None:
    """`python -m benchmarks.soak` runs thousands. One frame's results take 0.5 MB; none may stay behind."""
    frames = drive(reduced.config, 60, scene=25)
    report = soak(reduced, open_session(reduced, kind, plugins), frames, settled=20)
    assert report.frames == 60
    assert report.births > 50
    assert report.faults(growth=8) == []


def test_a_soak_tells_what_is_wrong() -> None:
    report = Soak(frames=9, births=0, most_tracks=0, dropped=0, unsound=2, growth=1.5, milliseconds=(1, 1, 1))
    assert report.faults(growth=1) == [
        "2 frames with values that are not finite",
        "no track was born",
        "memory grew by 1.5 MB, more than 1",
    ]


@both_sessions
def test_a_poisoned_track_does_not_spread(kind: str, reduced: Bundle, spoil: Callable[..., Any]) -> None:
    """Unguarded it reaches every other track through attention in the very next frame."""
    frames = list(drive(reduced.config, 6, scene=6))
    spots = {"track_query": QUERIES}
    exposed = TemporalRunner(reduced, spoil(kind, 3, spots), guarded=False)
    queries = [exposed.step(frame, ["track_query"])["track_query"][QUERIES:] for frame in frames]
    assert [int(np.isnan(rows).any(1).sum()) > 1 for rows in queries] == [False, False, False, False, True, True]

    runner = TemporalRunner(reduced, spoil(kind, 3, spots))
    counts, ids, repairs = [], [], []
    for frame in frames:
        outputs = runner.step(frame, [*NUMBERS, "track_id", "track_count"])
        counts.append(int(outputs["track_count"][0]))
        ids.append(outputs["track_id"][QUERIES : counts[-1]].tolist())
        repairs.append(runner.repairs)
    assert repairs == [NO_REPAIRS] * 3 + [Repairs(poisoned_tracks=1)] + [NO_REPAIRS] * 2
    assert all(np.isfinite(outputs[name]).all() for name in NUMBERS)
    assert ids[3][0] not in ids[4]
    assert set(ids[3][1:]) & set(ids[4])


@both_sessions
def test_a_poisoned_bev_costs_the_scene_only(kind: str, reduced: Bundle, spoil: Callable[..., Any]) -> None:
    """The next frame is what the first frame of a scene would be; ids go on."""
    frames = list(drive(reduced.config, 5, scene=5))
    runner = TemporalRunner(reduced, spoil(kind, 3, {"bev": (0, 0)}))
    *_, before, after = [runner.step(frame, [*NUMBERS, "bev", "box_ids", "next_track_id"]) for frame in frames]
    fresh = TemporalRunner(reduced, spoil(kind, -1, {})).step(frames[4], [*NUMBERS, "bev", "box_ids"])
    for name in ("boxes", "box_scores", "bev"):
        np.testing.assert_array_equal(after[name], fresh[name], err_msg=name)
    found = np.count_nonzero(fresh["box_scores"])
    assert found > 0
    np.testing.assert_array_equal(after["box_ids"][:found], fresh["box_ids"][:found] + before["next_track_id"])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of two synthetic frames."""
    folder = tmp_path_factory.mktemp("frames")
    write_drive(folder / "dataroot", folder / "frames", DriveSettings(scenes=2, keyframes=2))
    return folder / "frames"


@pytest.mark.slow
def test_run_reports_repairs(
    reduced: Bundle,
    frames: Path,
    spoil: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the frame's line and in its JSON; all frames are written."""
    session = spoil("onnxruntime", 1, {"track_box": QUERIES, "bev": 0})
    monkeypatch.setattr(run_job, "open_session", lambda *_, **__: session)
    assert run(["run", str(reduced.path), str(frames), "-o", str(tmp_path / "out"), "--no-pictures"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "boxes" in line]
    told = "tracks forgotten because not finite: 1; scene reset because not finite: prev_bev"
    assert [told in line for line in lines] == [False, True, False, False]
    [path] = (tmp_path / "out").glob("*scene-0061_001.json")
    repairs = json.loads(path.read_text())["repairs"]
    assert repairs == {"poisoned_tracks": 1, "poisoned_states": ["prev_bev"], "ids_restarted": False}


def test_run_leaves_out_a_frame_without_finite_results(
    reduced: Bundle,
    frames: Path,
    spoil: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The frames after it are good again, and are not lost; the exit status tells."""
    session = spoil("onnxruntime", 1, {"boxes": (0, 0)})
    monkeypatch.setattr(run_job, "open_session", lambda *_, **__: session)
    assert run(["run", str(reduced.path), str(frames), "-o", str(tmp_path / "out"), "--no-pictures"]) == 1
    captured = capsys.readouterr()
    assert "scene-0061_001: the network's results hold values that are not finite; left out" in captured.err
    assert "1 of 4 frames have results that are not finite, first 00001_scene-0061_001" in captured.err
    assert len(list((tmp_path / "out").glob("*.json"))) == 3
    assert "Traceback" not in captured.err

"""Results and frames as a recording for the Rerun viewer: images, boxes in space, ground layers and paths in time.

Everything is logged below `world/lidar`, the LiDAR frame, which moves through the world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import CAMERAS
from toolkit.data.annotations import Annotation
from toolkit.data.frames import CameraView, Float64Array, Frame, Pose
from toolkit.data.preprocess import MAX_JPEG_BYTES
from toolkit.errors import InputError
from toolkit.runtime.results import FrameResult, MapResult, MotionModes, OccupancyResult, Range, TrackedBox
from toolkit.storage.claims import FileOutput
from toolkit.storage.outputs import new_file
from toolkit.storage.regular_file import read_regular
from toolkit.text import one_line, shown
from toolkit.visualize.ego import EGO_SIZE
from toolkit.visualize.palette import (
    DRIVABLE,
    EGO,
    INK,
    PLAN,
    TRUTH,
    Color,
    class_color,
    lane_color,
    occupancy_color,
)

if TYPE_CHECKING:
    import rerun as rr

_LIDAR = "world/lidar"
_GROUND = -1.84
"""z (m) of the ground in the LiDAR frame of nuScenes' car; layers lie a little above it and each other."""
_EGO_HEIGHT = 1.56


@contextmanager
def rerun_recording(output: FileOutput | Path) -> Iterator[RerunLog]:
    """A recording that becomes the .rrd file `output` at the end of the block.

    Raises InputError for another name, if rerun-sdk is missing, or if the file cannot be written.
    """
    rr = check_rerun(output)
    with new_file(output) as path, path.open("wb") as file:
        stream = rr.RecordingStream("uniad-toolkit")
        log = RerunLog(stream, file)
        stream.send_blueprint(_blueprint(), make_active=False)
        try:
            yield log
            log.write()
        finally:
            log.drop()
            stream.disconnect()


def check_rerun(path: FileOutput | Path) -> Any:
    """The module `rerun`. Raises InputError if it cannot be imported, or unless `path` ends in .rrd."""
    if path.suffix != ".rrd":
        raise InputError(f"{path}: a recording for Rerun is written as .rrd; give it such a name")
    try:
        import rerun
    except ImportError as error:
        raise InputError(
            f"a recording for Rerun needs rerun-sdk, which cannot be imported ({one_line(error)}); "
            "pip install 'uniad-toolkit[rerun]'"
        ) from error
    return rerun


class RerunLog:
    """Frame after frame into one recording, on the timelines `frame`, a count, and `time`, seconds of the scene."""

    def __init__(self, stream: rr.RecordingStream, file: BinaryIO) -> None:
        import rerun as rr

        self._rr, self._stream, self._file = rr, stream, file
        self._encoded = rr.binary_stream(recording=stream)
        self._frames = 0
        self._origin: Float64Array | None = None
        body = (0.0, 0.0, _GROUND + _EGO_HEIGHT / 2)
        stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        size = np.array([(EGO_SIZE[0] / 2, EGO_SIZE[1] / 2, _EGO_HEIGHT / 2)])
        stream.log(f"{_LIDAR}/ego", rr.Boxes3D(centers=[body], half_sizes=size, colors=[EGO]), static=True)

    def log(self, result: FrameResult, frame: Frame | None = None, annotations: Sequence[Annotation] = ()) -> None:
        """One frame: its results, and with the frame itself also its images and where it is."""
        rr, stream = self._rr, self._stream
        stream.set_time("frame", sequence=self._frames)
        stream.set_time("time", duration=result.timestamp)
        self._frames += 1
        stream.log(
            "headline",
            rr.TextLog(shown(f"{result.scene}, frame {result.frame}, command {result.command.name.lower()}")),
        )
        if frame is not None:
            self._log_frame(frame)
        self._log_boxes("boxes", result.boxes)
        self._log_boxes("ground_truth", annotations)
        self._log_velocities(result.boxes)
        forecasts = [(box.motion, class_color(box.label)) for box in result.boxes if box.motion is not None]
        self._log_motion("forecasts", forecasts)
        self._log_motion("ego_forecast", [(result.ego_motion, EGO)] if result.ego_motion is not None else [])
        plan = [] if result.plan is None else [_on_ground(np.concatenate([np.zeros((1, 2)), result.plan.points]), 0.15)]
        stream.log(f"{_LIDAR}/plan", rr.LineStrips3D(plan, colors=[PLAN], radii=0.25))
        self._log_cells("map", None if result.map is None else _map_cells(result.map))
        self._log_cells("occupancy", None if result.occupancy is None else _occupancy_cells(result.occupancy))
        self.write()

    def write(self) -> None:
        """Write what was logged, here rather than in the SDK, which only warns of a full disk. Raises OSError."""
        self._file.write(self._encoded.read() or b"")

    def drop(self) -> None:
        """Forget what was logged and not written, of which the SDK would warn."""
        self._encoded.read()

    def _log_frame(self, frame: Frame) -> None:
        """Where the LiDAR is, from where it was first, and what the cameras see."""
        rotation = frame.ego2global.rotation @ frame.lidar2ego.rotation
        position = frame.ego2global.rotation @ frame.lidar2ego.translation + frame.ego2global.translation
        if self._origin is None:
            self._origin = position
        self._log_pose(_LIDAR, Pose.from_matrix(rotation, position - self._origin))
        for name, view in frame.cameras.items():
            self._log_camera(f"{_LIDAR}/{name}", view)

    def _log_camera(self, entity: str, view: CameraView) -> None:
        rr = self._rr
        self._log_pose(entity, view.sensor2lidar)
        self._stream.log(entity, rr.Pinhole(image_from_camera=view.intrinsics, image_plane_distance=2.0))
        if isinstance(view.image, Path):
            self._stream.log(
                entity, rr.EncodedImage(contents=read_regular(view.image, MAX_JPEG_BYTES), media_type="image/jpeg")
            )
        else:
            self._stream.log(entity, rr.Image(view.image).compress())

    def _log_pose(self, entity: str, pose: Pose) -> None:
        rr = self._rr
        self._stream.log(entity, rr.Transform3D(translation=pose.translation, mat3x3=pose.rotation))

    def _log_boxes(self, name: str, boxes: Sequence[TrackedBox] | Sequence[Annotation]) -> None:
        rr = self._rr
        half_turns = np.array([box.heading for box in boxes]) / 2
        still = np.zeros_like(half_turns)  # plain arrays, since Rerun's own value types need NumPy 2
        extents = np.array([(box.size[1], box.size[0], box.size[2]) for box in boxes]).reshape(-1, 3) / 2
        self._stream.log(
            f"{_LIDAR}/{name}",
            rr.Boxes3D(
                centers=np.array([box.center for box in boxes]).reshape(-1, 3),
                half_sizes=extents,
                quaternions=np.column_stack([still, still, np.sin(half_turns), np.cos(half_turns)]),
                colors=[class_color(box.label) if isinstance(box, TrackedBox) else TRUTH for box in boxes],
                labels=[_caption(box) for box in boxes],
                show_labels=name == "boxes",
            ),
        )

    def _log_velocities(self, boxes: Sequence[TrackedBox]) -> None:
        centers = np.array([box.center for box in boxes]).reshape(-1, 3)
        vectors = np.array([(*box.velocity, 0.0) for box in boxes]).reshape(-1, 3)
        self._stream.log(f"{_LIDAR}/velocities", self._rr.Arrows3D(origins=centers, vectors=vectors, colors=[INK]))

    def _log_motion(self, name: str, forecasts: Sequence[tuple[MotionModes, Color]]) -> None:
        """Likelier modes are more opaque."""
        strips, colors = [], []
        for motion, color in forecasts:
            for points, probability in zip(motion.trajectories, motion.probabilities, strict=True):
                strips.append(_on_ground(points, 0.1))
                colors.append((*color, round(255 * (0.12 + 0.88 * float(probability)))))
        self._stream.log(f"{_LIDAR}/{name}", self._rr.LineStrips3D(strips, colors=colors, radii=0.08))

    def _log_cells(self, name: str, cells: tuple[Float64Array, NDArray[np.uint8]] | None) -> None:
        """A mesh of one square for each cell: corners [n, 4, 3] and colours [n, 3]."""
        if cells is None or not len(cells[0]):
            self._stream.log(f"{_LIDAR}/{name}", self._rr.Clear(recursive=False))
            return
        corners, colors = cells
        halves = 4 * np.arange(len(corners))[:, None, None] + np.array([(0, 1, 2), (0, 2, 3)])
        mesh = self._rr.Mesh3D(
            vertex_positions=corners.reshape(-1, 3),
            triangle_indices=halves.reshape(-1, 3),
            vertex_colors=np.repeat(colors, 4, axis=0),
        )
        self._stream.log(f"{_LIDAR}/{name}", mesh)


def _blueprint() -> Any:
    """Space on the left; the cameras on the right, as in the pictures."""
    import rerun.blueprint as rrb

    cameras = [rrb.Spatial2DView(origin=f"{_LIDAR}/{name}", name=name) for name in CAMERAS]
    space = rrb.Spatial3DView(origin="world", name="world")
    return rrb.Blueprint(rrb.Horizontal(space, rrb.Grid(*cameras, grid_columns=2)))


def _caption(box: TrackedBox | Annotation) -> str:
    label = shown(box.label)
    return f"{label} {box.track_id} · {box.score:.2f}" if isinstance(box, TrackedBox) else label


def _on_ground(points: NDArray[np.floating], above: float) -> Float64Array:
    """[n, 3] from [n, 2] m, `above` the ground."""
    return np.column_stack([points, np.full(len(points), _GROUND + above)]).astype(np.float64)


def _map_cells(result: MapResult) -> tuple[Float64Array, NDArray[np.uint8]]:
    colors = np.zeros((*result.drivable.shape, 3), np.uint8)
    colors[result.drivable] = DRIVABLE
    for i, lane in enumerate(result.lanes):
        colors[lane] = lane_color(i)
    shown = np.any([result.drivable, *result.lanes], axis=0)
    return _squares(shown, result.x_range, result.y_range, 0.02), colors[shown]


def _occupancy_cells(result: OccupancyResult) -> tuple[Float64Array, NDArray[np.uint8]]:
    """The present lies on top of the future."""
    steps = len(result.cells)
    layers = [_squares(result.cells[i], result.x_range, result.y_range, 0.09 - 0.01 * i) for i in range(steps)]
    colors = [np.full((len(layers[i]), 3), occupancy_color(i, steps), np.uint8) for i in range(steps)]
    return np.concatenate(layers), np.concatenate(colors)


def _squares(shown: NDArray[np.bool_], x_range: Range, y_range: Range, above: float) -> Float64Array:
    """Corners [n, 4, 3] (m) of the cells that are true, of a grid [H, W] over the ranges."""
    height, width = shown.shape
    cell = np.array([(x_range[1] - x_range[0]) / width, (y_range[1] - y_range[0]) / height])
    rows, columns = np.nonzero(shown)
    around = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    places = np.stack([columns, rows], axis=-1)[:, None] + around
    corners = (places * cell + (x_range[0], y_range[0])).reshape(-1, 2)
    return _on_ground(corners, above).reshape(-1, 4, 3)

"""One picture of a frame: the cameras beside the view from above, or that view alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from toolkit.config.model import ImageConfig, ModelConfig
from toolkit.data.annotations import Annotation
from toolkit.data.frames import Command, Frame
from toolkit.runtime.results import FrameResult
from toolkit.storage.outputs import new_file
from toolkit.visualize.between import STILL, PlanarMotion, gone_on
from toolkit.visualize.birds_eye import EgoSquare, Layer, draw_birds_eye, far_view, frame_around, near_view
from toolkit.visualize.camera_view import draw_camera, looks_back
from toolkit.visualize.canvas import Picture, blank, paste
from toolkit.visualize.ego import speeds
from toolkit.visualize.legend import draw_legend
from toolkit.visualize.lettering import shortened, text_width, write
from toolkit.visualize.object_table import draw_nearest
from toolkit.visualize.palette import GROUND, INK, MUTED

SIZE = (1920, 1080)
"""Width and height of the picture with cameras."""
BIRDS_EYE_SIZE = (1280, 960)
"""Width and height of the picture from above alone."""
CAMERA_ORDER = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
"""Row by row, from left to right, as a driver sees them: objects pass from one picture to the next. Others follow."""
_EDGE, _GAP, _HEADER = 12, 8, 48
_COLUMNS = 3
_CAMERAS = (1248, 468)
"""Width and height that the cameras share: two rows of 16:9."""
_RIGHT, _LOW = _EDGE + _CAMERAS[0] + _GAP, _HEADER + _CAMERAS[1] + _GAP
_FAR, _NEAR = SIZE[0] - _EDGE - _RIGHT, SIZE[1] - _EDGE - _LOW
"""Sides of the views from above, the one beside the cameras and the other below them."""
_COMMANDS = {Command.RIGHT: "→ right", Command.LEFT: "← left", Command.STRAIGHT: "↑ straight"}
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
"""Colours at full resolution, for the sake of thin lines and text."""
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Neighbours of one colour are most of what repeats: faster than to look for the rest, and smaller."""


def draw_frame(
    result: FrameResult,
    frame: Frame,
    config: ModelConfig,
    annotations: Sequence[Annotation] = (),
    layers: Sequence[Layer] = (),
) -> Picture:
    """RGB [1080, 1920, 3]: cameras, what is near, all of the view from above and the legend, below a headline.

    `frame` is the one that the result is of. Raises InputError if an image cannot be read.
    """
    picture = blank(*SIZE, GROUND)
    _draw_cameras(picture, result, frame, config.image, annotations)
    _draw_beside_cameras(picture, result, annotations, layers, STILL)
    table, below = _EDGE + _NEAR + 2 * _GAP, _HEADER + _FAR + 2 * _GAP
    draw_nearest(picture, result.boxes, table, _LOW, _EDGE + _CAMERAS[0] - table, _NEAR)
    draw_legend(picture, result, bool(annotations), _RIGHT, below, _FAR, SIZE[1] - _EDGE - below)
    _draw_headline(picture, result, frame)
    return picture


def draw_between(
    picture: Picture, result: FrameResult, since: PlanarMotion, seconds: float, layers: Sequence[Layer] = ()
) -> Picture:
    """The picture that `draw_frame` made of a result, `seconds` later: the views from above have moved on.

    Cameras, table and headline stay, for nothing new is known; so does ground truth, which is left out.
    """
    later = picture.copy()
    _draw_beside_cameras(later, gone_on(result, seconds), (), layers, since)
    return later


def draw_result(result: FrameResult, annotations: Sequence[Annotation] = (), layers: Sequence[Layer] = ()) -> Picture:
    """RGB [960, 1280, 3]: the views from above and the legend, without cameras."""
    picture = blank(*BIRDS_EYE_SIZE, GROUND)
    far = BIRDS_EYE_SIZE[1] - _HEADER - _EDGE
    left = _EDGE + far + _GAP
    near = BIRDS_EYE_SIZE[0] - left - _EDGE
    _draw_view(picture, result, far_view(far), annotations, layers, (_EDGE, _HEADER), near_view(near).reach)
    _draw_view(picture, result, near_view(near), annotations, layers, (left, _HEADER))
    top = _HEADER + near + 2 * _GAP
    draw_legend(picture, result, bool(annotations), left, top, near, BIRDS_EYE_SIZE[1] - _EDGE - top)
    _draw_headline(picture, result, None)
    return picture


def write_picture(picture: Picture, path: Path) -> None:
    """Write RGB [height, width, 3] as .png or .jpg. Raises InputError if that is not possible."""
    options = _JPEG if path.suffix == ".jpg" else _PNG
    with new_file(path) as file:
        file.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes())


def _draw_cameras(
    picture: Picture, result: FrameResult, frame: Frame, config: ImageConfig, annotations: Sequence[Annotation]
) -> None:
    """The cameras in three columns; those that look back as mirrors would show it."""
    known = [name for name in CAMERA_ORDER if name in config.cameras]
    cameras = [*known, *(name for name in config.cameras if name not in known)]
    rows = -(-len(cameras) // _COLUMNS)
    height = (_CAMERAS[1] - (rows - 1) * _GAP) // rows
    widest = (_CAMERAS[0] - (_COLUMNS - 1) * _GAP) // _COLUMNS
    width = min(height * config.source_width // config.source_height, widest)
    for i, camera in enumerate(cameras):
        row, column = divmod(i, _COLUMNS)
        view = draw_camera(frame, camera, result, config, width, annotations, looks_back(frame, camera))
        paste(picture, view[:height], _EDGE + column * (widest + _GAP), _HEADER + row * (height + _GAP))


def _draw_beside_cameras(
    picture: Picture,
    result: FrameResult,
    annotations: Sequence[Annotation],
    layers: Sequence[Layer],
    since: PlanarMotion,
) -> None:
    """Both views from above, of an ego that has moved `since` the result."""
    far, near = far_view(_FAR, since), near_view(_NEAR, since)
    _draw_view(picture, result, far, annotations, layers, (_RIGHT, _HEADER), near.reach)
    _draw_view(picture, result, near, annotations, layers, (_EDGE, _LOW))


def _draw_view(
    picture: Picture,
    result: FrameResult,
    view: EgoSquare,
    annotations: Sequence[Annotation],
    layers: Sequence[Layer],
    at: tuple[int, int],
    framed: float | None = None,
) -> None:
    """A view from above; what another shows, as far as `framed` metres, is marked."""
    drawn = draw_birds_eye(result, view, annotations, layers)
    if framed is not None:
        frame_around(drawn, view, framed)
    paste(picture, drawn, *at)


def _draw_headline(picture: Picture, result: FrameResult, frame: Frame | None) -> None:
    """Scene and frame on the left, what happens on the right."""
    facts = [f"t = {result.timestamp:.2f} s", *speeds(result, frame)]
    facts += [f"command {_COMMANDS[result.command]}", f"{len(result.boxes)} objects"]
    if result.dropped_tracks or result.dropped_agents:
        facts.append(f"beyond capacity: {result.dropped_tracks} tracks, {result.dropped_agents} agents")
    right, middle = picture.shape[1] - _EDGE, _HEADER // 2
    line = "   ·   ".join(facts)
    used = write(picture, line, (right, middle), 15, INK, align="right")
    room = right - used - 2 * _EDGE
    scene = shortened(result.scene, 19, room // 2)
    write(picture, scene, (_EDGE, middle), 19, INK, bold=True)
    start = _EDGE + text_width(scene, 19, bold=True) + 16
    write(picture, shortened(f"frame {result.frame}", 15, room - start), (start, middle), 15, MUTED)

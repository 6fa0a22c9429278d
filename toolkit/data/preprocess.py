"""From a frame to the tensors the network takes (`toolkit.specs.FRAME_INPUTS`), as the reference prepares them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ChannelOrder, ImageConfig, ModelConfig
from toolkit.data.ego_motion import FirstFrame, Float32Array, ego_motion
from toolkit.data.frames import CameraView, Frame
from toolkit.data.jpeg import jpeg_size
from toolkit.data.pictures import IMAGE, PICTURES
from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular

END = b"\xff\xd9"
"""Of a JPEG file."""
MAX_JPEG_BYTES = MAX_JPEG_PIXELS = 2**26
"""Far beyond any camera; a larger image would only exhaust the memory."""


def frame_inputs(
    frame: Frame,
    previous: Frame | None,
    config: ModelConfig,
    first_frame: FirstFrame = "evaluation",
    pictures: NDArray[np.uint8] | None = None,
) -> dict[str, NDArray[Any]]:
    """The frame inputs by name. `previous` is the frame that ran before this one, of whatever scene, if any.

    The frame's `pictures` in one array, if given, stand in place of the image that would be prepared from them.
    """
    image = config.image
    missing = [name for name in image.cameras if name not in frame.cameras]
    if missing:
        raise InputError(f"frame {frame.name}: camera {missing[0]} is missing; the model takes {_names(image)}")
    views = [frame.cameras[name] for name in image.cameras]
    rotation, translation = lidar_to_global(frame)
    continues = previous is not None and previous.scene == frame.scene
    images: dict[str, NDArray[Any]] = (
        {IMAGE: np.stack([camera_image(view.image, image) for view in views])}
        if pictures is None
        else {PICTURES: pictures}
    )
    return images | {
        "lidar2img": lidar_to_images(views, image),
        "can_bus": ego_motion(frame, previous, config.can_bus_rotation, first_frame),
        "timestamp": np.array([frame.timestamp], np.float32),
        "l2g_rotation": rotation,
        "l2g_translation": translation,
        "command": np.array([frame.command], np.int32),
        "use_previous": np.array([continues], np.int32),
        **frame.recorded,
    }


def camera_image(image: Path | NDArray[np.uint8], config: ImageConfig) -> Float32Array:
    """[3, padded height, padded width], the colours in the config's order: normalised at full size, then resized, then
    padded with zeros.

    `image` is a JPEG file or an RGB array [height, width, 3] of uint8. InputError if it is unreadable or of another
    size than the config's.
    """
    return normalised(load_image(image, config), config)


def normalised(pixels: NDArray[np.uint8] | Float32Array, config: ImageConfig) -> Float32Array:
    """The same of RGB values [height, width, 3], which may leave 0 to 255."""
    if config.channel_order is ChannelOrder.BGR:
        pixels = pixels[..., ::-1]
    values = (pixels.astype(np.float32) - np.array(config.mean, np.float32)) * (1 / np.array(config.std)).astype(
        np.float32
    )
    height, width = config.resized
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    padded = np.zeros((3, *config.padded), np.float32)
    padded[:, :height, :width] = resized.transpose(2, 0, 1)
    return padded


def load_image(
    image: Path | NDArray[np.uint8], config: ImageConfig, place: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """RGB [height, width, 3] of a JPEG file or an array, put into `place` if given.

    InputError if it is unreadable or of another size.
    """
    pixels = read_jpeg(image, place) if isinstance(image, Path) else image
    require_size(image if isinstance(image, Path) else "image array", pixels.shape, pixels.dtype, config)
    if place is None or pixels is place:
        return pixels
    np.copyto(place, pixels)
    return place


def require_size(where: Path | str, shape: tuple[int, ...], dtype: np.dtype[Any], config: ImageConfig) -> None:
    """Raise InputError unless a picture is RGB [source height, source width, 3] of uint8."""
    if shape == (config.source_height, config.source_width, 3) and dtype == np.uint8:
        return
    found = (
        f"{dtype} of {' x '.join(map(str, shape))}"
        if len(shape) != 3
        else f"{shape[1]}x{shape[0]}, {shape[2]} channels of {dtype}"
    )
    raise InputError(
        f"{where}: found {found}; the model takes {config.source_width}x{config.source_height} RGB of uint8. "
        "Resize the images, and scale the first two rows of their intrinsics alike"
    )


def read_jpeg(path: Path, place: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """RGB [height, width, 3] of a JPEG file as OpenCV decodes it; InputError if it is missing, cut off or corrupt.

    A picture of the size of `place` is put there.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.frombuffer(jpeg_bytes(path), np.uint8), flags)
    if decoded is None:
        raise InputError(f"{path}: the JPEG file is corrupt; copy or encode it again")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=place), np.uint8)


def jpeg_bytes(path: Path) -> bytes:
    """The content of a JPEG file; InputError if it is missing, cut off, or too large to be a picture."""
    try:
        with open_regular(path) as file:
            # Not the most: memory would be set aside for that, while other threads wait.
            data = file.read(min(os.fstat(file.fileno()).st_size, MAX_JPEG_BYTES) + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path in the frame's JSON") from error
    if len(data) > MAX_JPEG_BYTES:
        raise InputError(f"{path}: is larger than {MAX_JPEG_BYTES} bytes; give the camera's picture")
    if not data.startswith(b"\xff\xd8"):
        raise InputError(f"{path}: is not a JPEG file; convert the image to JPEG")
    # The decoder fills up a cut-off picture without complaint: look for the end marker behind the last scan's start.
    if not data.endswith(END) and data.rfind(END) < data.rfind(b"\xff\xda"):
        raise InputError(f"{path}: the JPEG file is cut off ({len(data)} bytes, no end marker); copy it again")
    height, width = jpeg_size(data)
    if height * width > MAX_JPEG_PIXELS:
        raise InputError(f"{path}: states {width}x{height} pixels; the most is {MAX_JPEG_PIXELS}: resize the image")
    return data


def lidar_to_image(view: CameraView, config: ImageConfig) -> Float32Array:
    """[4, 4]: homogeneous LiDAR coordinates (m) to (u·depth, v·depth, depth, 1) in pixels of the resized image."""
    image: Float32Array = lidar_to_images([view], config)[0]
    return image


def lidar_to_images(views: Sequence[CameraView], config: ImageConfig) -> Float32Array:
    """[views, 4, 4]: `lidar_to_image` of each view, all by the same few products."""
    lidar2sensor, intrinsics = np.zeros((2, len(views), 4, 4))
    lidar2sensor[:, 3, 3] = intrinsics[:, 3, 3] = 1
    for place, camera, view in zip(lidar2sensor, intrinsics, views, strict=True):
        turned = view.sensor2lidar.rotation.T
        place[:3, :3] = turned
        place[:3, 3] = -turned @ view.sensor2lidar.translation
        camera[:3, :3] = view.intrinsics
    scale = np.diag([config.scale, config.scale, 1.0, 1.0])
    return np.asarray(scale @ intrinsics @ lidar2sensor, np.float32)


def lidar_to_global(frame: Frame) -> tuple[Float32Array, Float32Array]:
    """Rotation [3, 3] and translation [3] for row vectors: p_global = p_lidar @ rotation + translation."""
    ego2global = frame.ego2global.rotation.T
    rotation = frame.lidar2ego.rotation.T @ ego2global
    translation = frame.lidar2ego.translation @ ego2global + frame.ego2global.translation
    return rotation.astype(np.float32), translation.astype(np.float32)


def _names(config: ImageConfig) -> str:
    return ", ".join(config.cameras)

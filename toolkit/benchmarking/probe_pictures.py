"""Probe frames (`toolkit.data.probe`) with pictures on disk, so that a benchmark needs no data and omits no stage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from toolkit.config.model import ChannelOrder, ImageConfig, ModelConfig
from toolkit.data.frames import CameraView, Command, Frame, Pose
from toolkit.data.probe import probe_frame
from toolkit.errors import InputError

SCENE = "probe"
TAKEN = ("lidar2img", "can_bus", "l2g_rotation", "l2g_translation")
"""Tensors of a probe frame that are fed as they are."""
_NOWHERE = Pose.from_matrix(np.eye(3), np.zeros(3))


def write_probe_frames(config: ModelConfig, count: int, folder: Path) -> list[Frame]:
    """`count` frames of one scene; their pictures are written into `folder` as JPEG files of the cameras' size."""
    return [_write_frame(config, number, folder) for number in range(count)]


def _write_frame(config: ModelConfig, number: int, folder: Path) -> Frame:
    tensors = probe_frame(config, number, continues=number > 0)
    cameras = {}
    for name, image in zip(config.image.cameras, tensors["image"], strict=True):
        path = folder / f"{number:05d}_{name}.jpg"
        if not cv2.imwrite(str(path), _picture(image, config.image)):
            raise InputError(f"cannot write {path}; free some disk space")
        cameras[name] = CameraView(path, np.eye(3), _NOWHERE)
    return Frame(
        name=f"{number:05d}",
        scene=SCENE,
        timestamp=float(tensors["timestamp"][0]),
        cameras=cameras,
        lidar2ego=_NOWHERE,
        ego2global=_NOWHERE,
        command=Command(tensors["command"][0] % len(Command)),
        recorded={name: tensors[name] for name in TAKEN},
    )


def _picture(image: np.ndarray, config: ImageConfig) -> np.ndarray:
    """BGR [source height, source width, 3] of uint8, of which preprocessing makes about `image` [3, H, W] again."""
    height, width = config.resized
    pixels = image[:, :height, :width].transpose(1, 2, 0) * np.array(config.std) + np.array(config.mean)
    bgr = pixels if config.channel_order is ChannelOrder.BGR else pixels[..., ::-1]
    bgr = np.clip(bgr, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(bgr, (config.source_width, config.source_height), interpolation=cv2.INTER_LINEAR))

"""A session that takes pictures as they are, without a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.data.pictures import PICTURES, pictures_spec
from toolkit.engines.gpu.preprocess import CameraImages
from toolkit.engines.torch import TorchSession
from toolkit.network import Network


class Memory:
    """Picture memory that remembers for which cameras it was filled."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self.cameras: list[int] = []

    def filled(self, camera: int) -> None:
        assert self.array[camera].any()
        self.cameras.append(camera)


class PreparingSession(TorchSession):
    """The torch session, which prepares pictures as the GPU session does; `log` has what it was asked for."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        config = network.graph.config
        self.shape = pictures_spec(config.image).resolve(config.dimensions())
        self.camera_images = CameraImages(config.image)
        self.memories: list[Memory] = []
        self.log: list[str] = []

    def new_pictures(self) -> Memory:
        self.memories.append(Memory(self.shape))
        return self.memories[-1]

    def upload(self, array: np.ndarray) -> Tensor:
        self.log.append("upload")
        return super().upload(array)

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        self.log.append("upload_frame")
        if PICTURES in arrays and self.memories:
            assert any(arrays[PICTURES] is memory.array for memory in self.memories)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def prepare(self, pictures: Tensor) -> Tensor:
        self.log.append("prepare")
        images: Tensor = self.camera_images(pictures)
        return images

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        return torch.zeros(shape, dtype=getattr(torch, dtype))

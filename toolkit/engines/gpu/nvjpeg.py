"""nvJPEG by torchvision: pictures decoded on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.errors import InputError


class NvjpegDecoder:
    """torchvision's `decode_jpeg` on a stream of its own (`toolkit.data.device_decoding.DeviceDecoder`)."""

    def __init__(self, device: torch.device) -> None:
        """Raises InputError without torchvision, or without a GPU that it can decode on."""
        try:
            from torchvision.io import ImageReadMode, decode_jpeg
        except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
            raise InputError(
                "--decoder nvjpeg needs a torchvision for this torch; pip install 'uniad-toolkit[nvjpeg]', or use "
                "--decoder opencv"
            ) from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError("--decoder nvjpeg needs a CUDA GPU and a torch built for it; use --decoder opencv")
        self._decode: Any = decode_jpeg
        self._mode = ImageReadMode.RGB
        self._device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def decode(self, files: Sequence[bytes]) -> Tensor:
        encoded = [torch.from_numpy(np.frombuffer(file, np.uint8).copy()) for file in files]
        if self.stream is None:
            return _stacked(self._decode(encoded, mode=self._mode))
        with torch.cuda.stream(self.stream):
            decoded = self._decode(encoded, mode=self._mode, device=self._device)
            pictures = _stacked(decoded)
            # Torchvision writes pictures on another stream, which does not wait for this one: another thread must not
            # be given the memory of these before they are read.
            read = torch.cuda.Event(blocking=True)
            read.record()
            read.synchronize()
        return pictures

    def on_host(self, pictures: Tensor) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = pictures.cpu().numpy()
        return array


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    """[3, height, width] each, to one [pictures, height, width, 3]; no other memory is used."""
    _, height, width = pictures[0].shape
    stacked = pictures[0].new_empty(len(pictures), height, width, 3)
    return torch.stack([picture.permute(1, 2, 0) for picture in pictures], out=stacked)


class OnDevice:
    """Pictures that are on the device already, in place of memory to fill (`toolkit.data.pictures.PictureMemory`)."""

    def __init__(self, pictures: Tensor) -> None:
        """RGB [pictures, height, width, 3] of uint8."""
        self._pictures = pictures
        self.array: NDArray[np.uint8] = np.broadcast_to(np.uint8(0), tuple(pictures.shape))

    def filled(self, camera: int) -> None:
        """They all are."""

    def tensor(self) -> Tensor:
        """For use on the current stream."""
        if self._pictures.is_cuda:
            self._pictures.record_stream(torch.cuda.current_stream(self._pictures.device))
        return self._pictures

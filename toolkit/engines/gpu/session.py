"""The network on a GPU as one CUDA graph: a frame is a single launch, and the state never leaves the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.engines.torch import TorchSession
from toolkit.errors import InputError
from toolkit.network import Network


class CudaGraphSession(TorchSession):
    """A `TorchSession` on a GPU that captures the network at its first frame and replays it for every further one.

    Outputs are overwritten by the next frame, which may take them as its state. The arithmetic is that of the torch
    session on the same GPU: FP32, and TF32 only where torch was told to allow it.
    """

    name = "cuda-graph"

    def __init__(self, network: Network, device: str = "cuda") -> None:
        """Raises InputError without a CUDA GPU, or a torch that can use it."""
        if not torch.cuda.is_available():
            raise InputError(f"session {self.name!r} needs a CUDA GPU and a torch built for it; use onnxruntime")
        super().__init__(network, device)
        self._graph: FrameGraph | None = None

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode():
            self._graph = self._graph or FrameGraph(self._network, inputs)
            return self._graph(inputs)

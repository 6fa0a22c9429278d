"""The network on a GPU as one CUDA graph: a frame is a single launch, and the state never leaves the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.data.pictures import PICTURES, pictures_spec
from toolkit.data.probe import probe_frame
from toolkit.engines.gpu.compiled.network import (
    CompiledNetwork,
    CompiledPart,
    NetworkFunction,
    compile_network,
    compile_parts,
)
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.engines.gpu.kept import Warn, bundle_parts
from toolkit.engines.gpu.nvjpeg import OnDevice
from toolkit.engines.gpu.preprocess import CameraImages, rows_read
from toolkit.engines.gpu.transfer import ByteLayout, Download, PictureUpload, Upload
from toolkit.engines.torch import all_finite, bundle_graph
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.specs import reported_results
from toolkit.wiring import NetworkGraph

DEVICE = torch.device("cuda")
LARGEST, PACKED = "(largest)", "(packed)"
"""What the graph gives besides the network's outputs, none of which is named so."""


class CudaGraphSession:
    """Captures a network at its first frame and replays it for every further one; tensors are torch's.

    Outputs are overwritten by the next frame, which may take them as its state. What is reported of a frame, and what
    the state guard asks, is packed inside the graph, and leaves the device in one copy when the first of it is asked
    for: the only time in a frame that the host waits for the GPU.
    """

    name = "cuda"

    def __init__(self, function: NetworkFunction, graph: NetworkGraph, stream: torch.cuda.Stream | None = None) -> None:
        """`function` computes the network of `graph` on the GPU, on `stream` or else on the caller's current one.

        Raises InputError without a GPU that torch can use.
        """
        require_gpu()
        self._network, self._stream = graph, stream
        image, dimensions = graph.config.image, graph.config.dimensions()
        self._function = function
        self._states = [state.source for state in graph.states]
        self._checked_function = _with_largest(function, self._states)
        self._leaving = _leaving(graph)
        self._camera_images = CameraImages(image).to(DEVICE)
        self._picture_shape = pictures_spec(image).resolve(dimensions)
        self._picture_rows = rows_read(image)
        self._uploads = Upload(DEVICE)
        self._pictures: dict[int, PictureUpload | OnDevice] = {}
        self._graph: FrameGraph | None = None
        self._download = Download({}, torch.empty(0))
        self._checked: dict[int, Tensor] = {}

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        plugins: PluginManager,
        *,
        precision: Precision = Precision.FP32,
        inductor: bool = True,
        warn: Warn = lambda _: None,
    ) -> CudaGraphSession:
        """The bundle's network, rewritten now or before (`toolkit.engines.gpu.kept`).

        Raises InputError without a GPU, and as `load_network` and `of_network` do. `warn` is told why it is not kept.
        """
        require_gpu()
        graph = bundle_graph(bundle, plugins)
        parts, folder = bundle_parts(bundle, plugins, precision, DEVICE, inductor=inductor, warn=warn)
        return cls(compile_parts(parts, graph, inductor=inductor, folder=folder), graph)

    @classmethod
    def of_network(
        cls, network: Network, *, precision: Precision = Precision.FP32, inductor: bool = True
    ) -> CudaGraphSession:
        """A network, which moves to the GPU, compiled at the first frame.

        Without `inductor`, what lies around the kernels is PyTorch's own: a first frame sooner, and slower frames.
        Raises InputError without a GPU, and for a submodule that cannot be exported, or at the first frame compiled.
        """
        require_gpu()
        return cls(compile_network(network.to(DEVICE), precision, inductor=inductor), network.graph)

    def beside(self, count: int) -> list[CudaGraphSession]:
        """So many that can run at the same time: with a stream, a graph and its memory of their own.

        Weights and compiled kernels are this session's. All are captured now, for nothing else may run meanwhile.
        """
        sessions = [CudaGraphSession(self._function, self._network, torch.cuda.Stream()) for _ in range(count)]
        for session in sessions:
            session.make_ready()
        return sessions

    def make_ready(self) -> None:
        """Capture the network for frames that are made up, unless it is captured."""
        if self._graph is not None:
            return
        config = self._network.config
        made_up = {name: self.upload(array) for name, array in probe_frame(config, 0, continues=False).items()}
        dimensions = config.dimensions()
        states = {s.name: self.zeros(s.resolve(dimensions), s.dtype) for s in self._network.state_inputs}
        self.run(made_up | states)
        torch.cuda.synchronize()

    def new_pictures(self) -> PictureUpload:
        pictures = self._uploads.pictures(self._picture_shape, self._picture_rows)
        self._pictures[id(pictures.array)] = pictures  # those of a few frames, which are decoded ahead
        return pictures

    def device_pictures(self, pictures: Tensor) -> OnDevice:
        on_device = OnDevice(pictures)
        self._pictures[id(on_device.array)] = on_device
        return on_device

    def upload(self, array: np.ndarray) -> Tensor:
        with self._on_stream():
            return torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """The inputs, in one copy; pictures of `new_pictures` or `device_pictures` are on their way already."""
        with self._on_stream():
            fed = self._uploads.together({name: array for name, array in arrays.items() if name != PICTURES})
            if PICTURES in arrays:
                begun = self._pictures.pop(id(arrays[PICTURES]), None)
                fed[PICTURES] = self.upload(arrays[PICTURES]) if begun is None else begun.tensor()
        return fed

    def prepare(self, pictures: Tensor) -> Tensor:
        with torch.inference_mode(), self._on_stream():
            images: Tensor = self._camera_images(pictures)
        return images

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        with self._on_stream():
            return torch.zeros(shape, dtype=getattr(torch, dtype), device=DEVICE)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode(), self._on_stream():
            if self._graph is None:
                if isinstance(self._function, CompiledNetwork):
                    self._function.renew_counters()
                self._graph = FrameGraph(self._frame, inputs)
            outputs = dict(self._graph(inputs))
        packed = outputs.pop(PACKED)
        self._download = Download({name: outputs[name] for name in (*self._leaving, LARGEST)}, packed)
        self._checked = {id(tensor): tensor for tensor in self._float_states({**inputs, **outputs})}
        del outputs[LARGEST]
        return outputs

    def download(self, tensor: Tensor) -> np.ndarray:
        own = tensor in self._download
        if own and self._download.done:  # as all but the first of some twenty are
            return self._download[tensor]
        with self._on_stream():
            array: np.ndarray = self._download[tensor] if own else tensor.cpu().numpy()
        return array

    def finite(self, tensors: Iterable[Tensor]) -> bool:
        asked = list(tensors)
        with self._on_stream():
            return self._are_finite(asked)

    def _are_finite(self, asked: Sequence[Tensor]) -> bool:
        known = bool(asked) and all(id(tensor) in self._checked for tensor in asked)
        return bool((known and np.isfinite(self._download.arrays[LARGEST]).all()) or all_finite(asked))

    def _on_stream(self) -> AbstractContextManager[object]:
        """Within the block, work is given to the session's stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _frame(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the graph holds."""
        outputs = self._checked_function(inputs)
        leaving = {name: outputs[name] for name in (*self._leaving, LARGEST)}
        return {**outputs, PACKED: ByteLayout.of(leaving).pack(leaving)}

    def _float_states(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return [tensors[name] for name in self._states if tensors[name].is_floating_point()]


def _with_largest(function: NetworkFunction, states: Sequence[str]) -> NetworkFunction:
    """`function` and, by the name `LARGEST`, the largest element of each of its states of floats."""
    if isinstance(function, CompiledNetwork):  # found while what reads no state is still computed
        return function.with_part(CompiledPart("(state)", Precision.FP32, _largest, tuple(states), (LARGEST,)))

    def both(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = function(inputs)
        tensors = {**inputs, **outputs}
        return {**outputs, LARGEST: _largest(*(tensors[name] for name in states))}

    return both


def _largest(*tensors: Tensor) -> Tensor:
    """The largest element of each that is of floats, in two launches; NaN counts as the largest."""
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    return torch.stack(torch._foreach_norm(floats, torch.inf)) if floats else torch.zeros(1, device=DEVICE)


def _leaving(graph: NetworkGraph) -> list[str]:
    """What every frame's download has: what is reported, and of the state what is a single number."""
    dimensions, reported = graph.config.dimensions(), reported_results(graph.results, graph.states)
    states = {state.source for state in graph.states}
    numbers = [spec for spec in graph.results if spec.name in states and spec.resolve(dimensions) == (1,)]
    return [spec.name for spec in (*reported, *numbers)]


def require_gpu() -> None:
    """Raise InputError without a GPU that torch can use."""
    if not torch.cuda.is_available():
        raise InputError("session 'cuda' needs a CUDA GPU and a torch built for it; use onnxruntime")

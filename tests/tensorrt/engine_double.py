"""Doubles of TensorRT's runtime and of CuPy's memory, streams and graphs, for running a session without a GPU.

What an engine of the double does is a Python function. Without a GPU its buffers are numpy arrays, found by their
addresses as a GPU finds them, and its stream records calls while it captures.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.tensorrt.stand_in import stand_in_tensorrt
from toolkit.engines.tensorrt.sidecar import EngineTensor

Enqueue = Callable[[Mapping[str, int], int], None]
"""What an engine does on a stream with buffers at addresses, by tensor."""

Compute = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""The same in numpy: outputs from inputs."""


class Array(np.ndarray[Any, Any]):
    """A numpy array that tells its address as CuPy's do."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Graph:
    """What was captured."""

    def __init__(self, work: Sequence[Callable[[], None]]) -> None:
        self._work = tuple(work)

    def launch(self, stream: Stream) -> None:
        for action in self._work:
            action()


class Stream(AbstractContextManager["Stream"]):
    """Runs work at once, or records it while it captures. `uncapturable` work spoils the capture."""

    ptr = 77
    last: Stream

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "TensorRT synchronizes with the default stream"
        self._recorded: list[Callable[[], None]] | None = None
        self.uncapturable = False
        Stream.last = self

    def __exit__(self, *_: object) -> None:
        return None

    def begin_capture(self) -> None:
        self._recorded = []

    def end_capture(self) -> Graph:
        recorded, self._recorded = self._recorded or [], None
        if self.uncapturable:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return Graph(recorded)

    def do(self, action: Callable[[], None]) -> None:
        if self._recorded is None:
            action()
        else:
            self._recorded.append(action)


def double_cupy() -> Any:
    """As much of CuPy as a session uses."""

    def zeros(shape: Sequence[int], dtype: str) -> Array:
        return np.zeros(shape, dtype).view(Array)

    return SimpleNamespace(
        zeros=zeros,
        asarray=lambda array: np.array(array).view(Array),
        asnumpy=lambda array, stream: np.array(array),
        isfinite=np.isfinite,
        stack=np.stack,
        cuda=SimpleNamespace(
            Stream=Stream,
            runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        ),
    )


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity


class IErrorRecorder:
    pass


@dataclass
class Device:
    """What an engine of the double does, and what TensorRT was asked, in order.

    A call that is `failing` records `failure` first. `loaded` is what a runtime was last given as an engine.
    """

    enqueue: Enqueue
    calls: list[str] = field(default_factory=list)
    failing: str = ""
    loaded: bytes = b""
    failure: str = "Error Code 1: Cuda Runtime (an illegal memory access was encountered)"

    def meets(self, call: str, recorder: Any) -> bool:
        """Note a call; whether it succeeds."""
        self.calls.append(call)
        if call.partition(" ")[0] != self.failing:
            return True
        if recorder is not None:
            recorder.report_error("kCUDA", self.failure)
        return False


class Context:
    """`IExecutionContext`."""

    def __init__(self, device: Device) -> None:
        self.error_recorder: Any = None
        self._device = device
        self._bound: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._bound[name] = memory
        return self._device.meets(f"set_tensor_address {name}", self.error_recorder)

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._device.enqueue(dict(self._bound), stream_handle)
        return self._device.meets("execute_async_v3", self.error_recorder)


def in_numpy(tensors: Sequence[EngineTensor], compute: Compute) -> Enqueue:
    """An engine that computes with numpy, on the last stream that was made."""

    def enqueue(bound: Mapping[str, int], stream: int) -> None:
        assert stream == Stream.ptr
        Stream.last.do(lambda: run(bound))

    def run(bound: Mapping[str, int]) -> None:
        memory = {tensor.name: at_address(bound[tensor.name], tensor) for tensor in tensors}
        outputs = compute({tensor.name: memory[tensor.name].copy() for tensor in tensors if tensor.mode == "input"})
        for tensor in tensors:
            if tensor.mode == "output":
                memory[tensor.name][...] = outputs[tensor.name]

    return enqueue


def at_address(address: int, tensor: EngineTensor) -> np.ndarray:
    """The buffer of a tensor that lies there."""
    size = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
    buffer = memoryview((ctypes.c_byte * size).from_address(address)).cast("B")
    array: np.ndarray = np.frombuffer(buffer, tensor.dtype).reshape(tensor.shape)
    return array


class Engine:
    """`ICudaEngine`."""

    def __init__(self, device: Device, recorder: Any) -> None:
        self._device = device
        self._recorder = recorder

    def create_execution_context(self) -> Context | None:
        return Context(self._device) if self._device.meets("create_execution_context", self._recorder) else None


class Runtime:
    """`Runtime`; a test sets `device`, which stands for what the engine file holds."""

    device: Device

    def __init__(self, logger: Any) -> None:
        self.error_recorder: Any = None

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        self.device.loaded = serialized_engine
        held = self.device.meets("deserialize_cuda_engine", self.error_recorder)
        return Engine(self.device, self.error_recorder) if held else None


def double_tensorrt(device: Device, version: str = "1.2.3") -> ModuleType:
    """A module of its own, in which plugins can be registered too; a registration is one of the device's calls."""
    module = stand_in_tensorrt()
    registry = module.get_plugin_registry()
    register = registry.register_creator

    def register_creator(creator: Any, namespace: str) -> bool:
        device.calls.append(f"register_creator {creator.name}")
        accepted: bool = register(creator, namespace)
        return accepted

    registry.register_creator = register_creator
    vars(module).update(
        __version__=version,
        ILogger=ILogger,
        IErrorRecorder=IErrorRecorder,
        Runtime=type("Runtime", (Runtime,), {"device": device}),
    )
    return module

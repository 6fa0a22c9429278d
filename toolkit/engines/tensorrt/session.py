"""An engine as a session, over TensorRT and TensorRT for RTX alike; tensors are CuPy arrays and stay on the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.tensorrt.buffers import Buffers
from toolkit.engines.tensorrt.gpu import compute_capability
from toolkit.engines.tensorrt.messages import new_logger, new_recorder
from toolkit.engines.tensorrt.packing import unpack
from toolkit.engines.tensorrt.registration import choose_engine
from toolkit.engines.tensorrt.sidecar import EngineTensor, RequiredPlugin, Sidecar
from toolkit.errors import CheckFailed, InputError
from toolkit.ops.kernel import load_cupy
from toolkit.ops.spec import CustomOp
from toolkit.ops.tensorrt_plugin import register_plugins
from toolkit.plugin.manager import PluginManager
from toolkit.text import one_line

if TYPE_CHECKING:
    import tensorrt


class TensorRTSession:
    """Runs an engine of fixed shapes. What `run` returns is valid until the second next `run`.

    The file `engine` is packed if it says how large it is `unpacked`.

    The second frame with the same buffers is captured as a CUDA graph, and later ones launch it, unless something in
    the engine cannot be captured.
    """

    name = "tensorrt"

    def __init__(
        self, trt: ModuleType, cupy: Any, engine: Path, tensors: Sequence[EngineTensor], unpacked: int | None = None
    ) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._logger = new_logger(trt)
        self._recorder = new_recorder(trt)
        self._runtime: tensorrt.Runtime = trt.Runtime(self._logger)
        self._runtime.error_recorder = self._recorder
        data = engine.read_bytes()
        if unpacked is not None:
            data = unpack(data, unpacked, engine)
        loaded = self._runtime.deserialize_cuda_engine(data)
        if loaded is None:
            raise CheckFailed(f"TensorRT cannot load {engine}: {self._reason()}")
        self._engine: tensorrt.ICudaEngine = loaded
        context = loaded.create_execution_context()
        if context is None:
            raise CheckFailed(f"TensorRT cannot prepare {engine} to run: {self._reason()}")
        self._context: tensorrt.IExecutionContext = context
        self._context.error_recorder = self._recorder
        with self._on_device():
            self._buffers = Buffers(cupy, tensors)
        self._run_before: set[tuple[int, ...]] = set()
        self._graphs: dict[tuple[int, ...], Any] = {}
        self._capturable = True

    @classmethod
    def of_bundle(cls, bundle: Bundle, plugins: PluginManager) -> TensorRTSession:
        """The session of the bundle's latest engine that runs here.

        Raises InputError without a GPU or CuPy, if no engine runs here, if the engine is not of this bundle's model or
        was altered, or if a plugin that it needs is not loaded; all before TensorRT reads the engine.
        """
        cupy = load_cupy()
        capability = compute_capability()
        if capability is None:
            raise InputError("the tensorrt session needs an NVIDIA GPU and its driver, and there is none here")
        record, trt = choose_engine(bundle, capability)
        engine = bundle.path / record.file
        sidecar = Sidecar.read(engine)
        if sidecar.sha256 != record.sha256:
            raise InputError(f"{engine} is not the engine that the bundle records; build it again")
        sidecar.require_engine(engine)
        require_model(bundle, engine, sidecar)
        register_plugins(trt, required_ops(engine, sidecar.plugins, plugins.custom_ops()))
        return cls(trt, cupy, engine, sidecar.tensors, sidecar.unpacked)

    def upload(self, array: np.ndarray) -> Any:
        with self._on_device():
            return self._cupy.asarray(array)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        with self._on_device():
            tensors = self._buffers.next_frame(inputs) | self._buffers.outputs
            self._execute({name: int(tensor.data.ptr) for name, tensor in tensors.items()})
            return self._buffers.outputs

    def download(self, tensor: Any) -> np.ndarray:
        with self._on_device():
            array: np.ndarray = self._cupy.asnumpy(tensor, stream=self._stream)
            return array

    def finite(self, tensors: Iterable[Any]) -> bool:
        with self._on_device():
            answers = [self._cupy.isfinite(tensor).all() for tensor in tensors]
            return not answers or bool(self._cupy.stack(answers).all())

    def _execute(self, addresses: Mapping[str, int]) -> None:
        """Run the engine on these buffers: at once, by capturing it, or by launching what was captured."""
        key = tuple(addresses.values())
        if key in self._graphs:
            self._graphs[key].launch(self._stream)
            return
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise CheckFailed(f"TensorRT does not take a buffer for {name!r}: {self._reason()}")
        if key in self._run_before and self._capturable:
            graph = self._capture()
            if graph is not None:
                self._graphs[key] = graph
                graph.launch(self._stream)
                return
            self._capturable = False
        self._run_before.add(key)
        if not self._context.execute_async_v3(self._stream.ptr):
            raise CheckFailed(f"TensorRT cannot run the engine: {self._reason()}")

    def _capture(self) -> Any:
        """The engine's work as a CUDA graph, not yet run; None if it cannot be captured."""
        self._stream.begin_capture()
        taken = self._context.execute_async_v3(self._stream.ptr)
        try:
            graph = self._stream.end_capture()
        except self._cupy.cuda.runtime.CUDARuntimeError:
            taken = False
        if not taken:
            self._recorder.clear()
            return None
        return graph

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Work on the session's stream; what goes wrong on the GPU is a CheckFailed."""
        cuda = self._cupy.cuda
        try:
            with self._stream:
                yield
        except (cuda.runtime.CUDARuntimeError, cuda.memory.OutOfMemoryError) as error:
            raise CheckFailed(f"the GPU cannot go on: {one_line(error)}; {self._reason()}") from error

    def _reason(self) -> str:
        """What TensorRT says of its last failure."""
        return self._recorder.last or self._logger.last_error or "TensorRT gives no reason"


def require_model(bundle: Bundle, engine: Path, sidecar: Sidecar) -> None:
    """Raise InputError unless an engine was built from the bundle's model and has its tensors."""
    if sidecar.onnx != bundle.digests("functional"):
        raise InputError(
            f"{engine} was built from another model than the one in {bundle.path}; build it again: "
            f"uniad-toolkit build {bundle.path} --target {sidecar.target} --precision {sidecar.precision}"
        )
    dimensions = bundle.config.dimensions()
    known = {
        ("input", spec.name): (spec.dtype, spec.resolve(dimensions))
        for spec in (*bundle.frame_inputs, *bundle.state_inputs)
    } | {("output", spec.name): (spec.dtype, spec.resolve(dimensions)) for spec in bundle.results}
    for tensor in sidecar.tensors:
        expected = known.get((tensor.mode, tensor.name))
        if expected != (tensor.dtype, tensor.shape):
            raise InputError(f"{tensor.mode} {tensor.name!r} of {engine} is not the bundle's; build the engine again")


def required_ops(engine: Path, required: Sequence[RequiredPlugin], ops: Sequence[CustomOp]) -> list[CustomOp]:
    """The custom ops that an engine needs as plugins. Raises InputError, with the remedy, if one is not loaded."""
    by_name = {op.name: op for op in ops}
    for plugin in required:
        if plugin.op not in by_name:
            remedy = (
                f"pass --plugin {plugin.provider}"
                if plugin.provider.endswith(".py")
                else f"install the package with {plugin.provider}, or do not disable it"
            )
            raise InputError(
                f"{engine} needs the plugin of the custom op {plugin.op!r}, of {plugin.provider}; {remedy}"
            )
    return [by_name[plugin.op] for plugin in required]

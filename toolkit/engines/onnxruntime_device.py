"""ONNX Runtime on a GPU: inputs and outputs are bound to its memory, so that the state never leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import CPU_PROVIDER, load_model
from toolkit.errors import InputError
from toolkit.onnxruntime_options import session_options
from toolkit.specs import TensorSpec

PROVIDERS = {"cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}), "cpu": CPU_PROVIDER}
"""Execution provider and its options by device."""
CHECK_OPSET, CHECK_IR = 17, 8


class DeviceOnnxRuntimeSession:
    """Tensors are `OrtValue`s in the memory of a device, "cuda" or, for tests, "cpu"; FP32 without TF32.

    Every frame has outputs of its own, so that what `run` returns stays valid. `wires` are extra outputs.
    """

    name = "onnxruntime-cuda"

    def __init__(self, bundle: Bundle, device: str = "cuda", *, wires: Sequence[TensorSpec] = ()) -> None:
        """Raises InputError where ONNX Runtime has no execution provider for the device, or it does not start."""
        self._device, self._provider = device, require_provider(device)
        self._session = load_model(bundle, self._provider, wires=wires)
        provider, _ = self._provider
        if provider not in self._session.get_providers():  # instead of failing it takes the CPU
            raise InputError(
                f"ONNX Runtime cannot start {provider}: it needs an NVIDIA GPU and the CUDA and cuDNN libraries of its "
                "version; see `uniad-toolkit doctor`, or use --session onnxruntime"
            )
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._checks: dict[int, Any] = {}

    def upload(self, array: np.ndarray) -> Any:
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        fed = {name: tensor for name, tensor in inputs.items() if name in self._inputs}
        return dict(zip(self._outputs, self._run_bound(self._session, fed), strict=True))

    def download(self, tensor: Any) -> np.ndarray:
        # In the CPU's memory `numpy` may be a view that does not keep the tensor.
        return np.array(tensor.numpy())

    def finite(self, tensors: Iterable[Any]) -> bool:
        """One number leaves the device: a small model of its own looks at the tensors there."""
        fed = {f"x{number}": tensor for number, tensor in enumerate(tensors)}
        if not fed:
            return True
        if len(fed) not in self._checks:
            self._checks[len(fed)] = self._load_check(len(fed))
        (total,) = self._run_bound(self._checks[len(fed)], fed)
        return bool(np.isfinite(self.download(total)))

    def _run_bound(self, session: Any, inputs: Mapping[str, Any]) -> Any:
        """All outputs of an `InferenceSession`, in the device's memory."""
        binding = session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_ortvalue_input(name, tensor)
        for output in session.get_outputs():
            binding.bind_output(output.name, self._device)
        session.run_with_iobinding(binding)
        return binding.get_outputs()

    def _load_check(self, count: int) -> Any:
        import onnxruntime

        options = session_options(optimized=False)  # x - x is meant
        return onnxruntime.InferenceSession(check_model(count), options, providers=[self._provider])


def require_provider(device: str) -> tuple[str, dict[str, str]]:
    """The execution provider for a device, and its options. Raises InputError if ONNX Runtime was built without it."""
    import onnxruntime

    provider, options = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise InputError(
            f"the installed ONNX Runtime has no {provider}; put onnxruntime-gpu in its place (pip uninstall "
            "onnxruntime; pip install onnxruntime-gpu), or use --session cuda"
        )
    return provider, options


def check_model(count: int) -> bytes:
    """An ONNX model of `count` float32 inputs of any shapes: the sum over all x - x, which is 0 if they are finite."""
    names = [f"x{number}" for number in range(count)]
    nodes = [
        *(helper.make_node("Sub", [name, name], [f"{name}_zero"]) for name in names),
        *(helper.make_node("ReduceSum", [f"{name}_zero"], [f"{name}_sum"], keepdims=0) for name in names),
        helper.make_node("Sum", [f"{name}_sum" for name in names], ["total"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    outputs = [helper.make_tensor_value_info("total", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "finite", inputs, outputs)
    opsets = [helper.make_opsetid("", CHECK_OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=CHECK_IR).SerializeToString())

"""ONNX Runtime session over a bundle's functional model; local functions serve the custom ops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.conversion.export import value_info
from toolkit.engines.onnxruntime_profile import inline_named
from toolkit.errors import InputError
from toolkit.onnxruntime_options import session_options, unsound_optimizers
from toolkit.specs import TensorSpec
from toolkit.storage.external_weights import require_weights
from toolkit.storage.onnx_file import parse_model
from toolkit.text import one_line

CPU_PROVIDER = ("CPUExecutionProvider", dict[str, str]())
TYPES = {"tensor(float)": "float32"} | {f"tensor({name})": name for name in ("int32", "int64", "bool", "uint8")}
"""ONNX Runtime's names of types, and numpy's."""


class OnnxRuntimeSession:
    """CPU execution provider; tensors are numpy arrays.

    `wires` are extra outputs, for verification, and `shown` names of any other tensors of the model. With `profile`,
    the beginning of a file's path, it records what each node takes until `end_profile`.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        *,
        wires: Sequence[TensorSpec] = (),
        shown: Sequence[str] = (),
        threads: int | None = None,
        profile: Path | None = None,
    ) -> None:
        self._session = load_model(bundle, CPU_PROVIDER, wires=wires, shown=shown, threads=threads, profile=profile)
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._outputs = [o.name for o in self._session.get_outputs()]

    def beside(self, count: int) -> Sequence[OnnxRuntimeSession]:
        return [self] * count  # ONNX Runtime lets threads share a session

    def upload(self, array: np.ndarray) -> np.ndarray:
        return array

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        fed = {name: array for name, array in inputs.items() if name in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, fed), strict=True))

    def end_profile(self) -> Path:
        """The file with what the session recorded (`toolkit.engines.onnxruntime_profile` reads it)."""
        return Path(self._session.end_profiling())

    def download(self, tensor: np.ndarray) -> np.ndarray:
        return tensor

    def finite(self, tensors: Iterable[np.ndarray]) -> bool:
        return all(np.isfinite(tensor).all() for tensor in tensors)


def load_model(
    bundle: Bundle,
    provider: tuple[str, Mapping[str, str]],
    *,
    wires: Sequence[TensorSpec] = (),
    shown: Sequence[str] = (),
    threads: int | None = None,
    profile: Path | None = None,
) -> Any:
    """The bundle's functional model as an `onnxruntime.InferenceSession`, with `wires` and what is `shown` as outputs.

    `provider` is an execution provider and its options. Raises InputError if ONNX Runtime cannot load the model.
    """
    import onnx
    import onnxruntime

    stored = parse_model(bundle.onnx)
    require_weights(stored, bundle.onnx)
    # What is shown besides results takes memory itself; so does another session beside one that is compared.
    options = session_options(threads=threads, lasting=not (wires or shown))
    unsound = unsound_optimizers(stored)
    model: str | bytes = str(bundle.onnx)
    try:
        if wires or shown or profile is not None:
            proto = onnx.load(bundle.onnx, load_external_data=False)
            dimensions = bundle.config.dimensions()
            proto.graph.output.extend(value_info(spec, dimensions) for spec in wires)
            proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
            if profile is not None:
                proto = inline_named(proto)
                options.enable_profiling, options.profile_file_prefix = True, str(profile)
            model = proto.SerializeToString()
            folder = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(folder, str(bundle.path))
        session = onnxruntime.InferenceSession(model, options, providers=[provider], disabled_optimizers=unsound)
    except Exception as error:
        raise InputError(f"ONNX Runtime cannot load {bundle.onnx}: {one_line(error)}; convert again") from error
    inputs, outputs = (
        {tensor.name: (TYPES.get(tensor.type, tensor.type), tuple(tensor.shape)) for tensor in tensors}
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    bundle.require_interface(inputs, outputs)
    return session

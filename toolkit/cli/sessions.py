"""The sessions that commands can choose from."""

from __future__ import annotations

from enum import Enum

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.plugin_manager import PluginManager


class SessionKind(Enum):
    """Names on the command line."""

    ONNXRUNTIME = "onnxruntime"
    TORCH = "torch"
    TENSORRT = "tensorrt"


def open_session(
    bundle: Bundle, kind: SessionKind, plugins: PluginManager, *, wires: bool = False, threads: int | None = None
) -> Session:
    """A session over a bundle; with `wires` it shows the tensors between submodules too, if its kind can.

    ONNX Runtime and torch take `threads`, by default as many as the process has cores; torch's are those of the whole
    process. Raises InputError if the files that it reads are not those of the conversion.
    """
    if kind is SessionKind.TENSORRT:
        from toolkit.engines.tensorrt.session import TensorRTSession

        return TensorRTSession.of_bundle(bundle, plugins)
    bundle.require_intact("weights" if kind is SessionKind.TORCH else "functional")
    if kind is SessionKind.TORCH:
        import torch

        from toolkit.engines.torch import TorchSession

        if threads is not None:
            torch.set_num_threads(threads)
        return TorchSession.of_bundle(bundle, plugins)
    from toolkit.engines.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(bundle, wires=bundle.wires if wires else (), threads=threads)

"""The toolkit's own sessions, each imported when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.engines.session_kind import SessionKind, SessionOptions
from toolkit.hookspecs import hookimpl
from toolkit.precision import Precision

if TYPE_CHECKING:
    from toolkit.bundle import Bundle
    from toolkit.engines.session import Session
    from toolkit.plugin.manager import PluginManager


@hookimpl
def uniad_sessions() -> Sequence[SessionKind]:
    """ONNX Runtime, torch and TensorRT."""
    return (
        SessionKind("onnxruntime", open_onnxruntime, runs_onnx=True),
        SessionKind("onnxruntime-cuda", open_onnxruntime_cuda, gpus=1, runs_onnx=True),
        SessionKind("torch", open_torch),
        SessionKind("cuda", open_cuda, precisions=tuple(Precision), gpus=1, kept=kept_by_cuda),
        SessionKind("tensorrt", open_tensorrt, engine_precision=engine_precision, gpus=1),
    )


def open_onnxruntime(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Session:
    """The ONNX model on the CPU."""
    from toolkit.engines.onnxruntime import OnnxRuntimeSession

    bundle.require_intact("functional")
    return OnnxRuntimeSession(bundle, wires=bundle.wires if options.wires else (), threads=options.threads)


def open_onnxruntime_cuda(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Session:
    """The ONNX model on a GPU."""
    from toolkit.engines.onnxruntime_device import DeviceOnnxRuntimeSession

    bundle.require_intact("functional")
    return DeviceOnnxRuntimeSession(bundle, wires=bundle.wires if options.wires else ())


def open_torch(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Session:
    """The eager network on the CPU, whose threads are those of the whole process."""
    import torch

    from toolkit.engines.torch import TorchSession

    bundle.require_intact("weights")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return TorchSession.of_bundle(bundle, plugins)


def open_cuda(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Session:
    """The network as one CUDA graph."""
    from toolkit.engines.gpu.session import CudaGraphSession

    bundle.require_intact("weights")
    return CudaGraphSession.of_bundle(bundle, plugins, precision=options.precision, warn=options.warn)


def kept_by_cuda(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Path:
    """The network rewritten for the GPU at hand, and what compilers made of it."""
    from toolkit.engines.gpu.kept import entry_of
    from toolkit.engines.gpu.session import DEVICE, require_gpu

    require_gpu()
    return entry_of(bundle, plugins, options.precision, DEVICE).folder


def open_tensorrt(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Session:
    """The engine for the GPU at hand."""
    from toolkit.engines.tensorrt.session import TensorRTSession

    return TensorRTSession.of_bundle(bundle, plugins)


def engine_precision(bundle: Bundle) -> str:
    """That of the engine for the GPU at hand."""
    from toolkit.engines.tensorrt.gpu import compute_capability
    from toolkit.engines.tensorrt.registration import choose_engine

    engine, _ = choose_engine(bundle, compute_capability() or "")
    return engine.precision

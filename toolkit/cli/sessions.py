"""The sessions that commands can choose from, and the precision of those that have a choice."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Annotated

import typer

from toolkit.bundle import Bundle
from toolkit.engines.gpu.precision import Precision
from toolkit.engines.session import Session
from toolkit.errors import InputError
from toolkit.plugin_manager import PluginManager


class SessionKind(Enum):
    """Names on the command line."""

    ONNXRUNTIME = "onnxruntime"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    TORCH = "torch"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


SessionOption = Annotated[SessionKind, typer.Option(help="What runs the network.")]
PrecisionOption = Annotated[Precision, typer.Option(help="What --session cuda computes products in.")]


def require_precision(precision: Precision, kinds: Collection[SessionKind]) -> None:
    """Raise InputError if none of these sessions can be told to compute in a precision."""
    if precision is Precision.FP32 or SessionKind.CUDA in kinds:
        return
    if SessionKind.TENSORRT in kinds:
        raise InputError(
            f"--precision {precision.value} is of no use with --session tensorrt, whose engine has the precision it "
            "was built with; build another engine, or use --session cuda"
        )
    names = " and ".join(kind.value for kind in kinds)
    raise InputError(
        f"--precision {precision.value} is of no use with --session {names}, which computes in FP32; "
        "use --session cuda, or leave the precision out"
    )


def used_precision(bundle: Bundle, kind: SessionKind, precision: Precision) -> str:
    """What to say of a session's precision: that of the engine for TensorRT, else what was asked for."""
    if kind is not SessionKind.TENSORRT:
        return precision.value
    from toolkit.engines.tensorrt.gpu import compute_capability
    from toolkit.engines.tensorrt.registration import choose_engine

    engine, _ = choose_engine(bundle, compute_capability() or "")
    return engine.precision


def open_session(
    bundle: Bundle,
    kind: SessionKind,
    plugins: PluginManager,
    *,
    precision: Precision = Precision.FP32,
    wires: bool = False,
    threads: int | None = None,
) -> Session:
    """A session over a bundle; with `wires` it shows the tensors between submodules too, if its kind can.

    ONNX Runtime and torch on the CPU take `threads`, by default as many as the process has cores; torch's are those of
    the whole process. Raises InputError if the files that it reads are not those of the conversion, if the machine
    lacks what the session needs, and for a `precision` that it cannot have.
    """
    require_precision(precision, (kind,))
    shown = bundle.wires if wires else ()
    match kind:
        case SessionKind.TENSORRT:
            from toolkit.engines.tensorrt.session import TensorRTSession

            return TensorRTSession.of_bundle(bundle, plugins)
        case SessionKind.CUDA:
            from toolkit.engines.gpu.session import CudaGraphSession

            bundle.require_intact("weights")
            return CudaGraphSession.of_bundle(bundle, plugins, precision=precision)
        case SessionKind.TORCH:
            import torch

            from toolkit.engines.torch import TorchSession

            bundle.require_intact("weights")
            if threads is not None:
                torch.set_num_threads(threads)
            return TorchSession.of_bundle(bundle, plugins)
        case SessionKind.ONNXRUNTIME_CUDA:
            from toolkit.engines.onnxruntime_device import DeviceOnnxRuntimeSession

            bundle.require_intact("functional")
            return DeviceOnnxRuntimeSession(bundle, wires=shown)
        case SessionKind.ONNXRUNTIME:
            from toolkit.engines.onnxruntime import OnnxRuntimeSession

            bundle.require_intact("functional")
            return OnnxRuntimeSession(bundle, wires=shown, threads=threads)

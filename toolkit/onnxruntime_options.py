"""How ONNX Runtime is told to run a model, wherever the toolkit does so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto

QUIET = 4
"""Log nothing: an error comes as an exception, too."""


def session_options(*, threads: int | None = None, optimized: bool = True, lasting: bool = True) -> Any:
    """Quiet `onnxruntime.SessionOptions` for so many threads, by default one for each core of this process.

    Without `optimized`, every node is computed as it stands; without `lasting`, no memory is kept for later runs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.enable_cpu_mem_arena = lasting
    options.enable_mem_pattern = False  # from the second run on a block for all tensors, beside what the arena kept
    options.log_severity_level = QUIET
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def unsound_optimizers(model: ModelProto) -> list[str]:
    """Optimizers that would change what this model computes: `disabled_optimizers` of an `InferenceSession`.

    A Relu before unsigned codes that begin at zero does nothing; ONNX Runtime takes it away before FP8, too.
    """
    from onnx import TensorProto

    eight_bits = {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2}
    return ["ReluQuantRewrite"] if any(tensor.data_type in eight_bits for tensor in model.graph.initializer) else []

"""Which nodes of a graph compute in FP16 or BF16, and which stay in FP32."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs
    from onnx.defs import OpSchema

    from toolkit.ops.spec import CustomOp
    from toolkit.specs import Submodule

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Convolutions and matrix products: nearly all of the time, and their sums are accumulated in FP32 anyway."""

FP32_OPS = frozenset(
    {
        # Normalisation, also the reductions and powers that a decomposed one consists of.
        *("LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"),
        *("LpNormalization", "MeanVarianceNormalization", "ReduceMean", "ReduceL2", "Sqrt", "Reciprocal"),
        *("Softmax", "LogSoftmax"),
        # Box decode: into and out of logit and logarithmic space.
        *("Sigmoid", "Exp", "Log", "Tanh", "Softplus"),
        # Angles and positional encodings.
        *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan"),
        # Sums and powers leave the range of FP16 first.
        *("Pow", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "CumSum"),
        # Decisions: ranks, and scores against thresholds.
        *("TopK", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    }
)


@dataclass(frozen=True)
class PrecisionPolicy:
    """How a graph is divided between a reduced type and FP32.

    `name` is what users call the type, `dtype` its numpy type, `opset` the oldest version of the standard operators in
    which all of those named here have it: see `toolkit.graph.opset.raise_opset`. Of the nodes that compute with floats

    - `products` are reduced, except narrow ones: a product over at most `transform_width` elements transforms
      coordinates; one with constant weights and at most `head_width` features on either side reads or gives physical
      quantities (poses, boxes, scores), and its time does not matter;
    - `fp32_ops` stay in FP32;
    - DequantizeLinear gives what the products that read it take or, where none does, what was quantized before it;
    - all others take the widest type of their inputs, constants aside, so that FP32 arithmetic on boxes, poses and
      recurrent state is not interrupted, and features between two products stay reduced. A custom op takes the type of
      its first input that can have another, the features that it samples, if `custom_ops` says that the kernels have
      the type; `schemas` tell by an op's name which of its tensors cannot.

    `keep` lists further nodes to keep in FP32: patterns of a node's name, its op type, or its submodule (the first part
    of its name). `exceptions` are such patterns that submodules ask for; these need not match anything.
    """

    name: str
    dtype: np.dtype
    opset: int = 16
    products: frozenset[str] = PRODUCTS
    fp32_ops: frozenset[str] = FP32_OPS
    custom_ops: bool = True
    transform_width: int = 4
    head_width: int = 16
    keep: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    schemas: Mapping[str, OpSchema] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The type's name in sentences."""
        return self.name.upper()

    def pattern_for(self, node: gs.Node) -> str | None:
        """The first pattern that keeps this node in FP32."""
        return next((p for p in (*self.keep, *self.exceptions) if matches(p, node)), None)

    def with_exceptions(self, submodules: Iterable[Submodule]) -> PrecisionPolicy:
        """The same policy with what submodules want kept in FP32."""
        wanted = tuple(f"{submodule.name}/{pattern}" for submodule in submodules for pattern in submodule.keep_fp32)
        return replace(self, exceptions=wanted)

    def with_ops(self, ops: Iterable[CustomOp]) -> PrecisionPolicy:
        """The same policy with what custom ops say of the types of their tensors."""
        return replace(self, schemas={op.name: op.schema() for op in ops})


def matches(pattern: str, node: gs.Node) -> bool:
    """Whether a pattern means this node: by its name, its op type or the first part of its name."""
    return means(pattern, node.name, node.op, submodule_of(node))


def means(pattern: str, name: str, op: str, submodule: str) -> bool:
    """Whether a pattern means a node of this name, op type and submodule."""
    return any(fnmatchcase(text, pattern) for text in (name, op, submodule))


def submodule_of(node: gs.Node) -> str:
    """The first part of a node's name, which is the submodule in models of this toolkit; empty without parts."""
    first, separator, _ = str(node.name).strip("/").partition("/")
    return first if separator else ""


FP16 = PrecisionPolicy("fp16", np.dtype(np.float16))
BF16 = PrecisionPolicy("bf16", np.dtype(ml_dtypes.bfloat16), opset=22, custom_ops=False)
"""Convolution and pooling have BF16 since opset 22; the kernels of custom ops do not."""
POLICIES = {policy.name: policy for policy in (FP16, BF16)}

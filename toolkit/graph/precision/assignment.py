"""Which nodes of a graph a precision policy reduces, decided from inputs to outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import constant
from toolkit.graph.precision.element_types import (
    STANDARD_DOMAINS,
    Ports,
    is_float32,
    known_types,
    reducible_ports,
)
from toolkit.graph.precision.policy import PrecisionPolicy
from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Assignment:
    """The ports of every node that is to be reduced, by the node's position in the graph.

    `kept` says why a node that the policy would reduce stays in FP32, by its position. `asked` counts such nodes that a
    pattern of the policy keeps, by the pattern.
    """

    reduced: Mapping[int, Ports]
    kept: Mapping[int, str]
    asked: Mapping[str, int]


def assign(graph: gs.Graph, policy: PrecisionPolicy) -> Assignment:
    """Divide the nodes of a sorted graph, all of whose tensors have their types, between FP32 and the reduced type."""
    reduced: dict[int, Ports] = {}
    kept: dict[int, str] = {}
    asked: Counter[str] = Counter()
    tensors: set[int] = set()
    captured = captured_tensors(graph)
    for position, node in enumerate(graph.nodes):
        ports = reducible_ports(node, graph.opset, policy.dtype, policy.schemas)
        if not wanted(node, ports, policy, tensors):
            continue
        if pattern := policy.pattern_for(node):
            asked[pattern] += 1
            continue
        if reason := objection(node, ports, policy, captured) or bound_by_scales(node, policy, tensors):
            kept[position] = reason
            continue
        reduced[position] = ports
        tensors |= {id(node.outputs[i]) for i in ports.outputs}
    return Assignment(reduced, kept, asked)


def wanted(node: gs.Node, ports: Ports, policy: PrecisionPolicy, reduced: set[int]) -> bool:
    """Whether the kind of a node, and the tensors that are reduced so far, ask for the reduced type."""
    if node.op in policy.fp32_ops or node.op == "Cast" or any(True for _ in node.subgraphs()):
        return False
    if node.domain in STANDARD_DOMAINS and node.op in policy.products:
        return any(is_float32(tensor) for tensor in node.inputs)
    if node.domain == DOMAIN:
        return id(node.inputs[next(iter(ports.inputs), 0)]) in reduced
    if node.domain in STANDARD_DOMAINS and node.op == "DequantizeLinear":
        return gives_reduced(node, policy, reduced)
    flowing = [node.inputs[i] for i in ports.inputs if not is_constant(node.inputs[i])]
    return bool(flowing) and all(id(tensor) in reduced for tensor in flowing)


def gives_reduced(dequantize: gs.Node, policy: PrecisionPolicy, reduced: set[int]) -> bool:
    """Whether codes become the reduced type: as the products that read them take it, or as they were made of it.

    So no cast stands between Q/DQ nodes and a product, where libraries would not see that it can compute with integers;
    and all scales of a product have one type, without which TensorRT builds nothing.
    """
    if products := quantized_together(dequantize, policy):
        return all(takes_reduced(product, policy) for product in products)
    makers = [maker for maker in dequantize.inputs[0].inputs if maker.op == "QuantizeLinear"]
    return any(id(maker.inputs[0]) in reduced for maker in makers)


def quantized_together(dequantize: gs.Node, policy: PrecisionPolicy) -> list[gs.Node]:
    """The products that read what a node dequantizes, those that read what these read besides, and so on."""
    found: dict[int, gs.Node] = {}
    waiting = [dequantize]
    while waiting:
        for reader in waiting.pop().outputs[0].outputs:
            if reader.op in policy.products and id(reader) not in found:
                found[id(reader)] = reader
                waiting += dequantizers(reader)
    return list(found.values())


def dequantizers(product: gs.Node) -> list[gs.Node]:
    """The DequantizeLinear nodes that make the inputs of a product."""
    return [maker for tensor in product.inputs for maker in tensor.inputs if maker.op == "DequantizeLinear"]


def takes_reduced(product: gs.Node, policy: PrecisionPolicy) -> bool:
    """Whether a product of dequantized tensors may be reduced, and its scales with it."""
    if policy.pattern_for(product) or narrow(product, policy):
        return False
    scales = [constant(maker.inputs[1]) for maker in dequantizers(product)]
    return all(scale is None or holds(policy.dtype, scale) for scale in scales)


def objection(node: gs.Node, ports: Ports, policy: PrecisionPolicy, captured: set[int]) -> str | None:
    """Why a node cannot or should not be reduced after all."""
    if node.domain == DOMAIN and not policy.custom_ops:
        return f"the kernels of custom ops have no {policy.label}"
    if not known_types(node):
        return "the types of its tensors are unknown"
    stays = node.domain != DOMAIN and len(ports.outputs) < sum(map(is_float32, node.outputs))
    if not ports.inputs or stays:
        return f"the operator has no {policy.label} in this opset"
    if any(id(output) in captured for output in node.outputs):
        return "a subgraph reads its result"
    if width := narrow(node, policy):
        return width
    for tensor in (node.inputs[i] for i in ports.inputs):
        values = constant(tensor)
        if values is not None and not holds(policy.dtype, values):
            return f"{policy.label} cannot hold its constant {tensor.name!r} ({span(values)})"
    return None


def bound_by_scales(node: gs.Node, policy: PrecisionPolicy, reduced: set[int]) -> str | None:
    """Why a product of dequantized tensors stays in FP32, if one of them does."""
    if node.op in policy.products and any(id(maker.outputs[0]) not in reduced for maker in dequantizers(node)):
        return f"{policy.label} cannot hold a scale of its Q/DQ nodes, or of those of a layer that shares them"
    return None


def narrow(node: gs.Node, policy: PrecisionPolicy) -> str | None:
    """Why a matrix product is a coordinate transform, or reads or gives physical quantities; None if it is neither."""
    if node.op not in ("MatMul", "Gemm"):
        return None
    first, second = (list(tensor.shape or ()) for tensor in node.inputs[:2])
    transposed = [node.op == "Gemm" and bool(node.attrs.get(name, 0)) for name in ("transA", "transB")]
    inner = [*sizes(first, 0 if transposed[0] else -1), *sizes(second, -1 if transposed[1] else -2)]
    outer = sizes(second, -2 if transposed[1] else -1)
    if any(size <= policy.transform_width for size in inner):
        return f"a product over {min(inner)} elements, as of coordinates"
    weights = is_constant(node.inputs[1])
    if weights and any(size <= policy.head_width for size in (*inner, *outer)):
        return f"a product with {min(*inner, *outer)} features on one side, as of boxes or scores"
    return None


def sizes(shape: Sequence[object], axis: int) -> list[int]:
    """The size along an axis, if it is known and there is one; a vector has only its own."""
    if len(shape) < 2:
        axis = -1
    size = shape[axis] if shape else None
    return [size] if isinstance(size, int) else []


def is_constant(tensor: gs.Tensor) -> bool:
    """Whether a tensor is known beforehand."""
    import onnx_graphsurgeon as gs

    return isinstance(tensor, gs.Constant)


def holds(dtype: np.dtype, values: np.ndarray) -> bool:
    """Whether a type keeps all values within its own rounding.

    It does not if a finite value becomes infinite, or if so many values are too small for it that the whole array is
    further off than the rounding of its type.
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype).astype(np.float64)
    finite = np.isfinite(values)
    if not np.array_equal(np.isfinite(rounded), finite):
        return False
    exact = np.where(finite, values, 0).astype(np.float64)
    error = np.linalg.norm(np.where(finite, rounded, 0) - exact)
    return bool(error <= unit_roundoff(dtype) * np.linalg.norm(exact))


def unit_roundoff(dtype: np.dtype) -> float:
    """The largest relative error of rounding a number in the type's normal range."""
    return {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype.name]


def span(values: np.ndarray) -> str:
    """The smallest and largest magnitude, zero aside."""
    magnitudes = np.abs(values[np.isfinite(values) & (values != 0)])
    return f"magnitudes {magnitudes.min():.3g} to {magnitudes.max():.3g}"


def captured_tensors(graph: gs.Graph) -> set[int]:
    """Tensors of the graph that subgraphs of its nodes (branches, loop bodies) read."""
    captured: set[int] = set()
    for subgraph in graph.subgraphs(recursive=True):
        for node in subgraph.nodes:
            captured |= {id(tensor) for tensor in node.inputs}
        captured |= {id(tensor) for tensor in subgraph.outputs}
    return captured

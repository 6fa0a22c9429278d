"""Which layers of a model can be quantized, and of which tensors calibration must find the ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import ModelProto

from toolkit.graph.conversion import to_graph
from toolkit.graph.edits import constant
from toolkit.graph.opset import raise_opset
from toolkit.graph.pipeline import run_passes
from toolkit.graph.precision.element_types import STANDARD_DOMAINS, is_float32
from toolkit.graph.precision.policy import submodule_of
from toolkit.ops.spec import CustomOp
from toolkit.quantization.scheme import LayerClass

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

OPSET = 19
"""From which on Q/DQ nodes have FP8, and scales of the type that a layer's neighbours compute in."""


@dataclass(frozen=True)
class Candidate:
    """A layer that has an 8-bit form: a node by name, op type and submodule (empty if its name has no parts).

    `activations` are the tensors that it reads and that are not constant. `result` is the tensor whose range its output
    is to have where integer kernels give 8 bits: the output or, if a Relu alone reads that, the Relu's; None where they
    can give floats, and for an output of the model, which is not rounded.
    """

    node: str
    op: str
    submodule: str
    layer_class: LayerClass
    activations: tuple[str, ...]
    result: str | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """Those whose ranges it needs."""
        return self.activations if self.result is None else (*self.activations, self.result)


def plain_model(model: ModelProto, ops: Sequence[CustomOp]) -> ModelProto:
    """The model whose nodes and tensors have the names that quantization knows them by; calibrate this one.

    It computes the same. Local functions other than custom ops' are written out, every node has a name of its own, and
    the opset is one that has the Q/DQ nodes needed. A plain model stays as it is.
    """
    plain, _ = run_passes(raise_opset(model, OPSET, ops), (), ops)
    return plain


def find_candidates(model: ModelProto, ops: Sequence[CustomOp]) -> tuple[Candidate, ...]:
    """The layers of a plain model's outermost graph that have an 8-bit form, in their order."""
    return tuple(candidates_in(to_graph(model, ops)).values())


def tensors_to_calibrate(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """The names of the tensors whose ranges some candidates need, each once."""
    return tuple(dict.fromkeys(name for candidate in candidates for name in candidate.tensors))


def candidates_in(graph: gs.Graph) -> dict[str, Candidate]:
    """The layers of a graph, inner graphs aside, that have an 8-bit form, by the node's name and in their order."""
    outputs = {id(tensor) for tensor in graph.outputs}
    found = {}
    for node in graph.nodes:
        if (layer_class := layer_class_of(node)) is None:
            continue
        activations = node.inputs if layer_class is LayerClass.PRODUCT else node.inputs[:1]
        names = tuple(dict.fromkeys(tensor.name for tensor in activations))
        result = None
        if layer_class is LayerClass.CONVOLUTION and id(node.outputs[0]) not in outputs:
            result = after_activation(node.outputs[0]).name
        found[node.name] = Candidate(node.name, node.op, submodule_of(node), layer_class, names, result)
    return found


def layer_class_of(node: gs.Node) -> LayerClass | None:
    """The class of an FP32 layer: a convolution or product with a constant weight, or a product of two activations."""
    if node.domain not in STANDARD_DOMAINS or len(node.inputs) < 2 or not all(map(is_float32, node.inputs[:2])):
        return None
    if constant(node.inputs[0]) is not None:
        return None
    weighted = constant(node.inputs[1]) is not None
    if node.op == "Conv" and weighted:
        return LayerClass.CONVOLUTION
    if node.op == "Gemm" and weighted and is_plain_gemm(node):
        return LayerClass.LINEAR
    if node.op == "MatMul" and (not weighted or len(node.inputs[1].shape) == 2):
        return LayerClass.LINEAR if weighted else LayerClass.PRODUCT
    return None


def is_plain_gemm(node: gs.Node) -> bool:
    """Whether a Gemm is a linear layer: its input as it is, nothing scaled, and its bias, if it has one, constant."""
    factors = (node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0))
    biased = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    plain = not node.attrs.get("transA", 0) and factors == (1.0, 1.0)
    return plain and (not biased or constant(node.inputs[2]) is not None)


def after_activation(tensor: gs.Tensor) -> gs.Tensor:
    """The output of a Relu that alone reads a tensor; the tensor itself if there is none."""
    [reader] = tensor.outputs if len(tensor.outputs) == 1 else [None]
    return reader.outputs[0] if reader is not None and reader.op == "Relu" else tensor

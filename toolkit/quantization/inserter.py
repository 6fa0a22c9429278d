"""Q/DQ nodes put into a graph, so that both ONNX Runtime and TensorRT find integer kernels for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import Rewiring, constant, is_standard
from toolkit.quantization.candidates import Candidate, after_activation
from toolkit.quantization.codes import activation_zero, scale_of, weight_codes, weight_zero
from toolkit.quantization.linear import set_bias_apart
from toolkit.quantization.ranges import Ranges
from toolkit.quantization.scheme import LayerClass, QuantizationMode

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


class Inserter:
    """Gives layers of a graph their Q/DQ nodes: a pair for a tensor, however many layers read it, and one for a weight.

    ONNX Runtime has no integer kernel for a convolution unless its result is quantized at once, nor for a linear layer
    whose bias it can draw into the product; and it adds integers only if the sum is quantized too. INT8 therefore takes
    care of these; FP8, which the CPU has no kernels for, does not. Nodes come in the order of the graph, so that a
    tensor is quantized where it is made before it is read.
    """

    def __init__(self, graph: gs.Graph, ranges: Ranges, mode: QuantizationMode) -> None:
        self._graph, self._ranges, self._mode = graph, ranges, mode
        self._rewiring = Rewiring(graph)
        self._made: dict[tuple[str, int | None], gs.Tensor] = {}
        self._outputs = {id(tensor) for tensor in graph.outputs}
        self._names = {*graph.tensors(), *(node.name for node in graph.nodes)}

    def quantize(self, node: gs.Node, candidate: Candidate) -> None:
        """Let a layer read quantized tensors and, where integer kernels need it, give one."""
        integer = self._mode is QuantizationMode.INT8
        if integer and candidate.layer_class is LayerClass.LINEAR:
            set_bias_apart(self._graph, node)
        node.inputs[0] = self._activation(node.inputs[0])
        if candidate.layer_class is LayerClass.PRODUCT:
            node.inputs[1] = self._activation(node.inputs[1])
        else:
            node.inputs[1] = self._weight(node.inputs[1], channel_axis(node))
        if integer and candidate.result is not None:
            self._quantize_result(node.outputs[0], self._ranges[candidate.result].threshold)

    def quantize_sum(self, node: gs.Node) -> None:
        """Let an Add of quantized tensors, as at the end of a residual block, give one too, if its range is known."""
        if self._mode is not QuantizationMode.INT8 or not is_standard(node, "Add"):
            return
        [total] = node.outputs
        rounded = [made for tensor in node.inputs if (made := self._made.get((tensor.name, None))) is not None]
        found = self._ranges.get(after_activation(total).name)
        if len(rounded) < len(node.inputs) or id(total) in self._outputs:
            return
        if found is not None and found.threshold > 0:
            node.inputs = rounded
            self._quantize_result(total, found.threshold)

    def clip_codes(self) -> None:
        """Let each Relu between two pairs of one scale be a Clip of the codes.

        Of INT8 alone. ONNX Runtime has no Relu of codes: it would make floats of them, and codes again.
        """
        if self._mode is QuantizationMode.INT8:
            for node in [node for node in self._graph.nodes if is_standard(node, "Relu")]:
                self._clip_codes(node)

    def _clip_codes(self, relu: gs.Node) -> None:
        import onnx_graphsurgeon as gs

        before, after = relu.inputs[0], relu.outputs[0]
        if id(after) in self._outputs or [len(before.outputs), len(after.outputs)] != [1, 1]:
            return
        made, [read] = before.inputs, after.outputs
        if [node.op for node in (*made, read)] != ["DequantizeLinear", "QuantizeLinear"]:
            return
        own, others = ([constant(x) for x in node.inputs[1:]] for node in (made[0], read))
        if all(a is not None and a.ndim == 0 and a == b for a, b in zip(own, others, strict=True)):
            codes, _, zero = made[0].inputs
            [clipped] = read.outputs
            for node in (made[0], relu, read):
                node.inputs.clear()
                node.outputs.clear()
            self._graph.nodes.append(gs.Node("Clip", relu.name, {}, [codes, zero], [clipped]))

    def _activation(self, tensor: gs.Tensor) -> gs.Tensor:
        """A tensor rounded to codes."""
        key = tensor.name, None
        if key not in self._made:
            self._made[key] = self._rounded(tensor)
            self._pair(tensor, self._made[key], self._ranges[tensor.name].threshold)
        return self._made[key]

    def _quantize_result(self, tensor: gs.Tensor, threshold: float) -> None:
        """Let all that reads a tensor read it rounded to codes."""
        rounded = self._rounded(tensor)
        self._rewiring.redirect(tensor, rounded)
        self._made[rounded.name, None] = rounded  # what reads it next finds it rounded
        self._pair(tensor, rounded, threshold)

    def _weight(self, tensor: gs.Constant, axis: int) -> gs.Tensor:
        """A weight rounded to codes, with a scale for each entry of an axis."""
        import onnx_graphsurgeon as gs

        key = tensor.name, axis
        if key not in self._made:
            values = constant(tensor)
            assert values is not None  # of a layer with a weight
            codes, scales = weight_codes(values, axis, self._mode)
            stored = gs.Constant(self._free(f"{tensor.name}_quantized"), codes)
            self._made[key] = self._rounded(tensor)
            parameters = self._parameters(tensor.name, scales, np.full(scales.shape, weight_zero(self._mode)))
            self._node("DequantizeLinear", [stored, *parameters], self._made[key], axis=axis)
        return self._made[key]

    def _pair(self, tensor: gs.Tensor, rounded: gs.Variable, threshold: float) -> None:
        import onnx_graphsurgeon as gs

        zero = activation_zero(self._mode)
        codes = gs.Variable(self._free(f"{tensor.name}_quantized"), zero.dtype, tensor.shape)
        parameters = self._parameters(tensor.name, scale_of(threshold, self._mode), zero)
        self._node("QuantizeLinear", [tensor, *parameters], codes)
        self._node("DequantizeLinear", [codes, *parameters], rounded)

    def _parameters(self, name: str, scale: np.ndarray, zero: np.ndarray) -> list[gs.Constant]:
        import onnx_graphsurgeon as gs

        return [gs.Constant(self._free(f"{name}_scale"), scale), gs.Constant(self._free(f"{name}_zero_point"), zero)]

    def _rounded(self, tensor: gs.Tensor) -> gs.Variable:
        import onnx_graphsurgeon as gs

        return gs.Variable(self._free(f"{tensor.name}_dequantized"), np.dtype(np.float32), tensor.shape)

    def _node(self, op: str, inputs: Sequence[gs.Tensor], output: gs.Tensor, **attributes: int) -> None:
        import onnx_graphsurgeon as gs

        name = self._free(f"{output.name}/{op}")
        self._graph.nodes.append(gs.Node(op, name, attributes, list(inputs), [output]))

    def _free(self, name: str) -> str:
        """The name, or with a number if it is taken."""
        number, free = 1, name
        while free in self._names:
            number, free = number + 1, f"{name}_{number + 1}"
        self._names.add(free)
        return free


def channel_axis(node: gs.Node) -> int:
    """The axis of a layer's weight that is its output channels."""
    return 0 if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)) else 1

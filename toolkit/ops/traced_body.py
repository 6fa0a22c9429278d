"""Bodies of custom ops written in Python over the operators of ONNX, as onnxscript records them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.ops.signature import Signature

if TYPE_CHECKING:  # what runs an op needs none of them
    import onnx_ir as ir
    from onnx import FunctionProto
    from onnxscript import OpBuilder

KINDS = {
    "int": ("value_int", "INT"),
    "float": ("value_float", "FLOAT"),
    "bool": ("value_int", "INT"),
    "str": ("value_string", "STRING"),
    "List[int]": ("value_ints", "INTS"),
    "List[float]": ("value_floats", "FLOATS"),
}
"""For the type of an attribute in a torch schema: the constant that reads it from a node, and its type in ONNX."""

InputShapes = Mapping[str, tuple[int, ...]]


class NodeAttributes(Mapping[str, Any]):
    """The attributes of the node whose body is recorded: `attributes[name]` is the value, for Python to decide by.

    What is decided by a value is right for that value alone: nodes with other values get a function of their own.
    `tensor` reads the attribute when the function runs, so that all nodes can share it.

    `opset` is the version of the standard operators that may be used, and `shapes` are those of the node's inputs, by
    name, as far as the model states them; they can be decided by as well.
    """

    def __init__(
        self, op: OpBuilder, values: Mapping[str, Any], kinds: Mapping[str, str], opset: int, shapes: InputShapes
    ) -> None:
        self.opset, self.shapes = opset, shapes
        self._op, self._values, self._kinds = op, values, kinds

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def tensor(self, name: str) -> ir.Value:
        """The node's attribute as a tensor: a scalar, or [N] for a list."""
        import onnx_ir as ir

        constant, kind = KINDS[self._kinds[name]]
        attribute = ir.RefAttr(constant, name, ir.AttributeType[kind])
        value: ir.Value = self._op.Constant(**{constant: attribute})
        return value


@dataclass(frozen=True)
class TracedBody:
    """`compute(op, attributes, *inputs)` gives the output, or a tuple of all of them.

    `op.Name(…)` and ``+ - * /`` on values record operators. Inputs are the tensor arguments of the torch operator: a
    list of tensors is a list of values, an optional tensor that is left out None. Numbers become constants of the type
    of the other operand, whatever that will be, so that FP16 works too. Loops and conditions of Python are gone when it
    has run.
    """

    compute: Callable[..., ir.Value | tuple[ir.Value, ...]]

    def function(
        self,
        domain: str,
        signature: Signature,
        *,
        opset: int,
        values: Mapping[str, Any],
        left_out: Collection[str],
        shapes: InputShapes,
    ) -> FunctionProto:
        """The local function, by operators of `opset`, for a node with attributes `values`.

        It has not the optional inputs `left_out`, and inputs of these `shapes`.
        """
        import onnx_ir as ir
        from onnxscript import build_function

        def record(op: OpBuilder, *inputs: ir.Value) -> list[ir.Value]:
            given = [None if value.name in left_out else value for value in inputs]
            node = NodeAttributes(op, values, kinds, opset, shapes)
            with arithmetic(op):
                computed = self.compute(op, node, *signature.grouped(given))
            outputs = list(computed) if isinstance(computed, tuple) else [computed]
            for i, (port, output) in enumerate(zip(signature.outputs, outputs, strict=True)):
                # In ONNX, too, an input cannot be an output, nor one output two.
                if any(output is other for other in (*inputs, *outputs[:i])):
                    outputs[i] = op.Identity(output)
                outputs[i].name = port.name
            return outputs

        kinds = signature.attributes
        function = build_function(
            record,
            [ir.Value(name=port.name) for port in signature.inputs],
            domain=domain,
            name=signature.op,
            attributes=[ir.Attr(name, ir.AttributeType[KINDS[kind][1]], None) for name, kind in kinds.items()],
            opset_imports={"": opset},
        )
        proto: FunctionProto = ir.to_proto(function)
        return proto


@contextmanager
def arithmetic(op: OpBuilder) -> Iterator[None]:
    """``+ - * /`` on values record operators in `op`. onnx_ir keeps one such recorder, which is put back."""
    import onnx_ir as ir

    before = ir.set_value_magic_handler(op)
    try:
        yield
    finally:
        ir.set_value_magic_handler(before)


def sizes(op: OpBuilder, tensor: ir.Value, rank: int) -> tuple[ir.Value, ...]:
    """The sizes of a tensor of `rank` dimensions when the function runs, [1] each."""
    return tuple(op.Shape(tensor, start=axis, end=axis + 1) for axis in range(rank))


def reshape(op: OpBuilder, tensor: ir.Value, *shape: ir.Value | list[int]) -> ir.Value:
    """The tensor in a shape put together from sizes, also if one of them is zero."""
    reshaped: ir.Value = op.Reshape(tensor, op.Concat(*shape, axis=0), allowzero=1)
    return reshaped

"""What a custom op is: a torch operator, the ONNX node it becomes, and the standard-ONNX body behind that node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.parser
import torch
from onnx import FunctionProto
from onnx.defs import OpSchema
from torch._library.custom_ops import CustomOpDef

from toolkit.errors import InputError
from toolkit.ops.kernel import Kernel, Shapes
from toolkit.ops.traced_body import TracedBody

DOMAIN = "uniad"
VERSION = 1
OPSET = 18
"""Of the models that the toolkit exports."""

OLDEST_OPSET = 16
"""Of the models that custom ops can stand in: it brought GridSample."""

Attributes = Mapping[str, Any]

ATTRIBUTE_TYPES = {
    "int": OpSchema.AttrType.INT,
    "float": OpSchema.AttrType.FLOAT,
    "str": OpSchema.AttrType.STRING,
    "List[int]": OpSchema.AttrType.INTS,
}


@dataclass(frozen=True)
class CustomOp:
    """An operator stated once.

    `torch_op` is the eager implementation (a `torch.library.custom_op` with a fake): its tensor arguments are the
    node's inputs, its other arguments the node's attributes of the same names. `body` is the local function that
    computes a node by standard ops of opset 18, a `TracedBody` or, from the node's attributes, a text in the syntax of
    `onnx.parser`; where these ops mean the same in another opset, it serves models of that opset too. `example` gives
    the arguments of one small call of `torch_op`, by which an installation is tested. `output_shape` gives the output's
    shape from the shapes of the inputs, by ``+ - * //`` alone, because TensorRT asks it about sizes that are yet open;
    with it and `kernel` the op is a TensorRT plugin too.
    """

    name: str
    torch_op: CustomOpDef
    body: TracedBody | Callable[[Attributes], str]
    kernel: Kernel | None = None
    example: Callable[[], tuple[Any, ...]] | None = None
    output_shape: Callable[[Shapes, Attributes], Sequence[int]] | None = None

    @property
    def overload(self) -> torch._ops.OpOverload:
        overload: torch._ops.OpOverload = self.torch_op._opoverload
        return overload

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.overload._schema.arguments if str(a.type) == "Tensor")

    @property
    def attributes(self) -> dict[str, str]:
        """Attribute names and their torch schema types."""
        return {a.name: str(a.type) for a in self.overload._schema.arguments if str(a.type) != "Tensor"}

    def require_plugin(self) -> None:
        """Raise InputError unless the op states what it takes to be a TensorRT plugin."""
        for part in ("kernel", "output_shape"):
            if getattr(self, part) is None:
                raise InputError(
                    f"op {self.name!r} has no {part}, so it cannot be a TensorRT plugin; state it in CustomOp"
                )

    def function(self, attributes: Attributes) -> FunctionProto:
        """The local function for a node with these attributes."""
        if isinstance(self.body, TracedBody):
            return self.body.function(
                DOMAIN, self.name, self.inputs, opset=OPSET, kinds=self.attributes, values=attributes
            )
        return onnx.parser.parse_function(self.body(attributes))

    def schema(self) -> OpSchema:
        """ONNX operator schema: all tensors share one floating-point type."""
        return OpSchema(
            self.name,
            DOMAIN,
            VERSION,
            self.overload.name(),
            inputs=[OpSchema.FormalParameter(name, "T") for name in self.inputs],
            outputs=[OpSchema.FormalParameter("output", "T")],
            type_constraints=[("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "floating point")],
            attributes=[OpSchema.Attribute(name, ATTRIBUTE_TYPES[kind], "") for name, kind in self.attributes.items()],
        )

    def translation(self) -> Callable[..., Any]:
        """How the torch exporter writes this op: one node of our domain."""
        from onnxscript.values import Opset

        names = [argument.name for argument in self.overload._schema.arguments]

        def translate(*arguments: Any) -> Any:
            values = dict(zip(names, arguments, strict=True))
            attributes = {name: values.pop(name) for name in self.attributes}
            return getattr(Opset(DOMAIN, VERSION), self.name)(*values.values(), **attributes)

        return translate


def node_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values (strings decoded)."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


@contextmanager
def registered_schemas(ops: Sequence[CustomOp]) -> Iterator[None]:
    """Make the ops known to ONNX's checker and exporter for the duration of a block."""
    added = [op for op in ops if not onnx.defs.has(op.name, DOMAIN)]
    for op in added:
        onnx.defs.register_schema(op.schema())
    try:
        yield
    finally:
        for op in added:
            onnx.defs.deregister_schema(op.name, VERSION, DOMAIN)

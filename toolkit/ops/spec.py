"""What a custom op is: a torch operator, the ONNX node it becomes, and the standard-ONNX body behind that node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch._library.custom_ops import CustomOpDef

from toolkit.errors import InputError
from toolkit.ops.kernel import Kernel, Shapes
from toolkit.ops.signature import Port, Signature, read_signature
from toolkit.ops.traced_body import KINDS, InputShapes, TracedBody

if TYPE_CHECKING:  # what runs an op needs none of them
    import onnx
    from onnx import FunctionProto
    from onnx.defs import OpSchema

DOMAIN = "uniad"
VERSION = 1
OPSET = 18
"""Of the models that the toolkit exports, unless a custom op wishes for a later one."""

OLDEST_OPSET = 16
"""Of the models that custom ops can stand in: it brought GridSample."""

Attributes = Mapping[str, Any]

ELEMENT_TYPES = {"float32": "tensor(float)", "int32": "tensor(int32)", "int64": "tensor(int64)", "bool": "tensor(bool)"}
FLOATING_TYPES = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]

Shape = Sequence[int]


@dataclass(frozen=True)
class CustomOp:
    """An operator stated once.

    `torch_op` is the eager implementation (a `torch.library.custom_op` with a fake): its tensor arguments are the
    node's inputs, its other arguments the node's attributes of the same names. `body` is the local function that
    computes a node by standard ops of opset 18, a `TracedBody` or, from the node's attributes, a text in the syntax of
    `onnx.parser`; where these ops mean the same in another opset, it serves models of that opset too. `example` gives
    the arguments of one small call of `torch_op`, by which an installation is tested. `output_shape` gives the output's
    shape from the shapes of the inputs, by ``+ - * //`` alone, because TensorRT asks it about sizes that are yet open;
    of several outputs it gives each one's. With it and `kernel` the op is a TensorRT plugin too. `backward` is a kernel
    of the gradients, for `register_gradient`: its inputs are those of the op, then the gradients of the floating-point
    outputs, for which `plan` gets the shapes too; its outputs are the gradients of the floating-point inputs, each as
    FP32 zeros to which it adds.

    `outputs` names what `torch_op` returns. Tensors share one floating-point type, which reduced precision may change;
    `types` says by name which do not: "int32", "int64", "bool", or "float32" for what must stay so, as coordinates.
    `lengths` says how many tensors an argument that is a list of them has. An optional tensor that is left out has the
    shape (0,). `opset` is the first one that has an operator by which the body computes best: networks with the op are
    exported in it.

    Raises InputError, naming op and argument, for a signature that cannot be, and for a kernel that does not exist.
    """

    name: str
    torch_op: CustomOpDef
    body: TracedBody | Callable[[Attributes], str]
    kernel: Kernel | None = None
    example: Callable[[], tuple[Any, ...]] | None = None
    output_shape: Callable[[Shapes, Attributes], Shape | Sequence[Shape]] | None = None
    outputs: tuple[str, ...] = ("output",)
    types: Mapping[str, str] = field(default_factory=dict, hash=False)
    lengths: Mapping[str, int] = field(default_factory=dict, hash=False)
    opset: int = OPSET
    backward: Kernel | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a node."""
        assert self.signature
        for kernel in (self.kernel, self.backward):
            if kernel is not None and not kernel.source.is_file():
                raise InputError(f"op {self.name!r}: its kernel {kernel.source} does not exist; put the file there")

    @property
    def overload(self) -> torch._ops.OpOverload:
        overload: torch._ops.OpOverload = self.torch_op._opoverload
        return overload

    @cached_property
    def signature(self) -> Signature:
        return read_signature(self.name, self.overload._schema, self.outputs, self.types, self.lengths)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.signature.inputs)

    @property
    def attributes(self) -> dict[str, str]:
        """Attribute names and their torch schema types."""
        return self.signature.attributes

    def output_shapes(self, shapes: Shapes, attributes: Attributes) -> list[Shape]:
        """The shape of each output, from those of the inputs."""
        assert self.output_shape is not None
        given: Any = self.output_shape(shapes, attributes)
        return [given] if len(self.outputs) == 1 else list(given)

    def require_plugin(self) -> None:
        """Raise InputError unless the op states what it takes to be a TensorRT plugin."""
        for part in ("kernel", "output_shape"):
            if getattr(self, part) is None:
                raise InputError(
                    f"op {self.name!r} has no {part}, so it cannot be a TensorRT plugin; state it in CustomOp"
                )

    def function(
        self,
        attributes: Attributes,
        left_out: Collection[str] = (),
        *,
        opset: int = OPSET,
        shapes: InputShapes = MappingProxyType({}),
    ) -> FunctionProto:
        """The local function for a node with these attributes, and without the optional inputs `left_out`.

        It may be of operators that came with `opset`, and right for inputs of these shapes alone.
        """
        if isinstance(self.body, TracedBody):
            return self.body.function(
                DOMAIN, self.signature, opset=opset, values=attributes, left_out=left_out, shapes=shapes
            )
        given = {port.name: port.name not in left_out for port in self.signature.inputs if port.optional}
        import onnx.parser

        return onnx.parser.parse_function(self.body({**attributes, **given}))

    def schema(self) -> OpSchema:
        """ONNX operator schema: tensors without a type of their own share one floating-point type."""
        from onnx.defs import OpSchema

        ports = (*self.signature.inputs, *self.signature.outputs)
        shared = any(port.dtype is None for port in ports)
        return OpSchema(
            self.name,
            DOMAIN,
            VERSION,
            self.overload.name(),
            inputs=[_formal(port) for port in self.signature.inputs],
            outputs=[_formal(port) for port in self.signature.outputs],
            type_constraints=[("T", FLOATING_TYPES, "floating point")] if shared else [],
            attributes=[self._attribute(name, kind) for name, kind in self.attributes.items()],
        )

    def _attribute(self, name: str, kind: str) -> OpSchema.Attribute:
        from onnx import AttributeProto, helper
        from onnx.defs import OpSchema

        type_name = KINDS[kind][1]
        if name not in self.signature.defaults:
            return OpSchema.Attribute(name, getattr(OpSchema.AttrType, type_name), "")
        value = onnx_value(self.signature.defaults[name])
        attribute = helper.make_attribute(name, value, attr_type=AttributeProto.AttributeType.Value(type_name))
        return OpSchema.Attribute(name, attribute)

    def translation(self) -> Callable[..., Any]:
        """How the torch exporter writes this op: one node of our domain, with all of its attributes."""
        from onnxscript.values import Opset

        def translate(*arguments: Any, **named: Any) -> Any:
            tensors, attributes = self.signature.bind(arguments, named)
            values = {name: onnx_value(value) for name, value in attributes.items()}
            return getattr(Opset(DOMAIN, VERSION), self.name)(*tensors, **values)

        return translate


def _formal(port: Port) -> OpSchema.FormalParameter:
    from onnx.defs import OpSchema

    option = OpSchema.FormalParameterOption.Optional if port.optional else OpSchema.FormalParameterOption.Single
    return OpSchema.FormalParameter(
        port.name, "T" if port.dtype is None else ELEMENT_TYPES[port.dtype], param_option=option
    )


def onnx_value(value: Any) -> Any:
    """An attribute's value as ONNX has it, which knows no truth values."""
    return int(value) if isinstance(value, bool) else value


def node_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values (strings decoded)."""
    import onnx

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


@contextmanager
def registered_schemas(ops: Sequence[CustomOp]) -> Iterator[None]:
    """Make the ops known to ONNX's checker and exporter for the duration of a block."""
    import onnx.defs

    added = [op for op in ops if not onnx.defs.has(op.name, DOMAIN)]
    for op in added:
        onnx.defs.register_schema(op.schema())
    try:
        yield
    finally:
        for op in added:
            onnx.defs.deregister_schema(op.name, VERSION, DOMAIN)

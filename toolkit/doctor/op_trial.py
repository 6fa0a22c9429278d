"""One call of a custom op, made once, by which every part of the op is examined without a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from toolkit.errors import InputError
from toolkit.ops.calls import Call
from toolkit.ops.cuda import shapes_and_strides
from toolkit.ops.entry_point import check_entry
from toolkit.ops.kernel import LEFT_OUT, Kernel, Launch
from toolkit.ops.nvrtc import compile_kernel, cuda_headers, supported_architectures
from toolkit.ops.spec import DOMAIN, OPSET, VERSION, CustomOp, onnx_value, registered_schemas


class PartFault(Exception):
    """What is wrong with an op, and the part of it where that is to be mended."""

    def __init__(self, part: str, cause: str) -> None:
        super().__init__(cause)
        self.part = part
        self.cause = cause


@dataclass(frozen=True)
class Trial:
    """The op's example: inputs (None for those left out) and attributes, and what its torch operator gives for it."""

    op: CustomOp
    inputs: Sequence[Tensor | None]
    attributes: Mapping[str, Any]
    expected: Sequence[Tensor]

    @classmethod
    def of(cls, op: CustomOp) -> Trial:
        """Call `example`, and the operator with what it gives. Raises PartFault."""
        assert op.example is not None
        with blaming("example"):
            inputs, attributes = op.signature.bind(op.example(), {})
            check_inputs(op, inputs)
        with blaming(operator_name(op)):
            expected = called(op, inputs, attributes)
            check_outputs(op, expected)
        return cls(op, inputs, attributes, expected)

    @property
    def given(self) -> tuple[Tensor, ...]:
        """The inputs that are not left out."""
        return tuple(x for x in self.inputs if x is not None)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [LEFT_OUT if x is None else tuple(x.shape) for x in self.inputs]

    def examine(self) -> None:
        """Compare what the op says of itself with the example, part by part. Raises PartFault for the first fault."""
        self._fake()
        self._output_shape()
        self._body()
        self._kernel()
        self._backward()

    def _fake(self) -> None:
        with blaming("register_fake"), FakeTensorMode() as mode:
            inputs = [None if x is None else mode.from_tensor(x) for x in self.inputs]
            fakes = called(self.op, inputs, self.attributes)
            for port, fake, real in zip(self.op.signature.outputs, fakes, self.expected, strict=True):
                if (fake.shape, fake.dtype) != (real.shape, real.dtype):
                    found = f"it gives {port.name!r} as {described(fake)}, torch as {described(real)}"
                    raise PartFault("register_fake", found)

    def _output_shape(self) -> None:
        if self.op.output_shape is None:
            return
        with blaming("output_shape"):
            shapes = [tuple(shape) for shape in self.op.output_shapes(self.shapes, self.attributes)]
            expected = [tuple(x.shape) for x in self.expected]
            if shapes != expected:
                raise PartFault("output_shape", f"it gives {listed(shapes)}, torch {listed(expected)}")

    def _body(self) -> None:
        with blaming("body"):
            left_out = [name for name, x in zip(self.op.inputs, self.inputs, strict=True) if x is None]
            function = self.op.function(self.attributes, left_out)
            for what, names, wanted in (
                ("inputs", function.input, self.op.inputs),
                ("outputs", function.output, self.op.outputs),
            ):
                if len(names) != len(wanted):
                    raise PartFault("body", f"it has the {what} {listed(names)}; the op has {listed(wanted)}")
            read = [*function.attribute, *(attribute.name for attribute in function.attribute_proto)]
            for name in read:
                if name not in self.op.attributes:
                    known = listed(list(self.op.attributes)) or "none"
                    raise PartFault("body", f"it reads an attribute {name!r}; the op has {known}")
            with registered_schemas([self.op]):
                onnx.checker.check_model(one_node(self, function), full_check=True)

    def _kernel(self) -> None:
        if self.op.kernel is None:
            return
        with blaming("Kernel.plan"):
            launch = Call.of(self.op, *self.op.signature.call(self.inputs, self.attributes)).launch("float32")
            check_launch("Kernel.plan", launch)
        compile_entry(self.op.kernel, launch, len(self.op.inputs), len(self.op.outputs))

    def _backward(self) -> None:
        """The gradients of the op's own code, and their kernel, as `_kernel` examines it."""
        if self.op.backward is None:
            return
        incoming, found = self.gradients()
        with blaming("backward.plan"):
            launch = self.op.backward.plan(*shapes_and_strides((*self.inputs, *incoming)), "float32", self.attributes)
            check_launch("backward.plan", launch)
        compile_entry(self.op.backward, launch, len(self.op.inputs) + len(incoming), len(found))

    def gradients(self, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor | None]]:
        """Gradients of the floating-point outputs, made up, and those of the floating-point inputs that they lead to.

        The operator's own code computes them; None is that of an input that is left out.
        """
        random = torch.Generator().manual_seed(0)
        signature = self.op.signature
        with blaming("register_gradient"):
            inputs = [
                x.detach().to(dtype).requires_grad_() if port.has_gradient and x is not None else x
                for port, x in zip(signature.inputs, self.inputs, strict=True)
            ]
            with torch.enable_grad():
                outputs = called(self.op, inputs, self.attributes)
            of_floats = [x for port, x in zip(signature.outputs, outputs, strict=True) if port.has_gradient]
            incoming = [torch.randn(x.shape, generator=random).to(x.device) for x in of_floats]
            torch.autograd.backward(of_floats, [x.to(y.dtype) for x, y in zip(incoming, of_floats, strict=True)])
        floats = [x for port, x in zip(signature.inputs, inputs, strict=True) if port.has_gradient]
        return incoming, [None if x is None or x.grad is None else x.grad for x in floats]


def check_launch(part: str, launch: Launch) -> None:
    """Raise PartFault unless the sizes of a launch are integers."""
    if not all(isinstance(size, int) for size in (*launch.integers, *launch.grid, launch.block)):
        raise PartFault(part, f"integers, grid and block must be integers; it gives {launch}")


def compile_entry(kernel: Kernel, launch: Launch, inputs: int, outputs: int) -> None:
    """Compile for the oldest GPU and read the entry point; nothing where there is no compiler. Raises PartFault."""
    try:
        cuda_headers()
        architecture = supported_architectures()[0].replace("sm_", "compute_")
    except InputError:
        return
    with blaming(kernel.source.name):
        ptx = compile_kernel(kernel.source, architecture, launch.macros)
        check_entry(kernel, launch, ptx, inputs, outputs)


def called(op: CustomOp, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The outputs of the torch operator for a node's inputs and attributes."""
    positional, named = op.signature.call(inputs, attributes)
    returned = op.torch_op(*positional, **named)
    return returned if isinstance(returned, tuple) else (returned,)


def check_inputs(op: CustomOp, inputs: Sequence[Any]) -> None:
    """Raise InputError for an input that is no tensor, or has not the type that the op states."""
    for port, x in zip(op.signature.inputs, inputs, strict=True):
        if x is None and port.optional:
            continue
        if not isinstance(x, Tensor):
            raise InputError(f"it gives {port.name!r} as {type(x).__name__}, not as a tensor")
        dtype, wanted = str(x.dtype).removeprefix("torch."), port.dtype or "float32"
        if dtype != wanted:
            raise InputError(
                f"it gives {port.name!r} as {dtype}, which the op takes as {wanted}; give that, or state the type: "
                f"CustomOp(…, types={{{port.name!r}: {dtype!r}}})"
            )


def check_outputs(op: CustomOp, outputs: Sequence[Tensor]) -> None:
    """Raise InputError for an output that is not laid out as a node's, or has not the type that the op states."""
    for port, x in zip(op.signature.outputs, outputs, strict=True):
        dtype, wanted = str(x.dtype).removeprefix("torch."), port.dtype or "float32"
        if dtype != wanted:
            raise InputError(f"it gives {port.name!r} as {dtype}, which the op states as {wanted}")
        if not x.is_contiguous():
            raise InputError(f"it gives {port.name!r} with strides {x.stride()}; end with .contiguous()")


def one_node(trial: Trial, function: onnx.FunctionProto) -> ModelProto:
    """A model of one call with the function behind it, its outputs declared as torch gives them."""
    helper = onnx.helper
    op, signature = trial.op, trial.op.signature

    def declared(name: str, x: Tensor) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.numpy().dtype), x.shape)

    given = [(port.name, x) for port, x in zip(signature.inputs, trial.inputs, strict=True) if x is not None]
    names = ["" if x is None else port.name for port, x in zip(signature.inputs, trial.inputs, strict=True)]
    attributes = {name: onnx_value(value) for name, value in trial.attributes.items()}
    node = helper.make_node(op.name, names, op.outputs, domain=DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "one_node",
        [declared(name, x) for name, x in given],
        [declared(name, x) for name, x in zip(op.outputs, trial.expected, strict=True)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=[function])


@contextmanager
def blaming(part: str) -> Iterator[None]:
    """Whatever fails in the block is a fault of this part."""
    try:
        yield
    except PartFault:
        raise
    # An author's code, the compiler and the checker fail in many ways, and each is a finding.
    except Exception as error:
        raise PartFault(part, cause_of(error)) from error


def cause_of(error: BaseException) -> str:
    """What an error says, in one line and whole."""
    said = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    text = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
    return " ".join(text.split())


def operator_name(op: CustomOp) -> str:
    """The author's function that is the torch operator."""
    return str(op.torch_op._init_fn.__name__)


def described(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"


def listed(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items))

"""A custom op as a TensorRT plugin (`IPluginV3`) that launches the op's kernel through CuPy.

The TensorRT module is passed in, `tensorrt` or TensorRT for RTX alike, so that nothing here needs either.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from toolkit.errors import InputError
from toolkit.ops.kernel import Launch, dense_strides, is_given, load_cupy, run_kernel
from toolkit.ops.spec import DOMAIN, VERSION, Attributes, CustomOp
from toolkit.ops.tensorrt_extent import Extent, to_expressions
from toolkit.ops.tensorrt_fields import encode, no_values, plugin_fields, read_fields
from toolkit.ops.tensorrt_types import output_type, own_type


def register_plugins(trt: ModuleType, ops: Sequence[CustomOp]) -> None:
    """Make the ops known to TensorRT's parser and runtime as plugins of namespace ``uniad``, once per process.

    Needed before a model that uses them is parsed, and before an engine with them is loaded. Raises InputError if an
    op lacks what a plugin needs or its name is taken.
    """
    for op in ops:
        registered_creator(trt, op)


@functools.cache
def registered_creator(trt: ModuleType, op: CustomOp) -> Any:
    """The op's creator; the cache keeps it alive, which TensorRT's registry does not."""
    op.require_plugin()
    creator = with_bases(OpPluginCreator, trt.IPluginCreatorV3One)(trt, op)
    if not trt.get_plugin_registry().register_creator(creator, DOMAIN):
        raise InputError(f"TensorRT already has another plugin {op.name!r} in namespace {DOMAIN!r}; rename the op")
    return creator


@functools.cache
def with_bases(behaviour: Any, *interfaces: Any) -> type:
    """A class with the behaviour of one class and the interfaces of a TensorRT module, each of them initialised."""

    def initialise(self: Any, *arguments: Any) -> None:
        for interface in interfaces:
            interface.__init__(self)
        behaviour.__init__(self, *arguments)

    return type(behaviour.__name__, (behaviour, *interfaces), {"__init__": initialise})


class OpPluginCreator:
    """Makes plugins of one op; `IPluginCreatorV3One`."""

    def __init__(self, trt: ModuleType, op: CustomOp) -> None:
        self.trt = trt
        self.op = op
        self.name = op.name
        self.plugin_version = str(VERSION)
        self.plugin_namespace = DOMAIN
        self.values = no_values(op)
        self.fields = plugin_fields(trt, op, self.values)
        self.field_names = trt.PluginFieldCollection(self.fields)

    def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
        """A plugin with the attributes of a node or, in the runtime phase, with those that an engine stored."""
        return new_plugin(self.trt, self.op, read_fields(self.op, fields))


def new_plugin(trt: ModuleType, op: CustomOp, attributes: Attributes) -> Any:
    plugin = with_bases(OpPlugin, trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    return plugin(trt, op, attributes)


class OpPlugin:
    """One node of an op in TensorRT: `IPluginV3` with its core, build and runtime capabilities.

    Tensors are linear. They have the types that the op states for them; the others share one, FP32 or FP16.
    """

    def __init__(self, trt: ModuleType, op: CustomOp, attributes: Attributes) -> None:
        self.trt = trt
        self.op = op
        self.attributes = attributes
        self.plugin_name = op.name
        self.plugin_version = str(VERSION)
        self.plugin_namespace = DOMAIN
        self.num_outputs = len(op.outputs)
        self.values = encode(op, attributes)
        self.fields = plugin_fields(trt, op, self.values)
        self.launch: Launch | None = None

    def get_capability_interface(self, kind: Any) -> Any:
        return self

    def clone(self) -> Any:
        copy = new_plugin(self.trt, self.op, self.attributes)
        copy.launch = self.launch
        return copy

    def get_fields_to_serialize(self) -> Any:
        return self.trt.PluginFieldCollection(self.fields)

    def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
        return [output_type(self.trt, self.op, port, input_types) for port in self.op.signature.outputs]

    def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Sequence[Any], builder: Any) -> list[Any]:
        """The shapes of the op's outputs as expressions of sizes, of which some are open until run time."""
        shapes: Any = [[Extent(self.trt, builder, shape[axis]) for axis in range(len(shape))] for shape in inputs]
        given = self.op.output_shapes(shapes, self.attributes)
        return [to_expressions(self.trt, builder, shape) for shape in given]

    def supports_format_combination(self, position: int, tensors: Sequence[Any], inputs: int) -> bool:
        """Whether a tensor can be as described beside those before it."""
        ports = (*self.op.signature.inputs, *self.op.signature.outputs)
        described = [tensor.desc for tensor in tensors[: position + 1]]
        if described[-1].format != self.trt.TensorFormat.LINEAR:
            return False
        own = ports[position].dtype
        if own is not None:
            return bool(described[-1].type == own_type(self.trt, own))
        shared = [
            tensor.type
            for port, tensor in zip(ports, described, strict=False)
            if port.dtype is None and not (port.optional and not is_given(tuple(tensor.dims)))
        ]
        return set(shared) in (set(), {self.trt.DataType.FLOAT}, {self.trt.DataType.HALF})

    def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Nothing: the launch depends on sizes that may still be open."""

    def get_valid_tactics(self) -> list[int]:
        return []

    def set_tactic(self, tactic: int) -> None:
        """Nothing: there is one."""

    def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        return 0

    def attach_to_context(self, context: Any) -> Any:
        return self.clone()

    def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Plan the launch for sizes that are now known; TensorRT calls this before it enqueues with new ones."""
        assert self.op.kernel is not None
        shapes = [tuple(tensor.dims) for tensor in inputs]
        shared = self.op.signature.shared
        half = shared is not None and inputs[shared].type == self.trt.DataType.HALF
        dtype = "float16" if half else "float32"
        self.launch = self.op.kernel.plan(shapes, [dense_strides(shape) for shape in shapes], dtype, self.attributes)

    def enqueue(
        self,
        input_tensors: Sequence[Any],
        output_tensors: Sequence[Any],
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        stream: int,
    ) -> None:
        """Launch the kernel on TensorRT's stream, without waiting."""
        assert self.op.kernel is not None
        assert self.launch is not None
        device = load_cupy().cuda.runtime.getDevice()
        run_kernel(self.op.kernel, self.launch, [*inputs, *outputs], device, stream, len(outputs))

"""TensorRT's own Python sources for quickly deployable plugins, over a stand-in for its compiled module.

The sources come with `tensorrt-cu13-bindings`. They check signatures, call the plugin's functions as in a build and
keep the kernel; the stand-in computes sizes and stores what the engine would get.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

PACKAGE = "tensorrt_bindings"


class DimensionOperation(Enum):
    SUM = auto()
    SUB = auto()
    PROD = auto()
    FLOOR_DIV = auto()
    CEIL_DIV = auto()
    MAX = auto()
    MIN = auto()
    EQUAL = auto()
    LESS = auto()


@dataclass(frozen=True)
class IDimensionExpr:
    """A size: what it is at run time, and whether it is known when the engine is built."""

    value: int
    constant: bool

    def is_constant(self) -> bool:
        return self.constant

    def get_constant_value(self) -> int:
        assert self.constant
        return self.value


class ExprBuilder:
    def constant(self, value: int) -> IDimensionExpr:
        return IDimensionExpr(value, True)

    def operation(self, kind: DimensionOperation, left: IDimensionExpr, right: IDimensionExpr) -> IDimensionExpr:
        a, b = left.value, right.value
        values = {
            DimensionOperation.SUM: a + b,
            DimensionOperation.SUB: a - b,
            DimensionOperation.PROD: a * b,
            DimensionOperation.FLOOR_DIV: a // b if b else 0,
        }
        assert a >= 0, "TensorRT does not say how it divides negative sizes"
        return IDimensionExpr(values[kind], left.constant and right.constant)


class Dims(tuple[int, ...]):
    MAX_DIMS = 8
    __slots__ = ()


class DimsExprs(list[Any]):
    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


class DataType(Enum):
    FLOAT = auto()
    HALF = auto()
    INT32 = auto()
    BF16 = auto()


@dataclass
class PluginTensorDesc:
    dims: Any = None
    type: Any = None
    format: Any = None
    scale: float = 1.0


@dataclass
class DynamicPluginTensorDesc:
    """A tensor at build time: -1 for open sizes, which are usually as in `opt`."""

    desc: PluginTensorDesc
    opt: Dims


@dataclass
class Registry:
    creators: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def register_creator(self, creator: Any, namespace: str) -> bool:
        key = (creator.name, creator.plugin_version, namespace)
        return self.creators.setdefault(key, creator) is creator

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators.get((name, version, namespace))


class Logger:
    WARNING = 2

    def log(self, severity: int, message: str) -> None:
        """Keep quiet."""


INTERFACES = (
    "ITensor",
    "IPluginV3",
    "IPluginV3QuickCore",
    "IPluginV3QuickBuild",
    "IPluginV3QuickRuntime",
    "IPluginV3QuickAOTBuild",
    "IPluginCreatorV3Quick",
    "ISymExpr",
    "IExprBuilder",
)


def stand_in() -> ModuleType:
    """What `import tensorrt` gives where its libraries are, as far as the sources use it."""
    registry = Registry()
    module = ModuleType("tensorrt")
    vars(module).update({name: type(name, (), {}) for name in INTERFACES})
    vars(module).update(
        DimensionOperation=DimensionOperation,
        IDimensionExpr=IDimensionExpr,
        Dims=Dims,
        DimsExprs=DimsExprs,
        DataType=DataType,
        PluginTensorDesc=PluginTensorDesc,
        DynamicPluginTensorDesc=DynamicPluginTensorDesc,
        TensorFormat=Enum("TensorFormat", "LINEAR"),
        PluginFieldType=Enum(
            "PluginFieldType", "UNKNOWN CHAR INT8 INT16 INT32 INT64 FLOAT16 FLOAT32 FLOAT64 BF16 DIMS"
        ),
        PluginArgType=Enum("PluginArgType", "INT"),
        PluginArgDataType=Enum("PluginArgDataType", "INT8 INT16 INT32"),
        QuickPluginCreationRequest=Enum(
            "QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT"
        ),
        TensorRTPhase=Enum("TensorRTPhase", "BUILD RUNTIME"),
        PluginField=lambda name, data, type: SimpleNamespace(name=name, data=data, type=type),
        PluginFieldCollection=list,
        Logger=Logger,
        get_plugin_registry=lambda: registry,
        nptype=lambda kind: {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32}[kind],
    )
    return module


@contextmanager
def full_tensorrt() -> Iterator[ModuleType]:
    """The stand-in with TensorRT's own `tensorrt.plugin` in it."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    module = stand_in()
    module.__path__ = [str(Path(spec.origin).parent)]
    sys.modules["tensorrt"] = module
    try:
        importlib.import_module("tensorrt.plugin")
        yield module
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt"]:
            del sys.modules[name]


@dataclass(frozen=True)
class Embedded:
    """What an engine keeps of a plugin."""

    entry: str
    code: bytes
    grid: tuple[int, int, int]
    block: int
    integers: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    output_types: tuple[Any, ...]

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of the only output."""
        (shape,) = self.outputs
        return shape

    @property
    def output_type(self) -> Any:
        """The type of the only output."""
        (kind,) = self.output_types
        return kind


def embed(
    trt: ModuleType,
    name: str,
    fields: Sequence[Any],
    shapes: Sequence[Sequence[int]],
    dtype: DataType | Sequence[DataType],
    *,
    open_axes: Sequence[Sequence[int]],
    usual: int,
) -> Embedded:
    """Take a plugin through a build as TensorRT does: types, shapes, launch, kernel.

    `shapes` are those at run time; the axes in `open_axes` (one sequence for each input) are open at build time and
    said to be `usual` there. `dtype` is the type of all inputs, or of each.
    """
    types = [dtype] * len(shapes) if isinstance(dtype, DataType) else list(dtype)
    creator = trt.get_plugin_registry().get_creator(name, "1", "uniad")
    request = trt.QuickPluginCreationRequest.PREFER_AOT
    plugin = creator.create_plugin(name, "uniad", fields, trt.TensorRTPhase.BUILD, request)
    builder = ExprBuilder()
    output_types = plugin.get_output_data_types(types, [len(shape) for shape in shapes])
    sizes = [
        [IDimensionExpr(size, axis not in open_) for axis, size in enumerate(shape)]
        for shape, open_ in zip(shapes, open_axes, strict=True)
    ]
    outputs = [tuple(size.value for size in shape) for shape in plugin.get_output_shapes(sizes, [], builder)]
    inputs = [
        described_tensor(trt, shape, open_, usual, kind)
        for shape, open_, kind in zip(shapes, open_axes, types, strict=True)
    ]
    given = [described_tensor(trt, shape, (), usual, kind) for shape, kind in zip(outputs, output_types, strict=True)]
    described = [*inputs, *given]
    plugin.get_supported_format_combinations(described, len(shapes))
    plugin.configure_plugin(inputs, given)
    plugin.set_tactic(0)
    launch, integers = SimpleNamespace(), Integers()
    plugin.get_launch_params(sizes, described, len(shapes), launch, integers, builder)
    entry, code = plugin.get_kernel([d.desc for d in inputs], [d.desc for d in given])
    grid = tuple(getattr(launch, f"grid_{axis}").expr.value for axis in "xyz")
    values = tuple(integers[i].expr.value for i in range(integers.nbSymExprs))
    return Embedded(entry, code, grid, launch.block_x.expr.value, values, tuple(outputs), tuple(output_types))


class Integers(dict[int, Any]):
    """Where a plugin leaves the kernel's further arguments."""

    nbSymExprs = 0  # noqa: N815 - TensorRT's name


def described_tensor(
    trt: ModuleType, shape: Sequence[int], open_axes: Sequence[int], usual: int, dtype: DataType
) -> DynamicPluginTensorDesc:
    dims = Dims(-1 if axis in open_axes else size for axis, size in enumerate(shape))
    opt = Dims(usual if axis in open_axes else size for axis, size in enumerate(shape))
    return DynamicPluginTensorDesc(PluginTensorDesc(dims, dtype, trt.TensorFormat.LINEAR), opt)

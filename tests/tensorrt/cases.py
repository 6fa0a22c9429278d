"""Small graphs of one node, for every op and its forms, in plugin form: no local function stands behind the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from custom_ops.inverse.op import KERNEL
from custom_ops.plugin import uniad_custom_ops
from tests.sample_ops.bev_pool import BEV_POOL
from tests.sample_ops.blend import BLEND
from tests.sample_ops.top_scores import TOP_SCORES
from toolkit.engines.tensorrt.settings import ShapeRange
from toolkit.ops.bodies import fill_left_out
from toolkit.ops.kernel import Shapes
from toolkit.ops.signature import Port
from toolkit.ops.spec import DOMAIN, OPSET, VERSION, Attributes, CustomOp, onnx_value

DTYPES = {"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16}
OWN_DTYPES = {"float32": onnx.TensorProto.FLOAT, "int32": onnx.TensorProto.INT32}
CAPABILITIES = ("8.6", "8.9", "12.0")

OPEN = "n"
"""A size that is 5 in a static graph; open, from 1 to 9, in a dynamic one."""


@dataclass(frozen=True)
class Case:
    """One call of the op of a name; optional inputs that are not named are left out."""

    op: str
    inputs: Mapping[str, tuple[int | str, ...]]
    attributes: Mapping[str, Any]
    output: tuple[int | str, ...]
    further: tuple[tuple[int | str, ...], ...] = ()
    """Shapes of the outputs after the first."""

    @property
    def outputs(self) -> tuple[tuple[int | str, ...], ...]:
        return (self.output, *self.further)


@torch.library.custom_op("uniad_tests::strided", mutates_args=())
def strided(x: Tensor, padding: int, stride: int, scale: float) -> Tensor:
    """An op whose output has sizes to be computed: that of a strided window over both axes of x."""
    raise NotImplementedError


def strided_shape(shapes: Shapes, attributes: Attributes) -> list[int]:
    """Every kind of arithmetic on a size, with a number on either side."""
    (height, width) = shapes[0]
    padding, stride = attributes["padding"], attributes["stride"]
    return [(height + 2 * padding - 3) // stride + 1, 1 + (20 - width * height)]


STRIDED = CustomOp("Strided", strided, lambda attributes: "", KERNEL, output_shape=strided_shape)
SAMPLE_OPS = (BEV_POOL, TOP_SCORES, BLEND)
OPS = (*uniad_custom_ops(), STRIDED, *SAMPLE_OPS)

CASES = {  # an op's first case has its name
    "MultiScaleDeformableAttention": Case(
        "MultiScaleDeformableAttention",
        {
            "value": (1, 14, 2, 4),
            "reference": (1, OPEN, 1, 2),
            "offsets": (1, OPEN, 2, 16),
            "logits": (1, OPEN, 2, 8),
        },
        {"spatial_shapes": [3, 4, 1, 2]},
        (1, OPEN, 2, 4),
    ),
    "attention with a reference point a level": Case(
        "MultiScaleDeformableAttention",
        {
            "value": (OPEN, 14, 2, 4),
            "reference": (OPEN, 7, 2, 2),
            "offsets": (OPEN, 7, 2, 16),
            "logits": (OPEN, 7, 2, 8),
        },
        {"spatial_shapes": [3, 4, 1, 2]},
        (OPEN, 7, 2, 4),
    ),
    "UnevenDeformableAttention": Case(
        "UnevenDeformableAttention",
        {
            "value": (OPEN, 14, 2, 4),
            "reference": (OPEN, 7, 1, 2),
            "offsets": (OPEN, 7, 2, 18),
            "logits": (OPEN, 7, 2, 9),
        },
        {"spatial_shapes": [3, 4, 1, 2], "level_points": [3, 6]},
        (OPEN, 7, 2, 4),
    ),
    "Rotate": Case(
        "Rotate", {"image": (OPEN, 5, 6), "angle": (1,), "center": (2,)}, {"interpolation": "bilinear"}, (OPEN, 5, 6)
    ),
    "Inverse": Case("Inverse", {"matrix": (OPEN, 3, 3)}, {}, (OPEN, 3, 3)),
    "inverse of 4x4": Case("Inverse", {"matrix": (2, OPEN, 4, 4)}, {}, (2, OPEN, 4, 4)),
    "ModulatedDeformableConvolution": Case(
        "ModulatedDeformableConvolution",
        {"image": (OPEN, 2, 5, 6), "offset": (OPEN, 18, 5, 6), "mask": (OPEN, 9, 5, 6), "weight": (4, 2, 3, 3)},
        {"stride": 1, "padding": 1, "dilation": 1},
        (OPEN, 4, 5, 6),
    ),
    "Strided": Case("Strided", {"x": (8, 2)}, {"padding": 1, "stride": 2, "scale": 0.25}, (4, 5)),
    "BevPool": Case("BevPool", {"depth": (OPEN,), "features": (OPEN, 3), "ranks": (OPEN,)}, {"cells": 4}, (4, 3)),
    "TopScores": Case("TopScores", {"scores": (OPEN,)}, {"count": 1}, (1,), ((1,),)),
    "Blend": Case(
        "Blend",
        {"maps_0": (OPEN,), "maps_1": (OPEN,), "bias": (OPEN,), "height": (OPEN,)},
        {"weights": [0.25, 0.75], "scale": 2.0, "negate": True},
        (OPEN,),
    ),
    "blend without a bias": Case(
        "Blend",
        {"maps_0": (OPEN,), "maps_1": (OPEN,), "height": (OPEN,)},
        {"weights": [0.25, 0.75], "scale": 2.0, "negate": False},
        (OPEN,),
    ),
}


def sized(shape: tuple[int | str, ...], size: int) -> tuple[int, ...]:
    return tuple(size if extent == OPEN else int(extent) for extent in shape)


def open_ranges(case: Case) -> dict[str, ShapeRange]:
    return {
        name: ShapeRange(sized(shape, 1), sized(shape, 5), sized(shape, 9))
        for name, shape in case.inputs.items()
        if OPEN in shape
    }


def write_model(path: Path, case: Case, dtype: str = "float32", *, dynamic: bool = False) -> Path:
    """Save the graph of a case."""
    [op] = [op for op in OPS if op.name == case.op]

    def declare(port: Port, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
        kind = DTYPES[dtype] if port.dtype is None else OWN_DTYPES[port.dtype]
        return onnx.helper.make_tensor_value_info(port.name, kind, shape if dynamic else sized(shape, 5))

    given = [port for port in op.signature.inputs if port.name in case.inputs]
    ports = [port for port in op.signature.inputs if port in given or port.optional]
    names = [port.name if port in given else "" for port in ports]
    attributes = {name: onnx_value(value) for name, value in case.attributes.items()}
    node = onnx.helper.make_node(case.op, names, op.outputs, name="the_node", domain=DOMAIN, **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "one_node",
        [declare(port, case.inputs[port.name]) for port in given],
        [declare(port, shape) for port, shape in zip(op.signature.outputs, case.outputs, strict=True)],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets)
    fill_left_out(model, [op])
    onnx.save(model, path)
    return path

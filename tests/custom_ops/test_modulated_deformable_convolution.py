"""Modulated deformable convolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import make_attribute, make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from torch import Tensor
from torch.nn.functional import conv2d

from custom_ops.modulated_deformable_convolution.op import (
    DEFORM_CONV_OPSET,
    MODULATED_DEFORMABLE_CONVOLUTION,
    modulated_deformable_convolution,
)
from toolkit.ops.bodies import attach_bodies
from toolkit.ops.spec import DOMAIN, VERSION, node_attributes


@dataclass(frozen=True)
class Case:
    """Sizes of one call; taps move by about `spread` pixels, `offset_groups` is the number of sets of offsets."""

    stride: int = 1
    padding: int = 1
    dilation: int = 1
    kernel: tuple[int, int] = (3, 3)
    groups: int = 1
    offset_groups: int = 1
    batch: int = 1
    height: int = 5
    width: int = 6
    spread: float = 1.0

    channels = 4
    outputs = 6

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output, as of a plain convolution."""
        sizes = zip((self.height, self.width), self.kernel, strict=True)
        height, width = (
            (size + 2 * self.padding - self.dilation * (kernel - 1) - 1) // self.stride + 1 for size, kernel in sizes
        )
        return height, width

    @property
    def attributes(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random image, offset, mask and weight."""
        generator = torch.Generator().manual_seed(0)
        taps = self.offset_groups * math.prod(self.kernel)
        image = torch.randn((self.batch, self.channels, self.height, self.width), generator=generator)
        offset = self.spread * torch.randn((self.batch, 2 * taps, *self.out_size), generator=generator)
        mask = torch.rand((self.batch, taps, *self.out_size), generator=generator)
        weight = torch.randn((self.outputs, self.channels // self.groups, *self.kernel), generator=generator)
        return image, offset, mask, weight


CASES = {
    "3x3": Case(),
    "stride two": Case(stride=2),
    "dilated": Case(padding=2, dilation=2),
    "no padding": Case(padding=0, batch=3),
    "1x1": Case(kernel=(1, 1), padding=0),
    "not square": Case(kernel=(1, 3), batch=2),
    "groups": Case(groups=2),
    "a set of offsets for each channel": Case(offset_groups=4, batch=2),
    "groups across sets of offsets": Case(groups=2, offset_groups=4),
    "far outside the image": Case(spread=20.0),
    "one pixel": Case(height=1, width=1),
    "no images": Case(batch=0),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


def one_node(case: Case, opset: int, *, newest: int | None = None, sizes_known: bool = True) -> ModelProto:
    """A model that is one call of the op, with its function."""
    tensors = case.inputs()
    output = modulated_deformable_convolution(*tensors, **case.attributes)
    inputs, outputs = (
        [
            make_tensor_value_info(name, TensorProto.FLOAT, x.shape if sizes_known else [None] * 4)
            for name, x in zip(names, values, strict=True)
        ]
        for names, values in ((MODULATED_DEFORMABLE_CONVOLUTION.inputs, tensors), (["output"], [output]))
    )
    op = MODULATED_DEFORMABLE_CONVOLUTION
    node = make_node(op.name, op.inputs, ["output"], domain=DOMAIN)
    node.attribute.extend(make_attribute(name, value) for name, value in case.attributes.items())
    opsets = [make_opsetid("", opset), make_opsetid(DOMAIN, VERSION)]
    model = make_model(make_graph([node], "one_node", inputs, outputs), ir_version=8, opset_imports=opsets)
    attach_bodies(model, [MODULATED_DEFORMABLE_CONVOLUTION], newest=newest)
    return model


def operators(model: ModelProto) -> set[str]:
    """Of the model's only function."""
    [function] = model.functions
    return {node.op_type for node in function.node}


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """`plane` [H, W] at pixel coordinates; pixels outside count as zero."""
    total, top, left = 0.0, math.floor(y), math.floor(x)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column]
    return total


def convolve(case: Case, image: np.ndarray, offset: np.ndarray, mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The definition in float64, product by product, for one image [C, H, W]."""
    kernel_height, kernel_width = case.kernel
    taps, group_channels = kernel_height * kernel_width, weight.shape[1]
    output = np.zeros((case.outputs, *case.out_size))
    for o, row, column in np.ndindex(output.shape):
        for c, i, j in np.ndindex(weight.shape[1:]):
            channel = o // (case.outputs // case.groups) * group_channels + c
            tap = channel // (case.channels // case.offset_groups) * taps + i * kernel_width + j
            y = row * case.stride - case.padding + i * case.dilation + offset[2 * tap, row, column]
            x = column * case.stride - case.padding + j * case.dilation + offset[2 * tap + 1, row, column]
            output[o, row, column] += weight[o, c, i, j] * mask[tap, row, column] * bilinear(image[channel], y, x)
    return output


def test_eager_equals_the_definition(case: Case) -> None:
    image, offset, mask, weight = (tensor.double().numpy() for tensor in case.inputs())
    expected = np.zeros((case.batch, case.outputs, *case.out_size))
    for n in range(case.batch):
        expected[n] = convolve(case, image[n], offset[n], mask[n], weight)
    eager = modulated_deformable_convolution(*case.inputs(), **case.attributes)
    np.testing.assert_allclose(eager, expected, rtol=0, atol=1e-4)


def test_without_offset_and_mask_it_is_a_convolution(case: Case) -> None:
    image, offset, mask, weight = case.inputs()
    plain = modulated_deformable_convolution(image, 0 * offset, torch.ones_like(mask), weight, **case.attributes)
    expected = conv2d(image, weight, None, case.stride, case.padding, case.dilation, case.groups)
    torch.testing.assert_close(plain, expected)


def test_function_body_equals_eager(case: Case, run_body: Callable[..., np.ndarray]) -> None:
    if case.batch == 0 and tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 32):
        pytest.skip("ONNX Runtime before 1.32 refuses a product of matrices with none")
    inputs = case.inputs()
    eager = modulated_deformable_convolution(*inputs, **case.attributes)
    body = run_body(MODULATED_DEFORMABLE_CONVOLUTION, *inputs, **case.attributes)
    np.testing.assert_allclose(body, eager, rtol=0, atol=1e-4)


def test_deform_conv_equals_eager(case: Case) -> None:
    """The operator that stands in the body from its opset on, its numbers of groups taken from the shapes."""
    inputs = case.inputs()
    eager = modulated_deformable_convolution(*inputs, **case.attributes)
    model = one_node(case, DEFORM_CONV_OPSET)
    assert operators(model) == {"DeformConv"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    named = zip(MODULATED_DEFORMABLE_CONVOLUTION.inputs, inputs, strict=True)
    [output] = session.run(None, {name: tensor.numpy() for name, tensor in named})
    np.testing.assert_allclose(output, eager, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("opset", "newest", "sizes_known"),
    [(18, None, True), (19, 18, True), (19, None, False)],
    ids=["in an older opset", "where newer operators are not wanted", "of sizes that are open"],
)
def test_body_is_composed(opset: int, newest: int | None, sizes_known: bool) -> None:
    model = one_node(CASES["groups"], opset, newest=newest, sizes_known=sizes_known)
    assert {"GridSample", "MatMul"} <= operators(model)
    assert "DeformConv" not in operators(model)
    assert [entry.version for entry in model.functions[0].opset_import if not entry.domain] == [opset]


def test_torch_contract(case: Case) -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    torch.library.opcheck(modulated_deformable_convolution, (*case.inputs(), *case.attributes.values()))


def test_inputs_need_not_be_contiguous() -> None:
    inputs = CASES["groups"].inputs()
    strided = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    attributes = CASES["groups"].attributes
    torch.testing.assert_close(
        modulated_deformable_convolution(*strided, **attributes),
        modulated_deformable_convolution(*inputs, **attributes),
    )


def test_node_has_four_inputs_and_the_geometry() -> None:
    assert MODULATED_DEFORMABLE_CONVOLUTION.inputs == ("image", "offset", "mask", "weight")
    assert MODULATED_DEFORMABLE_CONVOLUTION.attributes == {"stride": "int", "padding": "int", "dilation": "int"}


@pytest.mark.converts
def test_exports_as_one_node(exported_nodes: Callable[..., list[NodeProto]]) -> None:
    case = CASES["dilated"]
    (node,) = exported_nodes(MODULATED_DEFORMABLE_CONVOLUTION, *case.inputs(), **case.attributes)
    assert (node.domain, node.op_type) == ("uniad", "ModulatedDeformableConvolution")
    assert node_attributes(node) == case.attributes

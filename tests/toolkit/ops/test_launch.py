"""Calls that a kernel cannot serve are refused before anything is launched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from custom_ops.inverse.op import INVERSE, KERNEL
from custom_ops.modulated_deformable_convolution.op import MODULATED_DEFORMABLE_CONVOLUTION
from custom_ops.modulated_deformable_convolution.op import example as convolution_example
from custom_ops.multi_scale_deformable_attention.op import MULTI_SCALE_DEFORMABLE_ATTENTION, example
from custom_ops.multi_scale_deformable_attention.uneven import UNEVEN_DEFORMABLE_ATTENTION
from custom_ops.multi_scale_deformable_attention.uneven import example as uneven_example
from toolkit.errors import InputError
from toolkit.ops.calls import Call
from toolkit.ops.cuda import launch_on


def attention_call(reference: Tensor | None = None, spatial_shapes: list[int] | None = None) -> Call:
    """The op's example, of one batch with 12 keys in one level of 3x4, with other arguments."""
    value, given, offsets, logits, shapes = example()
    arguments = (value, given if reference is None else reference, offsets, logits, spatial_shapes or shapes)
    return Call.of(MULTI_SCALE_DEFORMABLE_ATTENTION, arguments, {})


def test_dtype_without_code() -> None:
    matrix = torch.eye(3, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="kernel 'inverse' has no bfloat16 code; use one of float32, float16"):
        launch_on(KERNEL, (matrix,), matrix)


def test_inputs_of_two_dtypes() -> None:
    with pytest.raises(InputError, match="takes inputs of one dtype and device, not float32 on cpu, float16 on cpu"):
        launch_on(KERNEL, (torch.eye(3), torch.eye(3).half()), torch.eye(3))


def test_keys_that_the_levels_do_not_have() -> None:
    with pytest.raises(InputError, match=r"has 12 keys, but the levels of spatial_shapes \[\(3, 5\)\] hold others"):
        attention_call(spatial_shapes=[3, 5]).launch("float32")


@pytest.mark.parametrize("shape", [(2, 5, 1, 2), (1, 5, 2, 2)], ids=["batches", "levels"])
def test_reference_points_of_another_call(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"reference points of . batches and . levels do not fit to a value"):
        attention_call(reference=torch.rand(shape)).launch("float32")


@pytest.mark.parametrize("level_points", [[3, 5], [9], [9, 0], [3, 3, 3]])
def test_points_that_the_logits_do_not_have(level_points: list[int]) -> None:
    """The example's logits are of nine points on two levels."""
    *arguments, _ = uneven_example()
    with pytest.raises(InputError, match=r"logits of 9 points and 2 levels, but level_points is \["):
        Call.of(UNEVEN_DEFORMABLE_ATTENTION, (*arguments, level_points), {}).launch("float32")


def test_reference_points_that_a_level_cannot_use_in_turn() -> None:
    value, _, *rest = uneven_example()
    with pytest.raises(InputError, match=r"2 reference points per query, which level_points \[3, 6\] do not use"):
        Call.of(UNEVEN_DEFORMABLE_ATTENTION, (value, torch.rand(1, 5, 1, 4), *rest), {}).launch("float32")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"offset": (1, 9, 5, 6)}, "the offsets have twice as many"), ({"weight": (4, 3, 3, 3)}, "do not divide into")],
    ids=["offsets", "groups"],
)
def test_convolution_whose_inputs_disagree(changed: dict[str, tuple[int, ...]], message: str) -> None:
    image, offset, mask, weight, *attributes = convolution_example()
    inputs = {"image": image, "offset": offset, "mask": mask, "weight": weight}
    inputs |= {name: torch.zeros(shape) for name, shape in changed.items()}
    with pytest.raises(InputError, match=message):
        Call.of(MODULATED_DEFORMABLE_CONVOLUTION, (*inputs.values(), *attributes), {}).launch("float32")


def test_matrices_that_are_too_large() -> None:
    with pytest.raises(InputError, match="inverse takes matrices"):
        Call.of(INVERSE, (torch.eye(5),), {}).launch("float32")

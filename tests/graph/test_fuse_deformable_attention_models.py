"""Models of the Hugging Face library are fused completely and compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from tests.graph.rewriting import exported, op_types, rewritten
from toolkit.graph.deformable_attention.fuse import FUSE_DEFORMABLE_ATTENTION
from toolkit.graph.equivalence import outputs_of

pytest.importorskip("transformers")
from tests.graph import third_party_models as models

pytestmark = pytest.mark.slow

NODE, UNEVEN_NODE = "MultiScaleDeformableAttention", "UnevenDeformableAttention"


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


def fused(model: ModelProto, attentions: int, levels: int, *, node: str = NODE, compare: bool = False) -> ModelProto:
    """The model with every attention fused to a node, and no GridSample left.

    With `compare`, ONNX Runtime has to run the model as it was too, and the pipeline to find both equal.
    """
    assert op_types(model).count("GridSample") == attentions * levels
    result, outcome = rewritten(model, FUSE_DEFORMABLE_ATTENTION, compare=compare)
    assert op_types(result).count(node) == attentions == len(outcome.changes)
    assert "GridSample" not in op_types(result)
    assert not outcome.near_misses
    assert len(result.graph.node) < len(model.graph.node)
    return result


def assert_as_in_torch(model: ModelProto, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """ONNX Runtime gives the outputs of the model that torch gives of the module."""
    with torch.no_grad():
        expected = module(*inputs)
    names = [value.name for value in model.graph.input]
    outputs = outputs_of(model, dict(zip(names, (given.numpy() for given in inputs), strict=True)))
    for output, wanted in zip(outputs.values(), expected, strict=True):
        np.testing.assert_allclose(output, wanted.numpy(), atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("dynamo", [False, True])
def test_deformable_detr(dynamo: bool) -> None:
    """Four attentions over four levels; as the legacy exporter writes it, only the fused model runs."""
    module, inputs = models.deformable_detr()
    assert_as_in_torch(fused(exported(module, inputs, dynamo=dynamo), attentions=4, levels=4), module, inputs)


def test_mask2former() -> None:
    module, inputs = models.mask2former()
    assert_as_in_torch(fused(exported(module, inputs), attentions=2, levels=3), module, inputs)


@pytest.mark.parametrize(
    ("family", "levels"),
    [(models.rt_detr, 3), (models.rt_detr_v2, 3), (models.d_fine, 3), (models.lw_detr, 2)],
)
def test_decoders_that_attend_around_boxes(family: models.Family, levels: int) -> None:
    """Torch is no measure here: it ranks the first queries, which are nearly equal, in another order."""
    module, inputs = family()
    fused(exported(module, inputs), attentions=2, levels=levels, compare=True)


@pytest.mark.parametrize("points", [[3, 6, 3], [1, 2, 4]])
def test_levels_with_different_numbers_of_points(points: list[int]) -> None:
    """The larger models of D-FINE sample three, six and three points."""
    module, inputs = models.d_fine(points)
    fused(exported(module, inputs, opset=17), attentions=2, levels=3, node=UNEVEN_NODE, compare=True)

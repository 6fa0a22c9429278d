"""Deformable attention is found however it is written, and each way leaves as little around the node as it can."""

from __future__ import annotations

import pytest

from tests.graph import deformable_attentions as ways
from tests.graph.rewriting import exported, op_types, rewritten
from toolkit.graph.deformable_attention.fuse import FUSE_DEFORMABLE_ATTENTION

pytestmark = pytest.mark.converts

DYNAMIC = {"queries": {0: "batch", 1: "query"}, "keys": {0: "batch"}, "reference": {0: "batch", 1: "query"}}
WAYS = (
    ways.Einsum,
    ways.MatMul,
    ways.TwoSums,
    ways.ChannelsFirst,
    ways.HeadsFirstSoftmax,
    ways.ValueTransposedOnce,
    ways.UnevenPoints,
    ways.UnevenPointsLevelByLevel,
    ways.LevelByLevel,
    ways.ConvolvedLevels,
    ways.SharedReference,
    ways.Anchors,
    ways.Boxes,
    ways.FreeLocations,
)


@pytest.mark.parametrize("way", [*WAYS, ways.SequenceFirst])
def test_legacy_exports_are_fused(way: type[ways.Plain]) -> None:
    check(way(), {})


@pytest.mark.parametrize("way", WAYS)
def test_legacy_exports_with_open_dimensions_are_fused(way: type[ways.Plain]) -> None:
    check(way(), {"input_names": list(DYNAMIC), "dynamic_axes": DYNAMIC})


@pytest.mark.parametrize("way", [ways.Einsum, ways.MatMul, ways.ValueTransposedOnce, ways.Boxes, ways.UnevenPoints])
def test_dynamo_exports_are_fused(way: type[ways.Plain]) -> None:
    check(way(), {"dynamo": True})


def check(module: ways.Plain, options: dict[str, object]) -> None:
    """The attention is fused, and the model computes the same."""
    model = exported(module, module.example(), **options)  # type: ignore[arg-type]
    result, outcome = rewritten(model, FUSE_DEFORMABLE_ATTENTION)
    assert len(outcome.changes) == 1, outcome.near_misses
    assert not {"GridSample", "Softmax"} & set(op_types(result))


@pytest.mark.parametrize("way", [ways.Einsum, ways.MatMul, ways.TwoSums, ways.HeadsFirstSoftmax, ways.Anchors])
def test_transposes_cancel(way: type[ways.Plain]) -> None:
    module = way()
    result, _ = rewritten(exported(module, module.example()), FUSE_DEFORMABLE_ATTENTION)
    assert "Transpose" not in op_types(result)


def test_offsets_relative_to_boxes_are_scaled_once() -> None:
    """What is constant in them becomes one product: half a box, over the points, in cells."""
    module = ways.Boxes()
    result, _ = rewritten(exported(module, module.example()), FUSE_DEFORMABLE_ATTENTION)
    assert op_types(result).count("Mul") == 2


def test_locations_of_their_own_are_offsets_from_the_origin() -> None:
    module = ways.FreeLocations()
    result, _ = rewritten(exported(module, module.example()), FUSE_DEFORMABLE_ATTENTION)
    [node] = [node for node in result.graph.node if node.op_type == "MultiScaleDeformableAttention"]
    assert node.input[1].endswith("reference/output")
    assert "Sigmoid" in op_types(result)

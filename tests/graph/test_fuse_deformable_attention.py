"""Fusing deformable attention: both exporters, every opset, open dimensions, one to five levels; and what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from tests.graph.deformable_attentions import (
    FIVE_LEVELS,
    TWO_LEVELS,
    Plain,
    StoredLocations,
    UnevenPoints,
    UnevenStoredLocations,
)
from tests.graph.rewriting import exported, op_types, rewritten, text_model
from toolkit.graph.cleanup.constants import FOLD_CONSTANTS
from toolkit.graph.conversion import to_graph, to_model
from toolkit.graph.deformable_attention.fuse import FUSE_DEFORMABLE_ATTENTION
from toolkit.graph.deformable_attention.sizes import two_choices
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.graph_pass import Outcome
from toolkit.graph.pipeline import rewrite
from toolkit.graph.random_inputs import random_inputs
from toolkit.graph.unfit import Unfit, remedied
from toolkit.ops.spec import DOMAIN
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.converts

NODE, UNEVEN_NODE = "MultiScaleDeformableAttention", "UnevenDeformableAttention"
OPEN = {"queries": {0: "batch", 1: "query"}, "keys": {0: "batch"}, "reference": {0: "batch", 1: "query"}}
"""Open dimensions of the inputs."""


def fused(module: Plain, *, dynamo: bool = False, opset: int = 18, dynamic: bool = False) -> onnx.ModelProto:
    """The model after the pass, which has to find one attention and to keep what the model computes."""
    options: dict[str, Any] = {}
    if dynamic:
        options = {"dynamic_shapes": bounded(OPEN)} if dynamo else {"dynamic_axes": OPEN}
    model = exported(module, module.example(), dynamo=dynamo, opset=opset, input_names=list(OPEN), **options)
    result, outcome = rewritten(model, FUSE_DEFORMABLE_ATTENTION)
    assert len(outcome.changes) == 1, outcome
    assert not outcome.near_misses
    assert op_types(result).count(NODE) == 1
    assert not {"GridSample", "Softmax"} & set(op_types(result))
    return result


def bounded(names: dict[str, dict[int, str]]) -> dict[str, dict[int, Any]]:
    """Open dimensions as the dynamo exporter takes them, without the size one, which it treats apart."""
    return {
        given: {axis: torch.export.Dim(name, min=2, max=999) for axis, name in axes.items()}
        for given, axes in names.items()
    }


def outcome_of(module: Plain) -> Outcome:
    """What the pass says of a module that it leaves alone."""
    result, outcome = rewritten(exported(module, module.example()), FUSE_DEFORMABLE_ATTENTION)
    assert not outcome.changes
    assert NODE not in op_types(result)
    assert all(near_miss.remedy for near_miss in outcome.near_misses)
    return outcome


@pytest.mark.parametrize("opset", [16, 17, 18, 19, 20])
@pytest.mark.parametrize("dynamic", [False, True])
def test_legacy_exports_of_every_opset_are_fused(opset: int, dynamic: bool) -> None:
    fused(Plain(), opset=opset, dynamic=dynamic)


@pytest.mark.parametrize(("opset", "dynamic"), [(18, True), (20, False)])
def test_dynamo_exports_are_fused(opset: int, dynamic: bool) -> None:
    fused(Plain(), dynamo=True, opset=opset, dynamic=dynamic)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dynamic", [False, True])
def test_any_number_of_levels_is_fused(count: int, dynamic: bool) -> None:
    model = fused(Plain(FIVE_LEVELS[:count]), dynamic=dynamic)
    [node] = [node for node in model.graph.node if node.domain == DOMAIN]
    [sizes] = [attribute.ints for attribute in node.attribute if attribute.name == "spatial_shapes"]
    assert list(sizes) == [size for level in FIVE_LEVELS[:count] for size in level]


@pytest.mark.parametrize("opset", [16, 17, 20])
def test_levels_with_different_numbers_of_points_are_one_node_of_their_own(opset: int) -> None:
    """As D-FINE has them. Offsets are multiplied by shares and boxes as they were, then by half the cells of a map."""
    module = UnevenPoints((3, 6, 3))
    result, outcome = rewritten(exported(module, module.example(), opset=opset), FUSE_DEFORMABLE_ATTENTION)
    [node] = [node for node in result.graph.node if node.domain == DOMAIN]
    assert node.op_type == UNEVEN_NODE
    assert {attribute.name: list(attribute.ints) for attribute in node.attribute} == {
        "spatial_shapes": [size for level in FIVE_LEVELS[:3] for size in level],
        "level_points": [3, 6, 3],
    }
    assert [change.node for change in outcome.changes] == [node.name]
    assert not {"GridSample", "Softmax", "Transpose", "Split"} & set(op_types(result))
    assert op_types(result).count("Mul") == 3


@pytest.mark.parametrize("level_points", [(4, 4, 4), (5,)])
def test_levels_with_as_many_points_are_the_even_node(level_points: tuple[int, ...]) -> None:
    module = UnevenPoints(level_points)
    result, _ = rewritten(exported(module, module.example()), FUSE_DEFORMABLE_ATTENTION)
    [node] = [node for node in result.graph.node if node.domain == DOMAIN]
    assert (node.op_type, [attribute.name for attribute in node.attribute]) == (NODE, ["spatial_shapes"])


@pytest.mark.parametrize("level_points", [(1, 2), (2, 1, 1), (1, 4, 2, 3, 8)])
def test_any_numbers_of_points_are_fused(level_points: tuple[int, ...]) -> None:
    module = UnevenPoints(level_points)
    result, outcome = rewritten(exported(module, module.example()), FUSE_DEFORMABLE_ATTENTION)
    assert len(outcome.changes) == 1
    assert "GridSample" not in op_types(result)


@pytest.mark.parametrize("module", [StoredLocations(heads=1), StoredLocations(heads=2), UnevenStoredLocations()])
def test_locations_that_are_constants_once_folded_become_one(module: Plain) -> None:
    plugins = PluginManager.load()
    model = exported(module, module.example(), input_names=list(OPEN))
    result = rewrite(model, (FOLD_CONSTANTS, FUSE_DEFORMABLE_ATTENTION), plugins.custom_ops())
    assert "GridSample" not in op_types(result.model)
    assert result.checks[0].startswith("equal in ONNX Runtime")


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_shapes_behind_a_group_normalization_are_known(opset: int) -> None:
    """From opset 21 on ONNX does not infer them."""
    text = (
        "m (float[2, 4, N] x, float[C] s) => (float[A, B, D] y) { y = GroupNormalization <num_groups = 2> (x, s, s) }"
    )
    graph = to_graph(text_model(text, opset), ())
    assert [sizes.shape(graph.outputs[0]) for sizes in two_choices(graph)] == [(2, 4, 1009), (2, 4, 2003)]


@pytest.mark.parametrize(("batch", "heads", "points"), [(1, 2, 4), (2, 1, 4), (1, 1, 1), (3, 4, 1)])
def test_axes_of_size_one_do_not_confuse_it(batch: int, heads: int, points: int) -> None:
    module = Plain(heads=heads, points=points)
    result, outcome = rewritten(exported(module, module.example(batch)), FUSE_DEFORMABLE_ATTENTION)
    assert len(outcome.changes) == 1
    assert "GridSample" not in op_types(result)


def test_a_fused_model_runs_with_any_batch_and_number_of_queries() -> None:
    import onnxruntime

    module = Plain()
    model = fused(module, dynamic=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, queries in ((1, 7), (4, 1), (3, 19)):
        inputs = module.example(batch, queries)
        [result] = session.run(None, dict(zip(OPEN, (given.numpy() for given in inputs), strict=True)))
        with torch.no_grad():
            np.testing.assert_allclose(result, module(*inputs).numpy(), atol=1e-6)


def test_nothing_but_reshapes_is_added() -> None:
    """Softmax, locations and every transpose are part of the node."""
    result = fused(Plain())
    assert set(op_types(result)) == {"MatMul", "Add", "Reshape", NODE}


def test_two_attentions_in_a_row_become_two_nodes() -> None:
    class Twice(Plain):
        def forward(self, queries: Tensor, keys: Tensor, reference: Tensor) -> Tensor:
            return super().forward(super().forward(queries, keys, reference), keys, reference)

    result, outcome = rewritten(exported(Twice(), Twice().example()), FUSE_DEFORMABLE_ATTENTION)
    names = [node.name for node in result.graph.node if node.domain == DOMAIN]
    assert len(set(names)) == 2
    assert names == [change.node for change in outcome.changes]


def test_half_precision_stays_half_precision() -> None:
    """Here without the pipeline: sums in another order differ by more than it lets pass."""
    module = Plain().half()
    model = exported(module, tuple(given.half() for given in module.example()))
    ops = PluginManager.load().custom_ops()
    graph = to_graph(model, ops)
    assert len(FUSE_DEFORMABLE_ATTENTION.apply(graph).changes) == 1
    result = to_model(graph.cleanup().toposort(), model, ops)
    assert "Cast" not in op_types(result)
    inputs = random_inputs(model)
    [before], [after] = outputs_of(model, inputs).values(), outputs_of(result, inputs).values()
    np.testing.assert_allclose(after, before, atol=4e-3)


def test_the_model_is_untouched_without_grid_samples() -> None:
    _, outcome = rewritten("m (float[2] x) => (float[2] y) { y = Relu (x) }", FUSE_DEFORMABLE_ATTENTION)
    assert outcome == Outcome()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mode": "nearest", "padding_mode": "zeros", "align_corners": False}, "mode is 'nearest'"),
        ({"mode": "bilinear", "padding_mode": "border", "align_corners": False}, "padding_mode is 'border'"),
        ({"mode": "bilinear", "padding_mode": "zeros", "align_corners": True}, "align_corners is 1"),
    ],
)
def test_other_ways_to_sample_are_left_with_a_reason(settings: dict[str, object], reason: str) -> None:
    class Other(Plain):
        def sample(self, plane: Tensor, grid: Tensor) -> Tensor:
            return grid_sample(plane, grid, **settings)  # type: ignore[arg-type]

    [near_miss] = outcome_of(Other()).near_misses
    assert reason in near_miss.reason
    assert "sample with mode='bilinear', padding_mode='zeros' and align_corners=False" in near_miss.remedy
    assert near_miss.node


def test_weights_without_a_softmax_are_left_with_a_reason() -> None:
    class Sigmoid(Plain):
        def weights(self, queries: Tensor) -> Tensor:
            return super().weights(queries).sigmoid()

    [near_miss] = outcome_of(Sigmoid()).near_misses
    assert "a Sigmoid node, not from a Softmax over the points of all levels" in near_miss.reason
    assert "one softmax over the points of all levels" in near_miss.remedy


def test_a_softmax_over_the_points_of_one_level_is_left_with_a_reason() -> None:
    class ByLevel(Plain):
        def weights(self, queries: Tensor) -> Tensor:
            logits: Tensor = self.logits(queries)
            logits = logits.view(*queries.shape[:2], self.heads, len(self.levels), -1)
            return logits.softmax(-1).flatten(-2)

    [near_miss] = outcome_of(ByLevel()).near_misses
    assert near_miss.reason == "the softmax is over 4 elements, not over the 8 points of all levels"
    assert "one softmax over the points of all levels" in near_miss.remedy


def test_weights_of_points_that_are_not_sampled_are_left_with_a_reason() -> None:
    """The softmax is over four points of either level, but the second samples two."""

    class Fewer(Plain):
        def sample(self, plane: Tensor, grid: Tensor) -> Tensor:
            return super().sample(plane, grid[:, :, : 4 if plane.shape[-1] == 8 else 2])

        def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
            weights = weights[..., :6].transpose(1, 2).flatten(0, 1).unsqueeze(1)
            return (torch.cat(samples, -1) * weights).sum(-1)

    [near_miss] = outcome_of(Fewer()).near_misses
    assert "the softmax is over 8 elements, not over the 6 points of all levels" in near_miss.reason


def test_levels_in_another_order_than_their_points_are_left_with_a_reason() -> None:
    class Turned(UnevenPoints):
        def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
            return super().summed([samples[1], samples[0], samples[2]], weights)

    [near_miss] = outcome_of(Turned()).near_misses
    assert near_miss.reason == "levels of 6, 3, 3 do not follow each other in one tensor"
    assert "split the levels from one tensor of all of them" in near_miss.remedy


def test_uneven_levels_that_are_summed_one_by_one_are_left_with_a_reason() -> None:
    class OneByOne(UnevenPoints):
        def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
            batch, queries, heads, _ = weights.shape
            shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1).split(self.level_points, -1)
            return sum(((part * share).sum(-1) for part, share in zip(samples, shares, strict=True)), torch.zeros(1))

    near_misses = outcome_of(OneByOne()).near_misses
    assert {near_miss.reason for near_miss in near_misses} == {
        f"the softmax is over 12 elements, not over the {count} points of all levels" for count in (3, 6)
    }
    assert all("sum the samples of all levels at once" in near_miss.remedy for near_miss in near_misses)


def test_a_sum_over_points_alone_is_left_with_a_reason() -> None:
    class PointsOnly(Plain):
        def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
            batch, queries, heads, _ = weights.shape
            by_level = weights.view(batch, queries, heads, 2, -1).transpose(1, 2).flatten(0, 1).unsqueeze(1)
            return (torch.stack(samples, -2) * by_level).sum(-1).relu()

    [near_miss] = outcome_of(PointsOnly()).near_misses
    assert near_miss.reason == "the weighted samples are not summed over levels and points"
    assert "sum over just levels and points" in near_miss.remedy


def test_maps_of_open_size_are_left_with_a_reason() -> None:
    """The node states the sizes of the levels, so one model cannot serve several image sizes."""
    model = text_model(
        """
        open_map (float[1, 4, h, w] map, float[1, 5, 2, 2] grid, float[1, 1, 5, 2] logits) => (float[1, 4, 5] y) {
            samples = GridSample <padding_mode = "zeros"> (map, grid)
            weights = Softmax <axis = -1> (logits)
            weighted = Mul (samples, weights)
            last = Constant <value_ints = [-1]> ()
            y = ReduceSum <keepdims = 0> (weighted, last)
        }
        """
    )
    _, outcome = rewritten(model, FUSE_DEFORMABLE_ATTENTION)
    [near_miss] = outcome.near_misses
    assert near_miss.reason == "the spatial shapes depend on open dimensions of the inputs"
    assert near_miss.remedy == "export the model for one image size"


TWO_GRIDS = """
    two_grids (TYPE[1, 4, 6, 8] map, TYPE[1, 5, 2, 2] one, TYPE[1, 5, 2, 2] two, TYPE[1, 1, 5, 4] logits)
            => (TYPE[1, 4, 5] y) {
        grid = MAKER (one)
        first = GridSample <padding_mode = "zeros"> (map, grid)
        second = GridSample <padding_mode = "zeros"> (map, two)
        samples = Concat <axis = -1> (first, second)
        weights = Softmax <axis = -1> (logits)
        weighted = Mul (samples, weights)
        last = Constant <value_ints = [-1]> ()
        y = ReduceSum <keepdims = 0> (weighted, last)
    }
"""
"""Two levels, each sampled by a grid of its own, of which an operator makes one."""


@pytest.mark.parametrize(
    ("number", "maker", "reason", "remedy"),
    [
        ("float", "Tanh", "the levels come from different tensors", "offsets of one linear layer"),
        ("double", "Tanh", "of type double, neither float32 nor float16", "export in float32"),
        ("float", "com.microsoft.Unknown", "is not known", "sizes that follow from those of the inputs"),
    ],
)
def test_what_is_left_comes_with_a_remedy(number: str, maker: str, reason: str, remedy: str) -> None:
    text = TWO_GRIDS.replace("TYPE", number).replace("MAKER", maker)
    _, outcome = rewritten(text, FUSE_DEFORMABLE_ATTENTION, compare=False)
    [near_miss] = outcome.near_misses
    assert reason in near_miss.reason
    assert remedy in near_miss.remedy


def test_a_fault_has_the_remedy_of_its_part_unless_it_knows_a_better_one() -> None:
    for own, shown in (("", "write it otherwise"), ("export it again", "export it again")):
        with pytest.raises(Unfit) as caught, remedied("write it otherwise"):
            raise Unfit("it does not fit", own)
        assert caught.value.remedy == shown


def test_grid_samples_that_are_no_attention_pass_without_a_word() -> None:
    class Warp(torch.nn.Module):
        def forward(self, image: Tensor, grid: Tensor) -> Tensor:
            return grid_sample(image, grid, align_corners=False)

    model = exported(Warp(), (torch.rand(1, 3, 4, 4), torch.rand(1, 4, 4, 2)))
    assert rewritten(model, FUSE_DEFORMABLE_ATTENTION)[1] == Outcome()


def test_a_result_that_is_needed_in_between_stays() -> None:
    class Both(Plain):
        def summed(self, samples: list[Tensor], weights: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().summed(samples, weights), weights

    result, outcome = rewritten(exported(Both(TWO_LEVELS), Both().example()), FUSE_DEFORMABLE_ATTENTION)
    assert len(outcome.changes) == 1
    assert "GridSample" not in op_types(result)
    assert "Softmax" in op_types(result)

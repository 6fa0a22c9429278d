"""Map segmentation, stage by stage, against frame 2 of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.layers import DeformableAttention
from plugins.map_segmentation.mask_head import MaskBlock, MaskHead, StuffMaskBlock
from plugins.map_segmentation.model import MapSegmentation, corners_in_cells, select_instances
from plugins.map_segmentation.plugin import SUBMODULE
from plugins.map_segmentation.transformer import refine_box
from toolkit.config.model import BevConfig, MapConfig, ModelConfig
from toolkit.nn.coordinates import inverse_sigmoid

Close = Callable[..., None]
TINY = ModelConfig(
    embed=16,
    feedforward=16,
    bev=BevConfig(height=5, width=6),
    map=MapConfig(
        queries=7, encoder_layers=1, decoder_layers=2, thing_mask_layers=1, stuff_mask_layers=1, max_instances=10
    ),
)


@dataclass(frozen=True)
class Trace:
    """What one run of the module shows inside and outside."""

    memory: Tensor
    references: list[Tensor]
    """The reference that enters each decoder layer, and the boxes that leave the last."""
    states: list[Tensor]
    outputs: dict[str, Tensor]


@pytest.fixture(scope="module")
def module(build_submodule: Callable[..., nn.Module]) -> MapSegmentation:
    built = build_submodule(SUBMODULE)
    assert isinstance(built, MapSegmentation)
    return built


@pytest.fixture(scope="module")
def trace(module: MapSegmentation, intermediates: dict[str, np.ndarray]) -> Trace:
    memories, references, states = [], [], []

    def on_layer(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        references.append(inputs[3])
        states.append(output)

    transformer = module.seg_head.transformer
    hooks = [layer.register_forward_hook(on_layer) for layer in transformer.decoder.layers]
    hooks.append(transformer.encoder.register_forward_hook(lambda *call: memories.append(call[2])))
    hooks.append(transformer.decoder.register_forward_hook(lambda *call: references.append(call[2][-1].boxes)))
    outputs = module(torch.from_numpy(intermediates["bev.enc2.out"]).squeeze(0))
    for hook in hooks:
        hook.remove()
    names = [spec.name for spec in SUBMODULE.outputs]
    return Trace(memories[0], references, states, dict(zip(names, outputs, strict=True)))


def test_encoder(trace: Trace, close: Close) -> None:
    close("seg.memory", trace.memory)


def test_decoder_refines_boxes_layer_by_layer(trace: Trace, close: Close) -> None:
    close("seg.box_coded_L1N4", torch.stack(trace.references[1:]))
    close("seg.last_reference_logit", inverse_sigmoid(trace.references[-2]))


def test_decoder_classifies_every_layer(module: MapSegmentation, trace: Trace, close: Close) -> None:
    logits = [branch(state) for branch, state in zip(module.seg_head.cls_branches, trace.states, strict=True)]
    close("seg.cls_logits_L1N3", torch.stack(logits))


def test_lane_queries(trace: Trace, close: Close) -> None:
    close("seg.lane_query", trace.outputs["lane_query"])
    close("seg.lane_query_pos", trace.outputs["lane_query_position"])


def test_mask_heads(module: MapSegmentation, intermediates: dict[str, np.ndarray], close: Close) -> None:
    """From the reference's own queries, so that near-equal class scores cannot swap rows."""
    head = module.seg_head
    memory = torch.from_numpy(intermediates["seg.memory"]).squeeze(0)
    lane_query = torch.from_numpy(intermediates["seg.lane_query"]).squeeze(0)
    class_logits = torch.from_numpy(intermediates["seg.cls_logits_L1N3"])[-1, 0]
    _, queries, _ = select_instances(class_logits, 100)
    things = head.things_mask_head(lane_query[queries], memory)
    query, position = head.stuff_query.weight.chunk(2, -1)
    close("seg.mask_scores", torch.cat((things, head.stuff_mask_head(query, memory, position))))


def test_best_instances_are_selected(trace: Trace, intermediates: dict[str, np.ndarray]) -> None:
    expected = np.sort(1 / (1 + np.exp(-intermediates["seg.cls_logits_L1N3"][-1].ravel())))[::-1][:100]
    np.testing.assert_allclose(trace.outputs["map_scores"], expected, rtol=0, atol=1e-4)


def test_selection_may_repeat_a_query_with_another_class() -> None:
    scores, queries, labels = select_instances(torch.tensor([[-9.0, -9, -9], [0, -9, 2], [-9, 1, -9]]), 3)
    assert queries.tolist() == [1, 2, 1]
    assert labels.tolist() == [2, 1, 0]
    torch.testing.assert_close(scores, torch.tensor([2.0, 1, 0]).sigmoid())


def test_boxes_become_corners_inside_the_grid() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.2], [0.0, 1.0, 1.0, 1.0]])
    corners = corners_in_cells(boxes, (10, 20))
    torch.testing.assert_close(corners, torch.tensor([[5.0, 4, 15, 6], [0, 5, 10, 10]]))


def test_first_refinement_moves_the_point_and_sets_the_size() -> None:
    delta = torch.tensor([1.0, 0, -1, 0])
    refined = refine_box(torch.tensor([0.5, 0.25]), delta)
    expected = torch.tensor([1.0, math.log(1 / 3), -1, 0]).sigmoid()
    torch.testing.assert_close(refined, expected)
    torch.testing.assert_close(refine_box(refined, torch.zeros(4)), refined)


def test_offsets_scale_with_a_box_reference() -> None:
    """A box of 2 x points cells per axis samples where its centre point does, a smaller one elsewhere."""
    torch.manual_seed(0)
    attention = DeformableAttention(16, heads=2, points=4)
    query, value, center = torch.randn(3, 16), torch.randn(16 * 32, 16), torch.rand(3, 2)
    size = torch.tensor([8 / 32, 8 / 16]).expand(3, 2)
    at_point = attention(query, value, center, (16, 32))
    torch.testing.assert_close(attention(query, value, torch.cat((center, size), -1), (16, 32)), at_point)
    assert not torch.allclose(attention(query, value, torch.cat((center, size / 2), -1), (16, 32)), at_point)


def test_stuff_position_stays_in_the_residual() -> None:
    """The position is added before every block and before the scores."""
    torch.manual_seed(0)
    head = MaskHead(StuffMaskBlock, 2, 16, 2)
    query, position, memory = torch.randn(1, 16), torch.randn(1, 16), torch.randn(30, 16)
    state = head.blocks[0](query + position, memory).query
    state = head.blocks[1](state + position, memory).query
    torch.testing.assert_close(head(query, memory, position), head.attnen(state + position, memory))


def test_mask_scores_are_not_negative_and_independent_of_other_things() -> None:
    torch.manual_seed(0)
    head = MaskHead(MaskBlock, 2, 16, 2)
    queries, memory = torch.randn(4, 16), torch.randn(30, 16)
    scores = head(queries, memory)
    assert scores.shape == (4, 30)
    assert scores.min() >= 0
    torch.testing.assert_close(head(queries[:1], memory), scores[:1])


def test_outputs_are_as_specified() -> None:
    bev = torch.randn(TINY.bev.cells, TINY.embed)
    for spec, output in zip(SUBMODULE.outputs, SUBMODULE.build(TINY)(bev), strict=True):
        assert tuple(output.shape) == spec.resolve(TINY.dimensions()), spec.name
        assert str(output.dtype) == f"torch.{spec.dtype}", spec.name


@pytest.mark.converts
def test_graph_has_fixed_shapes() -> None:
    program = torch.export.export(SUBMODULE.build(TINY).eval(), (torch.randn(TINY.bev.cells, TINY.embed),))
    targets = {str(node.target) for node in program.graph.nodes}
    forbidden = ("nonzero", "masked", "index_put", "_local_scalar_dense", "cond")
    assert not [target for target in targets if any(word in target for word in forbidden)]

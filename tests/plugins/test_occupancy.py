"""Occupancy against the reference's intermediates of frame 2, and its rules on small random cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from plugins.occupancy.layers import Bottleneck, with_even_sides
from plugins.occupancy.model import NO_INSTANCE_SCORE, Occupancy, OccupancyHead
from plugins.occupancy.plugin import SUBMODULE
from toolkit.config.model import BevConfig, ModelConfig, TrackingConfig
from toolkit.conversion.export import quiet_exporter

CONFIG = ModelConfig()
VEHICLES = [1, 2, 5]  # rows of frame 2 whose label is a vehicle class


@pytest.fixture(scope="module")
def inputs(intermediates: dict[str, np.ndarray]) -> tuple[Tensor, ...]:
    """Frame 2 as the submodule gets it: 19 active agents, rows up to the capacity that hold none, the ego."""
    capacity = CONFIG.tracking.agent_capacity

    def pad(rows: np.ndarray, ego: Any) -> Tensor:
        padded = np.zeros((capacity + 1, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)], padded[-1] = rows, ego
        return torch.from_numpy(padded)

    named = {name: intermediates[f"motion.{name}"][0] for name in ("track_query", "track_query_pos")}
    motion_query = intermediates["motion.inter_states_all"][-1, 0]
    return (
        torch.from_numpy(intermediates["out.bev_embed"][:, 0]),
        pad(motion_query[:-1], motion_query[-1]),
        pad(named["track_query"][:-1], named["track_query"][-1]),
        pad(named["track_query_pos"][:-1], named["track_query_pos"][-1]),
        # The ego's own label is that of a car: it must not become an instance.
        pad(intermediates["t2m.active.labels"].astype(np.int32), 0),
        pad(intermediates["t2m.active.scores"], 0.5),
        pad(np.ones(19, np.bool_), True),
    )


@pytest.fixture(scope="module")
def module(build_submodule: Callable[..., Occupancy]) -> Occupancy:
    return build_submodule(SUBMODULE)


@pytest.fixture(scope="module")
def trace(module: Occupancy, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Inputs and output of each part of the head during one run on frame 2, and the module's outputs."""
    recorded: dict[str, Any] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            recorded[name] = (args, output)

        return hook

    handles = [part.register_forward_hook(record(name)) for name, part in module.occ_head.named_modules()]
    recorded["outputs"] = module(*inputs)
    for handle in handles:
        handle.remove()
    return recorded


def test_instance_queries_equal_the_reference(trace: dict[str, Any], close: Callable[..., None]) -> None:
    close("occ.ins_query", trace["multi_query_fuser"][1][VEHICLES])


def test_base_state_equals_the_reference(trace: dict[str, Any], close: Callable[..., None]) -> None:
    close("occ.base_state", trace["base_downscale"][1])


@pytest.mark.parametrize("step", range(5))
def test_attention_masks_equal_the_reference(
    step: int, trace: dict[str, Any], close: Callable[..., None], intermediates: dict[str, np.ndarray]
) -> None:
    coarse = trace[f"downscale_convs.{step}"][1][0]
    mask_queries = trace["temporal_mlp_for_mask"][1][step, VEHICLES]
    close(f"occ.block{step}.mask_logits_qhw", torch.einsum("ac,chw->ahw", mask_queries, coarse))

    attended = trace[f"transformer_decoder.layers.{step}"][0][2].numpy()
    masked = intermediates[f"occ.block{step}.attn_mask_heads_hw_q"]
    assert all(np.array_equal(attended[:, VEHICLES], ~head) for head in masked)
    assert not np.delete(attended, VEHICLES, axis=1).any()


def test_decoded_states_equal_the_reference(trace: dict[str, Any], close: Callable[..., None]) -> None:
    close("occ.future_states_dec", trace["dense_decoder"][1])


def test_occupancy_queries_equal_the_reference(trace: dict[str, Any], close: Callable[..., None]) -> None:
    close("occ.ins_occ_query", trace["query_to_occ_feat"][1][:, VEHICLES])


def test_instance_logits_equal_the_reference(
    module: Occupancy, trace: dict[str, Any], close: Callable[..., None]
) -> None:
    states, mask_queries = trace["dense_decoder"][0][0], trace["query_to_occ_feat"][0][0]
    close("occ.ins_occ_logits", module.occ_head.instance_logits(states, mask_queries)[VEHICLES])


def test_occupied_cells_equal_the_reference(
    trace: dict[str, Any], close: Callable[..., None], intermediates: dict[str, np.ndarray]
) -> None:
    occupancy, scores, *_ = trace["outputs"]
    close("occ.seg_score_max", scores)
    different = occupancy.numpy() != intermediates["out.seg_out"].reshape(occupancy.shape)
    undecided = np.abs(intermediates["occ.seg_score_max"][0] - CONFIG.occupancy.score_threshold) < 2e-4
    assert not (different & ~undecided).any()
    assert occupancy.sum() > 1000


def test_instances_are_the_vehicles_among_the_agents(trace: dict[str, Any], inputs: tuple[Tensor, ...]) -> None:
    _, scores, instances, _ = trace["outputs"]
    has_instance = (instances > NO_INSTANCE_SCORE).flatten(1).any(1)
    assert has_instance.nonzero().flatten().tolist() == VEHICLES
    assert torch.equal(instances.amax(0), scores)


def test_a_cell_belongs_to_its_best_instance(
    trace: dict[str, Any], intermediates: dict[str, np.ndarray], inputs: tuple[Tensor, ...]
) -> None:
    """1 + the row among the agents, as the reference's logits say; 0 where nothing is."""
    occupancy, _, _, owners = trace["outputs"]
    scores = inputs[5][VEHICLES].numpy()[:, None, None, None] / (1 + np.exp(-intermediates["occ.ins_occ_logits"][0]))
    second, best = np.sort(scores, axis=0)[-2:]
    over = best - CONFIG.occupancy.score_threshold
    decided = (np.abs(over) > 2e-4) & ((over < 0) | (best - second > 2e-4))
    expected = np.where(over > 0, 1 + np.array(VEHICLES)[scores.argmax(0)], 0)
    np.testing.assert_array_equal(owners.numpy()[decided], expected[decided])
    assert decided.mean() > 0.99
    assert expected.any()
    assert torch.equal(owners > 0, occupancy > 0)
    assert owners.dtype == torch.int32


def test_rows_without_an_instance_have_no_influence(module: Occupancy, inputs: tuple[Tensor, ...]) -> None:
    bev, *agents, label, score, valid = inputs
    idle = torch.ones_like(valid)
    idle[VEHICLES] = False
    garbage = [torch.where(idle.view(-1, *[1] * (rows.ndim - 1)), torch.nan, rows) for rows in (*agents, score)]
    expected = module(*inputs)
    for actual, wanted in zip(module(bev, *garbage[:-1], label, garbage[-1], valid), expected, strict=True):
        assert torch.equal(actual, wanted)


def test_exports_with_fixed_shapes(module: Occupancy, inputs: tuple[Tensor, ...]) -> None:
    graph = torch.export.export(module, inputs).graph_module.graph
    operators = {str(node.target) for node in graph.nodes}
    assert not [o for o in operators if any(word in o for word in ("nonzero", "masked", "index", "item", "scalar"))]


@pytest.fixture
def small() -> tuple[Occupancy, list[Tensor]]:
    """Random weights on a 10x10 grid with 4 agents and the ego; agents 0 and 2 are vehicles, 3 is no agent."""
    torch.manual_seed(0)
    config = replace(CONFIG, embed=16, bev=BevConfig(height=10, width=10), tracking=TrackingConfig(agent_capacity=4))
    agents = [torch.randn(5, 6, 16), torch.randn(5, 16), torch.randn(5, 16)]
    label, score = torch.tensor([0, 8, 1, 0, 0], dtype=torch.int32), torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    valid = torch.tensor([True, True, True, False, True])
    return Occupancy(config).eval(), [torch.randn(100, 16), *agents, label, score, valid]


@pytest.mark.parametrize(("surest", "row"), [(0, 1), (2, 3)])
def test_cells_name_the_row_of_their_best_instance(
    surest: int, row: int, small: tuple[Occupancy, list[Tensor]]
) -> None:
    """Counted from 1, rows without a vehicle included."""
    module, inputs = small
    inputs[5][:] = 0.05  # too little for any cell
    inputs[5][surest] = 0.9
    occupancy, _, _, owners = module(*inputs)
    assert occupancy.any()
    assert torch.equal(owners, occupancy * row)


def test_without_vehicles_nothing_is_occupied(small: tuple[Occupancy, list[Tensor]]) -> None:
    module, inputs = small
    inputs[4].fill_(8)
    occupancy, scores, instances, owners = module(*inputs)
    assert not occupancy.any()
    assert not owners.any()
    assert (scores == NO_INSTANCE_SCORE).all()
    assert (instances == NO_INSTANCE_SCORE).all()


def test_state_stays_finite_without_vehicles(small: tuple[Occupancy, list[Tensor]]) -> None:
    head = small[0].occ_head
    queries, nobody = torch.zeros(5, 4, 16), torch.zeros(4, dtype=torch.bool)
    assert head.future_states(head.base_state(small[1][0]), queries, queries, nobody).isfinite().all()


def test_agent_rows_may_be_in_any_order(small: tuple[Occupancy, list[Tensor]]) -> None:
    module, inputs = small
    occupancy, scores, instances, owners = module(*inputs)
    order = torch.tensor([3, 2, 1, 0, 4])
    permuted = module(inputs[0], *(rows[order] for rows in inputs[1:]))
    assert torch.equal(permuted[0], occupancy)
    torch.testing.assert_close(permuted[1], scores)
    torch.testing.assert_close(permuted[2], instances[order[:-1]])
    rows = torch.tensor([0, *(1 + order[:-1].argsort())])
    assert torch.equal(permuted[3], rows[owners.long()].int())


def test_pixels_of_no_instance_attend_to_every_vehicle_and_to_nothing_else() -> None:
    head = OccupancyHead(ModelConfig(embed=16))
    vehicle = torch.tensor([True, False, True])
    logits = torch.tensor([[5.0, 5.0, -5.0], [-5.0, 5.0, -5.0], [-5.0, -5.0, -5.0]])
    expected = [[True, False, False], [True, False, True], [True, False, True]]
    assert head.attended_instances(logits, vehicle).tolist() == expected


def test_odd_edges_are_pooled_against_zeros() -> None:
    block = Bottleneck(4).eval()
    weights = block.state_dict()
    weights["layers.conv_up_project.weight"].zero_()
    weights["projection.conv_skip_proj.weight"].copy_(torch.eye(4)[:, :, None, None])
    pooled = block(torch.full((1, 4, 3, 3), -1.0))
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[-1.0, 0.0], [0.0, 0.0]]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sides", [(4, 6), (5, 6), (4, 7), (5, 7)])
def test_even_sides(sides: tuple[int, int]) -> None:
    """Zeros after the last row and column, where their number is odd."""
    x = torch.randn(2, 3, *sides)
    padded = nn.functional.pad(x, (0, sides[1] % 2, 0, sides[0] % 2))
    assert torch.equal(with_even_sides(x), padded)


@pytest.mark.converts
def test_onnx_runtime_pools_odd_edges_against_zeros() -> None:
    """Runtimes fold a padding operator into the max-pool behind it, whose own padding is minus infinity."""
    block, x = Bottleneck(4).eval(), -torch.ones(1, 4, 5, 7)
    with quiet_exporter():
        program = torch.onnx.export(block, (x,), dynamo=True, input_names=["x"], verbose=False)
    assert program is not None
    assert {"MaxPool", "Pad"} & {node.op_type for node in program.model_proto.graph.node} == {"MaxPool"}
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], block(x).numpy(), rtol=1e-4, atol=1e-6)

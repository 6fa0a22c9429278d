"""What a training from scratch starts with."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from custom_ops.multi_scale_deformable_attention.layers import DeformableAttention
from tests.corpus.sample import CONFIG
from toolkit.network import Network
from toolkit.nn.initial import rare_classes, ring_of_samples, xavier_matrices
from toolkit.plugin.manager import PluginManager
from toolkit.training.start import start_network

TWO_LAYERS = replace(CONFIG, tracking=replace(CONFIG.tracking, layers=2), map=replace(CONFIG.map, decoder_layers=2))


def test_rare_classes_begin_at_one_percent() -> None:
    classify = nn.Linear(4, 3)
    rare_classes(classify)
    torch.testing.assert_close(classify(torch.zeros(2, 4)).sigmoid(), torch.full((2, 3), 0.01))


def test_matrices_are_drawn_anew_and_biases_stay() -> None:
    """Uniformly, within the bound of inputs and outputs."""
    layer = nn.Linear(30, 70)
    before = layer.bias.clone()
    xavier_matrices(layer)
    bound = math.sqrt(6 / 100)
    assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert torch.equal(layer.bias, before)


def test_heads_look_into_directions_of_their_own() -> None:
    """Whatever the query is, at all points alike; point p is p + 1 cells away along the longer axis."""
    attention = DeformableAttention(8, heads=4, points=3)
    ring_of_samples(attention)
    query = torch.randn(5, 8)
    offsets = attention.sampling_offsets(query).view(5, 4, 3, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    expected = directions[:, None] * torch.tensor([1.0, 2.0, 3.0])[:, None]
    torch.testing.assert_close(offsets, expected.expand(5, -1, -1, -1), atol=1e-6, rtol=0)
    assert not attention.attention_weights(query).any()


@pytest.fixture(scope="module")
def network() -> Network:
    """A network that no checkpoint gave weights."""
    return start_network(None, PluginManager.load(), TWO_LAYERS, 1, {}, seed=0).network


@pytest.mark.parametrize("branch", ["pts_bbox_head.cls_branches.{}.6.bias", "seg_head.cls_branches.{}.bias"])
def test_heads_begin_with_rare_classes(branch: str, network: Network) -> None:
    weights = network.weights()
    for layer in range(2):
        torch.testing.assert_close(weights[branch.format(layer)].sigmoid().max(), torch.tensor(0.01))


def test_map_boxes_begin_at_their_reference_points(network: Network) -> None:
    weights = network.weights()
    assert not weights["seg_head.reg_branches.0.4.weight"].any()
    assert weights["seg_head.reg_branches.0.4.bias"].tolist() == [0, 0, -2, -2]
    assert not weights["seg_head.reg_branches.1.4.bias"].any()


def test_every_attention_begins_with_a_ring(network: Network) -> None:
    weights = network.weights()
    offsets = [value for key, value in weights.items() if key.endswith("sampling_offsets.weight")]
    biases = [value for key, value in weights.items() if key.endswith("sampling_offsets.bias")]
    assert len(offsets) == len(biases) > 4
    assert not any(value.any() for value in offsets)
    assert all(value.abs().max() >= 4 for value in biases)

"""A small network of all of the toolkit's submodules, with random weights, and a drive for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from toolkit.config.model import (
    BevConfig,
    ImageConfig,
    MapConfig,
    ModelConfig,
    MotionConfig,
    PlanningConfig,
    TrackingConfig,
)
from toolkit.data.probe import probe_frames
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.wiring import NetworkGraph, join

SMALL = replace(
    ModelConfig(),
    embed=32,
    heads=2,
    feedforward=48,
    image=ImageConfig(source_width=256, source_height=256, stage_blocks=(1, 1, 1, 1)),
    bev=BevConfig(height=16, width=16, layers=1),
    map=MapConfig(
        queries=9, max_instances=11, encoder_layers=1, decoder_layers=2, thing_mask_layers=1, stuff_mask_layers=2
    ),
    tracking=TrackingConfig(queries=13, agent_capacity=5, track_capacity=21, max_reports=7, layers=2),
    motion=MotionConfig(layers=1),
    planning=PlanningConfig(layers=2),
)


def small_network() -> Network:
    """Its weights, biases and statistics are the same every time."""
    torch.manual_seed(0)
    network = Network(join(PluginManager.load().submodules(), SMALL))
    for tensor in network.parameters():
        tensor.add_(torch.randn_like(tensor), alpha=0.05)
    return network


def drive(
    function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], graph: NetworkGraph, frames: int, device: str = "cpu"
) -> list[dict[str, Tensor]]:
    """All outputs of each frame, the state fed back; a new scene begins with the third."""
    zeros = {spec.name: torch.from_numpy(spec.zeros(SMALL.dimensions())).to(device) for spec in graph.inputs}
    state = {feedback.input: zeros[feedback.input] for feedback in graph.states}
    outputs = []
    for frame in probe_frames(SMALL, frames, scene_change=2):
        fed = {name: torch.from_numpy(frame[name]).to(device) for name in zeros if name in frame}
        outputs.append(function(fed | state))
        state = {feedback.input: (fed | outputs[-1])[feedback.source] for feedback in graph.states}
    return outputs


def assert_same_results(actual: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], tolerance: float) -> None:
    """Decisions are equal, floats within `tolerance` of an output's largest value, or of 1 if that is more."""
    for number, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        assert ours.keys() == theirs.keys()
        for name, wanted in theirs.items():
            near = tolerance * max(1.0, wanted.abs().max().item()) if wanted.is_floating_point() else 0.0
            torch.testing.assert_close(ours[name], wanted, rtol=0, atol=near, msg=f"frame {number}: {name}")

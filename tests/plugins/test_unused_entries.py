"""Entries that the plugins declare to be without effect are exactly those that reach no output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.joined import inputs_of
from toolkit.config.model import BevConfig, ImageConfig, ModelConfig
from toolkit.network import example_inputs
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Submodule

pytestmark = pytest.mark.thorough

NAMES = ("image_encoder", "bev_encoder", "tracking", "map_segmentation", "motion", "occupancy", "planning")


@pytest.mark.parametrize("name", NAMES)
def test_declared_entries_are_those_that_reach_no_output(name: str, plugins: PluginManager) -> None:
    submodule = next(s for s in plugins.submodules() if s.name == name)
    parameters, reached = reached_parameters(submodule)
    assert submodule.without_effect(parameters) == parameters - reached


def reached_parameters(submodule: Submodule) -> tuple[set[str], set[str]]:
    """All parameters, and those that autograd finds behind the outputs."""
    config = ModelConfig(image=ImageConfig(scale=0.05), bev=BevConfig(height=20, width=20))
    module = submodule.build(config).eval()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    with torch.enable_grad():
        outputs = module(*example_inputs(inputs_of(submodule), config))
    pending = [o.grad_fn for o in ((outputs,) if isinstance(outputs, Tensor) else outputs) if o.grad_fn is not None]
    seen, reached = set(pending), set[str]()
    while pending:
        function = pending.pop()
        if hasattr(function, "variable") and id(function.variable) in names:
            reached.add(names[id(function.variable)])
        sources = {source for source, _ in function.next_functions if source is not None} - seen
        seen |= sources
        pending += sources
    return set(names.values()), reached


def test_declared_entries_have_no_effect_in_the_reference_either(golden: Path, plugins: PluginManager) -> None:
    keys = [entry["key"] for entry in json.loads((golden / "state_dict_manifest.json").read_text())]
    unused = set(json.loads((golden / "state_dict_keys_used_by_onnx.json").read_text())["unused"])
    declared = set().union(*(s.without_effect(keys) for s in plugins.submodules()))
    # The reference's graph evaluates the classes of every decoder layer, and then takes the last layer's.
    inner_layers = {k for k in keys if k.startswith(tuple(f"pts_bbox_head.cls_branches.{n}." for n in range(5)))}
    assert declared - unused == inner_layers
    # Its deployed graph does not output map masks and forecasts; here these act.
    further_results = ("seg_head.", "motion_head.traj_cls_branches.2.", "motion_head.traj_reg_branches.2.")
    assert all(key.startswith(further_results) for key in unused - declared)


def test_branches_of_any_number_of_layers_count(plugins: PluginManager) -> None:
    tracking = next(s for s in plugins.submodules() if s.name == "tracking")
    branches = [f"pts_bbox_head.cls_branches.{layer}.6.bias" for layer in (0, 1, 10, 2)]
    assert tracking.without_effect([*branches, "seg_head.cls_branches.0.bias"]) == set(branches) - {branches[2]}

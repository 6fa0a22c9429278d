"""UniAD-base at a reduced size equals the reference: submodule by submodule, and as a sequence with state fed back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import load_script
from tests.golden.base_runs import FULL, SMALL, BaseGolden, base_network, base_outputs, described
from toolkit.bundle import FUNCTIONAL_ONNX
from toolkit.config.model import ModelConfig
from toolkit.conversion.convert import write_model
from toolkit.conversion.export import export_submodule, merge
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.wiring import join

pytestmark = pytest.mark.slow

TRACED_FRAME = 2
"""Of which there are golden submodules."""
Frames = list[dict[str, Any]]

TRACED = {
    "image_encoder/img_backbone": "img_backbone.out",
    "image_encoder/img_backbone.layer3.0.conv2": "img_backbone.layer3.0.dcn_out",
    "image_encoder/img_backbone.layer3.0.conv2.conv_offset": "img_backbone.layer3.0.conv_offset_out",
    "image_encoder/img_backbone.layer4.2.conv2.conv_offset": "img_backbone.layer4.2.conv_offset_out",
    "image_encoder/img_neck": "img_neck.out",
    "bev_encoder/pts_bbox_head.transformer.can_bus_mlp": "bev.can_bus_mlp_out",
    "bev_encoder/pts_bbox_head.transformer.encoder.layers.0.attentions.0": "bev.enc0.tsa_out",
    "bev_encoder/pts_bbox_head.transformer.encoder.layers.0.attentions.1": "bev.enc0.sca_out",
    "bev_encoder/pts_bbox_head.transformer.encoder.layers.0": "bev.enc0.out",
    "bev_encoder/pts_bbox_head.transformer.encoder.layers.3.attentions.0": "bev.enc3.tsa_out",
    "bev_encoder/pts_bbox_head.transformer.encoder.layers.3.attentions.1": "bev.enc3.sca_out",
    "bev_encoder/pts_bbox_head.transformer.encoder.layers.3": "bev.enc3.out",
    "map_segmentation/seg_head.transformer.encoder.layers.0.attentions.0": "seg.enc0.attn_out",
    "map_segmentation/seg_head.transformer.encoder": "seg.memory",
    "map_segmentation/seg_head.transformer.decoder.layers.0.attentions.1": "seg.dec0.cross_out",
    "occupancy/occ_head.resample": "occ.sliced_bev",
    "occupancy/occ_head.bev_light_proj": "occ.light_proj",
    "occupancy/occ_head.base_downscale": "occ.base_state",
    **{f"occupancy/occ_head.upsample_adds.{step}": f"occ.block{step}.state" for step in range(5)},
    "planning/planning_head.mlp_fuser": "plan.mlp_fuser_out",
    "planning/planning_head.bev_adapter": "plan.bev_adapter_out",
    "planning/planning_head.attn_module": "plan.query_out",
}
"""By submodule and module: the golden name of what it gives."""
BATCH_SECOND = ("seg.enc0.attn_out", "seg.dec0.cross_out")


@pytest.fixture(scope="module")
def network(golden: Path, plugins: PluginManager) -> Network:
    """The reduced network with the golden weights."""
    return base_network(golden, plugins, "small40", SMALL)


@pytest.fixture(scope="module")
def inputs(golden: Path) -> Frames:
    """Four frames; the last begins a new scene."""
    frames: Frames = load_script(golden / "base" / "make_inputs_base.py").make_inputs("BA")
    return frames


@pytest.fixture(scope="module")
def sequence(golden: Path) -> BaseGolden:
    """Outputs of the reference in the four frames."""
    return BaseGolden.load(golden / "base" / "base_small.npz", golden / "base" / "noise_base_small.json")


@pytest.fixture(scope="module")
def traced(network: Network, inputs: Frames, tmp_path_factory: pytest.TempPathFactory) -> tuple[Frames, dict[str, Any]]:
    """What the eager network gives in every frame, and in one of them what its modules give."""
    calls: dict[str, list[Tensor]] = {name: [] for name in TRACED.values()}

    def record(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: calls[name].append(output)

    hooks = [module_at(network, place).register_forward_hook(record(name)) for place, name in TRACED.items()]
    bundle = described(network.graph, tmp_path_factory.mktemp("base"))
    outputs = list(base_outputs(bundle, TorchSession(network), inputs))
    for hook in hooks:
        hook.remove()
    return outputs, {name: seen[TRACED_FRAME] for name, seen in calls.items()}


def module_at(network: Network, place: str) -> nn.Module:
    submodule, _, path = place.partition("/")
    return network.parts[submodule].get_submodule(path)


def named_arrays(modules: dict[str, Any]) -> dict[str, np.ndarray]:
    """Each output under its golden name and in its axes; of several, each under its own."""
    arrays = {}
    for name, output in modules.items():
        parts = {f"{name}.{i}": part for i, part in enumerate(output)} if isinstance(output, tuple) else {name: output}
        for key, part in parts.items():
            batched = part if part.ndim == 4 else part.unsqueeze(1 if name in BATCH_SECOND else 0)
            arrays[key] = batched.numpy()
    return arrays


@pytest.mark.parametrize(("size", "config"), [("base", FULL), ("small40", SMALL)])
def test_entries_are_those_of_the_checkpoint(
    size: str, config: ModelConfig, golden: Path, plugins: PluginManager
) -> None:
    """All 2,457 of the official model, and the anchors, which come from a file of their own."""
    entries = json.loads((golden / "base" / f"state_dict_manifest_{size}.json").read_text())
    with torch.device("meta"):
        weights = {
            key: list(value.shape) for key, value in Network(join(plugins.submodules(), config)).weights().items()
        }
    assert weights.pop("motion_head.motion_anchors")
    assert weights == {entry["key"]: entry["shape"] for entry in entries}
    assert len(weights) == 2457


def test_submodules_equal_the_reference(traced: tuple[Frames, dict[str, Any]], golden: Path) -> None:
    """In a frame that has a past: image encoder, BEV encoder, map, occupancy and planning, from inside."""
    folder = golden / "base"
    reference = BaseGolden.load(folder / "base_small_submodules.npz", folder / "noise_submodules_base_small.json")
    assert reference.mismatches("", named_arrays(traced[1])) == []


@pytest.mark.parity
def test_torch_equals_the_reference(traced: tuple[Frames, dict[str, Any]], sequence: BaseGolden) -> None:
    """Every output of every frame: integers and masks identical, floats within the reference's own noise."""
    assert faults_of(traced[0], sequence) == []


@pytest.mark.thorough
@pytest.mark.converts
def test_onnx_runtime_equals_the_reference(
    network: Network, inputs: Frames, sequence: BaseGolden, plugins: PluginManager, tmp_path: Path
) -> None:
    """The exported network alike."""
    graph, ops = network.graph, plugins.custom_ops()
    pieces = {s.name: export_submodule(graph, s, network.parts[s.name], ops) for s in graph.submodules}
    write_model(merge(graph, pieces, ops, {}), tmp_path / FUNCTIONAL_ONNX)
    bundle = described(graph, tmp_path)
    assert faults_of(list(base_outputs(bundle, OnnxRuntimeSession(bundle), inputs)), sequence) == []


def faults_of(outputs: Frames, sequence: BaseGolden) -> list[str]:
    return [
        f"frame {number}: {fault}"
        for number, frame in enumerate(outputs)
        for fault in sequence.mismatches(f"f{number}.", frame)
    ]

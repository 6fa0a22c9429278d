"""A checkpoint of an earlier training stage converts to the parts it contains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden_runs import GoldenSequence
from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.cli.main import run
from toolkit.cli.sessions import open_session
from toolkit.config.model import ModelConfig
from toolkit.data.frame_folder import read_frame_folder
from toolkit.data.frames import FrameSource
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.replay import replay
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.sequence import run_sequence
from toolkit.specs import StateSpec, Submodule, TensorSpec
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import write_drive
from toolkit.weights.selection import select_submodules
from toolkit.wiring import join

STAGE_1 = ("image_encoder", "bev_encoder", "tracking", "map_segmentation")
STAGE_2 = ("motion", "occupancy", "planning")
NO_ENTRY = "the checkpoint has no entry for it"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> FrameSource:
    """Synthetic frames."""
    folder = tmp_path_factory.mktemp("frames")
    write_drive(folder / "dataroot", folder / "frames", DriveSettings(scenes=2, keyframes=1))
    return read_frame_folder(folder / "frames", ModelConfig().image.cameras)


class TestSelection:
    """Which submodules a checkpoint makes."""

    def test_all_whose_entries_are_there(self, odometry: Submodule, planner: Submodule) -> None:
        selection = select_submodules((odometry, planner), entries("odometer.weight", "planner.weight"))
        assert selection.submodules == (odometry, planner)
        assert selection.left_out == {}

    def test_not_one_without_any_entry(self, odometry: Submodule, planner: Submodule) -> None:
        selection = select_submodules((odometry, planner), entries("odometer.weight"))
        assert selection.submodules == (odometry,)
        assert selection.left_out == {"planner": NO_ENTRY}

    def test_nor_one_that_reads_from_it(self, odometry: Submodule, planner: Submodule) -> None:
        judge = Submodule("judge", ("judge.",), inputs=planner.outputs, outputs=(), build=torch.nn.Identity)
        clock = Submodule("clock", ("clock.",), inputs=(), outputs=(), build=torch.nn.Identity)
        selection = select_submodules(
            (odometry, planner, judge, clock), entries("planner.weight", "judge.weight", "clock.weight")
        )
        assert selection.submodules == (clock,)
        assert selection.left_out == {
            "odometry": NO_ENTRY,
            "planner": "it reads 'moved' of odometry",
            "judge": "it reads 'plan' of planner",
        }
        assert list(selection.state_dict) == ["clock.weight"]

    def test_nor_one_whose_state_follows_it(self, odometry: Submodule) -> None:
        memory = Submodule(
            name="memory",
            checkpoint_prefixes=("memory.",),
            inputs=(TensorSpec("prev_moved", (3,), "float32", "motion before the previous frame, metres"),),
            outputs=(),
            build=torch.nn.Identity,
            states=(StateSpec("prev_moved", "moved"),),
        )
        clock = replace(memory, name="clock", inputs=(), states=(), checkpoint_prefixes=())
        selection = select_submodules((odometry, memory, clock), entries("memory.weight"))
        assert selection.left_out == {"odometry": NO_ENTRY, "memory": "it reads 'moved' of odometry"}

    def test_keeps_submodules_without_weights_of_their_own(self, odometry: Submodule, planner: Submodule) -> None:
        rule = replace(planner, checkpoint_prefixes=())
        assert select_submodules((odometry, rule), entries("odometer.weight")).submodules == (odometry, rule)

    def test_not_one_with_inherited_entries_alone(self, odometry: Submodule, planner: Submodule) -> None:
        """They are the detector's that training started from, and are left out with others of it."""
        heir = replace(planner, inherited=("planner.head.", "detector."))
        keys = ("odometer.weight", "planner.head.weight", "detector.queries")
        selection = select_submodules((odometry, heir), entries(*keys))
        assert selection.submodules == (odometry,)
        assert selection.left_out == {"planner": f"{NO_ENTRY} but such as the model before it has"}
        assert list(selection.state_dict) == ["odometer.weight"]
        assert select_submodules((odometry, heir), entries(*keys, "planner.weight")).submodules == (odometry, heir)

    def test_refuses_a_checkpoint_of_another_model(self, odometry: Submodule, planner: Submodule) -> None:
        with pytest.raises(InputError, match=r"makes no part of the network: odometry: .* `uniad-toolkit inspect`"):
            select_submodules((odometry, planner), entries("head.weight"))


def test_stage_1_makes_tracking_and_map(plugins: PluginManager, golden: Path) -> None:
    keys = [entry["key"] for entry in json.loads((golden / "state_dict_manifest_stage1.json").read_text())]
    selection = select_submodules(plugins.submodules(), entries(*keys))
    assert tuple(s.name for s in selection.submodules) == STAGE_1
    assert selection.left_out == dict.fromkeys(STAGE_2, NO_ENTRY)
    graph = join(selection.submodules, ModelConfig())
    assert "command" not in {spec.name for spec in graph.frame_inputs}
    assert {"boxes", "map_scores"} <= {spec.name for spec in graph.results}


def test_bevformer_makes_the_encoders(plugins: PluginManager) -> None:
    """Its detection head is that of tracking in part, whose other entries it lacks."""
    keys = {key for s in plugins.submodules() if s.name in STAGE_1[:2] for key in s.checkpoint_prefixes}
    keys |= {"pts_bbox_head.query_embedding.weight", "pts_bbox_head.cls_branches.0.0.weight"}
    selection = select_submodules(plugins.submodules(), entries(*keys))
    assert tuple(s.name for s in selection.submodules) == STAGE_1[:2]
    assert not any("query_embedding" in key or "cls_branches" in key for key in selection.state_dict)
    join(selection.submodules, ModelConfig())


@pytest.mark.converts
@pytest.mark.slow
def test_stage_1_converts_and_runs(
    state_dict_a: dict[str, Tensor],
    frame_inputs_a: list[dict[str, np.ndarray]],
    golden: Path,
    plugins: PluginManager,
    frames: FrameSource,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Tracking equals the reference's end-to-end model of the same weights; frames give boxes and a map."""
    manifest = json.loads((golden / "state_dict_manifest_stage1.json").read_text())
    weights = {entry["key"]: state_dict_a[entry["key"]] for entry in manifest}
    torch.save({"state_dict": weights, "meta": {"epoch": 6}}, tmp_path / "stage1.pth")
    assert run(["convert", str(tmp_path / "stage1.pth"), "-o", str(tmp_path / "bundle")]) == 0
    printed = capsys.readouterr().out
    assert all(f"the bundle has no {name}: {NO_ENTRY}" in printed for name in STAGE_2)

    bundle = Bundle.read(tmp_path / "bundle")
    assert tuple(record.name for record in bundle.submodules) == STAGE_1
    assert bundle.provenance["left_out"] == dict.fromkeys(STAGE_2, NO_ENTRY)
    session = open_session(bundle, "onnxruntime", plugins)
    reference = tracking_only(GoldenSequence.load(golden, "A"))
    inputs = [{k: v for k, v in f.items() if not k.startswith("gt_")} for f in frame_inputs_a[:2]]
    for number, outputs in enumerate(replay(bundle, session, inputs)):
        assert reference.mismatches(number, outputs) == []

    result = next(iter(run_sequence(bundle, session, plugins.submodules(), frames)))
    assert result.map is not None
    assert (result.ego_motion, result.occupancy, result.plan) == (None, None, None)
    values = json.loads(write_result(result, tmp_path).read_text())
    assert values["plan"] is None
    assert all(box["motion"] is None for box in values["boxes"])


@dataclass
class ZeroSession:
    """Answers every frame with zeros for all results of a bundle."""

    bundle: Bundle
    name: str = "zeros"

    def upload(self, array: np.ndarray) -> np.ndarray:
        return array

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {spec.name: spec.zeros(self.bundle.config.dimensions()) for spec in self.bundle.results}

    def download(self, tensor: np.ndarray) -> np.ndarray:
        return tensor

    def finite(self, tensors: Iterable[np.ndarray]) -> bool:
        return all(np.isfinite(tensor).all() for tensor in tensors)


@pytest.mark.slow
@pytest.mark.parametrize(("heads", "has_map"), [(("seg_head.",), True), ((), False)], ids=["stage 1", "tracking alone"])
def test_frames_run_through_a_part_of_the_network(
    heads: tuple[str, ...], has_map: bool, plugins: PluginManager, frames: FrameSource, tmp_path: Path
) -> None:
    keys = ("img_backbone.x", "pts_bbox_head.bev_embedding.weight", "query_embedding.weight", *heads)
    graph = join(select_submodules(plugins.submodules(), entries(*keys)).submodules, ModelConfig())
    records = tuple(SubmoduleRecord(s.name, "tests", None, tuple(o.name for o in s.outputs)) for s in graph.submodules)
    bundle = Bundle.of_graph(
        tmp_path, graph, submodules=records, custom_ops=(), files={}, sha256={}, provenance={}, parity={}
    )
    result = next(iter(run_sequence(bundle, ZeroSession(bundle), plugins.submodules(), frames)))
    assert (result.map is not None) == has_map
    assert (result.ego_motion, result.occupancy, result.plan) == (None, None, None)


def entries(*keys: str) -> Mapping[str, Tensor]:
    return dict.fromkeys(keys, torch.zeros(1))


def tracking_only(sequence: GoldenSequence) -> GoldenSequence:
    """The sequence without what stage 2 adds."""
    return replace(
        sequence, arrays={k: v for k, v in sequence.arrays.items() if not k.endswith(("seg_out", "outs_planning"))}
    )

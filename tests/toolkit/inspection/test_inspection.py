"""`inspect`: what checkpoints, bundles and ONNX models are, hold, and how they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.config.model import BevConfig, CanBusRotation, ModelConfig, YawConvention
from toolkit.errors import InputError
from toolkit.inspection.bundle import inspect_bundle
from toolkit.inspection.difference import ChangedEntry, compare_weights
from toolkit.inspection.files import weights_of
from toolkit.inspection.onnx_model import Tensor as OnnxTensor
from toolkit.inspection.onnx_model import inspect_onnx
from toolkit.inspection.weights import Oddity, Share, find_oddities, inspect_checkpoint
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Submodule
from toolkit.storage.files import sha256_file
from toolkit.weights.checkpoint import read_checkpoint
from toolkit.weights.identity import fitting_config, identify
from toolkit.wiring import join

BEV = "pts_bbox_head.bev_embedding.weight"
STAGE_2_HEADS = ("motion_head.", "occ_head.", "planning_head.")

MODEL = """
<ir_version: 10, opset_import: ["" : 18, "uniad" : 1], producer_name: "maker", metadata_props: ["checkpoint": "abc"]>
network (float[1, N] x) => (float[1, N] y)
<float[2] weight = {1, 2}>
{
  ["encoder/conv"] a = Add (x, weight)
  ["encoder/turn"] b = uniad.Rotate (a)
  ["planner/plan"] y = uniad.Search (b)
}
<domain: "uniad", opset_import: ["" : 18]>
Rotate (x) => (y) { y = Identity (x) }
"""


@pytest.fixture(scope="session")
def end_to_end(plugins: PluginManager) -> dict[str, Tensor]:
    """Entries of a stage-2 checkpoint, untrained."""
    return Network(join(plugins.submodules(), ModelConfig())).weights()


def without(entries: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {key: value for key, value in entries.items() if not key.startswith(prefixes)}


def renamed(entries: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {new if key == old else key: value for key, value in entries.items()}


class TestIdentify:
    """What a checkpoint is follows from its entries alone."""

    def test_stage_2(self, end_to_end: dict[str, Tensor]) -> None:
        assert identify(end_to_end) == "UniAD-tiny, stage 2 (end to end)"

    def test_stage_2_without_a_head(self, end_to_end: dict[str, Tensor]) -> None:
        assert identify(without(end_to_end, "occ_head.")) == "UniAD-tiny, stage 2 (end to end) without occ_head"

    def test_stage_1(self, end_to_end: dict[str, Tensor]) -> None:
        assert identify(without(end_to_end, *STAGE_2_HEADS)) == "UniAD-tiny, stage 1 (tracking and map)"

    def test_bevformer(self, end_to_end: dict[str, Tensor]) -> None:
        detector = without(end_to_end, *STAGE_2_HEADS, "seg_head.")
        queries = "pts_bbox_head.query_embedding.weight"
        assert identify(renamed(detector, "query_embedding.weight", queries)) == "BEVFormer-tiny"
        assert identify(detector | {queries: torch.zeros(900, 512)}) == "BEVFormer-tiny, prepared for stage 1"

    @pytest.mark.parametrize(("cells", "size"), [(40000, "base"), (10000, "variant with 10000 BEV cells")])
    def test_other_sizes(self, cells: int, size: str, end_to_end: dict[str, Tensor]) -> None:
        larger = end_to_end | {BEV: torch.zeros(1, 256).expand(cells, 256)}
        assert identify(larger) == f"UniAD-{size}, stage 2 (end to end)"

    def test_the_configuration_of_another_variant(self, end_to_end: dict[str, Tensor]) -> None:
        tiny, base = ModelConfig(), ModelConfig(bev=BevConfig(height=200, width=200))
        larger = end_to_end | {BEV: torch.zeros(1, 256).expand(40000, 256)}
        assert fitting_config(larger, tiny) == "configs/uniad_base_stage2.toml"
        assert fitting_config(without(larger, *STAGE_2_HEADS), tiny) == "configs/uniad_base_stage1.toml"
        assert fitting_config(end_to_end, base) == "configs/uniad_tiny_stage2.toml"
        assert fitting_config(end_to_end, tiny) is None
        assert fitting_config({}, tiny) is None

    @pytest.mark.parametrize("entries", [{}, {"head.weight": torch.zeros(3)}, {BEV: torch.zeros(2500)}])
    def test_other_models(self, entries: dict[str, Tensor]) -> None:
        assert identify(entries) == "other"


class TestOddities:
    """What training rarely leaves behind."""

    def test_sound_weights_have_none(self) -> None:
        sound = {"norm.running_mean": torch.zeros(3), "norm.running_var": torch.tensor([1.0, 2, 1]), "w": torch.eye(2)}
        assert list(find_oddities(sound | {"scale": torch.ones(1), "norm.count": torch.tensor(0)})) == []

    @pytest.mark.parametrize(
        ("value", "kind", "note"),
        [
            (torch.tensor([1.0, torch.nan, torch.inf]), "not finite", "2 of 3 values are NaN or infinite"),
            (torch.zeros(2, 2), "all zero", "every value is 0"),
            (torch.full((3,), 0.5), "constant", "every value is 0.5"),
            (torch.tensor([1, 2], dtype=torch.float16), "precision", "float16"),
            (torch.tensor([1, 2], dtype=torch.bfloat16), "precision", "bfloat16"),
            (torch.tensor([1, 2], dtype=torch.float64), "precision", "float64"),
        ],
    )
    def test_of_one_entry(self, value: Tensor, kind: str, note: str) -> None:
        assert list(find_oddities({"w": value})) == [Oddity(kind, "w", note)]

    def test_statistics_never_updated(self) -> None:
        fresh = {"norm.running_mean": torch.zeros(3), "norm.running_var": torch.ones(3)}
        assert [(o.kind, o.key) for o in find_oddities(fresh)] == [("statistics never updated", "norm")]


class TestCheckpoint:
    """The whole report, by the submodules of the made-up network."""

    @pytest.fixture
    def submodules(self, odometry: Submodule, planner: Submodule) -> tuple[Submodule, ...]:
        return odometry, replace(planner, unused=("planner.old.*",))

    def test_report(self, submodules: Iterable[Submodule], tmp_path: Path) -> None:
        entries = {
            "odometer.weight": torch.eye(3),
            "odometer.norm.num_batches_tracked": torch.tensor(7),
            "planner.weight": torch.randn(3, 2).half(),
            "planner.old.weight": torch.zeros(2),
            "teacher.weight": torch.randn(4),
        }
        torch.save({"state_dict": entries, "meta": {"epoch": 6, "CLASSES": ("car", "bus")}}, tmp_path / "m.pth")
        report = inspect_checkpoint(read_checkpoint(tmp_path / "m.pth"), tuple(submodules))
        assert report.kind == "other"
        assert report.classes == ("car", "bus")
        assert report.meta == {"epoch": 6}
        assert report.precision == {"float32": 3, "int64": 1, "float16": 1}
        assert report.submodules == (
            Share("odometry", entries=2, parameters=9, bytes=44),
            Share("planner", entries=2, parameters=8, bytes=20),
            Share("(none)", entries=1, parameters=4, bytes=16),
        )
        assert report.left_out == {}
        assert report.unclaimed == ("teacher.weight",)
        assert report.without_effect == ("odometer.norm.num_batches_tracked", "planner.old.weight")
        assert report.oddities == (Oddity("precision", "planner.weight", "float16"),)

    def test_says_what_a_conversion_would_leave_out(self, submodules: Iterable[Submodule], tmp_path: Path) -> None:
        torch.save({"odometer.weight": torch.eye(3)}, tmp_path / "m.pth")
        report = inspect_checkpoint(read_checkpoint(tmp_path / "m.pth"), tuple(submodules))
        assert report.left_out == {"planner": "the checkpoint has no entry for it"}

    @pytest.mark.parametrize(
        ("count", "note"),
        [
            (2457, "published in release v1.0.1 of UniAD; convert with --config configs/uniad_base_stage2.toml"),
            (
                2445,
                "uniad_base_e2e.pth of release v1.0.1 of UniAD has 2457 entries, this one 2445: it is another; "
                "download it again, from release v1.0.1 of UniAD",
            ),
        ],
    )
    def test_knows_the_published_files_by_name_and_size(self, count: int, note: str, tmp_path: Path) -> None:
        torch.save({f"head.{number}": torch.ones(1) for number in range(count)}, tmp_path / "uniad_base_e2e.pth")
        assert inspect_checkpoint(read_checkpoint(tmp_path / "uniad_base_e2e.pth"), ()).notes == (note,)


class TestDifference:
    """Entries by key, shape and value."""

    def test_of_equal_weights_in_another_precision(self) -> None:
        weights = {"a": torch.tensor([1.0, 0.5])}
        difference = compare_weights(weights, {"a": weights["a"].half()}, "half.pth")
        assert (difference.identical, difference.changed) == (1, ())

    def test_is_complete_and_sorted(self) -> None:
        ours = {
            "new": torch.zeros(1),
            "shape": torch.zeros(2),
            "small": torch.tensor([1.0, 2]),
            "large": torch.tensor([1.0, 2]),
            "broken": torch.tensor([torch.nan]),
        }
        theirs = {
            "old": torch.zeros(1),
            "shape": torch.zeros(3),
            "small": torch.tensor([1.0, 2.25]),
            "large": torch.tensor([-1.0, 2]),
            "broken": torch.tensor([0.0]),
        }
        difference = compare_weights(ours, theirs, "other.pth")
        assert difference.missing == ("old",)
        assert difference.extra == ("new",)
        assert difference.reshaped == {"shape": "[2] here, [3] there"}
        assert difference.changed == (
            ChangedEntry("broken", None),
            ChangedEntry("large", 2.0),
            ChangedEntry("small", 0.25),
        )
        assert difference.identical == 0


class TestOnnx:
    """Models of any origin."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    def test_report(self, model: Path) -> None:
        report = inspect_onnx(model)
        assert report.producer == "maker"
        assert report.opsets == {"ai.onnx": 18, "uniad": 1}
        assert report.nodes == {"encoder": 2, "planner": 1}
        assert report.operators == {"Add": 1, "uniad::Rotate": 1, "uniad::Search": 1}
        assert report.custom == {"uniad::Rotate": 1, "uniad::Search": 1}
        assert report.functions == ("uniad::Rotate",)
        assert report.weights == 2
        assert report.inputs == (OnnxTensor("x", "float", (1, "N")),)
        assert report.outputs == (OnnxTensor("y", "float", (1, "N")),)
        assert report.metadata == {"checkpoint": "abc"}

    def test_names_missing_external_files(self, model: Path) -> None:
        proto = onnx.load(model)
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones(2, np.float32), "weight"))
        onnx.save_model(proto, model, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
        assert inspect_onnx(model).external == {"model.onnx.data": True}
        (model.parent / "model.onnx.data").unlink()
        assert inspect_onnx(model).external == {"model.onnx.data": False}

    @pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x0a"])
    def test_refuses_other_files(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"ONNX model .*model\.onnx"):
            inspect_onnx(path)

    def test_has_no_weights_to_compare(self, model: Path) -> None:
        with pytest.raises(InputError, match="compare its bundle"):
            weights_of(model)


class TestBundle:
    """Folders that a conversion wrote."""

    @pytest.fixture
    def written(self, bundle: Bundle) -> Bundle:
        save_file({"odometer.weight": torch.eye(3), "planner.weight": torch.ones(3, 2)}, bundle.path / "w.safetensors")
        onnx.save(onnx.parser.parse_model(MODEL), bundle.path / "m.onnx")
        files = {"functional": "m.onnx", "weights": "w.safetensors"}
        digests = {name: sha256_file(bundle.path / name) for name in files.values()}
        whole = replace(bundle, files=files, sha256=digests, provenance={"checkpoint": "a.pth"}, parity={"frames": 4})
        whole.write()
        return Bundle.read(bundle.path)

    def test_report(self, written: Bundle, odometry: Submodule, planner: Submodule) -> None:
        report = inspect_bundle(written, (odometry, planner))
        assert report.provenance == {"checkpoint": "a.pth"}
        assert [s.name for s in report.submodules] == ["odometry", "planner"]
        assert [(share.submodule, share.parameters) for share in report.shares] == [("odometry", 9), ("planner", 6)]
        assert [(file.name, file.intact) for file in report.files] == [("m.onnx", True), ("w.safetensors", True)]
        assert report.capacities["track rows"] == 1150
        assert report.conventions == {"can_bus_rotation": "scalar", "yaw_convention": "clockwise"}
        assert report.results == ("plan",)
        assert report.custom_ops == written.custom_ops
        assert report.parity == {"frames": 4}

    def test_notices_a_file_that_was_exchanged(self, written: Bundle) -> None:
        written.onnx.write_bytes(written.onnx.read_bytes() + b"\n")
        assert next((file.name, file.intact) for file in inspect_bundle(written, ()).files) == ("m.onnx", False)

    def test_compares_with_its_checkpoint(self, written: Bundle) -> None:
        assert compare_weights(weights_of(written.path), weights_of(written.weights), "w").identical == 2

    def test_conventions_are_shown(self, written: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        rotation, yaw = CanBusRotation.QUATERNION, YawConvention.HEADING
        config = replace(written.config, can_bus_rotation=rotation, yaw_convention=yaw)
        replace(written, config=config).write()
        assert run(["inspect", str(written.path)]) == 0
        printed = capsys.readouterr().out
        assert re.search(r"can_bus_rotation\W+quaternion\W", printed)
        assert re.search(r"yaw_convention\W+heading\W", printed)


class TestCommand:
    """The command line over all of it."""

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        torch.save({"head.weight": torch.randn(2, 2), "head.[bold]": torch.zeros(3)}, tmp_path / "model.pth")
        return tmp_path / "model.pth"

    def test_prints_and_writes_the_report(
        self, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = tmp_path / "other.pth"
        torch.save({"head.weight": torch.zeros(2, 2)}, other)
        assert run(["inspect", str(checkpoint), "--against", str(other), "--json", str(tmp_path / "report.json")]) == 0
        printed = capsys.readouterr().out
        assert all(text in printed for text in ("all zero", "head.[bold]", "max |difference|", "wrote report"))
        report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
        assert report["kind"] == "other"
        assert report["oddities"] == [{"kind": "all zero", "key": "head.[bold]", "note": "every value is 0"}]
        assert report["difference"]["extra"] == ["head.[bold]"]

    def test_describes_checkpoints_that_a_conversion_refuses(self, tmp_path: Path) -> None:
        torch.save({"head.weight": torch.tensor([torch.nan, 1])}, tmp_path / "diverged.pth")
        assert run(["inspect", str(tmp_path / "diverged.pth")]) == 0

    @pytest.mark.parametrize("name", ["absent.pth", "absent.onnx", "."])
    def test_refuses_what_is_none_of_the_three(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["inspect", str(tmp_path / name)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

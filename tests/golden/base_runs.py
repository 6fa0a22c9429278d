"""The golden sequence of UniAD-base at a reduced size: its network, and how tensors compare with the reference's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plugins.map_segmentation.merge import postprocess
from plugins.motion.anchors import load_motion_anchors
from plugins.planning.collision import optimise
from tests.conftest import load_script
from tests.golden_runs import NOISE_FACTOR
from toolkit.bundle import FUNCTIONAL_ONNX, Bundle
from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.engines.session import Session
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface import tensors as official
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.wiring import NetworkGraph, join

FULL = load_config(Path(__file__).parents[2] / "configs" / "uniad_base_stage2.toml")
SMALL = replace(
    FULL,
    image=replace(FULL.image, scale=0.25),
    bev=replace(FULL.bev, height=40, width=40, rotate_center=(20.0, 20.0)),
    occupancy=replace(FULL.occupancy, cell_metres=2.5),
)
FLOOR = 1e-5
"""Least error that is allowed."""
SPARE_CELLS = 10
"""Cells of masks that may differ at full size: their scores are closer to the thresholds than the reference's noise."""
LAYERS = ("aux.motion.all_trajs", "aux.motion.all_traj_scores_logp")
"""Of which the golden data has all decoder layers, and the network gives the last."""
RANKED = "aux.seg.labels"
MASKS = ("out.seg_out", "aux.seg.drivable", "aux.seg.lane")


def base_network(golden: Path, plugins: PluginManager, size: str, config: ModelConfig) -> Network:
    """The network with the golden checkpoint's weights, of the size "base" or "small40"."""
    folder = golden / "base"
    manifest = str(folder / f"state_dict_manifest_{size}.json")
    weights: dict[str, Any] = load_script(folder / "pseudo_checkpoint_base.py").make_state_dict(manifest, "BA")
    anchors = load_motion_anchors(golden / "motion_anchor_infos_mode6.pkl", config)
    network = Network(join(plugins.submodules(), config))
    network.load_weights(weights | {"motion_head.motion_anchors": torch.from_numpy(anchors)})
    return network


def described(graph: NetworkGraph, folder: Path) -> Bundle:
    """What a runner and a session need to know of a network."""
    files = {"functional": FUNCTIONAL_ONNX}
    empty: dict[str, Any] = {key: {} for key in ("sha256", "sizes", "provenance", "parity")}
    return Bundle.of_graph(folder, graph, submodules=(), custom_ops=(), files=files, packages=(), **empty)


def base_outputs(bundle: Bundle, session: Session, frames: list[dict[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
    """For each frame, state fed back, what the golden data has under ``out.`` and ``aux.``."""
    runner = TemporalRunner(bundle, session, guarded=False)
    names = [spec.name for spec in bundle.results]
    for number, inputs in enumerate(frames):
        external = {name: array for name, array in inputs.items() if not official.has_no_effect(name)}
        frame = official.frame_inputs(external, bundle, f"f{number}.in.")
        results = runner.step(frame, names)
        outputs = {f"out.{name}": array for name, array in official.outputs(results, frame).items()}
        yield outputs | further_outputs(results, bundle.config)


def further_outputs(results: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, Any]:
    """What the reference computes behind its deployed interface: merged maps, all detections, the optimised plan."""
    merged = postprocess(results, config)
    agents = [*range(int(results["box_count"][0])), -1]
    detections = int(results["detection_count"][0])
    return {
        "aux.seg.labels": merged["map_instance_labels"],
        "aux.seg.lane": merged["map_lanes"],
        "aux.seg.drivable": merged["map_drivable"],
        "aux.motion.all_trajs": results["motion_trajectories"][agents],
        "aux.motion.all_traj_scores_logp": results["motion_log_probs"][agents],
        "aux.det.boxes": results["detection_boxes"][:detections],
        "aux.det.scores": results["detection_scores"][:detections],
        "aux.det.labels": results["detection_labels"][:detections],
        "aux.occ.seg_score_max": results["occupancy_scores"][None],
        "aux.plan.sdc_traj_optimised": optimise(results["plan"], results["occupancy"])[None],
    }


@dataclass(frozen=True)
class BaseGolden:
    """Named tensors of the reference, whole or a part of them, and its noise in each."""

    arrays: dict[str, np.ndarray]
    noise: dict[str, float]

    @classmethod
    def load(cls, path: Path, noise: Path) -> BaseGolden:
        """From a file and the table of its noise."""
        table: dict[str, Any] = json.loads(noise.read_text())
        return cls(dict(np.load(path)), {k: v["max_abs"] for k, v in table.items() if isinstance(v, dict)})

    def mismatches(self, prefix: str, actual: Mapping[str, Any], spare_cells: int = 0) -> list[str]:
        """What differs by more than is fair among the arrays whose keys begin with the prefix.

        Every actual array must have a golden one, and each golden output an actual one.
        """
        faults, missing = [], set(actual)
        for key, wanted in self.arrays.items():
            name, _, part = key.removeprefix(prefix).partition("@")
            if not key.startswith(prefix) or "#" in key or (name not in actual and not name.startswith("out.")):
                continue
            missing.discard(name)
            given = slices(np.asarray(actual[name]), part)
            if name in LAYERS:
                wanted = wanted[-1, 0]
            if name == RANKED:  # instances without a cell have a score of 0; their order among each other is chance
                scored = self.arrays[f"{prefix}aux.seg.bbox"][:, 4] > 0
                wanted, given = wanted[scored], given[scored]
            faults += self._compare(name, wanted, given, spare_cells)
        return faults + [f"no golden data of {name}" for name in sorted(missing)]

    def _compare(self, name: str, wanted: np.ndarray, actual: np.ndarray, spare_cells: int) -> list[str]:
        if actual.size != wanted.size:
            return [f"{name}: {actual.shape}, not {wanted.shape}"]
        actual = actual.reshape(wanted.shape)
        if wanted.dtype.kind != "f":
            different, spare = int((actual != wanted).sum()), spare_cells if name in MASKS else 0
            return [f"{name}: {different} of {wanted.size} differ"] if different > spare else []
        worst = float(np.abs(actual.astype(np.float64) - wanted).max(initial=0))
        bound = max(FLOOR, NOISE_FACTOR * self.noise.get(name, 0.0))
        return [] if worst <= bound else [f"{name}: error {worst:.3g} exceeds {bound:.3g}"]


def slices(array: np.ndarray, part: str) -> np.ndarray:
    """The part of an array that ``[a:b:c, …]`` says; all of it if that is empty."""
    indices = []
    for index in filter(None, part.strip("[]").replace(" ", "").split(",")):
        assert re.fullmatch(r"\.\.\.|[-:\d]+", index)
        indices.append(... if index == "..." else slice(*(int(x) if x else None for x in index.split(":"))))
    whole: np.ndarray = array[tuple(indices)]
    return whole

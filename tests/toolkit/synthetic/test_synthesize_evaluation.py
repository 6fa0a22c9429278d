"""nuscenes-devkit's evaluations run on a synthetic set, and find its own annotations to be perfect results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.eval.tracking.evaluate import TrackingEval
from nuscenes.eval.tracking.utils import category_to_tracking_name

from toolkit.synthetic.dataset import DriveSettings, synthesize

pytestmark = pytest.mark.slow

META = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}


@pytest.fixture(scope="module")
def nusc(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """A training and a validation scene."""
    folder = tmp_path_factory.mktemp("drive") / "dataroot"
    list(synthesize(folder, DriveSettings(scenes=2, keyframes=8, image_scale=0.1)))
    return NuScenes("v1.0-mini", str(folder), verbose=False)


def submission(nusc: NuScenes, split_scene: str, *, tracking: bool) -> dict[str, Any]:
    """The annotations of a scene as a result file."""
    scene = next(scene for scene in nusc.scene if scene["name"] == split_scene)
    results: dict[str, list[dict[str, Any]]] = {}
    for sample in nusc.sample:
        if sample["scene_token"] != scene["token"]:
            continue
        results[sample["token"]] = []
        for annotation in (nusc.get("sample_annotation", token) for token in sample["anns"]):
            name_of = category_to_tracking_name if tracking else category_to_detection_name
            name = name_of(annotation["category_name"])
            if name is None or annotation["num_lidar_pts"] == 0:
                continue
            velocity = np.nan_to_num(nusc.box_velocity(annotation["token"])[:2]).tolist()
            box = {"sample_token": sample["token"], "velocity": velocity}
            box |= {key: annotation[key] for key in ("translation", "size", "rotation")}
            if tracking:
                box |= {"tracking_id": annotation["instance_token"], "tracking_name": name, "tracking_score": 0.9}
            else:
                attributes = [nusc.get("attribute", token)["name"] for token in annotation["attribute_tokens"]]
                box |= {"detection_name": name, "detection_score": 0.9, "attribute_name": "".join(attributes)}
            results[sample["token"]].append(box)
    return {"meta": META, "results": results}


def test_detection_evaluation(nusc: NuScenes, tmp_path: Path) -> None:
    file = tmp_path / "detections.json"
    file.write_text(json.dumps(submission(nusc, "scene-0103", tracking=False)))
    evaluation = DetectionEval(
        nusc, config_factory("detection_cvpr_2019"), str(file), "mini_val", str(tmp_path), verbose=False
    )
    metrics, _ = evaluation.evaluate()
    present = {
        box.detection_name for sample in evaluation.gt_boxes.sample_tokens for box in evaluation.gt_boxes[sample]
    }
    assert {"car", "pedestrian"} <= present
    for name in present:
        assert metrics.mean_dist_aps[name] > 0.98, name
        errors = metrics.get_label_tp(name, "trans_err"), metrics.get_label_tp(name, "scale_err")
        assert max(errors) < 1e-6, name


def test_tracking_evaluation(nusc: NuScenes, tmp_path: Path) -> None:
    file = tmp_path / "tracks.json"
    file.write_text(json.dumps(submission(nusc, "scene-0103", tracking=True)))
    evaluation = TrackingEval(
        config_factory("tracking_nips_2019"), str(file), "mini_val", str(tmp_path), "v1.0-mini", nusc.dataroot,
        verbose=False,
    )  # fmt: skip
    metrics, _ = evaluation.evaluate()
    for name in ("car", "pedestrian"):
        assert metrics.label_metrics["amota"][name] > 0.95, name
        assert metrics.label_metrics["ids"][name] == 0

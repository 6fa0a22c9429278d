"""The list of detections against that of the official code: UniAD-base at a small size, whose tracking is alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins.tracking.model import Tracking
from plugins.tracking.plugin import SUBMODULE, TRACKS
from plugins.tracking.state import Tracks
from tests.conftest import load_script
from toolkit.config.model import BevConfig, ModelConfig

CONFIG = ModelConfig(bev=BevConfig(height=40, width=40))
OFFICIAL = dict(zip(Tracks._fields, (0, 1, 3, 4, 5, 6, 8, 9, 11, 12, 13), strict=True))
"""Number of each track tensor in the official names."""
LISTED = "boxes", "scores", "labels"
Golden = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def module(golden: Path) -> Tracking:
    """With the weights of the golden sequence."""
    make_tensor = load_script(golden / "base" / "pseudo_checkpoint_base.py").make_tensor
    entries = json.loads((golden / "base" / "state_dict_manifest_small40.json").read_text())
    tracking = Tracking(CONFIG).eval()
    tracking.load_state_dict(
        {
            entry["key"]: torch.tensor(make_tensor(entry["key"], entry["shape"], entry["dtype"]))
            for entry in entries
            if entry["key"].startswith(SUBMODULE.checkpoint_prefixes)
        }
    )
    return tracking


@pytest.fixture(scope="module")
def sequence(golden: Path) -> Golden:
    """By official name; parts of tensors under the name of the whole."""
    with np.load(golden / "base" / "base_small.npz") as arrays:
        return {name.partition("@")[0]: arrays[name] for name in arrays.files}


def pose_of(frame: int, sequence: Golden) -> list[torch.Tensor]:
    """Time and pose."""
    names, shapes = ("timestamp", "l2g_r_mat", "l2g_t"), ((1,), (3, 3), (3,))
    return [
        torch.from_numpy(sequence[f"f{frame}.in.{name}"]).reshape(shape)
        for name, shape in zip(names, shapes, strict=True)
    ]


def state_after(frame: int, sequence: Golden) -> list[torch.Tensor]:
    """What the official code left to the next frame: survivors behind fresh queries, which are made anew."""
    queries, dimensions = CONFIG.tracking.queries, CONFIG.dimensions()
    state = {spec.name: spec.zeros(dimensions) for spec in TRACKS}
    count = len(sequence[f"f{frame}.out.prev_track_intances3_out"])
    for field, number in OFFICIAL.items():
        rows = sequence[f"f{frame}.out.prev_track_intances{number}_out"]
        state[f"track_{field}"][queries:count] = rows[queries - count :]
    state["track_count"][:] = count
    state["next_track_id"][:] = sequence[f"f{frame}.out.max_obj_id_out"]
    return [torch.from_numpy(array) for array in state.values()]


@pytest.mark.parametrize("frame", [1, 3])
def test_best_of_all_rows(frame: int, module: Tracking, sequence: Golden) -> None:
    """Of fresh queries and tracks, the ego's row included: in a frame with tracks, and in one that begins a scene."""
    bev = torch.from_numpy(sequence[f"f{frame}.out.bev_embed"])[:, 0]
    use_previous = torch.from_numpy(sequence[f"f{frame}.in.use_prev_bev"])
    poses = [*pose_of(frame, sequence), *pose_of(frame - 1, sequence)]
    outputs = module(bev, use_previous, *poses, *state_after(frame - 1, sequence))
    found = {spec.name: array.numpy() for spec, array in zip(SUBMODULE.outputs, outputs, strict=True)}
    assert found["detection_count"].tolist() == [CONFIG.tracking.max_reports]

    boxes, scores, labels = (sequence[f"f{frame}.aux.det.{name}"] for name in LISTED)
    assert len(scores) > len(sequence[f"f{frame}.out.scores"]), "more than the reported tracks"
    detected_boxes, detected_scores, detected_labels = (found[f"detection_{name}"][: len(scores)] for name in LISTED)
    np.testing.assert_allclose(detected_scores, scores, atol=3e-5)
    np.testing.assert_array_equal(detected_labels, labels)
    turned = (detected_boxes - boxes)[:, 6]
    detected_boxes[:, 6] -= 2 * np.pi * np.round(turned / (2 * np.pi))
    np.testing.assert_allclose(detected_boxes, boxes, rtol=0, atol=1e-3)

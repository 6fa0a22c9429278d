"""A clip of a training: its frames and their ground truth, as a model is given them."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.bridge.parts.arrays import copied, shaped, single

OF_EVERY_FRAME = (
    "gt_bboxes_3d",
    "gt_labels_3d",
    "gt_inds",
    "gt_past_traj",
    "gt_past_traj_mask",
    "gt_sdc_bbox",
    "gt_sdc_label",
)
OF_THE_LAST = {
    "gt_fut_traj": 3,
    "gt_fut_traj_mask": 3,
    "gt_sdc_fut_traj": 3,
    "gt_sdc_fut_traj_mask": 3,
    "gt_lane_labels": 1,
    "gt_lane_bboxes": 2,
    "gt_lane_masks": 3,
    "sdc_planning": 4,
    "sdc_planning_mask": 4,
    "command": 1,
    "gt_segmentation": 4,
    "gt_instance": 4,
    "gt_occ_img_is_valid": 2,
}
"""And their ranks."""


def clip_arrays(given: dict[str, Any]) -> dict[str, np.ndarray]:
    """What `forward_train` is given, copied: NAME for the clip or its last frame, NAME.k for frame k, or for step k.

    Times count from the first frame, as exactly as the loader has left them.
    """
    metas = single(given["img_metas"])
    frames = [metas[k] for k in sorted(metas)]
    stamps = np.array([copied(stamp) for stamp in per_frame(given["timestamp"])], np.float64).reshape(-1)
    arrays = {
        "img": shaped(given["img"], 5),
        "can_bus": np.array([meta["can_bus"] for meta in frames], np.float64),
        "lidar2img": np.array([[np.asarray(matrix) for matrix in meta["lidar2img"]] for meta in frames], np.float64),
        "timestamp": stamps - stamps[0],
        "l2g_r_mat": np.array([shaped(matrix, 2) for matrix in per_frame(given["l2g_r_mat"])]),
        "l2g_t": np.array([shaped(vector, 1) for vector in per_frame(given["l2g_t"])]),
    }
    for name in (*OF_EVERY_FRAME, "gt_future_boxes"):
        if given.get(name) is not None:
            arrays.update((f"{name}.{k}", copied(value)) for k, value in enumerate(per_frame(given[name])))
    for name, rank in OF_THE_LAST.items():
        if given.get(name) is not None:
            arrays[name] = shaped(given[name], rank)
    return arrays


def per_frame(value: Any) -> Any:
    """The entries of a list, which may lie in one of a single entry."""
    value = single(value)
    return value if isinstance(value, (list, tuple)) else [value]

"""The reference deployment's tensor names, shapes and dtypes, as a boundary around ours.

The reference's graph has a varying number N of track rows (fresh queries, then survivors) and M of boxes; ours has
fixed capacities and counts. Names are spelled as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.errors import InputError

TRACK_ROWS = {
    0: "track_query",
    1: "track_reference",
    3: "track_id",
    4: "track_matched",
    5: "track_missed",
    6: "track_iou",
    8: "track_score",
    9: "track_box",
    11: "track_memory",
    12: "track_memory_padding",
    13: "track_save_period",
}
"""Official track index -> our tensor."""

FRAME = {
    "img": "image",
    "img_metas_lidar2img": "lidar2img",
    "img_metas_can_bus": "can_bus",
    "timestamp": "timestamp",
    "l2g_r_mat": "l2g_rotation",
    "l2g_t": "l2g_translation",
    "command": "command",
    "use_prev_bev": "use_previous",
}
RECURRENT = {
    **{f"prev_track_intances{i}": f"prev_{name}" for i, name in TRACK_ROWS.items()},
    "prev_timestamp": "prev_timestamp",
    "prev_l2g_r_mat": "prev_l2g_rotation",
    "prev_l2g_t": "prev_l2g_translation",
    "prev_bev": "prev_bev",
    "max_obj_id": "prev_next_track_id",
}
TRACK_OUTPUTS = {f"prev_track_intances{i}_out": name for i, name in TRACK_ROWS.items()}
RECALLED = {"prev_timestamp_out": "timestamp", "prev_l2g_t_out": "l2g_t", "prev_l2g_r_mat_out": "l2g_r_mat"}
"""Official outputs that repeat an official input."""

BOXES = {
    "bboxes_dict_bboxes": "boxes",
    "scores": "box_scores",
    "labels": "box_labels",
    "bbox_index": "box_rows",
    "obj_idxes": "box_ids",
}
REST = {"max_obj_id_out": "next_track_id", "seg_out": "occupancy", "outs_planning": "plan"}
OUTPUTS = {**TRACK_OUTPUTS, **RECALLED, "bev_embed": "bev", **BOXES, **REST}
"""Official outputs in their order: what each is made of, our output or an official input."""

COUNTS = {
    **dict.fromkeys(TRACK_OUTPUTS, "track_count"),
    **dict.fromkeys(BOXES, "box_count"),
    "bbox_index": "box_row_count",
}
"""Official outputs that have a varying number of rows, and which output of ours says it."""

FORECASTS = {
    "traj": "motion_trajectories",
    "trajectories": "motion_trajectories",
    "log_probs": "motion_log_probs",
}
"""What a training environment gives beyond the deployment: rows of the reported boxes by score, the ego last."""

NETWORK_OUTPUTS = {**BOXES, **REST, "bev_embed": "bev", **FORECASTS, **TRACK_OUTPUTS}
"""What a training environment can record of the network, decisions first: official name -> our output."""
LASTING = frozenset({"bev_embed", *TRACK_OUTPUTS})
"""Those of them that the next frame takes as its state, apart from poses and numbers."""

WITHOUT_EFFECT = ("image_shape", "img_metas_scene_token", "prev_track_intances2", "prev_track_intances7",
                  "prev_track_intances10")  # fmt: skip
"""Arguments of the reference that influence nothing, besides ``gt_*``."""


def has_no_effect(name: str) -> bool:
    return name in WITHOUT_EFFECT or name.startswith("gt_")


def frame_inputs(
    official: Mapping[str, np.ndarray],
    bundle: Bundle,
    where: str,
    others: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Our frame inputs from official ones; those that these lack are taken from `others`, which are ours.

    Raises InputError, prefixed `where`, for a missing or mis-shaped one.
    """
    specs = {spec.name: spec for spec in bundle.frame_inputs}
    converted = {}
    for name, ours in FRAME.items():
        if ours not in specs:
            continue
        if name not in official and ours in others:
            converted[ours] = others[ours]
            continue
        if name not in official:
            raise InputError(f"{where}{name} is missing; it holds {specs[ours].meaning}")
        shape, dtype = specs[ours].resolve(bundle.config.dimensions()), specs[ours].dtype
        converted[ours] = fit(official[name], shape, dtype, where + name)
    choices = {"command": bundle.config.planning.commands, "use_prev_bev": 2}
    for name, count in choices.items():
        if FRAME[name] in converted and not 0 <= converted[FRAME[name]][0] < count:
            raise InputError(f"{where}{name} is {converted[FRAME[name]][0]}; it must lie between 0 and {count - 1}")
    return converted


def state_inputs(official: Mapping[str, np.ndarray], bundle: Bundle, where: str) -> dict[str, np.ndarray]:
    """Our state inputs from official recurrent inputs; track rows are padded with zeros to the capacity."""
    missing = [name for name in RECURRENT if name not in official]
    if missing:
        raise InputError(f"{where}{missing[0]} is missing; a sequence starts from all recurrent inputs or from none")
    dimensions = bundle.config.dimensions()
    specs = {spec.name: spec for spec in bundle.state_inputs}
    rows = len(np.atleast_1d(official["prev_track_intances0"]))
    converted = {"prev_track_count": np.array([rows], np.int32)}
    for name, ours in RECURRENT.items():
        shape, dtype = specs[ours].resolve(dimensions), specs[ours].dtype
        if ours.removeprefix("prev_") in TRACK_ROWS.values():
            converted[ours] = _padded(official[name], rows, shape, dtype, where + name)
        else:
            converted[ours] = fit(official[name], shape, dtype, where + name)
    return converted


def outputs(results: Mapping[str, np.ndarray], frame: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Official outputs, in their order, from our results (state included) and the frame inputs they came from."""
    rows, boxes, ranked = (int(results[name][0]) for name in ("track_count", "box_count", "box_row_count"))
    official: dict[str, Any] = {f"prev_track_intances{i}_out": results[name][:rows] for i, name in TRACK_ROWS.items()}
    official |= {
        "prev_timestamp_out": frame["timestamp"],
        "prev_l2g_t_out": frame["l2g_translation"][None],
        "prev_l2g_r_mat_out": frame["l2g_rotation"][None],
        "bev_embed": results["bev"][:, None],
        "bboxes_dict_bboxes": results["boxes"][:boxes],
        "scores": results["box_scores"][:boxes],
        "labels": results["box_labels"][:boxes],
        "bbox_index": results["box_rows"][:ranked],
        "obj_idxes": results["box_ids"][:boxes],
        "max_obj_id_out": results["next_track_id"],
    }
    if "occupancy" in results:
        official["seg_out"] = results["occupancy"][None, :, None]
    if "plan" in results:
        official["outs_planning"] = results["plan"][None]
    return official


def results(official: Mapping[str, np.ndarray], bundle: Bundle, where: str) -> dict[str, np.ndarray]:
    """Our results, as far as official outputs and forecasts tell them: `outputs` the other way round.

    Rows beyond the given ones are zeros, or masked where the network's mean nothing. Raises InputError, prefixed
    `where`, for a tensor that is mis-shaped or not finite.
    """
    dimensions = bundle.config.dimensions()
    specs = {spec.name: spec for spec in bundle.outputs}
    converted: dict[str, np.ndarray] = {}
    for name, ours in {**OUTPUTS, **FORECASTS}.items():
        if name not in official or name in RECALLED or ours not in specs:
            continue
        array, (shape, dtype) = official[name], (specs[ours].resolve(dimensions), specs[ours].dtype)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{where}{name} holds non-finite values, which the model gave: dump again in FP32")
        if name in COUNTS:
            rows = int(converted.setdefault(COUNTS[name], np.array([len(np.atleast_1d(array))], np.int32))[0])
            converted[ours] = _padded(array, rows, shape, dtype, where + name)
        elif name in FORECASTS:
            converted[ours] = _agents_and_ego(array, shape, dtype, where + name)
        else:
            converted[ours] = fit(array, shape, dtype, where + name)
    return converted


def _padded(array: np.ndarray, rows: int, shape: tuple[int, ...], dtype: str, name: str) -> np.ndarray:
    """`array` of so many rows, and rows of zeros up to `shape`; more rows than that are refused."""
    if rows > shape[0]:
        raise InputError(
            f"{name} has {rows} rows; the bundle's track capacity is {shape[0]}: convert with a larger --track-capacity"
        )
    padded = np.zeros(shape, dtype)
    padded[:rows] = fit(array, (rows, *shape[1:]), dtype, name)
    return padded


def _agents_and_ego(array: np.ndarray, shape: tuple[int, ...], dtype: str, name: str) -> np.ndarray:
    """`array` of any agents and the ego: the first agents, as many as `shape` holds, and the ego in the last row.

    Rows between them are masked: what the network gives there means nothing.
    """
    rows = max(len(np.atleast_1d(array)), 1)
    fitted, placed = fit(array, (rows, *shape[1:]), dtype, name), np.ma.zeros(shape, dtype)
    agents = min(rows, shape[0]) - 1
    placed[:agents], placed[-1] = fitted[:agents], fitted[-1]
    placed[agents:-1] = np.ma.masked
    return placed


def fit(array: np.ndarray, shape: tuple[int, ...], dtype: str, name: str) -> np.ndarray:
    """`array` without its unit dimensions, in our shape and dtype; values that this cannot hold are refused."""
    unit_free = tuple(size for size in shape if size != 1)
    if tuple(size for size in array.shape if size != 1) != unit_free or array.dtype.kind not in "fiu":
        raise InputError(
            f"{name} is {array.dtype}{list(array.shape)}; it must hold {dtype}{list(shape)}; use the bundle or "
            "configuration of the model that it is of"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        fitted = np.ascontiguousarray(array.reshape(shape), dtype)
    if not np.isfinite(array).all() or not np.isfinite(fitted).all():
        raise InputError(f"{name} holds non-finite values; repair the input")
    if fitted.dtype.kind == "i" and (fitted != array.reshape(shape)).any():
        raise InputError(f"{name} holds values that are no {dtype}; give whole numbers")
    return fitted

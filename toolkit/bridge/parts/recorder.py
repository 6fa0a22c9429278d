"""Recording frames of a model while its own scripts run it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from toolkit.bridge.parts.arrays import copied, narrowed, shaped, single
from toolkit.bridge.parts.environment import (
    BridgeError,
    exact_arithmetic,
    half_precision,
    partial_name,
    rank,
    require_new,
    unwrapped,
)
from toolkit.bridge.parts.origin import of_command_line, origin_of
from toolkit.bridge.parts.wraps import is_wrapped, wrap

TRACK_FIELDS = {
    0: "query",
    1: "ref_pts",
    3: "obj_idxes",
    4: "matched_gt_idxes",
    5: "disappear_time",
    6: "iou",
    8: "track_scores",
    9: "pred_boxes",
    11: "mem_bank",
    12: "mem_padding_mask",
    13: "save_period",
}
"""Number of a track tensor in the deployed graph, and the field of the model's track instances."""


BOXES = {
    "bboxes_dict_bboxes": "boxes_3d",
    "scores": "track_scores",
    "labels": "labels_3d",
    "bbox_index": "bbox_index",
    "obj_idxes": "track_ids",
}
"""Name in the deployed graph, and in what the model gives for a frame."""


MAP = {"map_lane": "lane", "map_drivable": "drivable", "map_scores": "lane_score"}


HEADS = ("planning_head", "occ_head", "motion_head", "seg_head")
"""The last one first; a model of stage 1 has the map alone."""


def attach(
    model: Any,
    path: str,
    frames: int = 8,
    config: Any = None,
    checkpoint: str | None = None,
    fp16: bool = False,
    tf32: bool = False,
    all_states: bool = True,
    yaw_convention: str | None = None,
) -> Recorder | None:
    """Record the next frames of a loaded model in `path`, an npz that is complete after `frames` of them.

    `config` (a file, or mmcv's Config) and `checkpoint` (a file) are told in the dump; if not given, the first .py and
    .pth of the command line are. `all_states` False keeps tracks and BEV of the first and the last frame alone.
    `yaw_convention` is "clockwise" or "heading", if the tree does not tell. `fp16` and `tf32` allow what would make
    another arithmetic. Raises BridgeError for a model that is no UniAD, in half precision or attached already, for an
    output that is there already, and for what cannot be dumped.
    In processes of rank 1 and up nothing is done, and None given.
    """
    inner = unwrapped(model)
    if rank() > 0:
        return None
    if is_wrapped(inner, "simple_test_track"):
        raise BridgeError("already attached; close it first")
    half = half_precision(inner)
    if half is not None and not fp16:
        raise BridgeError(f"{half}, or attach with fp16=True")
    if yaw_convention not in (None, "clockwise", "heading"):
        raise BridgeError(f"yaw_convention is {yaw_convention!r}; possible are clockwise and heading")
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise BridgeError(f"frames is {frames!r}; give a whole number, 1 or more")
    require_new(path)
    config = config or of_command_line(".py")
    checkpoint = checkpoint or of_command_line(".pth")
    model.eval()
    exact_arithmetic(tf32)
    origin = origin_of(inner, config, checkpoint, half is not None)
    if yaw_convention is not None:
        origin["yaw_convention"] = yaw_convention
    return Recorder(inner, os.path.abspath(path), frames, all_states, fp16, origin)


class Recorder:
    """The wraps around a model's methods, and the file that is written; both end with `close`."""

    def __init__(
        self, model: Any, path: str, frames: int, all_states: bool, fp16: bool, origin: dict[str, Any]
    ) -> None:
        self.model, self.path, self.frames, self.all_states, self.fp16 = model, path, frames, all_states, fp16
        self.origin = origin
        self.number = 0
        self._frame: dict[str, np.ndarray] = {}
        self._last_state: dict[str, np.ndarray] = {}
        self._rotations: list[np.ndarray] = []
        self._start, self._stamp = 0.0, 0.0
        self._restore: list[Callable[[], None]] = []
        self._partial = partial_name(path)
        self._archive: zipfile.ZipFile | None = None
        try:
            self._wrap_all()
            self._archive = zipfile.ZipFile(self._partial, "w", allowZip64=True)
        except BridgeError:
            self._unwrap()
            raise
        except OSError as error:
            raise self._failure(error) from error
        atexit.register(self._close_at_exit)

    def close(self) -> None:
        """Take the wraps away and finish the file, with the frames that are complete.

        Raises BridgeError if it cannot be written.
        """
        if self._archive is None:
            return
        self._unwrap()
        if self.number == 0:
            self._drop()
            print("uniad_bridge: no frame is complete; nothing is written")
            return
        self._write(self._last_state)
        self._write({"meta": np.array(json.dumps(self._meta()))})
        try:
            self._archive.close()
            os.replace(self._partial, self.path)
        except OSError as error:
            raise self._failure(error) from error
        self._archive = None
        print(f"uniad_bridge: wrote {self.number} of {self.frames} frames: {self.path}")

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except BridgeError as error:
            print(f"uniad_bridge: {error}", file=sys.stderr)

    def _unwrap(self) -> None:
        atexit.unregister(self._close_at_exit)
        while self._restore:
            self._restore.pop()()

    def _drop(self) -> None:
        """Leave nothing of the file."""
        archive, self._archive = self._archive, None
        if archive is not None:
            with contextlib.suppress(OSError, ValueError):  # its directory does not fit on a full disk either
                archive.close()
        with contextlib.suppress(OSError):
            os.remove(self._partial)

    def _failure(self, error: OSError) -> BridgeError:
        """After this nothing is recorded."""
        self._unwrap()
        self._drop()
        return BridgeError(f"cannot write {self.path}: {error.strerror}")

    def _wrap_all(self) -> None:
        model, restore = self.model, self._restore
        heads = [head for head in HEADS if getattr(model, head, None) is not None]
        restore.append(wrap(model, "_forward_single_frame_inference", after=self._on_frame))
        after_tracks = self._on_tracks if heads else self._then_end(self._on_tracks)
        restore.append(wrap(model, "simple_test_track", self._on_inputs, after_tracks))
        exits = {
            "seg_head": self._on_map,
            "motion_head": self._on_motion,
            "occ_head": self._on_occupancy,
            "planning_head": self._on_plan,
        }
        for head in heads:
            before = self._on_command if head == "planning_head" else None
            after = exits[head] if head != heads[0] else self._then_end(exits[head])
            restore.append(wrap(getattr(model, head), "forward_test", before, after))
        planner = getattr(model, "planning_head", None)
        if hasattr(planner, "collision_optimization"):
            restore.append(wrap(planner, "collision_optimization", self._on_raw_plan))

    def _on_inputs(self, given: dict[str, Any]) -> None:
        model, meta = self.model, single(given["img_metas"])
        if torch.is_autocast_enabled():
            if not self.fp16:
                raise BridgeError("autocast is on: leave it out, or attach with fp16=True")
            self.origin["fp16"] = True
        if self._frame:
            print(f"uniad_bridge: frame {self.number} did not complete; the dump ends before it")
            self.close()
            return
        tracks = model.test_track_instances
        fresh = tracks is None or meta["scene_token"] != model.scene_token
        stamp = float(copied(given["timestamp"]).astype(np.float64).reshape(-1)[0])
        midway = self.number == 0 and tracks is not None
        if not fresh and self.number > 0 and stamp <= self._stamp:
            raise BridgeError(f"frame {self.number} is not later than the one before; do not shuffle the dataset")
        if fresh:
            self._start = stamp
        elif midway:
            self._start = float(copied(model.timestamp).astype(np.float64).reshape(-1)[0])
        self._stamp = stamp
        can_bus = np.array(meta["can_bus"], np.float64)
        self._rotations.append(can_bus[3:7])
        names = _cameras(meta)
        if names is not None:
            self.origin["cameras"] = names
        self._frame = {}
        self._put(
            "in",
            img=shaped(given["img"], 5),
            img_metas_lidar2img=np.array([np.asarray(matrix, np.float64) for matrix in meta["lidar2img"]])[None],
            img_metas_can_bus=can_bus,
            timestamp=np.array([stamp - self._start]),
            l2g_r_mat=shaped(given["l2g_r_mat"], 3),
            l2g_t=shaped(given["l2g_t"], 2),
            use_prev_bev=np.array([0 if fresh else 1]),
        )
        for name in ("scene_token", "sample_idx"):
            self._frame["aux." + name] = np.array(str(meta.get(name, "")))
        if midway:
            self._put("in", **{f"prev_track_intances{i}": getattr(tracks, f) for i, f in TRACK_FIELDS.items()})
            self._put(
                "in",
                prev_bev=model.prev_bev,
                prev_timestamp=copied(model.timestamp).astype(np.float64).reshape(1) - self._start,
                prev_l2g_r_mat=shaped(model.l2g_r_mat, 3),
                prev_l2g_t=shaped(model.l2g_t, 2),
                max_obj_id=np.array([int(model.track_base.max_obj_id)]),
            )

    def _on_frame(self, result: dict[str, Any]) -> None:
        self._put("out", bev_embed=result["bev_embed"], **{name: result[key] for name, key in BOXES.items()})

    def _on_tracks(self, result: Any) -> None:
        tracks = self.model.test_track_instances
        self._put("out", **{f"prev_track_intances{i}_out": getattr(tracks, f) for i, f in TRACK_FIELDS.items()})
        self._put("out", max_obj_id_out=np.array([int(self.model.track_base.max_obj_id)]))

    def _on_map(self, result: Any) -> None:
        found = single(result).get("pts_bbox", {})
        self._put("aux", **{name: found[key] for name, key in MAP.items() if key in found})

    def _on_motion(self, result: Any) -> None:
        last = result[0][0]
        self._put("aux", trajectories=last["traj"], log_probs=last["traj_scores"])

    def _on_occupancy(self, result: dict[str, Any]) -> None:
        self._put("out", seg_out=result["seg_out"])
        if "ins_seg_out" in result:
            self._put("aux", instance_occupancy=result["ins_seg_out"])

    def _on_command(self, given: dict[str, Any]) -> None:
        self._put("in", command=copied(given["command"]).astype(np.float32).reshape(1))

    def _on_raw_plan(self, given: dict[str, Any]) -> None:
        self._put("out", outs_planning=copied(next(iter(given.values())))[..., :2])

    def _on_plan(self, result: dict[str, Any]) -> None:
        plan = copied(result["sdc_traj"])[..., :2]
        self._put("aux", plan_optimised=plan)
        if "out.outs_planning" not in self._frame:
            self._put("out", outs_planning=plan)

    def _then_end(self, after: Callable[[Any], None]) -> Callable[[Any], None]:
        def ended(result: Any) -> None:
            after(result)
            self._end_frame()

        return ended

    def _put(self, kind: str, **values: Any) -> None:
        for name, value in values.items():
            self._frame[f"{kind}.{name}"] = narrowed(copied(value))

    def _end_frame(self) -> None:
        if self._archive is None:  # closed within this frame
            return
        keyed = {f"f{self.number}.{name}": array for name, array in self._frame.items()}
        self._frame = {}
        if not self.all_states and self.number > 0:
            parts = ("out.prev_track_intances", "out.bev_embed")
            self._last_state = {key: keyed.pop(key) for key in list(keyed) if key.partition(".")[2].startswith(parts)}
        self._write(keyed)
        self.number += 1
        if self.number == self.frames:
            self.close()

    def _write(self, arrays: dict[str, np.ndarray]) -> None:
        assert self._archive is not None
        try:
            for key, array in arrays.items():
                with self._archive.open(key + ".npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        except OSError as error:
            raise self._failure(error) from error

    def _meta(self) -> dict[str, Any]:
        rotation = None if "inputs" in self.origin else _rotation(self._rotations)  # made-up inputs tell nothing
        return dict(self.origin, frames=self.number, can_bus_rotation=rotation)


def _cameras(meta: dict[str, Any]) -> list[str] | None:
    """Camera names in the order of the pictures, by the folders that these lie in."""
    files = meta.get("filename")
    names = [os.path.basename(os.path.dirname(str(file))) for file in files] if isinstance(files, (list, tuple)) else []
    return names if names and all(names) and len(set(names)) == len(names) else None


def _rotation(rotations: Sequence[np.ndarray]) -> str | None:
    """Whether can_bus holds the ego's quaternion, or its scalar part four times."""
    if rotations and all(entries.any() and np.ptp(entries) == 0 for entries in rotations):
        return "scalar"  # first: four times 0.5 has the norm of a quaternion
    unit = rotations and all(abs(np.linalg.norm(entries) - 1) < 1e-3 for entries in rotations)
    return "quaternion" if unit else None

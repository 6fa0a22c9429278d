"""Frames that go through a model without a test script: of its own dataset, or tensors of the toolkit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from toolkit.bridge.parts.environment import BridgeError
from toolkit.bridge.parts.frames import open_frames
from toolkit.bridge.parts.recorder import attach
from toolkit.bridge.parts.tree import Tree, cuda_as_here


def record_dataset(tree: Tree, output: str, indices: Sequence[int], **options: Any) -> None:
    """Dump frames of the test dataset, prepared as the tree prepares them."""
    model = tree.model(training=False)
    batches = tree.batches("test", indices)
    attach(model, output, len(indices), tree.config, tree.checkpoint, **options)
    call = model if tree.tiny else tree.parallel(model)  # UniAD-tiny's unpacks batches itself
    with torch.no_grad(), cuda_as_here(tree.device):
        for batch in batches:
            call(return_loss=False, rescale=True, **batch)


def record_inputs(tree: Tree, output: str, inputs: str, **options: Any) -> None:
    """Dump what the model makes of the frames in an npz of official tensors, which need no dataset."""
    if not os.path.isfile(inputs):
        raise BridgeError(f"{inputs} is no file")
    with open_frames(inputs) as frames:
        model = tree.model(training=False)
        if getattr(model, "planning_head", None) is not None:
            frames.require_commands()
        recorder = attach(model, output, frames.count, tree.config, tree.checkpoint, **options)
        if recorder is None:
            return
        recorder.origin["inputs"] = inputs
        scene = 0
        with torch.no_grad():
            for number in range(frames.count):
                frame = frames.frame(number)
                if number > 0 and not frame["use_prev_bev"].any():
                    scene += 1
                run_frame(model, frame, f"scene {scene}", number, tree.boxes_type(), tree.device)


def run_frame(model: Any, frame: dict[str, np.ndarray], scene: str, number: int, boxes: Any, device: str) -> None:
    """One frame of official tensors through the parts of the model, in the order of its own test."""
    tensors = {name: torch.from_numpy(np.array(array)).to(device) for name, array in frame.items()}
    img = tensors["img"]
    shapes = [(int(img.shape[-2]), int(img.shape[-1]), 3)] * int(img.shape[1])
    meta = {
        "can_bus": frame["img_metas_can_bus"].astype(np.float64),
        "lidar2img": list(frame["img_metas_lidar2img"].astype(np.float64).reshape(-1, 4, 4)),
        "scene_token": scene,
        "sample_idx": str(number),
        "box_type_3d": boxes,
        "pts_filename": "",
        "img_shape": shapes,
        "ori_shape": shapes,
        "pad_shape": shapes,
    }
    stamp = tensors["timestamp"].to(torch.float64)
    track = model.simple_test_track(img, tensors["l2g_t"], tensors["l2g_r_mat"], [meta], stamp)[0]
    if hasattr(model, "upsample_bev_if_tiny"):
        track = model.upsample_bev_if_tiny(track)
    bev = track["bev_embed"]
    if getattr(model, "seg_head", None) is None:
        return
    # The heads insist on ground truth, for figures that nobody looks at here.
    labels = torch.arange(4, device=device)[None]
    masks = torch.zeros((1, 4, *map(int, model.seg_head.canvas_size)), dtype=torch.uint8, device=device)
    lanes = model.seg_head.forward_test(bev, [labels], [masks], [meta], True)[0]
    if getattr(model, "motion_head", None) is None:
        return
    _, motion = model.motion_head.forward_test(bev, outs_track=track, outs_seg=lanes)
    motion["bev_pos"] = track["bev_pos"]
    occupancy: dict[str, Any] = {}
    head = getattr(model, "occ_head", None)
    if head is not None:
        cells = torch.zeros((1, 1 + head.n_future, *map(int, head.bev_size)), dtype=torch.long, device=device)
        valid = torch.ones((1, head.receptive_field + head.n_future), dtype=torch.bool, device=device)
        occupancy = head.forward_test(
            bev,
            motion,
            no_query=motion["track_query"].shape[1] == 0,
            gt_segmentation=[cells],
            gt_instance=[cells],
            gt_img_is_valid=[valid],
        )
    if getattr(model, "planning_head", None) is not None:
        model.planning_head.forward_test(bev, motion, occupancy, tensors["command"].reshape(1).long())

"""Geometry of the BEV encoder: ego motion on the BEV grid, and pillars projected into the cameras.

Frames: the LiDAR frame is x right, y forward, z up, in metres. BEV positions are (x, y) in [0, 1] over the BEV range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from custom_ops.rotate.op import rotate
from toolkit.config.model import AngleFormula, BevConfig
from toolkit.nn.coordinates import bev_reference_points, to_metres

CAN_BUS_SIZE = 18
CAN_BUS_YAW = 16
"""Index of the ego's absolute yaw, radians."""
CAN_BUS_YAW_CHANGE = 17
"""Index of the ego's yaw change since the previous frame, degrees."""

MIN_DEPTH = 1e-5
PILLAR_MARGIN = 0.5


def ego_shift(can_bus: Tensor, bev: BevConfig, formula: AngleFormula = AngleFormula.ATAN) -> Tensor:
    """Translation of the ego since the previous frame, [2] as (x, y) in BEV positions (Li et al. 2022, section 3.4).

    UniAD-tiny's formula for the direction of travel approximates atan2, and its weights were trained with it: it
    differs where dx = 0 (pi instead of pi/2) and where dx < 0 and dy = 0 (0 instead of pi).
    """
    dx, dy = can_bus[0], can_bus[1]
    width, height = bev.x_range[1] - bev.x_range[0], bev.y_range[1] - bev.y_range[0]
    if formula is AngleFormula.ATAN2:
        # A rotation by the yaw: no angle of travel is needed.
        sine, cosine = can_bus[CAN_BUS_YAW].sin(), can_bus[CAN_BUS_YAW].cos()
        return torch.stack(((dx * sine - dy * cosine) / width, (dx * cosine + dy * sine) / height))
    direction = torch.atan(dy / (dx + 1e-8)) + (1 - dx.sign()) / 2 * dy.sign() * math.pi
    distance = (dx * dx + dy * dy).sqrt()
    bearing = can_bus[CAN_BUS_YAW] - direction
    return torch.stack((distance * bearing.sin() / width, distance * bearing.cos() / height))


def align_rotation(previous_bev: Tensor, can_bus: Tensor, center: Tensor, bev: BevConfig) -> Tensor:
    """Rotate the previous BEV [H*W, C] by the ego's yaw change, around center [2] (x, y in cells) -> [H*W, C]."""
    image = previous_bev.view(bev.height, bev.width, -1).permute(2, 0, 1)
    angle = can_bus[CAN_BUS_YAW_CHANGE : CAN_BUS_YAW_CHANGE + 1]
    rotated: Tensor = rotate(image, angle, center, "nearest")
    return rotated.flatten(1).transpose(0, 1)


def pillar_points(bev: BevConfig) -> Tensor:
    """Points over each BEV cell, [H*W, D, 4] homogeneous metres in the LiDAR frame (Li et al. 2022, section 3.3).

    The D heights are spread evenly, the lowest and highest half a metre inside the z range.
    """
    low, high = bev.z_range
    z = torch.linspace(low + PILLAR_MARGIN, high - PILLAR_MARGIN, bev.pillar_points)
    xy = to_metres(bev_reference_points(bev.height, bev.width), bev)
    shape = (bev.cells, bev.pillar_points, -1)
    return torch.cat((xy[:, None].expand(shape), z[:, None].expand(shape), torch.ones(shape[:2])[..., None]), -1)


def project(points: Tensor, lidar2img: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Project points [Q, D, 4] with lidar2img [cameras, 4, 4] into images of image_size (height, width).

    Returns the positions [cameras, Q, D, 2] as (x, y) in [0, 1] of the image, unclipped, and bool [cameras, Q]: whether
    the camera sees any of the D points.
    """
    # Sums of products instead of a matrix product: visibility needs full FP32, which TF32 kernels do not give.
    x, y, depth = (lidar2img[:, :3, None, None] * points).sum(-1).unbind(1)
    height, width = image_size
    scale = depth.clamp(min=MIN_DEPTH)
    u, v = x / scale / width, y / scale / height
    visible = (depth > MIN_DEPTH) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
    return torch.stack((u, v), -1), visible.any(-1)

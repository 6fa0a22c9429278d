"""Forecasts of the reported boxes and of the ego."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toolkit.config.model import ModelConfig
from toolkit.runtime.results import FrameResult, MotionModes
from toolkit.specs import Interpretation, Tensors


def add_motion(result: FrameResult, tensors: Tensors, config: ModelConfig) -> FrameResult:
    """The result with modes for the first boxes, as many as there are agents, and for the ego, whose row is the last.

    The network gives them relative to the agent's box.
    """
    agents = len(tensors["motion_trajectories"]) - 1
    boxes = result.boxes[:agents]
    rows = [*range(len(boxes)), agents]  # most others are empty
    forecasts, centers = tensors["motion_trajectories"][rows], tensors["agent_center"][rows]
    for axis in range(2):  # of x and y together, as pairs, sums take twice as long
        forecasts[..., axis] += centers[:, axis, None, None]
    probabilities, step = np.exp(tensors["motion_log_probs"][rows]), config.motion.step_seconds
    modes = [MotionModes(*both, step) for both in zip(forecasts[..., :2], probabilities, strict=True)]
    moving = tuple(box.moving(motion) for box, motion in zip(boxes, modes, strict=False))
    return replace(result, boxes=moving + result.boxes[agents:], ego_motion=modes[-1])


INTERPRETATION = Interpretation(needs=("motion_trajectories", "motion_log_probs", "agent_center"), add=add_motion)

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
    trajectories = tensors["motion_trajectories"][..., :2] + tensors["agent_center"][:, None, None, :2]
    probabilities = np.exp(tensors["motion_log_probs"])
    *motions, ego = (
        MotionModes(trajectories=modes, probabilities=shares, step_seconds=config.motion.step_seconds)
        for modes, shares in zip(trajectories, probabilities, strict=True)
    )
    moving = tuple(replace(box, motion=motion) for box, motion in zip(result.boxes, motions, strict=False))
    return replace(result, boxes=moving + result.boxes[len(moving) :], ego_motion=ego)


INTERPRETATION = Interpretation(needs=("motion_trajectories", "motion_log_probs", "agent_center"), add=add_motion)

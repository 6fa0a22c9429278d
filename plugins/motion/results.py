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

    def motion(agent: int) -> MotionModes:
        return MotionModes(trajectories[agent], probabilities[agent], config.motion.step_seconds)

    agents = len(trajectories) - 1
    moving = tuple(replace(box, motion=motion(i)) for i, box in enumerate(result.boxes[:agents]))
    return replace(result, boxes=moving + result.boxes[agents:], ego_motion=motion(agents))


INTERPRETATION = Interpretation(needs=("motion_trajectories", "motion_log_probs", "agent_center"), add=add_motion)

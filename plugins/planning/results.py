"""The planned path."""

from __future__ import annotations

from dataclasses import replace

from toolkit.config.model import ModelConfig
from toolkit.runtime.results import FrameResult, PlanResult
from toolkit.specs import Interpretation, Tensors


def add_plan(result: FrameResult, tensors: Tensors, config: ModelConfig) -> FrameResult:
    """The result with the plan."""
    return replace(result, plan=PlanResult(tensors["plan"], config.planning.step_seconds))


INTERPRETATION = Interpretation(needs=("plan",), add=add_plan)

"""How far two implementations of one network may differ: bounds per output and precision (docs/verification.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from toolkit.specs import TensorSpec

ANGLES = {"boxes": slice(6, 7), "agent_yaw": slice(None)}
"""Entries of a tensor's last dimension that are angles in radians: compared modulo a full turn."""

FULL_PRECISION = "fp32"
"""That of the network as it was trained, and of the tolerances here."""

GRID_DIMENSIONS = 3
"""Integers or booleans with at least so many dimensions are grids of thresholded cells, not decisions of their own."""


@dataclass(frozen=True)
class Tolerance:
    """Bounds that the differences of one tensor must keep; None is no bound.

    `norm` bounds |a - b| / |a| (L2 norms of the whole tensor), `largest` the largest |a - b| in the tensor's unit,
    `share` the share of entries that differ at all.
    """

    norm: float | None = None
    largest: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Policy:
    """Bounds for one precision. Where sense judges (`by_sense`), they are for comparison.

    `outputs` are those of tensors by name; any other tensor falls under its kind: `floats`, `grids` (integers and
    booleans of three or more dimensions) or `decisions` (all other integers and booleans). Rows that are ranked by
    score may trade places where their scores differ by less than `ranking_gap`.
    """

    precision: str
    floats: Tolerance
    grids: Tolerance
    decisions: Tolerance
    ranking_gap: float
    outputs: Mapping[str, Tolerance] = field(default_factory=dict)

    def tolerance(self, spec: TensorSpec) -> Tolerance:
        """The bounds of one tensor."""
        if spec.name in self.outputs:
            return self.outputs[spec.name]
        if spec.dtype.startswith("float"):
            return self.floats
        return self.grids if len(spec.shape) >= GRID_DIMENSIONS else self.decisions


def by_sense(precision: str) -> bool:
    """Whether not digits but gates and bounds of sense judge (`toolkit.verification.sense`)."""
    return precision != FULL_PRECISION


FP32 = Policy(
    precision=FULL_PRECISION,
    floats=Tolerance(norm=1e-3),
    grids=Tolerance(share=2e-3),
    decisions=Tolerance(share=0.0),
    ranking_gap=2e-3,
    outputs={
        "image_features": Tolerance(norm=1e-4),
        "bev": Tolerance(norm=1e-4),
        "boxes": Tolerance(norm=1e-3, largest=0.1),
        "box_scores": Tolerance(norm=1e-3, largest=5e-3),
        "plan": Tolerance(norm=1e-3, largest=1e-3),
        "agent_yaw": Tolerance(norm=1e-2, largest=0.1),
        "motion_trajectories": Tolerance(norm=1e-2),
        "motion_log_probs": Tolerance(norm=1e-2),
        "motion_query": Tolerance(norm=1e-2),
        "occupancy_scores": Tolerance(norm=3e-2),
        "instance_occupancy": Tolerance(norm=3e-2),
    },
)
"""Same arithmetic, another order of the sums. Where each figure comes from: docs/verification.md."""


def policy_of(precision: str) -> Policy:
    """The policy for a session that computes in `precision`, such as "fp16"."""
    return replace(FP32, precision=precision)

"""What the fused node takes, and how it is made of the tensors at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.graph.deformable_attention.arrangement import Arrangement
from toolkit.graph.deformable_attention.layout import Axis, merged, regrouped
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Operand:
    """A tensor, how its elements are arranged, and then multiplied by `scale` and shifted by `shift` if there are."""

    tensor: gs.Tensor
    arrangement: Arrangement
    scale: Any = None
    shift: Any = None

    @property
    def effort(self) -> int:
        """Number of nodes that this takes."""
        return self.arrangement.effort + (self.scale is not None) + (self.shift is not None)


def easiest(tensors: Iterable[gs.Tensor], operand: Callable[[gs.Tensor], Operand]) -> Operand:
    """The operand of least effort that can be made of one of the tensors, which come nearest first.

    Of several the farthest is taken: what lies between is then of no more use.
    Raises Unfit, with the reason of the first tensor, if none can.
    """
    found, reasons = [], []
    for tensor in tensors:
        try:
            found.append(operand(tensor))
        except Unfit as unfit:
            reasons.append(unfit)
    if not found:
        raise reasons[0] if reasons else Unfit("the levels come from different tensors")
    return min(reversed(found), key=lambda made: made.effort)


def by_head(axis: Axis, heads: int) -> tuple[Axis, Axis]:
    """Batches and heads from an axis of both. Raises Unfit if these are not its outer and inner part."""
    flat = merged(axis)
    size = 1
    for extent_, _ in flat:
        size *= extent_
    batches, within = regrouped(flat, (size // heads, heads))
    return batches, within

"""Rows that NonZero selects, and what becomes of shapes when it selects some number of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.deformable_attention.sizes import PRIMES, Sizes, chosen_dimensions, inferred
from toolkit.graph.edits import is_standard, static_shape

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

POSITION_VIEWS = ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity")
"""What keeps the positions along a single axis in order."""
FEWEST = (5, 31)
"""Rows that the first NonZero selects in each of two choices; every further one selects one more."""


@dataclass(frozen=True)
class Counted:
    """Shapes of a graph when each NonZero, by the id of the node, selects some number of rows, another one each."""

    sizes: Sizes
    numbers: dict[int, int]


def two_numbers(graph: gs.Graph, selections: Sequence[gs.Node]) -> tuple[Counted, Counted]:
    """Shapes for two choices of these numbers, and of the open dimensions."""
    first, second = (counted(graph, selections, *choice) for choice in zip(FEWEST, PRIMES, strict=True))
    return first, second


def counted(graph: gs.Graph, selections: Sequence[gs.Node], fewest: int, primes: tuple[int, ...]) -> Counted:
    """Shapes for one choice."""
    numbers = {id(node): fewest + index for index, node in enumerate(selections)}
    positions = {node.outputs[0].name: np.arange(numbers[id(node)])[None] for node in selections}
    return Counted(inferred(graph, chosen_dimensions(graph, primes), positions), numbers)


def selection_of(positions: gs.Tensor) -> gs.Node | None:
    """The NonZero of a tensor of one axis whose positions a tensor holds, None if it holds others."""
    while positions.inputs and is_standard(positions.inputs[0], *POSITION_VIEWS):
        positions = positions.inputs[0].inputs[0]
    maker = positions.inputs[0] if positions.inputs else None
    return maker if maker is not None and selects_rows(maker) else None


def selects_rows(node: gs.Node) -> bool:
    """Whether a node gives the positions in a tensor of one axis and of known size."""
    return is_standard(node, "NonZero") and len(static_shape(node.inputs[0]) or ()) == 1


def selected(rows: gs.Tensor) -> tuple[gs.Node, gs.Tensor] | None:
    """The NonZero by which rows were selected and the tensor of all rows, None if they were not."""
    maker = rows.inputs[0] if rows.inputs else None
    if maker is None or not is_standard(maker, "GatherND", "Gather"):
        return None
    if maker.attrs.get("batch_dims", 0) or maker.attrs.get("axis", 0):
        return None
    source, positions = maker.inputs
    selection = selection_of(positions)
    return None if selection is None else (selection, source)

"""Tensors that exporters fill block by block: which rows end up where.

An assignment to a part, ``x[j, i, :n] = rows`` or ``x[j, positions] += rows``, is exported as a new part (ScatterND),
which takes the place of the old one in its block (ScatterElements), and so on outwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import constant, is_standard
from toolkit.graph.padded_rows.selections import Counted, selected, selection_of
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

Place = tuple[int, ...]
"""Indices along leading axes."""


@dataclass(frozen=True, eq=False)
class Write:
    """Selected rows written into a block: put at its start, or, if `added`, added where they were selected.

    `rows` are, if they are put, all those they were selected from; if they are added, just those.
    """

    selection: gs.Node
    rows: gs.Tensor
    added: bool


Blocks = Mapping[Place, tuple[Write, ...]]
"""What was written over the zeros of each block, by its place."""


@dataclass(frozen=True)
class Reader:
    """Reads how tensors were filled, for one choice of sizes."""

    counted: Counted
    _known: dict[int, Blocks] = field(default_factory=dict)

    def blocks(self, tensor: gs.Tensor) -> Blocks:
        """What a tensor was filled with. Raises Unfit if it is not known to be one of zeros that was filled."""
        if id(tensor) not in self._known:
            self._known[id(tensor)] = self.read(tensor)
        return self._known[id(tensor)]

    def read(self, tensor: gs.Tensor) -> Blocks:
        """`blocks` of a tensor that was not yet asked for."""
        if is_zero(tensor):
            return {}
        maker = tensor.inputs[0] if tensor.inputs else None
        if maker is not None and is_standard(maker, "ScatterND") and is_assignment(maker):
            return {(): self.written(maker)}
        if maker is not None and (index := self.index(maker)) is not None:
            blocks = self.blocks(maker.inputs[0])
            if maker.op == "Gather":
                return {place[1:]: writes for place, writes in blocks.items() if place[:1] == (index,)}
            others = {place: writes for place, writes in blocks.items() if place[:1] != (index,)}
            return others | {(index, *place): writes for place, writes in self.blocks(self.block(maker)).items()}
        raise Unfit(f"{tensor.name!r} is not filled block by block, beginning with zeros")

    def index(self, node: gs.Node) -> int | None:
        """The index along the first axis of what a Gather reads or a ScatterElements overwrites; None otherwise."""
        if not is_standard(node, "Gather", "ScatterElements") or node.attrs.get("axis", 0) or not is_assignment(node):
            return None
        indices = node.inputs[1]
        if node.op == "ScatterElements" and indices.inputs and is_standard(indices.inputs[0], "Expand"):
            indices = indices.inputs[0].inputs[0]
        values = constant(indices) if not indices.inputs else self.counted.sizes.value(indices)
        if values is None or not values.size or (values != values.flat[0]).any():
            return None
        if node.op == "Gather" and values.ndim:
            return None
        return int(values.flat[0]) % self.counted.sizes.known_shape(node.inputs[0])[0]

    def block(self, node: gs.Node) -> gs.Tensor:
        """The new content of the block that a ScatterElements overwrites. Raises Unfit if a part of it stays."""
        data, indices, updates = node.inputs
        whole = (1, *self.counted.sizes.known_shape(data)[1:])
        maker = updates.inputs[0] if updates.inputs else None
        if (
            maker is None
            or not is_standard(maker, "Unsqueeze")
            or any(self.counted.sizes.known_shape(tensor) != whole for tensor in (indices, updates))
        ):
            raise Unfit(f"{node.op} {node.name!r} overwrites no whole block")
        return maker.inputs[0]

    def written(self, node: gs.Node) -> tuple[Write, ...]:
        """What stands in a block after a ScatterND. Raises Unfit if it writes anything but selected rows."""
        data, positions, updates = node.inputs
        before = self.blocks(data)
        if taken := selected(updates):
            selection, rows = taken
            number, values = self.counted.numbers[id(selection)], self.counted.sizes.value(positions)
            if before or values is None or not np.array_equal(values, np.arange(number)[:, None]):
                raise Unfit(f"{node.op} {node.name!r} does not put the selected rows one after the other")
            return (Write(selection, rows, added=False),)
        selection = selection_of(positions)
        maker = updates.inputs[0] if updates.inputs else None
        if selection is None or maker is None or not is_standard(maker, "Add"):
            raise Unfit(f"{node.op} {node.name!r} writes other than selected rows")
        for old, rows in (maker.inputs, maker.inputs[::-1]):
            taken = selected(old)
            if taken and taken[0] is selection and self.blocks(taken[1]) == before and set(before) <= {()}:
                return (*before.get((), ()), Write(selection, rows, added=True))
        raise Unfit(f"{node.op} {node.name!r} does not add to the rows where it writes")


def is_assignment(node: gs.Node) -> bool:
    """Whether a node, if it scatters, overwrites."""
    return bool(node.attrs.get("reduction", "none") == "none")


def is_zero(tensor: gs.Tensor) -> bool:
    """Whether a tensor holds nothing but zeros, of whatever shape."""
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is not None and is_standard(maker, "ConstantOfShape"):
        value = maker.attrs.get("value", 0)
        return not np.any(getattr(value, "values", value))
    if maker is not None and is_standard(maker, "Expand"):
        return is_zero(maker.inputs[0])
    values = constant(tensor)
    return values is not None and not values.any()

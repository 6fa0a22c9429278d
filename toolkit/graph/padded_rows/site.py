"""One computation on padded rows: where its rows come from, what is computed of them, and where the results go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import constant, is_standard, static_shape
from toolkit.graph.padded_rows.blocks import Place, Reader
from toolkit.graph.padded_rows.owners import Tracer, numbered
from toolkit.graph.padded_rows.selections import Counted
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Padded:
    """A tensor [blocks…, L, …] whose blocks begin with the rows that a selection takes of a tensor [N, …] each."""

    tensor: gs.Tensor
    rows: tuple[gs.Tensor, ...]


@dataclass(frozen=True)
class Site:
    """Sums of rows that are computed each from the padded one in its place, for one choice of sizes.

    `results` [blocks…, L, …] are computed of `padded` by `nodes`, which stand in running order; L is `longest`. Blocks
    along the last of their axes are summed, each where `selections`, a NonZero for each block, took its rows of N.
    """

    results: gs.Tensor
    blocks: tuple[int, ...]
    selections: tuple[gs.Node, ...]
    padded: tuple[Padded, ...]
    nodes: tuple[gs.Node, ...]
    counted: Counted
    longest: int

    @property
    def count(self) -> int:
        """N, the number of rows that each selection chooses from."""
        [count] = static_shape(self.selections[0].inputs[0]) or ()
        return count


def site_of(total: gs.Tensor, counted: Counted, dependent: Set[int]) -> Site:
    """The computation whose sums a tensor holds; `dependent` are the ids of tensors that selections lead to.

    Raises Unfit, saying why, if all rows need not give the same sums.
    """
    reader = Reader(counted)
    results, selections = added(total, reader)
    shape = counted.sizes.known_shape(results)
    blocks = shape[: len(next(iter(selections)))]
    places = list(product(*map(range, blocks)))
    if set(selections) != set(places):
        raise Unfit("some of the computed rows are not added")
    if len({static_shape(node.inputs[0]) for node in selections.values()}) > 1:
        raise Unfit("the selections are from different numbers of rows")
    tracer = Tracer(counted.sizes, dependent, lambda tensor: block_axes(tensor, reader))
    owners = tracer.owners(results)
    if owners is None or not np.array_equal(owners, numbered(shape, len(blocks) + 1)):
        raise Unfit(f"the rows of {results.name!r} are not computed each from the padded one in its place")
    padded = tuple(padded_rows(tensor, reader, places, selections) for tensor in tracer.starts.values())
    ordered = tuple(selections[place] for place in places)
    return Site(results, blocks, ordered, padded, tuple(tracer.nodes.values()), counted, shape[len(blocks)])


def added(total: gs.Tensor, reader: Reader) -> tuple[gs.Tensor, Mapping[Place, gs.Node]]:
    """The tensor whose blocks a total adds up, and the NonZero that says where, by the place of the block."""
    found: dict[int, gs.Tensor] = {}
    selections: dict[Place, gs.Node] = {}
    for place, writes in reader.blocks(total).items():
        for write in writes:
            if not write.added:
                raise Unfit(f"a part of {total.name!r} is overwritten")
            results, source = first_rows(write.rows, reader.counted.numbers[id(write.selection)], reader.counted)
            found[id(results)] = results
            if source[:-1] != place or source in selections:
                raise Unfit("the computed rows of one block are added to another, or twice")
            selections[source] = write.selection
    if len(found) != 1:
        raise Unfit(f"the rows added to {total.name!r} come from {len(found)} tensors")
    return next(iter(found.values())), selections


def first_rows(rows: gs.Tensor, number: int, counted: Counted) -> tuple[gs.Tensor, Place]:
    """The tensor, and the place of the block in it, whose first rows, that many, a tensor holds."""
    maker = rows.inputs[0] if rows.inputs else None
    if maker is None or not is_standard(maker, "Slice"):
        raise Unfit(f"{rows.name!r}, which is added, is not cut from padded rows")
    bounds = [counted.sizes.value(each) for each in maker.inputs[1:] if not each.is_empty()]
    first = ([0], [number], [0], [1])  # starts, ends, axes, steps; the latter two may be left out
    if any(bound is None or bound.tolist() != wanted for bound, wanted in zip(bounds, first, strict=False)):
        raise Unfit(f"Slice {maker.name!r} does not cut off just the padding: how many rows there are may be fixed")
    tensor: gs.Tensor = maker.inputs[0]
    place: list[int] = []
    while tensor.inputs and is_standard(tensor.inputs[0], "Gather") and not tensor.inputs[0].attrs.get("axis", 0):
        index = constant(tensor.inputs[0].inputs[1])
        if index is None or index.ndim:
            break
        tensor = tensor.inputs[0].inputs[0]
        place.insert(0, int(index) % counted.sizes.known_shape(tensor)[0])
    if not place:
        raise Unfit(f"{tensor.name!r} has no blocks")
    return tensor, tuple(place)


def block_axes(tensor: gs.Tensor, reader: Reader) -> int | None:
    """The number of axes along which a tensor was filled block by block, None if it was not."""
    if not tensor.inputs or not is_standard(tensor.inputs[0], "ScatterElements", "ScatterND"):
        return None
    return len(next(iter(reader.blocks(tensor)), ()))


def padded_rows(
    tensor: gs.Tensor, reader: Reader, places: Sequence[Place], selections: Mapping[Place, gs.Node]
) -> Padded:
    """The rows in each block of a padded tensor. Raises Unfit if others are put in than are added later."""
    blocks = reader.blocks(tensor)
    rows: list[gs.Tensor] = []
    for place in places:
        writes = blocks.get(place, ())
        if len(writes) != 1 or writes[0].added or writes[0].selection is not selections[place]:
            raise Unfit(f"block {list(place)} of {tensor.name!r} does not hold the rows that are added later")
        rows.append(writes[0].rows)
    shapes = {static_shape(row) for row in rows}
    [count] = static_shape(selections[places[0]].inputs[0]) or ()
    if len(shapes) != 1 or None in shapes or any((shape or (0,))[0] != count for shape in shapes):
        raise Unfit(f"the rows in {tensor.name!r} are selected from tensors of different shape")
    return Padded(tensor, tuple(rows))

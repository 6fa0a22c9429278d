"""The pass: rows that masks select, padded to the longest selection, become all rows and a mask.

BEVFormer's attention to cameras computes for each camera just the cells that it sees: NonZero gives their positions,
their queries are padded to as many as the camera that sees most, and the results are added back. All sizes then depend
on the data. Computing all rows for every block, and adding where the mask holds, gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from toolkit.graph.edits import Rewiring, is_standard
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.padded_rows.all_rows import all_rows
from toolkit.graph.padded_rows.selections import selected, selection_of, selects_rows, two_numbers
from toolkit.graph.padded_rows.site import site_of
from toolkit.graph.replacements.builder import Builder
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

TRACED = (
    "the tracing exporter fixed how many rows a mask selects, or which selects most: it is right for that mask alone"
)
REMEDY = "export with torch.onnx.export(..., dynamo=True), or compute all rows and mask them, see docs/graph-passes.md"


def apply(graph: gs.Graph) -> Outcome:
    """Compute all rows where selected ones are padded, computed and added; near misses say why it is not the same."""
    selections = [node for node in graph.nodes if selects_rows(node)]
    if not selections:
        return Outcome()
    changes: list[Change] = []
    near_misses = [NearMiss(total.inputs[0].name, TRACED, REMEDY) for total in totals(graph, adds_traced_rows)]
    sums = totals(graph, adds_rows)
    choices = two_numbers(graph, selections) if sums else ()
    for total in sums:
        [maker] = total.inputs
        dependent = dependents(selections)
        try:
            one, other = (site_of(total, choice, dependent) for choice in choices)
            result = all_rows(builder := Builder(graph, maker.name), one, other)
        except Unfit as unfit:
            near_misses.append(NearMiss(maker.name, str(unfit), REMEDY))
            continue
        except RecursionError:
            near_misses.append(NearMiss(maker.name, "more nodes in a row lead to it than are followed", REMEDY))
            continue
        Rewiring(graph).take_over(maker, result)
        graph.nodes.extend(builder.nodes)
        what = f"{len(one.selections)} selections of {one.count} rows, padded to the longest, are all rows and a mask"
        changes.append(Change(maker.name, what))
    return Outcome(tuple(changes), tuple(near_misses))


def totals(graph: gs.Graph, adds: Callable[[gs.Node], bool]) -> list[gs.Tensor]:
    """The tensors, in their last state, to which nodes add selected rows."""
    return list({id(total): total for node in graph.nodes if adds(node) for total in [last_of(node)]}.values())


def adds_rows(node: gs.Node) -> bool:
    """Whether a ScatterND puts rows back where they were selected, with others added."""
    if not is_standard(node, "ScatterND"):
        return False
    selection = selection_of(node.inputs[1])
    return selection is not None and any(other is selection for other in added_to(node.inputs[2]))


def adds_traced_rows(node: gs.Node) -> bool:
    """Whether a ScatterND does so in the words of the tracing exporter: positions stand beside the index of a block."""
    if not is_standard(node, "ScatterND") or not node.inputs[1].inputs:
        return False
    [positions] = node.inputs[1].inputs
    if not is_standard(positions, "Concat"):
        return False
    selections = [selection_of(behind(part, "Unsqueeze", "Expand")) for part in positions.inputs]
    chosen = added_to(behind(node.inputs[2], "Reshape", "Expand"))
    return any(selection is other for selection in selections for other in chosen)


def added_to(rows: gs.Tensor) -> list[gs.Node]:
    """The NonZero nodes that selected the terms of a sum."""
    if not rows.inputs or not is_standard(rows.inputs[0], "Add"):
        return []
    return [taken[0] for term in rows.inputs[0].inputs if (taken := selected(term)) is not None]


def behind(tensor: gs.Tensor, *ops: str) -> gs.Tensor:
    """What a tensor was before some operators."""
    while tensor.inputs and is_standard(tensor.inputs[0], *ops):
        tensor = tensor.inputs[0].inputs[0]
    return tensor


def last_of(node: gs.Node) -> gs.Tensor:
    """The tensor in its last state of which a node writes a part."""
    tensor = node.outputs[0]
    while (writer := next(writers_over(tensor), None)) is not None:
        tensor = writer.outputs[0]
    return tensor


def writers_over(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """Nodes that overwrite a part of a tensor, or a part of another with this one."""
    for user in tensor.outputs:
        if is_standard(user, "ScatterND", "ScatterElements") and user.inputs[0] is tensor:
            yield user
        if is_standard(user, "Unsqueeze"):
            yield from (
                writer
                for writer in user.outputs[0].outputs
                if is_standard(writer, "ScatterElements") and writer.inputs[2] is user.outputs[0]
            )


def dependents(nodes: Sequence[gs.Node]) -> set[int]:
    """The ids of all tensors that some nodes lead to."""
    found: set[int] = set()
    waiting = [tensor for node in nodes for tensor in node.outputs]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in found:
            found.add(id(tensor))
            waiting += [made for user in tensor.outputs for made in user.outputs]
    return found


MASK_INSTEAD_OF_PADDING = GraphPass(
    "mask-instead-of-padding",
    "Rows that masks select, padded to the longest selection, have sizes that depend on the data; all rows and a mask "
    "give the same, and TensorRT for RTX has no NonZero.",
    apply,
)

"""The reference deployment's tensor names and shapes around a converted UniAD network, for its C++ applications."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from toolkit.errors import InputError
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.graph.precision.element_types import onnx_type
from toolkit.reference_interface.tensors import COUNTS, FRAME, OUTPUTS, RECALLED, RECURRENT, TRACK_ROWS

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

PADDING_ID = -3
"""Track id of a row beyond the live ones. The reference itself uses -1 (free) and -2 (the ego, inside a frame)."""

TRACK_INPUTS = {f"prev_track_intances{i}": f"prev_{name}" for i, name in TRACK_ROWS.items()}

UNIT_AXES = {
    **dict.fromkeys(("img", "img_metas_lidar2img", "l2g_r_mat", "l2g_t", "prev_l2g_r_mat", "prev_l2g_t"), (0,)),
    **{"prev_bev": (1,), "bev_embed": (1,), "seg_out": (0, 2), "outs_planning": (0,)},
}
"""Axes of length 1 that an official tensor has beyond ours."""

OPTIONAL = ("occupancy", "plan", "command")
"""Tensors of ours that a network without these heads lacks."""

BOUNDARY = "official_boundary"
"""First part of the names of new nodes."""


def official_boundary(*, padded: bool) -> GraphPass:
    """The pass that gives a UniAD network the reference deployment's inputs and outputs.

    Track rows come in as ``[N, …]``, N up to the network's capacity. With `padded`, outputs keep their fixed number of
    rows: those beyond the live tracks have the id `PADDING_ID`, by which the next frame knows them, and the outputs
    ``track_count``, ``box_count`` and ``box_row_count`` say how many rows count. Else outputs have the live rows alone;
    how many these are depends on the data, which TensorRT for RTX cannot express. The pass raises InputError for
    another network.
    """
    return GraphPass(
        name="nvidia-padded" if padded else "nvidia",
        reason="C++ applications of the reference deployment name and shape tensors as it does.",
        apply=lambda graph: rewrite_boundary(graph, padded=padded),
        default=False,
        tolerance=math.inf,
    )


def rewrite_boundary(graph: gs.Graph, *, padded: bool) -> Outcome:
    """Exchange the graph's inputs and outputs; those that the reference lacks go, with what only they needed."""
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    check_network(inputs, outputs)
    builder = _Builder(graph)
    pairs = {name: inputs[ours] for name, ours in {**FRAME, **RECURRENT}.items() if ours in inputs}
    count = inputs["prev_track_count"]
    official = {name: builder.official_input(name, ours, count) for name, ours in pairs.items()}
    graph.inputs = list(official.values())
    sources = {name: official[s] if name in RECALLED else outputs.get(s) for name, s in OUTPUTS.items()}
    counts = {name: outputs[ours] for name, ours in COUNTS.items()}
    graph.outputs = [
        builder.official_output(name, source, counts.get(name), padded=padded)
        for name, source in sources.items()
        if source is not None
    ]
    if padded:
        graph.outputs += [outputs[name] for name in dict.fromkeys(COUNTS.values())]
    return Outcome(
        tuple(
            Change(tensor.name, f"{kind}, {np.dtype(tensor.dtype).name} [{', '.join(map(str, tensor.shape))}]")
            for kind, tensors in (("input", graph.inputs), ("output", graph.outputs))
            for tensor in tensors
        )
    )


def check_network(inputs: Mapping[str, gs.Tensor], outputs: Mapping[str, gs.Tensor]) -> None:
    """Raise InputError unless a graph has the inputs and outputs of a UniAD network."""
    read = [*FRAME.values(), *RECURRENT.values(), "prev_track_count"]
    given = [*(ours for name, ours in OUTPUTS.items() if name not in RECALLED), *COUNTS.values()]
    for kind, names, present in (("input", read, inputs), ("output", given, outputs)):
        missing = [name for name in names if name not in present and name not in OPTIONAL]
        if missing:
            raise InputError(
                f"the model has no {kind} {missing[0]!r}; the reference deployment's interface fits networks that "
                "`uniad-toolkit convert` wrote, before it was exchanged"
            )


class _Builder:
    """Adds the nodes of the boundary to a graph."""

    def __init__(self, graph: gs.Graph) -> None:
        self._graph = graph
        self._live: dict[int, gs.Variable] = {}

    def official_input(self, name: str, ours: gs.Variable, count: gs.Variable) -> gs.Variable:
        """An official input, and the nodes that make of it our input, which is none any more, and the row count."""
        import onnx_graphsurgeon as gs

        ours.name = f"{BOUNDARY}/{ours.name}"  # some of our names are also the reference's, for another shape
        shape = ["N", *ours.shape[1:]] if name in TRACK_INPUTS else with_unit_axes(name, ours.shape)
        official = gs.Variable(name, np.dtype(np.float32) if name == "command" else ours.dtype, shape)
        if TRACK_INPUTS.get(name) == "prev_track_id":
            padded = self._pad(official, ours, PADDING_ID)
            live = self._node("Greater", [padded, np.array(PADDING_ID, np.int32)], bool, ours.shape)
            self._node("Where", [live, padded, np.array(0, np.int32)], into=ours)
            ones = self._node("Cast", [live], np.int32, ours.shape, to=onnx.TensorProto.INT32)
            self._node("ReduceSum", [ones, np.array([0])], into=count, keepdims=1)
        elif name in TRACK_INPUTS:
            self._pad(official, ours, 0, into=ours)
        elif name in UNIT_AXES:
            self._node("Squeeze", [official, np.array(UNIT_AXES[name])], into=ours)
        elif name == "command":
            self._node("Cast", [official], into=ours, to=onnx_type(ours.dtype))
        else:
            self._node("Identity", [official], into=ours)
        return official

    def official_output(
        self, name: str, source: gs.Variable, count: gs.Variable | None, *, padded: bool
    ) -> gs.Variable:
        """An official output, and the nodes that make it of its source."""
        import onnx_graphsurgeon as gs

        output = gs.Variable(name, source.dtype, with_unit_axes(name, source.shape))
        if count is not None and not padded:
            output.shape[0] = count.name
            self._node("Gather", [source, self._live_rows(count, source.shape[0])], into=output, axis=0)
        elif name in UNIT_AXES:
            self._node("Unsqueeze", [source, np.array(UNIT_AXES[name])], into=output)
        elif OUTPUTS[name] == "track_id":
            live = self._is_live(count, source.shape[0])
            self._node("Where", [live, source, np.array(PADDING_ID, np.int32)], into=output)
        else:
            self._node("Identity", [source], into=output)
        return output

    def _pad(
        self, official: gs.Variable, ours: gs.Variable, value: int, into: gs.Variable | None = None
    ) -> gs.Variable:
        """Rows of a fixed value after the official ones, up to our capacity."""
        import onnx_graphsurgeon as gs

        filler = gs.Constant(f"{BOUNDARY}/{official.name}_filler", np.array([value], ours.dtype))
        rows = self._node("ConstantOfShape", [np.array(ours.shape)], ours.dtype, ours.shape, value=filler)
        longer = self._node("Concat", [official, rows], ours.dtype, [None, *ours.shape[1:]], axis=0)
        bounds = [np.array([bound]) for bound in (0, ours.shape[0], 0)]
        return self._node("Slice", [longer, *bounds], ours.dtype, ours.shape, into=into)

    def _live_rows(self, count: gs.Variable, capacity: int) -> gs.Variable:
        """The indices [m] of the rows that count; m depends on the data."""
        if id(count) not in self._live:
            found = self._node("NonZero", [self._is_live(count, capacity)], np.int64, [1, count.name])
            self._live[id(count)] = self._node("Squeeze", [found, np.array([0])], np.int64, [count.name])
        return self._live[id(count)]

    def _is_live(self, count: gs.Variable, capacity: int) -> gs.Variable:
        """Which rows count, [capacity]."""
        return self._node("Less", [np.arange(capacity, dtype=np.int32), count], bool, [capacity])

    def _node(
        self,
        op: str,
        inputs: Sequence[gs.Tensor | np.ndarray],
        dtype: Any = None,
        shape: Sequence[Any] | None = None,
        into: gs.Variable | None = None,
        **attributes: Any,
    ) -> gs.Variable:
        """The output of a new node: `into`, or a new tensor. Arrays become constants."""
        import onnx_graphsurgeon as gs

        name = f"{BOUNDARY}/{op}_{len(self._graph.nodes)}"
        tensors = [
            gs.Constant(f"{name}_input_{i}", tensor) if isinstance(tensor, np.ndarray) else tensor
            for i, tensor in enumerate(inputs)
        ]
        output = into or gs.Variable(f"{name}_output", np.dtype(dtype), shape)
        self._graph.nodes.append(gs.Node(op, name, attributes, tensors, [output]))
        return output


def with_unit_axes(name: str, shape: Sequence[int]) -> list[int]:
    """Our shape with the axes of length 1 that the official tensor has."""
    shape = list(shape)
    for axis in UNIT_AXES.get(name, ()):
        shape.insert(axis, 1)
    return shape

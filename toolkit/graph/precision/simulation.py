"""A strongly typed model as an FP32 model that rounds where the typed one would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import Rewiring, index_of
from toolkit.graph.order import sort_nodes
from toolkit.graph.precision.element_types import FLOAT32, has_type, onnx_type

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def simulate_rounding(graph: gs.Graph, dtype: np.dtype) -> None:
    """Compute in FP32 what the graph computes in `dtype`, in place, and round every result to it.

    That is what a GPU does, which accumulates in FP32. ONNX Runtime's CPU provider runs FP16 models in FP32 too, but
    without the roundings between nodes, and has no kernels for BF16 at all.
    """
    import onnx_graphsurgeon as gs

    rewiring = Rewiring(graph)
    for tensor in [t for t in graph.tensors().values() if has_type(t, dtype)]:
        if isinstance(tensor, gs.Constant):
            tensor.values = tensor.values.astype(np.float32)
            continue
        producer = tensor.inputs[0]
        rounded = gs.Variable(f"{tensor.name}_rounded", FLOAT32, tensor.shape)
        rewiring.redirect(tensor, rounded)
        if producer.op != "Cast":
            exact = gs.Variable(f"{tensor.name}_exact", FLOAT32, tensor.shape)
            producer.outputs[index_of(producer.outputs, tensor)] = exact
            tensor.dtype = dtype
            graph.nodes.append(_cast(exact, tensor))
        graph.nodes.append(_cast(tensor, rounded))
    sort_nodes(graph)


def _cast(source: gs.Variable, target: gs.Variable) -> gs.Node:
    import onnx_graphsurgeon as gs

    return gs.Node("Cast", f"{target.name}/round", {"to": onnx_type(target.dtype)}, [source], [target])

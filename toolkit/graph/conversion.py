"""Between ONNX models and the onnx-graphsurgeon graphs that passes edit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from toolkit.graph.constants import lift_constants
from toolkit.graph.functions import inline_functions
from toolkit.graph.unheld import keep_unheld, paired_nodes, restore_unheld
from toolkit.graph.weights import with_weights_as_inputs
from toolkit.onnx_nodes import all_nodes
from toolkit.ops.bodies import attach_bodies, detach_bodies
from toolkit.ops.spec import CustomOp

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

logger = logging.getLogger(__name__)
IR_OF_INITIALIZERS = 4
"""The ONNX IR version from which weights are not inputs too."""

Described = ModelProto | GraphProto | NodeProto | ValueInfoProto


def to_graph(model: ModelProto, ops: Sequence[CustomOp]) -> gs.Graph:
    """The graph of a model, as passes see it; the model stays as it is.

    Local functions are inlined, except that nodes of domain ``uniad`` stand without theirs. Every constant is a
    `gs.Constant`, every node has a name of its own, and tensors have the dtypes and shapes that ONNX infers (symbolic
    dimensions as strings, unknown ones None). Each node carries its ``doc_string`` and ``metadata_props`` (a dict) as
    attributes of these names. Raises InputError for a ``uniad`` node that no op of `ops` stands for.
    """
    import onnx_graphsurgeon as gs

    light, weights = with_weights_as_inputs(model)
    detach_bodies(light)
    light = infer_shapes(inline_functions(light), ops)
    own_inputs = {value.name for value in model.graph.input}
    added = [value for value in light.graph.input if value.name not in own_inputs]
    for value in added:
        light.graph.input.remove(value)
    light.graph.initializer.extend(weights.values())
    name_nodes(light)
    graph = gs.import_onnx(light)
    graph.ir_version = max(model.ir_version, IR_OF_INITIALIZERS)
    for node, proto in paired_nodes(graph, light.graph):
        node.doc_string = proto.doc_string
        node.metadata_props = metadata_of(proto)
    keep_unheld(graph, light.graph)
    lift_constants(graph)
    return graph


def to_model(graph: gs.Graph, origin: ModelProto, ops: Sequence[CustomOp]) -> ModelProto:
    """The functional model of a graph, with what a graph does not hold taken from the model it came from."""
    import onnx_graphsurgeon as gs

    model: ModelProto = gs.export_onnx(graph, do_type_check=False)
    for node, proto in paired_nodes(graph, model.graph):
        describe(proto, getattr(node, "doc_string", ""), getattr(node, "metadata_props", {}))
    restore_unheld(graph, model.graph)
    origins = {value.name: value for value in (*origin.graph.input, *origin.graph.output)}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in origins:
            describe(value, origins[value.name].doc_string, metadata_of(origins[value.name]))
    describe(model.graph, origin.graph.doc_string, metadata_of(origin.graph))
    describe(model, origin.doc_string, metadata_of(origin))
    model.domain, model.model_version = origin.domain, origin.model_version
    drop_unused_domains(model)
    attach_bodies(model, ops)
    return model


def metadata_of(message: Described) -> dict[str, str]:
    """Metadata of a part of a model as a dictionary."""
    return {entry.key: entry.value for entry in message.metadata_props}


def describe(message: Described, doc_string: str, metadata: Mapping[str, str]) -> None:
    """Set description and metadata of a part of a model, leaving unset what is empty."""
    if doc_string:
        message.doc_string = doc_string
    onnx.helper.set_model_props(message, dict(metadata))


def infer_shapes(model: ModelProto, ops: Sequence[CustomOp]) -> ModelProto:
    """The model with the shapes and types that ONNX infers, through the bodies of custom ops; without the bodies."""
    attach_bodies(model, ops)
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, ValueError) as error:  # the stated shapes contradict each other: passes do with less
        logger.debug("no shapes inferred: %s", error)
    detach_bodies(model)
    return model


def name_nodes(model: ModelProto) -> None:
    """Give nameless nodes, and all but the first of those of one name, a name by their operator and position."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            name = f"{node.name or node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def drop_unused_domains(model: ModelProto) -> None:
    """Forget operator sets that no node needs any more, such as those of inlined functions."""
    used = {""} | {node.domain for node in all_nodes(model.graph.node)}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)

"""A model in a newer version of the standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.version_converter
from onnx import ModelProto

from toolkit.errors import InputError
from toolkit.graph.conversion import name_nodes
from toolkit.graph.functions import inline_functions
from toolkit.graph.weights import with_weights_as_inputs
from toolkit.ops.bodies import attach_bodies, body_opset, detach_bodies
from toolkit.ops.spec import CustomOp
from toolkit.text import one_line


def raise_opset(model: ModelProto, opset: int, ops: Sequence[CustomOp]) -> ModelProto:
    """The functional model in `opset`; the model itself if it is in that or a newer one.

    `ops` are what nodes of domain ``uniad`` may be; other local functions are inlined. Raises InputError if ONNX's
    converter cannot do it.
    """
    before = body_opset(model)
    if before >= opset:
        return model
    light, weights = with_weights_as_inputs(model)
    detach_bodies(light)
    light = inline_functions(light)
    name_nodes(light)
    metadata = {node.name: list(node.metadata_props) for node in light.graph.node}
    try:
        converted = onnx.version_converter.convert_version(light, opset)
    except Exception as error:  # a model of unknown origin can fail in any way
        raise InputError(
            f"the model has opset {before} and cannot be converted to {opset}: {one_line(error)}; "
            f"export it with opset {opset}"
        ) from error
    for node in converted.graph.node:
        node.metadata_props.extend(metadata.get(node.name, []))
    own_inputs = {value.name for value in model.graph.input}
    for value in [value for value in converted.graph.input if value.name not in own_inputs]:
        converted.graph.input.remove(value)
    converted.graph.initializer.extend(weights.values())
    attach_bodies(converted, ops)
    return converted

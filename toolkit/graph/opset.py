"""A model in a newer version of the standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.version_converter
from onnx import ModelProto

from toolkit.errors import InputError
from toolkit.graph.conversion import name_nodes
from toolkit.graph.functions import inline_functions
from toolkit.graph.validity import checker_fault
from toolkit.graph.weights import with_weights_as_inputs
from toolkit.onnx_nodes import standard_opset
from toolkit.ops.bodies import attach_bodies, detach_bodies
from toolkit.ops.spec import OLDEST_OPSET, CustomOp
from toolkit.text import one_line


def raise_opset(model: ModelProto, opset: int, ops: Sequence[CustomOp]) -> ModelProto:
    """The functional model in `opset`; the model itself if it is in that or a newer one.

    `ops` are what nodes of domain ``uniad`` may be; other local functions are inlined. Raises InputError if ONNX's
    converter cannot do it, or ONNX's checker refuses what it makes.
    """
    before = standard_opset(model) or OLDEST_OPSET
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
        raise InputError(impossible(before, opset, one_line(error))) from error
    for node in converted.graph.node:
        node.metadata_props.extend(metadata.get(node.name, []))
    own_inputs = {value.name for value in model.graph.input}
    for value in [value for value in converted.graph.input if value.name not in own_inputs]:
        converted.graph.input.remove(value)
    converted.graph.initializer.extend(weights.values())
    attach_bodies(converted, ops)
    if fault := checker_fault(converted, any_operator=True):
        raise InputError(impossible(before, opset, fault))
    return converted


def impossible(before: int, after: int, reason: str) -> str:
    """What is said of a model that cannot be converted."""
    return f"the model has opset {before} and cannot be converted to {after}: {reason}; export it with opset {after}"


def raised_lines(before: ModelProto, opset: int) -> tuple[str, ...]:
    """What users are told, if anything, about a model that is raised to `opset`: that it was older than passes know."""
    version = standard_opset(before) or OLDEST_OPSET
    return (f"opset {version} was raised to {opset} by ONNX's converter",) if version < OLDEST_OPSET else ()

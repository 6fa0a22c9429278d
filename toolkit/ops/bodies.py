"""The functions of standard ops behind a model's custom nodes: put there, or taken away for the plugin form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
from onnx import FunctionProto, ModelProto, NodeProto

from toolkit.errors import InputError
from toolkit.onnx_nodes import all_nodes, standard_opset, stated_shapes
from toolkit.ops.spec import DOMAIN, OLDEST_OPSET, VERSION, CustomOp, node_attributes
from toolkit.ops.traced_body import InputShapes

IR_OF_FUNCTIONS, IR_OF_OVERLOADS = 8, 10
"""The ONNX IR versions that brought local functions, and several functions of one name."""

LEFT_OUT_NAME = f"{DOMAIN}/left_out_"
"""What the empty tensors are called, before their type, that stand for optional inputs in the plugin form."""


def attach_bodies(model: ModelProto, ops: Sequence[CustomOp], *, newest: int | None = None) -> None:
    """Put behind every node of domain ``uniad`` the local function that its attributes need, in place.

    Functions of that domain that the model had before are dropped. Where the nodes of an op need different functions,
    these get the overloads ``form_1``, ``form_2`` … in the order of the nodes. Functions import the model's opset,
    because ONNX Runtime reads them so; the model's IR version is raised if it is too old for them. With `newest` they
    use no operator that came after that opset.

    Raises InputError, naming the node, if its op is none of `ops` or an attribute is missing; and for a model whose
    opset is too old for bodies.
    """
    detach_bodies(model)
    calls: dict[str, list[NodeProto]] = {}
    for node in custom_nodes(model.graph.node):
        calls.setdefault(node.op_type, []).append(node)
    if not calls:
        return
    by_name, imported, shapes = {op.name: op for op in ops}, body_opset(model), stated_shapes(model)
    opset = imported if newest is None else min(imported, newest)
    for name, nodes in calls.items():
        if name not in by_name:
            raise InputError(
                f"node {nodes[0].name!r} is the custom op {name!r}, which no loaded plugin has; "
                "load the plugin it comes from"
            )
        model.functions.extend(shared_bodies(by_name[name], nodes, opset, shapes))
    for function in model.functions:
        if function.domain == DOMAIN:
            import_opset(function, imported)
    overloaded = any(function.overload for function in model.functions)
    model.ir_version = max(model.ir_version, IR_OF_OVERLOADS if overloaded else IR_OF_FUNCTIONS)
    if DOMAIN not in [opset.domain for opset in model.opset_import]:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))


def detach_bodies(model: ModelProto) -> None:
    """Remove the functions of domain ``uniad``, in place: where there is one, TensorRT takes it before the plugin."""
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    for node in custom_nodes(model.graph.node):
        node.ClearField("overload")


def fill_left_out(model: ModelProto, ops: Sequence[CustomOp]) -> None:
    """Give custom nodes empty tensors [0] for the optional inputs that they leave out, in place.

    That is how a plugin gets them: TensorRT knows no input that is not there.
    """
    by_name, made = {op.name: op for op in ops}, set[str]()
    for node in custom_nodes(model.graph.node):
        if node.op_type not in by_name:
            continue
        names = list(node.input)
        for position, port in enumerate(by_name[node.op_type].signature.inputs):
            if not port.optional or (position < len(names) and names[position]):
                continue
            dtype = port.dtype or "float32"
            names += [""] * (position + 1 - len(names))
            names[position] = LEFT_OUT_NAME + dtype
            if dtype not in made:
                made.add(dtype)
                model.graph.initializer.append(onnx.numpy_helper.from_array(np.empty(0, dtype), names[position]))
        node.input[:] = names


def custom_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Those of domain ``uniad`` among `nodes` and in the subgraphs of their attributes."""
    return (node for node in all_nodes(nodes) if node.domain == DOMAIN)


def body_opset(model: ModelProto) -> int:
    """The version of the standard ops that the model imports. Raises InputError if bodies cannot be written in it."""
    version = standard_opset(model) or OLDEST_OPSET
    if version < OLDEST_OPSET:
        raise InputError(
            f"a model of opset {version} cannot hold custom ops; export it with opset {OLDEST_OPSET} or later"
        )
    return version


def shared_bodies(op: CustomOp, nodes: Sequence[NodeProto], opset: int, shapes: InputShapes) -> list[FunctionProto]:
    """The different functions behind the nodes of an op; if they are several, nodes name theirs by its overload."""
    forms: dict[bytes, list[NodeProto]] = {}
    for node in nodes:
        forms.setdefault(body_of(op, node, opset, shapes).SerializeToString(deterministic=True), []).append(node)
    functions = [FunctionProto.FromString(form) for form in forms]
    if len(functions) > 1:
        for number, (function, users) in enumerate(zip(functions, forms.values(), strict=True), start=1):
            function.overload = f"form_{number}"
            for node in users:
                node.overload = function.overload
    return functions


def body_of(op: CustomOp, node: NodeProto, opset: int, shapes: InputShapes) -> FunctionProto:
    """The function that computes a node by standard ops of an opset; `shapes` are those of the model's tensors."""
    attributes = op.signature.values(node_attributes(node))
    missing = [name for name in op.attributes if name not in attributes]
    if missing:
        raise InputError(f"node {node.name!r} ({op.name}) lacks the attribute {missing[0]!r}; export the model again")
    known = {port: shapes[name] for port, name in zip(op.inputs, node.input, strict=False) if name in shapes}
    return op.function(attributes, left_out_inputs(op, node), opset=opset, shapes=known)


def import_opset(function: FunctionProto, opset: int) -> None:
    """Have the function read its standard operators in an opset, in place."""
    for imported in function.opset_import:
        if imported.domain == "":
            imported.version = opset


def left_out_inputs(op: CustomOp, node: NodeProto) -> tuple[str, ...]:
    """Optional inputs of an op that a node does not have."""
    given = [*node.input, *[""] * len(op.inputs)]
    named = zip(op.signature.inputs, given, strict=False)
    return tuple(p.name for p, name in named if p.optional and (not name or name.startswith(LEFT_OUT_NAME)))

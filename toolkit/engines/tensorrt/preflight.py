"""Which nodes of a model TensorRT would refuse, before it is asked: all of them at once, by submodule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from toolkit.engines.tensorrt.library import Target
from toolkit.errors import InputError
from toolkit.onnx_nodes import all_nodes
from toolkit.ops.spec import DOMAIN

STANDARD_DOMAINS = ("", "ai.onnx")
LARGEST_TOPK = 3840
RTX_LACKS = ("NonZero", "NonMaxSuppression", "RoiAlign")
"""Its parser takes these, or says so, and then finds nothing that implements them."""

UNSUPPORTED_INTEGERS = frozenset((TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT16))
"""Of quantized values; TensorRT takes int8, int4 and FP8."""
SYMMETRIC = (
    "quantize symmetrically and to int8 (with ONNX Runtime: activation_type=QuantType.QInt8, "
    'extra_options={"ActivationSymmetric": True})'
)

Registered = Callable[[NodeProto], bool]


@dataclass(frozen=True)
class Unsupported:
    """A node that TensorRT has nothing for."""

    node: str
    submodule: str
    what: str
    remedy: str = "replace them, see `uniad-toolkit rewrite --list`"


def require_supported(
    model: ModelProto, source: Path, target: Target, parses: Callable[[str], bool], registered: Registered
) -> None:
    """Raise InputError that lists the nodes of a model that a target lacks, by submodule and operator.

    `parses` says whether TensorRT's parser knows a standard operator, `registered` whether there is a plugin for a node
    of another domain.
    """
    found = list(unsupported_nodes(model, target, parses, registered))
    if not found:
        return
    listed = []
    for submodule in dict.fromkeys(entry.submodule for entry in found):
        counts = Counter(entry.what for entry in found if entry.submodule == submodule)
        first = next(entry.node for entry in found if entry.submodule == submodule)
        kinds = ", ".join(what if count == 1 else f"{count} {what}" for what, count in counts.items())
        listed.append(f"{submodule}: {kinds} (first {first!r})")
    remedies = dict.fromkeys(entry.remedy for entry in found)
    raise InputError(
        f"{target.title} lacks {len(found)} of the nodes of {source}: {'; '.join(listed)}; {'; '.join(remedies)}"
    )


def unsupported_nodes(
    model: ModelProto, target: Target, parses: Callable[[str], bool], registered: Registered
) -> Iterator[Unsupported]:
    """Nodes of the graph, of its inner graphs and of the functions they call, that a target lacks."""
    constants = {weight.name: weight for weight in model.graph.initializer if not weight.external_data}
    functions = {(function.domain, function.name) for function in model.functions}
    bodies = (node for function in model.functions for node in function.node)
    for node in all_nodes([*model.graph.node, *bodies]):
        if (node.domain, node.op_type) in functions or node.domain == DOMAIN:
            continue
        if node.domain not in STANDARD_DOMAINS:
            what = "" if registered(node) else f"{node.domain}::{node.op_type}"
        elif not parses(node.op_type) or (target is Target.TENSORRT_RTX and node.op_type in RTX_LACKS):
            what = node.op_type
        else:
            what = unsupported_use(node, target, constants)
        if what:
            yield Unsupported(node.name, submodule_of(node), what)
        elif what := unsupported_quantization(node, constants):
            yield Unsupported(node.name, submodule_of(node), what, SYMMETRIC)


def unsupported_quantization(node: NodeProto, constants: Mapping[str, onnx.TensorProto]) -> str:
    """In what way a node quantizes, or the reverse, that TensorRT cannot; empty if it does not."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
        return ""
    zero = constants.get(node.input[2])
    if zero is None:
        return ""
    if zero.data_type in UNSUPPORTED_INTEGERS:
        return f"{node.op_type} of {TensorProto.DataType.Name(zero.data_type).lower()}"
    return f"{node.op_type} with zero points" if onnx.numpy_helper.to_array(zero).any() else ""


def submodule_of(node: NodeProto) -> str:
    """The first part of a node's name, which is the submodule in models of this toolkit."""
    first, separator, _ = node.name.strip("/").partition("/")
    return first if separator else "no submodule"


def unsupported_use(node: NodeProto, target: Target, constants: Mapping[str, onnx.TensorProto]) -> str:
    """In what way a node uses an operator beyond what a target has of it; empty if it does not."""
    reduction = next((a.s.decode() for a in node.attribute if a.name == "reduction"), "none")
    if node.op_type == "ScatterND" and reduction != "none":
        return f"ScatterND with reduction {reduction}"
    if node.op_type == "ScatterElements" and reduction != "none" and target is Target.TENSORRT_RTX:
        return f"ScatterElements with reduction {reduction}"
    if node.op_type == "TopK" and len(node.input) > 1 and node.input[1] in constants:
        count = int(onnx.numpy_helper.to_array(constants[node.input[1]]).item())
        return f"TopK of {count} (at most {LARGEST_TOPK})" if count > LARGEST_TOPK else ""
    return ""

"""What an ONNX model consists of; works for models of any origin."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import NodeProto, TensorProto, ValueInfoProto

from toolkit.onnx_nodes import all_nodes
from toolkit.storage.external_weights import external_names, is_there
from toolkit.storage.onnx_file import parse_model

STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
DTYPES = {number: name.lower() for name, number in TensorProto.DataType.items()}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model; an open dimension is its name, or "?"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxReport:
    """Everything `inspect` says about an ONNX model.

    `nodes` counts by the first part of the node names, which is the submodule in a converted model; `operators` counts
    by type, `custom` only types outside the standard domains. A custom operator with a body among `functions` runs
    anywhere; another needs a plugin. `external` maps the files that hold weights to whether they are there. Nodes in
    the branches and loops of control flow are counted as well.
    """

    path: str
    bytes: int
    producer: str
    opsets: Mapping[str, int]
    nodes: Mapping[str, int]
    operators: Mapping[str, int]
    custom: Mapping[str, int]
    functions: tuple[str, ...]
    weights: int
    external: Mapping[str, bool]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def inspect_onnx(path: Path) -> OnnxReport:
    """Describe an ONNX file without its external weights. Raises InputError for a file that is none."""
    model = parse_model(path)
    nodes = list(all_nodes(model.graph.node))
    custom = [node for node in nodes if node.domain not in STANDARD_DOMAINS]
    stored = {w.name for w in model.graph.initializer}
    return OnnxReport(
        path=str(path),
        bytes=path.stat().st_size,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        nodes=dict(Counter(node.name.strip("/").partition("/")[0] or "(unnamed)" for node in nodes)),
        operators=dict(Counter(map(_operator, nodes)).most_common()),
        custom=dict(Counter(map(_operator, custom)).most_common()),
        functions=tuple(f"{f.domain}::{f.name}" for f in model.functions),
        weights=sum(math.prod(w.dims) for w in model.graph.initializer),
        external={name: is_there(path, name) for name in external_names(model)},
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in stored),
        outputs=tuple(map(_tensor, model.graph.output)),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _operator(node: NodeProto) -> str:
    return node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}::{node.op_type}"


def _tensor(value: ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
    return Tensor(value.name, DTYPES.get(tensor.elem_type, "unknown"), shape)

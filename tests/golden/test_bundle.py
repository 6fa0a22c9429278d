"""What a conversion leaves behind."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

from toolkit.bundle import Bundle
from toolkit.ops.spec import DOMAIN

pytestmark = pytest.mark.slow

NODE_LIMIT = 6500
SIZE_LIMIT = 800e6
FORBIDDEN = {"NonZero", "If", "Loop", "Scan", "Compress", "Unique"}
"""Ops with data-dependent shapes or control flow."""


@pytest.fixture(scope="module")
def model(bundle_a: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle_a.onnx, load_external_data=False)


def test_graph_is_small_and_static(model: onnx.ModelProto) -> None:
    ops = Counter(node.op_type for node in model.graph.node)
    assert sum(ops.values()) <= NODE_LIMIT
    assert not FORBIDDEN & ops.keys()
    shapes = [d for v in (*model.graph.input, *model.graph.output) for d in v.type.tensor_type.shape.dim]
    assert all(dimension.HasField("dim_value") for dimension in shapes)


def test_custom_ops_are_nodes_with_a_body(model: onnx.ModelProto, bundle_a: Bundle) -> None:
    custom = Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)
    assert custom == {"MultiScaleDeformableAttention": 27, "Rotate": 1, "Inverse": 1}
    assert {function.name for function in model.functions} == set(custom) == set(bundle_a.custom_ops)


def test_node_names_tell_their_submodule_and_module(model: onnx.ModelProto, bundle_a: Bundle) -> None:
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {name.split("/")[0] for name in names} == {record.name for record in bundle_a.submodules}
    assert any(name.startswith("planning/planning_head.attn_module.layers.0.self_attn/") for name in names)


def test_metadata_tells_the_origin(model: onnx.ModelProto, bundle_a: Bundle) -> None:
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["checkpoint_sha256"] == bundle_a.provenance["checkpoint_sha256"]
    assert metadata["version.torch"] == bundle_a.provenance["tools"]["torch"]
    assert bundle_a.parity["frames"] == 4


def test_bundle_is_complete_and_within_its_size(bundle_a: Bundle) -> None:
    files = {path.name: path.stat().st_size for path in bundle_a.path.iterdir()}
    assert files.keys() == {".uniad-toolkit", "bundle.json", "model.onnx", "model.onnx.data", "weights.safetensors"}
    assert sum(files.values()) < SIZE_LIMIT
    assert Bundle.read(bundle_a.path) == bundle_a

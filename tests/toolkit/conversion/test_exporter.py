"""Submodules to ONNX, and the pieces joined into one model."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from custom_ops.inverse.op import INVERSE
from toolkit.config.model import ModelConfig
from toolkit.conversion import exports
from toolkit.conversion.export import export_submodule, merge
from toolkit.conversion.exports import export_submodules, largest_first
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.onnx_nodes import standard_opset
from toolkit.ops.spec import DOMAIN, CustomOp
from toolkit.specs import Submodule, TensorSpec, frame_input
from toolkit.wiring import NetworkGraph, join

pytestmark = pytest.mark.converts

OPS = (INVERSE,)


def export(network: Network, ops: tuple[CustomOp, ...] = OPS) -> ModelProto:
    """The whole network as one checked ONNX model."""
    graph = network.graph
    pieces = {s.name: export_submodule(graph, s, network.parts[s.name], ops) for s in graph.submodules}
    model = merge(graph, pieces, ops, {"checkpoint": "tiny.pth"})
    onnx.checker.check_model(model, full_check=True)
    return model


def assert_same_results(network: Network, model: ModelProto) -> None:
    """ONNX Runtime gives all results of the torch network, on random inputs that continue a scene."""
    generator, dimensions = torch.Generator().manual_seed(0), network.graph.config.dimensions()
    inputs = {
        spec.name: torch.randn(spec.resolve(dimensions), generator=generator)
        if spec.dtype == "float32"
        else torch.ones(spec.resolve(dimensions), dtype=torch.int32)
        for spec in network.graph.inputs
    }
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    expected = network(inputs)
    assert names == [spec.name for spec in network.graph.results]
    for name, result in zip(names, results, strict=True):
        np.testing.assert_allclose(result, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def network(graph: NetworkGraph) -> Network:
    """The tiny network with random weights."""
    network = Network(graph)
    generator = torch.Generator().manual_seed(0)
    network.load_weights({k: torch.randn(w.shape, generator=generator) for k, w in network.weights().items()})
    return network


@pytest.fixture(scope="module")
def model(network: Network) -> ModelProto:
    """The tiny network in ONNX."""
    return export(network)


def test_onnx_runtime_equals_torch(network: Network, model: ModelProto) -> None:
    assert_same_results(network, model)


def test_interface_has_the_names_and_shapes_of_the_specs(model: ModelProto) -> None:
    def declared(values: list[onnx.ValueInfoProto]) -> dict[str, list[int]]:
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    assert declared(list(model.graph.input)) == {
        "l2g_rotation": [3, 3],
        "l2g_translation": [3],
        "command": [1],
        "use_previous": [1],
        "prev_l2g_translation": [3],
        "prev_driven": [1],
    }
    assert declared(list(model.graph.output)) == {"driven": [1], "plan": [2, 2]}


def test_tensors_carry_their_meaning(model: ModelProto) -> None:
    assert model.graph.output[1].doc_string == "planned positions, metres, LiDAR frame"


def test_nodes_are_named_by_submodule_and_module_path(model: ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {name.partition("/")[0] for name in names} == {"odometry", "planner"}
    assert any(name.startswith("odometry/odometer/") for name in names)
    assert any(name.startswith("planner/planner/") for name in names)


def test_inner_tensors_are_prefixed_by_their_submodule(model: ModelProto) -> None:
    inner = {tensor for node in model.graph.node for tensor in node.output} - {"moved", "driven", "plan"}
    assert inner
    assert all(tensor.startswith(("odometry/", "planner/")) for tensor in inner)


def test_custom_op_is_one_node_with_a_local_function(model: ModelProto) -> None:
    assert [node.op_type for node in model.graph.node if node.domain == DOMAIN] == ["Inverse"]
    assert [(function.domain, function.name) for function in model.functions] == [(DOMAIN, "Inverse")]


def test_metadata_is_kept(model: ModelProto) -> None:
    assert {prop.key: prop.value for prop in model.metadata_props} == {"checkpoint": "tiny.pth"}


def test_an_op_may_wish_for_a_later_opset(network: Network, model: ModelProto) -> None:
    """The model is then exported in it, under the same names."""
    later = export(network, (replace(INVERSE, opset=19),))
    assert [standard_opset(each) for each in (model, later)] == [18, 19]
    assert [node.name for node in later.graph.node] == [node.name for node in model.graph.node]
    assert later.metadata_props == model.metadata_props
    assert_same_results(network, later)


class Lambda(nn.Module):
    """Computes a function of one learned vector [3], the parameter `key`, and of one tensor."""

    def __init__(self, key: str, function: Callable[..., object]) -> None:
        super().__init__()
        self.key, self.function = key, function
        self.register_parameter(key, nn.Parameter(torch.tensor([1.0, 2.0, 3.0])))

    def forward(self, tensor: Tensor) -> object:
        return self.function(self.get_parameter(self.key), tensor)


def submodule(function: Callable[..., object], *gives: str, name: str = "tiny") -> Submodule:
    """A submodule that computes `function(parameter, l2g_translation)`; all its tensors are vectors [3]."""
    return Submodule(
        name=name,
        checkpoint_prefixes=(name,),
        inputs=(frame_input("l2g_translation"),),
        outputs=tuple(TensorSpec(tensor, (3,), "float32", "") for tensor in gives),
        build=lambda config: Lambda(name, function),
        results=gives,
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda table, x: (table, x + 1),
        lambda table, x: (x, x + 1),
        lambda table, x: (x + table, 2 * table),
        lambda table, x: (both := x + table, both),
    ],
    ids=["a parameter", "an input", "a folded constant", "another output"],
)
def test_output_may_equal_another_value(function: Callable[..., object], config: ModelConfig) -> None:
    network = Network(join((submodule(function, "first", "second"),), config))
    assert_same_results(network, export(network))


def test_inner_name_may_equal_another_submodules_tensor(config: ModelConfig) -> None:
    """The exporter calls the sums inside `second` by the name that `first` gives its output."""
    first = submodule(lambda table, x: 2 * x, "add", name="first")
    second = submodule(lambda table, x: (x + 1) * (x + table), "product", name="second")
    network = Network(join((first, second), config))
    assert_same_results(network, export(network))


def fail(table: Tensor, x: Tensor) -> Tensor:
    raise RuntimeError("out of order\nand a long story")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fail, "cannot be exported: out of order$"),
        (lambda table, x: x if x.sum() > 0 else table, "cannot be exported: .*data-dependent"),
        (lambda table, x: x[x > 0], r"returns 'given' as float32\[u0\]; its spec says float32\[3\]"),
        (lambda table, x: x[:2], r"returns 'given' as float32\[2\]; its spec says float32\[3\]"),
        (lambda table, x: x > 0, r"returns 'given' as bool\[3\]; its spec says float32\[3\]"),
        (lambda table, x: (x + 1, x), "returns 2 tensors, but has 1 outputs"),
    ],
    ids=["error", "branch", "size from data", "shape", "dtype", "count"],
)
def test_submodule_that_cannot_be_exported_is_named(
    function: Callable[..., object], message: str, config: ModelConfig
) -> None:
    part = submodule(function, "given")
    with pytest.raises(InputError, match=f"^submodule 'tiny' {message}"):
        export_submodule(join((part,), config), part, part.build(config), OPS)


def test_python_looks_for_garbage_after_an_export_not_within(config: ModelConfig) -> None:
    wanted = []

    def watched(table: Tensor, x: Tensor) -> Tensor:
        wanted.append(gc.isenabled())
        return x + table

    for function in (watched, fail):
        part = submodule(function, "given")
        with suppress(InputError):
            export_submodule(join((part,), config), part, part.build(config), OPS)
        assert gc.isenabled()
    assert not any(wanted)


def chain(config: ModelConfig, *functions: Callable[..., object]) -> Network:
    """A network of submodules that compute the outputs `y0`, `y1` … of the same inputs."""
    return Network(join([submodule(f, f"y{i}", name=f"part_{i}") for i, f in enumerate(functions)], config))


def exported(network: Network) -> dict[str, bytes]:
    pieces = export_submodules(network, OPS, lambda step: nullcontext())
    return {name: piece.SerializeToString(deterministic=True) for name, piece in pieces.items()}


def test_two_processes_export_the_same(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    network = chain(config, *(lambda table, x, i=i: x * i + table for i in range(2)))
    monkeypatch.setattr(exports, "works_in_two", lambda: True)
    both = exported(network)
    monkeypatch.setattr(exports, "works_in_two", lambda: False)
    assert both == exported(network)


@pytest.mark.parametrize(
    "fails", [lambda: os._exit(9), lambda: time.sleep(600), lambda: 1 / 0], ids=["dies", "is stuck", "raises"]
)
def test_what_a_second_process_fails_at_is_exported_here(
    fails: Callable[[], object], config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = os.getpid()

    def fail_elsewhere(table: Tensor, x: Tensor) -> Tensor:
        if os.getpid() != main:
            fails()
        return x + table

    network = chain(config, fail_elsewhere, fail_elsewhere)
    monkeypatch.setattr(exports, "works_in_two", lambda: True)
    monkeypatch.setattr(exports, "LONGEST", 0.2)
    assert set(exported(network)) == {"part_0", "part_1"}


def test_an_error_in_either_process_comes_up_here(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "works_in_two", lambda: True)
    with pytest.raises(InputError, match=r"^submodule 'part_1' cannot be exported: out of order$"):
        exported(chain(config, lambda table, x: x + table, fail))


def test_what_takes_longest_is_exported_first(config: ModelConfig) -> None:
    network = chain(config, *(lambda table, x, i=i: x * i + table for i in range(4)))
    for name, inner in (("part_1", 2), ("part_3", 1)):
        network.parts[name].inner = nn.ModuleList(nn.ReLU() for _ in range(inner))
    assert [part.name for part in largest_first(network)] == ["part_1", "part_3", "part_0", "part_2"]

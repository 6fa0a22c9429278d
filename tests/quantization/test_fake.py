"""Fake quantization: floats with the values of the codes, where a quantized bundle rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto
from torch import Tensor

from tests.corpus.case import Sample
from tests.corpus.sample import make_sample
from tests.quantization.camera_network import camera_plugins
from tests.session_cache import SessionCache
from toolkit.bundle import Bundle
from toolkit.data.probe import probe_frames
from toolkit.engines.torch import load_network
from toolkit.graph.model_file import read_model
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.calibration import collect
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.codes import FP8, activation_zero, scale_of, weight_codes
from toolkit.quantization.fake import FakeQuantization, rounded_activation, rounded_weight
from toolkit.quantization.insert import Quantized, quantize_model
from toolkit.quantization.methods import Method
from toolkit.quantization.places import find_places
from toolkit.quantization.ranges import TensorRange
from toolkit.quantization.scheme import WEIGHTED, QuantizationMode, Scheme
from toolkit.quantization.trials import written

MODES = list(QuantizationMode)


def rounded_by_onnx(values: np.ndarray, scale: np.ndarray, mode: QuantizationMode) -> np.ndarray:
    """What a Q/DQ pair of an activation makes of values in ONNX Runtime."""
    zero = onnx.numpy_helper.from_array(activation_zero(mode), "zero")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
            onnx.helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
        ],
        "pair",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, values.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, values.shape)],
        [onnx.numpy_helper.from_array(scale, "scale"), zero],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=10)
    [found] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": values})
    return np.asarray(found)


@pytest.mark.parametrize("mode", MODES)
def test_activations_have_the_values_that_onnx_gives(mode: QuantizationMode) -> None:
    """Ties, both ends and what lies beyond them included, bit for bit."""
    random = np.random.default_rng(0)
    scale = scale_of(3.0, mode)
    steps = np.arange(-1200, 1200, dtype=np.float32) / 2 * scale
    values = np.concatenate([steps, random.normal(0, 3, 4000).astype(np.float32)])
    given = rounded_activation(torch.from_numpy(values), torch.tensor(scale), mode)
    np.testing.assert_array_equal(given.numpy(), rounded_by_onnx(values, scale, mode))


@pytest.mark.parametrize("mode", MODES)
def test_weights_have_the_values_of_their_codes(mode: QuantizationMode) -> None:
    """A channel of zeros too."""
    weight = np.random.default_rng(0).normal(size=(5, 4, 3, 3)).astype(np.float32)
    weight[2] = 0
    codes, scales = weight_codes(weight, 0, mode)
    given = rounded_weight(torch.from_numpy(weight), mode)
    np.testing.assert_array_equal(given.numpy(), codes.astype(np.float32) * scales[:, None, None, None])


@torch.enable_grad()
@pytest.mark.parametrize(("mode", "least"), [(QuantizationMode.INT8, -128.0), (QuantizationMode.FP8, -448.0)])
def test_gradients_pass_within_the_range_and_not_beyond(mode: QuantizationMode, least: float) -> None:
    x = torch.tensor([least - 2, least, -0.3, 0.0, 0.4, mode.largest, mode.largest + 2], requires_grad=True)
    rounded_activation(2 * x, torch.tensor(2.0), mode).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 2, 2, 2, 2, 0]
    weight = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (rounded_weight(weight, mode) * torch.arange(4.0)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(4.0).expand(3000, 4))  # type: ignore[arg-type]


def quantized(bundle: Bundle, plugins: PluginManager, mode: QuantizationMode, folder: Path) -> Quantized:
    """All layers of a bundle, with ranges of two frames that cut some of the values off."""
    ops = plugins.custom_ops()
    plain = plain_model(read_model(bundle.onnx), ops)
    tensors = tensors_to_calibrate(c for c in find_candidates(plain, ops) if c.layer_class in WEIGHTED)
    frames = probe_frames(bundle.config, 2, scene_change=2)
    with written(plain, bundle, folder) as prepared:
        histograms = collect(prepared, tensors, frames, threads=1).histograms
    ranges = {
        name: TensorRange(found.low, found.high, found.limit(Method.PERCENTILE, mode))
        for name, found in histograms.items()
    }
    return quantize_model(plain, ranges, Scheme(mode), ops)


def computed_in_floats(model: ModelProto, network: Network, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a quantized model gives for all outputs of submodules, as ONNX Runtime computes Q/DQ nodes unfused.

    A tensor that its model reads in rounded form alone has that form.
    """
    shown = {spec.name: spec.name for part in network.graph.submodules for spec in part.outputs}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name)
        for name in shown
        if name not in {value.name for value in model.graph.output}
    )
    for name in shown:
        readers = [node for node in model.graph.node if name in node.input]
        if [node.op_type for node in readers] == ["QuantizeLinear"]:
            [pair] = [node for node in model.graph.node if readers[0].output[0] in node.input]
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(pair.output[0]))
            shown[name] = pair.output[0]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    fed = {each.name: inputs[each.name] for each in session.get_inputs()}
    given = dict(zip((each.name for each in session.get_outputs()), session.run(None, fed), strict=True))
    return {name: given[form] for name, form in shown.items()}


def by_submodule(
    network: Network, inputs: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Tensor]]:
    """What each submodule of a network gives for the tensors that a model gave to it."""
    tensors = {**inputs, **given}
    found = {}
    for part in network.graph.submodules:
        read = {name: torch.from_numpy(np.ascontiguousarray(tensors[name])) for name in part.reads}
        with torch.no_grad():
            found[part.name] = network.run_submodule(part, read)
    return found


Statistic = Callable[[np.ndarray], np.floating[Any]]


def error(found: Mapping[str, Tensor], given: Mapping[str, np.ndarray], of: Statistic) -> float:
    """How far floats are off, relative to the largest of their tensor: that of the worst tensor."""
    floats = {name: value.numpy() for name, value in found.items() if value.is_floating_point()}
    return max(
        float(of(np.abs(value - given[name])) / max(np.abs(given[name]).max(), 1e-6)) for name, value in floats.items()
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_network_gives_what_its_quantized_model_gives(
    mode: QuantizationMode, camera_bundle: Bundle, tmp_path: Path
) -> None:
    """Two submodules of convolutions, linear layers and a state; only rounding of sums differs, 1e-5 of the largest."""
    plugins = camera_plugins()
    made = quantized(camera_bundle, plugins, mode, tmp_path)
    network = load_network(camera_bundle, plugins)
    places = find_places(made.model, made.nodes, network, mode)
    assert [place.node for place in places.found] == list(made.nodes)
    assert not places.left
    inputs = inputs_of(camera_bundle)
    given = computed_in_floats(made.model, network, inputs)
    exact = by_submodule(network, inputs, given)
    keys = list(network.state_dict())
    with FakeQuantization(network, places) as rounding:
        found = by_submodule(network, inputs, given)
    assert rounding.met == set(made.nodes)
    assert list(network.state_dict()) == keys
    for name in found:
        assert error(exact[name], given, np.max) > 1e-3
        assert error(found[name], given, np.max) < 1e-5, name


def inputs_of(bundle: Bundle) -> dict[str, np.ndarray]:
    """The first made-up frame, with a state of zeros."""
    sizes = bundle.config.dimensions()
    [frame] = probe_frames(bundle.config, 1, scene_change=1)
    return {**{spec.name: spec.zeros(sizes) for spec in bundle.state_inputs}, **frame}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_submodule_gives_what_its_quantized_model_gives(
    mode: QuantizationMode, conversions: SessionCache, tmp_path: Path
) -> None:
    """The whole network, small, 226 layers. The mean error is less than half of what quantizing does, mostly 1e-7.

    More is left by single codes that rounding of sums brings to the other side of a step: in masks, and in the image
    encoder, whose batch normalisations are drawn into the weights, and the products rounded otherwise.
    """
    bundle, plugins = Bundle.read(Sample(conversions.once("sample", make_sample)).bundle), PluginManager.load()
    made = quantized(bundle, plugins, mode, tmp_path)
    network = load_network(bundle, plugins)
    places = find_places(made.model, made.nodes, network, mode)
    assert len(places.found) == len(made.nodes) > 200
    assert sum(place.normalised is not None for place in places.found) > 30
    assert any(place.sum for place in places.found) == (mode is QuantizationMode.INT8)
    inputs = inputs_of(bundle)
    given = computed_in_floats(made.model, network, inputs)
    exact = by_submodule(network, inputs, given)
    with FakeQuantization(network, places) as rounding:
        found = by_submodule(network, inputs, given)
    assert rounding.met == set(made.nodes)
    for name, tensors in found.items():
        assert error(tensors, given, np.mean) <= 0.5 * error(exact[name], given, np.mean) + 1e-6, name
    assert sum(error(tensors, given, np.max) < 1e-5 for tensors in found.values()) > len(found) / 2


def test_layers_are_known_by_their_weights(camera_bundle: Bundle, tmp_path: Path) -> None:
    """With other weights, without a module of the name, or without a node a layer is left, and it is said why."""
    plugins = camera_plugins()
    made = quantized(camera_bundle, plugins, QuantizationMode.INT8, tmp_path)
    network = load_network(camera_bundle, plugins)
    eyes = dict(network.parts["eyes"].named_parameters())
    eyes["eyes.0.weight"].data[0, 0, 0, 0] += 1
    eyes["eyes.2.weight"].data *= 2
    for node in made.model.graph.node:
        if node.name in made.nodes and node.name.startswith("driver/first"):
            node.name = "driver/elsewhere/MatMul"
    places = find_places(made.model, [*made.nodes, "driver/elsewhere/MatMul"], network, QuantizationMode.INT8)
    reasons = {node.split("/")[1]: reason for node, reason in places.left.items()}
    assert reasons == {
        "eyes.0": "no parameter of its module has its codes",
        "first": "the model has no such node",
        "elsewhere": "no module of the network has its name",
    }
    assert [place.entry for place in places.found] == ["eyes.2.weight"]  # a factor for all leaves codes as they are


def test_fp8_has_every_code(tmp_path: Path) -> None:
    """All 254 finite numbers of the type are kept as they are."""
    codes = np.arange(256, dtype=np.uint8).view(FP8).astype(np.float32)
    values = torch.from_numpy(codes[np.isfinite(codes)])
    assert torch.equal(rounded_activation(values, torch.tensor(1.0), QuantizationMode.FP8), values)

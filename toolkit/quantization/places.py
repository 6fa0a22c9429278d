"""Where a quantized bundle rounds, in terms of the network that it was made of: which weights, and by which scales."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import ModelProto, NodeProto
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.network import Network
from toolkit.quantization.codes import weight_codes
from toolkit.quantization.scheme import QuantizationMode

LEAST_FP8 = 2.0**-9
"""The smallest number of the type, and the step between those near zero."""
Rows = tuple[str, int]
"""A parameter's official key, and the first of the rows that a layer computes with."""


@dataclass(frozen=True)
class Sum:
    """An Add of a place's result and another tensor: by which scales the other one, and the sum, are rounded."""

    other: float
    result: float


@dataclass(frozen=True)
class Place:
    """A quantized layer: its node in the ONNX model, and where it is in the network.

    It computes with the rows from `first` to `first + rows` of the parameter `entry`, by its official key, and its
    input is rounded by the scale `activation`. Its result is rounded too if there is a scale `result`: behind the batch
    normalisation of the entry `normalised`, its running mean, if the conversion has drawn that into the weights. So is
    the `sum` of the result and another tensor.
    """

    node: str
    entry: str
    first: int
    rows: int
    activation: float
    result: float | None = None
    normalised: str | None = None
    sum: Sum | None = None


@dataclass(frozen=True)
class Places:
    """The quantized layers of a model that the network has as well, and why it lacks others, by their nodes."""

    mode: QuantizationMode
    found: tuple[Place, ...]
    left: Mapping[str, str]

    def within(self, entries: Iterable[str], reason: str) -> Places:
        """Those whose parameters are among some; others are left for this reason."""
        known = set(entries)
        found = tuple(place for place in self.found if place.entry in known)
        lost = {place.node: reason for place in self.found if place.entry not in known}
        return Places(self.mode, found, {**self.left, **lost})


def find_places(model: ModelProto, layers: Iterable[str], network: Network, mode: QuantizationMode) -> Places:
    """Find the quantized layers of a bundle's model, by their nodes, in the network with the bundle's weights.

    A node is called as the module is that computes it, ``submodule/module.path/node``. Its codes must be those that the
    rows of one of the module's parameters have, so that no layer is taken for another.
    """
    reader = _Reader(model)
    found: dict[Rows, Place] = {}
    left: dict[str, str] = {}
    for name in layers:
        node = reader.nodes.get(name)
        place = "the model has no such node" if node is None else _place(node, reader, network, mode, found.keys())
        if isinstance(place, str):
            left[name] = place
        elif (other := found.get((place.entry, place.first))) is not None:
            left[name] = f"its weight is that of {other.node}, and both are rounded by the wider of their scales"
            found[place.entry, place.first] = replace(other, activation=max(other.activation, place.activation))
        else:
            found[place.entry, place.first] = place
    return Places(mode, tuple(found.values()), left)


class _Reader:
    """What makes, and what reads, each tensor of a model's outermost graph."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = {node.name: node for node in model.graph.node}
        self._constants = {each.name: each for each in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def readers(self, tensor: str) -> list[NodeProto]:
        return self._readers.get(tensor, [])

    def weight(self, node: NodeProto) -> tuple[str, np.ndarray] | None:
        """The name of the constant of which a layer's weight is dequantized, and its codes, output channels first."""
        maker = self._makers.get(node.input[1])
        if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] not in self._constants:
            return None
        [axis] = [each.i for each in maker.attribute if each.name == "axis"]
        return maker.input[0], np.moveaxis(self._values(maker.input[0]), axis, 0)

    def rounded_by(self, tensor: str) -> float | None:
        """The scale of a tensor that a Q/DQ pair gives."""
        maker = self._makers.get(tensor)
        return self._scale(maker) if maker is not None and maker.op_type == "DequantizeLinear" else None

    def rounded_at_once(self, tensor: str) -> tuple[str, float] | None:
        """The rounded form of a tensor, and its scale, if nothing reads it as it is."""
        readers = self.readers(tensor)
        scale = self._scale(readers[0]) if [each.op_type for each in readers] == ["QuantizeLinear"] else None
        pair = [] if scale is None else self.readers(readers[0].output[0])
        return (pair[0].output[0], scale) if scale is not None and len(pair) == 1 else None

    def _values(self, constant: str) -> np.ndarray:
        """A constant in FP32, which holds all codes."""
        values: np.ndarray = onnx.numpy_helper.to_array(self._constants[constant]).astype(np.float32)
        return values

    def _scale(self, node: NodeProto) -> float | None:
        """The scale of a Q/DQ node, if it is one for all values."""
        scale = self._values(node.input[1]) if node.input[1] in self._constants else None
        return float(scale) if scale is not None and scale.ndim == 0 else None


def _place(
    node: NodeProto, reader: _Reader, network: Network, mode: QuantizationMode, taken: Collection[Rows]
) -> Place | str:
    """The place of a layer, or why there is none. Of several rows with its codes it takes those that are not taken."""
    activation, weight = reader.rounded_by(node.input[0]), reader.weight(node)
    if activation is None or weight is None:
        return "its input and its weight are not both rounded"
    name, codes = weight
    submodule, _, rest = node.name.partition("/")
    path = rest.rpartition("/")[0]
    part = network.parts[submodule] if submodule in network.parts else nn.Module()
    try:
        module = part.get_submodule(path)
    except AttributeError:
        module = None
    if module is None or not path:
        return "no module of the network has its name"
    if isinstance(module, _BatchNorm):
        normalised: str | None = f"{path}.running_mean"
        given = name.removeprefix(f"{submodule}/")
        parameters = {key: value for key, value in part.named_parameters() if given.startswith(f"{key}_quantized")}
    else:
        normalised = None
        parameters = {f"{path}.{key}": value for key, value in module.named_parameters(recurse=False)}
    matches = [(key, first) for key, each in parameters.items() for first in matching_rows(codes, each, mode)]
    if not matches:
        return "no parameter of its module has its codes"
    entry, first = next((match for match in matches if match not in taken), matches[0])
    place = Place(node.name, entry, first, len(codes), activation, normalised=normalised)
    rounded = reader.rounded_at_once(node.output[0]) if node.op_type == "Conv" else None
    if rounded is None:
        return place
    return replace(place, result=rounded[1], sum=_sum(rounded[0], reader))


def _sum(term: str, reader: _Reader) -> Sum | None:
    """The scales of a rounded Add that reads a layer's rounded result."""
    for node in reader.readers(term):
        total = reader.rounded_at_once(node.output[0]) if node.op_type == "Add" else None
        others = [reader.rounded_by(name) for name in node.input if name != term]
        if total is not None and len(others) == 1 and others[0] is not None:
            return Sum(others[0], total[1])
    return None


def matching_rows(codes: np.ndarray, parameter: nn.Parameter, mode: QuantizationMode) -> Iterator[int]:
    """Where the rows of a parameter begin that have these codes, output channels first and in FP32.

    A batch normalisation in the weights scales whole rows, so that codes stay as they are but for the sign, and for one
    step where the product was rounded to the other side.
    """
    weight = parameter.detach().cpu().numpy()
    if weight.ndim != codes.ndim or weight.shape[1:] != codes.shape[1:]:
        return
    step = 1.0 if mode is QuantizationMode.INT8 else np.maximum(np.abs(codes) / 8, LEAST_FP8)
    across = tuple(range(1, codes.ndim))
    for first in range(0, len(weight) - len(codes) + 1, len(codes)):
        own = weight_codes(weight[first : first + len(codes)], 0, mode)[0].astype(np.float32)
        signs = np.where((codes * own).sum(across, keepdims=True) < 0, -1, 1)
        if (np.abs(codes - signs * own) <= step).all():
            yield first
